//! `mcomp read`: bytes of the memory to stdout or to a file, a bounded part at a time.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mcomp_client::Cluster;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::flags::{Format, ReadArgs};
use crate::globals::Globals;
use crate::output::{self, Hexdump, Replacement, Stdout, Text, progress};

/// The most that is put into one JSON object.
const JSON_LEN_MAX: u64 = 1 << 20;

pub(crate) fn run(globals: &Globals, args: &ReadArgs) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let (addr, room) = args.addr.span(&cluster)?;
    let what = match (args.len, room) {
        (Some(len), Some(room)) if len > room => return Err(args.addr.too_short(len, room).into()),
        (Some(len), _) | (None, Some(len)) => What { cluster, addr, len, format: args.format },
        (None, None) => {
            return Err(Failure::usage(
                "how many bytes? Behind an address their number is needed: mcomp read ADDR LEN",
            )
            .into());
        }
    };
    match &args.output {
        Some(path) if path.as_os_str() != "-" => to_file(globals, &what, path)?,
        _ if globals.json => to_json(&what)?,
        _ => to_stdout(globals, &what)?,
    }
    Ok(Exit::DONE)
}

/// What is read, ready to run.
struct What {
    cluster: Cluster,
    addr: u64,
    len: u64,
    format: Option<Format>,
}

/// Shows bytes to a person, and ends their last line.
pub(crate) fn show(globals: &Globals, cluster: Cluster, addr: u64, len: u64, format: Format) -> anyhow::Result<Exit> {
    match globals.json {
        true => to_json(&What { cluster, addr, len, format: None })?,
        false => stream(&What { cluster, addr, len, format: None }, format, true, &mut Stdout::lock(), |_| ())?,
    }
    Ok(Exit::DONE)
}

fn to_file(globals: &Globals, what: &What, path: &Path) -> anyhow::Result<()> {
    let failed = |what: &str, error: std::io::Error| Failure::io(format!("{what} {}", path.display()), &error);
    let mut file = Replacement::create(path).map_err(|error| failed("create", error))?;
    let format = what.format.unwrap_or(Format::Raw);
    let mut bar = progress::bar("reading", globals);
    let copied = stream(what, format, false, &mut file, |done| bar(done, what.len));
    copied.with_context(|| format!("reading to {}", path.display()))?;
    file.finish().map_err(|error| failed("write", error))?;
    if globals.json {
        let path = path.display().to_string();
        output::json(&json!({"outcome": "ok", "addr": what.addr, "len": what.len, "path": path}))?;
    }
    Ok(())
}

fn to_json(what: &What) -> anyhow::Result<()> {
    let What { addr, len, .. } = *what;
    if what.format.is_some() {
        return Err(Failure::usage("--json prints bytes as base64: leave --format out, or name a file with -o").into());
    }
    if len > JSON_LEN_MAX {
        let text = format!("{len} bytes are too many for one JSON object, at most {JSON_LEN_MAX}: name a file with -o");
        return Err(Failure::new(Exit::USAGE, "too_large", text).into());
    }
    let bytes = what.cluster.read_vec(addr, len)?;
    let data = STANDARD.encode(bytes);
    Ok(output::json(&json!({"outcome": "ok", "addr": addr, "len": len, "data": data}))?)
}

fn to_stdout(globals: &Globals, what: &What) -> anyhow::Result<()> {
    let mut stdout = Stdout::lock();
    let is_terminal = stdout.is_terminal();
    let format = what.format.unwrap_or(if is_terminal { Format::Hex } else { Format::Raw });
    if is_terminal {
        return stream(what, format, true, &mut stdout, |_| ());
    }
    let mut bar = progress::bar("reading", globals);
    stream(what, format, false, &mut stdout, |done| bar(done, what.len))
}

/// Gives the bytes to `out`; a text for a terminal gets its last line ended.
fn stream(
    what: &What,
    format: Format,
    is_terminal: bool,
    out: &mut impl Write,
    progress: impl FnMut(u64),
) -> anyhow::Result<()> {
    let What { ref cluster, addr, len, .. } = *what;
    match format {
        Format::Raw => {
            cluster.copy_to(addr, len, &mut *out, progress)?;
            out.flush()?;
        }
        Format::Hex => {
            let mut hexdump = Hexdump::new(BufWriter::new(out), addr);
            cluster.copy_to(addr, len, &mut hexdump, progress)?;
            hexdump.finish()?;
        }
        Format::Text => {
            let mut text = Text::new(BufWriter::new(out));
            cluster.copy_to(addr, len, &mut text, progress)?;
            text.finish(is_terminal)?;
        }
    }
    Ok(())
}
