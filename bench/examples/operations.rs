//! Does one kind of small operation so many times through the client library, one after the other:
//! what `scripts/instructions` runs under a profiler.
//!
//! `operations CONFIG tcp|unix|segment read|write COUNT`, with the values of CONFIG given as
//! `CLUSTER,ADDRESS,K_BYTES` of a cluster of one server.

use std::process::ExitCode;

use mcomp_client::{Cluster, Error, Options, Space};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [cluster, path, op, count] => match run(cluster, path, op, count) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("operations: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: operations CLUSTER,ADDRESS,K_BYTES tcp|unix|segment read|write COUNT");
            ExitCode::FAILURE
        }
    }
}

fn run(cluster: &str, path: &str, op: &str, count: &str) -> Result<(), Error> {
    let usage = |what: &str| Error::Usage(format!("{what} makes no sense here"));
    let [name, address, k] = cluster.split(',').collect::<Vec<_>>()[..] else { return Err(usage(cluster)) };
    let k_bytes = k.parse().map_err(|_| usage(k))?;
    let count: u64 = count.parse().map_err(|_| usage(count))?;
    let mut options = Options::new(name, Space::new(k_bytes, 1).ok_or_else(|| usage(k))?, [address]);
    (options.unix, options.segment) = (path != "tcp", path == "segment");
    let cluster = Cluster::with_options(options)?;
    let mut bytes = [0x5a; 8];
    for _ in 0..count {
        match op {
            "read" => cluster.read_at(4096, &mut bytes)?,
            "write" => cluster.write_at(4096, &bytes)?,
            _ => return Err(usage(op)),
        }
    }
    Ok(())
}
