//! etcd, three nodes on loopback, spoken to through the JSON gateway of its nodes: one kept connection for each client,
//! which sends a prepared request and only looks at how long the answer is. That costs etcd more than gRPC would, above
//! all with one client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::peer::{Conn, Op};
use crate::process::{Process, on_path};
use crate::scratch::Scratch;

/// The name of its rows.
pub(crate) const NAME: &str = "etcd";

/// How long a node may take to answer, and the cluster to have a leader.
const PATIENCE: Duration = Duration::from_secs(20);

/// No answer that is measured is longer.
const MOST_BYTES: u64 = 1 << 20;

/// The nodes. Dropping it ends them; what they have stored stays in their folder.
pub(crate) struct Etcd {
    addresses: Vec<SocketAddr>,
    nodes: Vec<Process>,
}

impl Etcd {
    /// None when it is not on the PATH.
    pub(crate) fn start(scratch: &Scratch, folder: &Path, nodes: u32) -> anyhow::Result<Option<Etcd>> {
        let Some(program) = on_path("etcd") else { return Ok(None) };
        let addresses: Vec<(SocketAddr, SocketAddr)> = (0..nodes)
            .map(|_| Ok((scratch.free_address()?, scratch.free_address()?)))
            .collect::<anyhow::Result<_>>()?;
        let members = addresses.iter().enumerate().map(|(id, (peer, _))| format!("e{id}=http://{peer}"));
        let members = members.collect::<Vec<_>>().join(",");
        let mut processes = Vec::new();
        for (id, (peer, client)) in addresses.iter().enumerate() {
            let (peer, client) = (format!("http://{peer}"), format!("http://{client}"));
            let data = folder.join(format!("etcd-{id}")).display().to_string();
            let args = [
                ("--name", format!("e{id}")),
                ("--data-dir", data),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client),
                ("--initial-cluster", members.clone()),
                ("--log-level", "error".to_owned()),
            ];
            let args: Vec<String> = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
            processes.push(Process::start(scratch, "etcd", &program, &args)?);
        }
        Ok(Some(Etcd { addresses: addresses.into_iter().map(|(_, client)| client).collect(), nodes: processes }))
    }

    /// Connects client `number` to a node of its own choice, and waits until a put goes through. Its gets are
    /// linearizable.
    pub(crate) fn connect(&self, op: Op, size_bytes: usize, number: usize) -> anyhow::Result<Client> {
        let address = self.addresses[number % self.addresses.len()];
        // A key of its own, in base64.
        let key = format!("a2V5{number:04}");
        let value = base64_of_noughts(size_bytes);
        let put = request(address, "put", &format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}"));
        let deadline = Instant::now() + PATIENCE;
        let mut client = loop {
            let tried = Client::open(address, &put).and_then(|mut client| {
                client.run()?;
                Ok(client)
            });
            match tried {
                Err(error) if Instant::now() >= deadline => return Err(error.context("etcd does not serve")),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
                Ok(client) => break client,
            }
        };
        if op == Op::Get {
            client.request = request(address, "range", &format!("{{\"key\":\"{key}\"}}"));
            client.least_bytes = value.len();
        }
        Ok(client)
    }

    /// The processes of the nodes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Process::pid).collect()
    }
}

fn request(host: SocketAddr, verb: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /v3/kv/{verb} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    );
    format!("{head}\r\n{body}").into_bytes()
}

/// So many bytes that are zero, as JSON carries them.
fn base64_of_noughts(count: usize) -> String {
    let rest = ["", "AA==", "AAA="][count % 3];
    "AAAA".repeat(count / 3) + rest
}

/// One kept connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
    /// A shorter answer has no value in it.
    least_bytes: usize,
    answer: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr, request: &[u8]) -> anyhow::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream), request: request.to_vec(), least_bytes: 0, answer: Vec::new() })
    }

    /// A line without its end.
    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "etcd closed the connection");
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// The head of an answer: its status, and how long its body is, unless that comes in chunks.
    fn head(&mut self) -> anyhow::Result<(String, Option<u64>)> {
        let status = self.line()?;
        let (mut length, mut is_chunked) = (None, false);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse().context("a length")?);
            }
            is_chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.trim() == "chunked";
        }
        ensure!(is_chunked || length.is_some(), "an answer without a length");
        Ok((status, length.filter(|_| !is_chunked)))
    }

    fn body(&mut self, length: u64) -> anyhow::Result<()> {
        ensure!(self.answer.len() as u64 + length <= MOST_BYTES, "an answer of etcd is longer than {MOST_BYTES} bytes");
        self.stream.by_ref().take(length).read_to_end(&mut self.answer)?;
        Ok(())
    }

    fn chunks(&mut self) -> anyhow::Result<()> {
        loop {
            let length = u64::from_str_radix(&self.line()?, 16).context("the length of a chunk")?;
            self.body(length)?;
            self.line()?;
            if length == 0 {
                return Ok(());
            }
        }
    }
}

impl Conn for Client {
    fn run(&mut self) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(&self.request)?;
        let (status, length) = self.head()?;
        self.answer.clear();
        match length {
            Some(length) => self.body(length)?,
            None => self.chunks()?,
        }
        if !status.contains(" 200") || self.answer.len() < self.least_bytes {
            bail!("etcd answered {status:?}: {}", String::from_utf8_lossy(&self.answer));
        }
        Ok(())
    }
}
