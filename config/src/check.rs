//! From the configuration as typed to the one that is ready to run. A check that fails notes its
//! problem and the next one goes on, so that one run shows all there is to mend.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Checksum, Client, Config, Limits, Metadata, Placement, ServerEntry, Snapshot, Spin, TlsFiles};
use crate::duration::format_duration;
use crate::endpoint::Endpoint;
use crate::error::Problem;
use crate::origin::{Origin, Shown, Value};
use crate::scalar::Scalar;
use crate::size::format_size;
use crate::together::{TLS_KEYS, check_together};
use crate::written::{Entry, Written};

/// The unit of locking and of snapshots, of which each server lends a whole number.
pub(crate) const BLOCK_BYTES: u64 = 4096;
const SERVERS_MAX: i64 = 256;
const NAME_LEN_MAX: usize = 40;
/// For counts that only the machine bounds. More than that is a slip of the keyboard.
const COUNT_MAX: i64 = 1_000_000;
/// Below it large requests of a few connections could not be served at all.
const BUFFER_BUDGET_BYTES_MIN: u64 = 1 << 20;

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
const EVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(365 * 86_400);
const SPIN: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_millis(1);
const QUARANTINE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
const HOLD: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);

/// Checks every value, then what must fit together. `folder` is where relative paths begin.
pub(crate) fn check(written: Written, folder: PathBuf) -> Result<Config, Vec<Problem>> {
    let mut checker = Checker { written, folder, shown: Vec::new() };
    match checker.config() {
        Some(config) if checker.written.problems.is_empty() => Ok(config),
        _ => Err(checker.written.problems),
    }
}

/// The methods that check one value give none when they noted a problem.
struct Checker {
    written: Written,
    folder: PathBuf,
    /// What passed so far, in the order of the file.
    shown: Vec<Shown>,
}

impl Checker {
    fn config(&mut self) -> Option<Config> {
        let name = self.name();
        let k = self.k();
        let n = self.integer("cluster.n", 1..=SERVERS_MAX);
        let replicas = self.replicas();
        let servers = self.servers();
        let snapshot = self.snapshot();
        let metadata = self.metadata();
        let limits = self.limits();
        let client = self.client();
        let spin = self.spin();
        let secret_file = self.optional_path("security.secret_file");
        let tls = self.tls();
        let op_log = self.optional_path("trace.op_log");
        check_together(&mut self.written, k, n, replicas, snapshot.as_ref());
        Some(Config {
            path: self.written.path.clone(),
            folder: self.folder.clone(),
            name: name?,
            k: k?,
            replicas: replicas?,
            servers: servers?,
            snapshot: snapshot?,
            metadata: metadata?,
            limits: limits?,
            client: client?,
            spin: spin?,
            secret_file,
            tls,
            op_log,
            shown: std::mem::take(&mut self.shown),
        })
    }

    fn name(&mut self) -> Option<String> {
        self.read("cluster.name", |typed| {
            let name = typed.text()?.to_string();
            match is_cluster_name(&name) {
                true => Ok((name.clone(), Value::String(name))),
                false => Err(format!(
                    "{typed} cannot be part of a segment's name: write 1 to {NAME_LEN_MAX} of \
                     a-z, 0-9, _ and -, a letter or digit first"
                )),
            }
        })
    }

    fn k(&mut self) -> Option<u64> {
        self.read("cluster.k", |typed| {
            let bytes = typed.size()?;
            match bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES) {
                true => Ok((bytes, Value::Size(bytes))),
                false => Err(format!("{typed} is not a multiple of {BLOCK_BYTES}: write {}", nearest_multiples(bytes))),
            }
        })
    }

    fn replicas(&mut self) -> Option<u32> {
        self.read("cluster.replicas", |typed| match typed.integer(1..=5) {
            Ok(1) => Ok((1, Value::Integer(1))),
            Ok(3) => Ok((3, Value::Integer(3))),
            Ok(5) => Ok((5, Value::Integer(5))),
            _ => Err(format!("{typed} is not 1, 3 or 5")),
        })
    }

    fn servers(&mut self) -> Option<Vec<ServerEntry>> {
        let mut servers = Vec::new();
        for id in 0..self.written.servers.len() {
            let address = self.server_address(id);
            let written = &self.written.servers[id];
            let (snapshot, http) = (written.snapshot.clone(), written.http.clone());
            let snapshot = self.optional_endpoint(format!("server.{id}.snapshot"), snapshot);
            let http = self.optional_endpoint(format!("server.{id}.http"), http);
            servers.push(address.zip(snapshot).zip(http));
        }
        let checked = |((address, snapshot), http)| ServerEntry { address, snapshot, http };
        servers.into_iter().map(|s| s.map(checked)).collect()
    }

    fn server_address(&mut self, id: usize) -> Option<Endpoint> {
        let key = format!("server.{id}.address");
        match self.written.servers[id].address.clone() {
            Some(entry) => self.endpoint(key, &entry),
            None => {
                let line = self.written.servers[id].line;
                let text = "is missing: write address = \"host:port\"";
                self.written.refuse_in_file(line, &key, text);
                None
            }
        }
    }

    /// The inner option is whether there is one.
    fn optional_endpoint(&mut self, key: String, entry: Option<Entry>) -> Option<Option<Endpoint>> {
        match entry {
            Some(entry) => self.endpoint(key, &entry).map(Some),
            None => {
                self.show(key, Value::Null, Origin::Default);
                Some(None)
            }
        }
    }

    fn endpoint(&mut self, key: String, entry: &Entry) -> Option<Endpoint> {
        match entry.value.endpoint() {
            Ok(endpoint) => {
                self.show(key, Value::String(endpoint.to_string()), Origin::File);
                Some(endpoint)
            }
            Err(text) => {
                self.written.refuse(&key, entry, text);
                None
            }
        }
    }

    fn snapshot(&mut self) -> Option<Snapshot> {
        let master = self.integer("snapshot.master", 0..=SERVERS_MAX - 1);
        let every = self.duration_or_off("snapshot.every", EVERY);
        let dir = self.path("snapshot.dir");
        let keep = self.integer("snapshot.keep", 1..=COUNT_MAX);
        let full_every = self.integer("snapshot.full_every", 1..=COUNT_MAX);
        let level = self.integer("snapshot.level", -7..=19);
        let hold_max = self.duration("snapshot.hold_max", HOLD);
        let time_limit = self.duration("snapshot.time_limit", TIMEOUT);
        Some(Snapshot {
            master: master?,
            every: every?,
            dir: dir?,
            keep: keep?,
            full_every: full_every?,
            level: level?,
            hold_max: hold_max?,
            time_limit: time_limit?,
        })
    }

    fn metadata(&mut self) -> Option<Metadata> {
        let dir = self.path("metadata.dir");
        let quarantine = self.duration_or_off("metadata.quarantine", QUARANTINE);
        let placement = self.read("metadata.placement", placement);
        Some(Metadata { dir: dir?, quarantine: quarantine?.unwrap_or_default(), placement: placement? })
    }

    fn limits(&mut self) -> Option<Limits> {
        let max_connections = self.integer("limits.max_connections", 1..=COUNT_MAX);
        let max_connections_per_address = self.integer_or_off("limits.max_connections_per_address", 1..=COUNT_MAX);
        let handshake_timeout = self.duration("limits.handshake_timeout", TIMEOUT);
        let frame_timeout = self.duration("limits.frame_timeout", TIMEOUT);
        let write_timeout = self.duration("limits.write_timeout", TIMEOUT);
        let session_keep = self.duration("limits.session_keep", TIMEOUT);
        let buffer_budget_bytes = self.read("limits.buffer_budget", |typed| {
            let bytes = typed.size_of_at_least(BUFFER_BUDGET_BYTES_MIN)?;
            Ok((bytes, Value::Size(bytes)))
        });
        Some(Limits {
            max_connections: max_connections?,
            max_connections_per_address: max_connections_per_address?,
            handshake_timeout: handshake_timeout?,
            frame_timeout: frame_timeout?,
            write_timeout: write_timeout?,
            session_keep: session_keep?,
            buffer_budget_bytes: buffer_budget_bytes?,
        })
    }

    fn client(&mut self) -> Option<Client> {
        let timeout = self.duration("client.timeout", TIMEOUT);
        let connect_timeout = self.duration("client.connect_timeout", TIMEOUT);
        let max_connections = self.integer("client.max_connections", 1..=COUNT_MAX);
        let unix = self.boolean("client.unix");
        let segment = self.boolean("client.segment");
        let checksum = self.read("client.checksum", checksum);
        Some(Client {
            timeout: timeout?,
            connect_timeout: connect_timeout?,
            max_connections: max_connections?,
            unix: unix?,
            segment: segment?,
            checksum: checksum?,
        })
    }

    fn spin(&mut self) -> Option<Spin> {
        let server = self.duration_or_off("spin.server", SPIN);
        let client = self.duration_or_off("spin.client", SPIN);
        Some(Spin { server: server?.unwrap_or_default(), client: client?.unwrap_or_default() })
    }

    /// None also if some are missing, which is noted with what must fit together.
    fn tls(&mut self) -> Option<TlsFiles> {
        let [ca, cert, key] = TLS_KEYS.map(|dotted| self.optional_path(dotted));
        Some(TlsFiles { ca: ca?, cert: cert?, key: key? })
    }

    fn boolean(&mut self, dotted: &'static str) -> Option<bool> {
        self.read(dotted, |typed| {
            let yes = typed.boolean()?;
            Ok((yes, Value::Boolean(yes)))
        })
    }

    fn duration_or_off(&mut self, dotted: &'static str, range: RangeInclusive<Duration>) -> Option<Option<Duration>> {
        self.read(dotted, |typed| {
            let duration = typed.duration_or_off(range)?;
            let shown = duration.map_or("off".into(), format_duration);
            Ok((duration, Value::String(shown)))
        })
    }

    fn integer<T: TryFrom<i64>>(&mut self, dotted: &'static str, range: RangeInclusive<i64>) -> Option<T> {
        self.read(dotted, |typed| {
            let number = typed.integer(range)?;
            let fits = T::try_from(number).map_err(|_| format!("{typed} is out of range"))?;
            Ok((fits, Value::Integer(number)))
        })
    }

    fn integer_or_off(&mut self, dotted: &'static str, range: RangeInclusive<i64>) -> Option<Option<u32>> {
        self.read(dotted, |typed| {
            let Some(number) = typed.integer_or_off(range)? else { return Ok((None, Value::String("off".into()))) };
            let fits = u32::try_from(number).map_err(|_| format!("{typed} is out of range"))?;
            Ok((Some(fits), Value::Integer(number)))
        })
    }

    fn duration(&mut self, dotted: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.read(dotted, |typed| {
            let duration = typed.duration(range)?;
            Ok((duration, Value::String(format_duration(duration))))
        })
    }

    fn path(&mut self, dotted: &'static str) -> Option<PathBuf> {
        let folder = self.folder.clone();
        self.read(dotted, |typed| {
            let path = folder.join(typed.path()?);
            let shown = Value::String(path.display().to_string());
            Ok((path, shown))
        })
    }

    fn optional_path(&mut self, dotted: &'static str) -> Option<PathBuf> {
        if self.written.entries.contains_key(dotted) {
            return self.path(dotted);
        }
        self.show(dotted.into(), Value::Null, Origin::Default);
        None
    }

    /// Reads one key: gives its value and shows it, or notes what is wrong.
    fn read<T>(
        &mut self,
        dotted: &'static str,
        reading: impl FnOnce(&Scalar) -> Result<(T, Value), String>,
    ) -> Option<T> {
        let Some(entry) = self.written.entries.get(dotted).cloned() else {
            let text = "is missing, and it has no default: see the sample mcomp.cfg";
            self.written.refuse_in_file(None, dotted, text);
            return None;
        };
        match reading(&entry.value) {
            Ok((value, shown)) => {
                self.show(dotted.into(), shown, entry.origin);
                Some(value)
            }
            Err(text) => {
                self.written.refuse(dotted, &entry, text);
                None
            }
        }
    }

    fn show(&mut self, key: String, value: Value, origin: Origin) {
        self.shown.push(Shown { key, value, origin });
    }
}

fn placement(typed: &Scalar) -> Result<(Placement, Value), String> {
    let (placement, word) = match typed.text() {
        Ok("pack") => (Placement::Pack, "pack"),
        Ok("spread") => (Placement::Spread, "spread"),
        _ => return Err(format!("{typed} is not \"pack\" or \"spread\"")),
    };
    Ok((placement, Value::String(word.into())))
}

fn checksum(typed: &Scalar) -> Result<(Checksum, Value), String> {
    let (checksum, word) = match typed.text() {
        Ok("auto") => (Checksum::Auto, "auto"),
        Ok("on") => (Checksum::On, "on"),
        Ok("off") => (Checksum::Off, "off"),
        _ => return Err(format!("{typed} is not \"auto\", \"on\" or \"off\"")),
    };
    Ok((checksum, Value::String(word.into())))
}

fn is_cluster_name(name: &str) -> bool {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    let begins_well = !name.starts_with(['_', '-']);
    (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(allowed) && begins_well
}

/// The multiples of the block just below and above, such as "60 KiB or 64 KiB".
fn nearest_multiples(bytes: u64) -> String {
    let below = bytes / BLOCK_BYTES * BLOCK_BYTES;
    let above = below.checked_add(BLOCK_BYTES);
    let multiples = [Some(below).filter(|below| *below > 0), above];
    let multiples: Vec<String> = multiples.into_iter().flatten().map(format_size).collect();
    multiples.join(" or ")
}

#[cfg(test)]
mod tests;
