//! Does one kind of small operation so many times through the client library, one after the other:
//! what `scripts/instructions` runs under a profiler.
//!
//! `operations CONFIG tcp|unix|segment OP COUNT`, with the values of CONFIG given as
//! `CLUSTER,ADDRESS,K_BYTES` of a cluster of one server. OP is read, write, batch-read, batch-read-into or
//! batch-write; in batches, 64 operations go together.

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
            eprintln!("usage: operations CLUSTER,ADDRESS,K_BYTES tcp|unix|segment OP COUNT");
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
    let mut bytes = [0x5a; 512];
    match op {
        "read" => (0..count).try_for_each(|_| cluster.read_at(4096, &mut bytes[..8])),
        "write" => (0..count).try_for_each(|_| cluster.write_at(4096, &bytes[..8])),
        "batch-read" | "batch-read-into" | "batch-write" => {
            (0..count / 64).try_for_each(|_| batch(&cluster, op, &mut bytes))
        }
        _ => Err(usage(op)),
    }
}

/// 64 operations that go together.
fn batch(cluster: &Cluster, op: &str, bytes: &mut [u8; 512]) -> Result<(), Error> {
    let mut batch = cluster.batch();
    for (addr, bytes) in (4096..).step_by(8).zip(bytes.chunks_exact_mut(8)) {
        match op {
            "batch-read" => batch.read(addr, 8),
            "batch-read-into" => batch.read_into(addr, bytes),
            _ => batch.write(addr, &*bytes),
        };
    }
    batch.run().into_iter().try_for_each(|outcome| outcome.map(drop))
}
