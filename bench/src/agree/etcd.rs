//! etcd, three nodes on loopback, spoken to through the JSON gateway of its nodes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::measure::Sample;
use crate::process::{Process, on_path};
use crate::scratch::Scratch;

/// How long a node may take to answer, and the cluster to have a leader.
const PATIENCE: Duration = Duration::from_secs(20);

/// The nodes, and a connection for each client.
pub(super) struct Etcd {
    clients: Vec<Mutex<Client>>,
    _nodes: Vec<Process>,
}

impl Etcd {
    /// None when it is not on the PATH.
    pub(super) fn start(scratch: &Scratch, folder: &Path, nodes: u32, clients: usize) -> anyhow::Result<Option<Etcd>> {
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
        let connect = |at: usize| {
            let client = Client::connect(addresses[at % addresses.len()].1, at)?;
            Ok(Mutex::new(client))
        };
        let clients = (0..clients).map(connect).collect::<anyhow::Result<_>>()?;
        Ok(Some(Etcd { clients, _nodes: processes }))
    }

    /// Puts a second of all clients together.
    pub(super) fn puts(&self, window: Duration) -> anyhow::Result<Sample> {
        let start = Instant::now();
        let one = |client: &Mutex<Client>| -> anyhow::Result<u64> {
            let mut client = client.lock().expect("a client does not panic");
            let mut count = 0;
            while start.elapsed() < window {
                client.put()?;
                count += 1;
            }
            Ok(count)
        };
        let counts: anyhow::Result<Vec<u64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = self.clients.iter().map(|client| scope.spawn(move || one(client))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
        });
        let count: u64 = counts?.iter().sum();
        Ok(Sample { value: count as f64 / start.elapsed().as_secs_f64() / 1e3, ..Sample::default() })
    }
}

/// One kept connection.
struct Client {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Client {
    /// Connects, and waits until a put goes through.
    fn connect(address: SocketAddr, number: usize) -> anyhow::Result<Client> {
        // A key of its own, and 64 bytes, in base64.
        let key = format!("a2V5{number:04}");
        let body = format!("{{\"key\":\"{key}\",\"value\":\"{}\"}}", "AAAA".repeat(21));
        let (length, host) = (body.len(), address);
        let request = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: \
             {length}\r\n\r\n{body}"
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tried = Client::open(address, request.clone().into_bytes()).and_then(|mut client| {
                client.put()?;
                Ok(client)
            });
            match tried {
                Err(error) if Instant::now() >= deadline => return Err(error.context("etcd does not serve")),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
                client => return client,
            }
        }
    }

    fn open(address: SocketAddr, request: Vec<u8>) -> anyhow::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream), request })
    }

    fn put(&mut self) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(&self.request)?;
        let (mut line, mut length, mut status) = (String::new(), None, String::new());
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("etcd closed the connection");
            }
            let line = line.trim_end();
            if status.is_empty() {
                line.clone_into(&mut status);
            }
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<u64>().context("a length")?);
            }
        }
        let length = length.context("an answer without a length")?;
        let mut body = Vec::new();
        self.stream.by_ref().take(length.min(1 << 20)).read_to_end(&mut body)?;
        if !status.contains(" 200") {
            bail!("etcd answered {status:?}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }
}
