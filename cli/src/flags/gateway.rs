//! Arguments of `mcomp gateway`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{ParentFlag, value};

/// `mcomp gateway`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Answers HTTP/1.1 until SIGTERM or Ctrl-C, and prints one line on stdout when it listens. It keeps nothing: start as \
many as you like. GET /openapi.json is the list of all that it does.

Register N is the block of 4096 bytes at address N x 4096, written with POST /write and read with GET /read/N. \
/v1/memory/PLACE is the memory itself, at an address, a name, or NAME+64: GET with a Range, PUT, PATCH with a \
Content-Range, each with If-Match if you like.

Whoever reaches it acts with its key, so it listens on loopback. Elsewhere it wants a secret in mcomp.cfg, and a \
token that every request shows: Authorization: Bearer TOKEN.

Examples:
  mcomp gateway
  mcomp gateway --listen 127.0.0.1:9000 --max-body 16MiB
  curl -H 'Content-Type: application/json' -d '{\"addr\":7,\"value\":\"hello\"}' http://127.0.0.1:8080/write
  curl http://127.0.0.1:8080/read/7
  curl -T page.bin http://127.0.0.1:8080/v1/memory/results
  curl -r 0-4095 http://127.0.0.1:8080/v1/memory/0x1000")]
pub(crate) struct GatewayArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub(crate) listen: String,
    /// The longest body, of a request and of an answer
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = body)]
    pub(crate) max_body: u64,
    /// Connections at a time; more are answered 503
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) max_connections: u32,
    /// How long a connection may be silent between two requests
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = value::timeout)]
    pub(crate) idle_timeout: Duration,
    /// The file with the word that every request has to show
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) parent: ParentFlag,
}

/// A host and a port, as text: names are looked up when it is listened on.
fn listen(text: &str) -> Result<String, String> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && is_port(port) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not host:port: write for instance 127.0.0.1:8080")),
    }
}

/// Each connection may hold as much, and more than once.
const BODY_LEN_MAX: u64 = 1 << 30;

fn body(text: &str) -> Result<u64, String> {
    match value::size(text)? {
        size @ 1..=BODY_LEN_MAX => Ok(size),
        _ => Err(format!("{text:?} is out of range: write 1 to 1GiB")),
    }
}
