//! Texts that people and peers write: mcomp.cfg, sizes, durations, addresses, endpoints, names of files.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use mcomp_config::{
    Config, ConfigError, Endpoint, Overrides, Value, format_duration, format_size, parse_address, parse_duration,
    parse_size,
};
use mcomp_net::auth::{Keyring, MOST_KEYS};
use mcomp_snapshot::file::Name;
use mcomp_wire::Role;

use crate::Seed;

/// The file and, behind a NUL, which no TOML has, a `NAME=VALUE` a line as the environment. What is refused
/// says why; what is accepted keeps what [`Config`] promises, and means the same when it is written out again
/// as flags.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, environment) = text.split_once('\0').unwrap_or((text, ""));
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let environment = variables.map(|(name, value)| (name.into(), value.into())).collect();
    let overrides = Overrides { environment, ..Overrides::default() };
    match parse(text, &overrides) {
        Ok(config) => {
            check_config(&config);
            check_written_out(text, &config);
        }
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.is_empty());
            problems.iter().for_each(|problem| assert!(!problem.text.is_empty(), "{problem}"));
        }
        Err(error) => panic!("{error}"),
    }
}

fn parse(text: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/nowhere/mcomp.cfg"), overrides)
}

fn check_config(config: &Config) {
    assert!(config.k() > 0 && config.k().is_multiple_of(4096) && config.space() <= 1 << 60);
    assert!((1..=256).contains(&config.n()) && config.snapshot().master < config.n());
    assert!((1..=40).contains(&config.name().len()), "{:?}", config.name());
    assert!(config.name().bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')));
    let mut endpoints = HashSet::new();
    for server in config.servers() {
        assert!(endpoints.insert(server.address.clone()), "{} stands twice", server.address);
        server.snapshot.iter().for_each(|one| assert!(endpoints.insert(one.clone()), "{one} stands twice"));
        assert!(config.snapshot().every.is_none() || server.snapshot.is_some());
    }
    let (snapshot, limits, client) = (config.snapshot(), config.limits(), config.client());
    let year = Duration::from_secs(365 * 86_400);
    let durations = [
        snapshot.hold_max,
        snapshot.time_limit,
        limits.handshake_timeout,
        limits.frame_timeout,
        limits.write_timeout,
        limits.session_keep,
        client.timeout,
        client.connect_timeout,
    ];
    for duration in durations.into_iter().chain(snapshot.every) {
        assert!(duration > Duration::ZERO && duration <= year, "{duration:?}");
    }
    assert!(snapshot.dir.is_absolute() && snapshot.keep > 0);
}

/// Lays every value that is shown over the file it came from: nothing may change.
fn check_written_out(text: &str, config: &Config) {
    let written = |value: &Value| match value {
        Value::Null => None,
        Value::Size(bytes) => Some(bytes.to_string()),
        other => Some(other.to_string()),
    };
    let settable = config.shown().iter().filter(|shown| !shown.key.starts_with("server."));
    let flags = settable.filter_map(|shown| Some((shown.key.clone(), written(&shown.value)?))).collect();
    let again = parse(text, &Overrides { flags, ..Overrides::default() }).expect("what was shown is accepted");
    let values = |config: &Config| -> Vec<_> {
        config.shown().iter().map(|shown| (shown.key.clone(), shown.value.clone())).collect()
    };
    assert_eq!(values(&again), values(config));
}

/// The sample of the project: every key with its reason.
const SAMPLE: &str = include_str!("../../mcomp.cfg");

const SMALL: &str = "[cluster]\nname = \"one\"\nk = \"1M\"\nn = 1\n[[server]]\naddress = \"127.0.0.1:7401\"\n";

const EVERY_KEY: &str = "cluster = { name = 'a_b-9', k = 0x10_000, n = 2, replicas = 1 }
server = [{ address = '[::1]:1', snapshot = 'Node7.example:65535' }, { address = '127.0.0.1:7402' }]
snapshot = { master = 1, every = 'off', dir = '/x', keep = 1, full_every = 2, level = -7, hold_max = '1.5ms', \
time_limit = '1h' }
[limits]
max_connections = 1
handshake_timeout = '1s'
frame_timeout = '24h'
write_timeout = '1ms'
session_keep = '1min'
buffer_budget = '1 GiB'
[client]
timeout = '1s'
connect_timeout = '1s'
max_connections = 1_000
unix = false
segment = true
checksum = 'on'
[spin]
server = '20us'
client = 'off'
[trace]
op_log = 'ops.log'
";

/// The seeds of [`config`].
pub fn config_seeds() -> Vec<Seed> {
    let variables = "MCOMP_SNAPSHOT_EVERY=off\nMCOMP_CLIENT_TIMEOUT=3s\nMCOMP_CLUSTER_K=8K\nMCOMP_CLIENT_UNIX=\n";
    let wrong = "[cluster]\nname = 'No'\nk = 1.5\nn = 300\nkk = 1\n[server]\nfoo = [[1], {a = 1979-05-27}]\n";
    let texts = [
        ("sample", SAMPLE.to_owned()),
        ("small", SMALL.to_owned()),
        ("every_key", EVERY_KEY.to_owned()),
        ("variables", format!("{SMALL}\0{variables}")),
        ("misspelled_variable", format!("{SMALL}\0MCOMP_SNAPSHOT_EVRY=1s\nMCOMP_CONFG=x")),
        ("wrong", wrong.to_owned()),
        ("nested_arrays", "[".repeat(2000)),
        ("nested_tables", format!("a = {}", "{a=".repeat(2000))),
        ("dotted", format!("a{} = 1", ".a".repeat(2000))),
    ];
    texts.map(|(name, text)| (name, text.into_bytes())).to_vec()
}

/// A size, an address or a duration: what is read is written so that it reads the same.
pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(bytes) = parse_size(text) {
        assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
    }
    if let Ok(address) = parse_address(text) {
        assert_eq!(parse_address(&format!("{address:#x}")), Ok(address));
        assert_eq!(parse_size(text), Ok(address), "an address without a unit is also a size");
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
}

/// The seeds of [`quantity`].
pub fn quantity_seeds() -> Vec<Seed> {
    let texts = [
        ("plain", "4096"),
        ("hexadecimal", "0xdead_BEEF"),
        ("size", " 64 MiB "),
        ("largest", "18446744073709551615"),
        ("terabytes", "16777215T"),
        ("duration", "1.5s"),
        ("long_duration", "5000000h"),
        ("fine", "0.000000000000000001h"),
        ("microseconds", "20us"),
        ("minutes", "10min"),
    ];
    texts.map(|(name, text)| (name, text.into())).to_vec()
}

/// `host:port`: what is accepted has one form, which is accepted as the same.
pub fn endpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(endpoint) = text.parse::<Endpoint>() else { return };
    assert_eq!(endpoint.as_str().parse(), Ok(endpoint.clone()), "{text:?}");
    assert!(!endpoint.as_str().contains(|c: char| c.is_ascii_uppercase()), "{endpoint}");
    assert!(endpoint.port() != 0 && endpoint.as_str().ends_with(&format!(":{}", endpoint.port())));
    assert!(endpoint.ip().is_none_or(|ip| !ip.is_unspecified() && !ip.is_multicast()), "{endpoint}");
    assert!(!endpoint.as_str().contains(|c: char| c.is_whitespace() || c.is_control()), "{endpoint:?}");
}

/// The seeds of [`endpoint`].
pub fn endpoint_seeds() -> Vec<Seed> {
    let texts = [
        ("ip4", "127.0.0.1:7401"),
        ("ip6", "[2001:db8::7]:7401"),
        ("ip4_in_ip6", "[::ffff:10.0.0.7]:1"),
        ("link_local", "[fe80::1%3]:65535"),
        ("name", "Node-7.example_org:7401"),
        ("unspecified", "0.0.0.0:7401"),
        ("port_zero", "node7:0"),
    ];
    texts.map(|(name, text)| (name, text.into())).to_vec()
}

/// The name of a snapshot file, as a peer may send it: what is accepted is never a path.
pub fn snapshot_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Name>() {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            assert!(text.len() <= 87 && !text.starts_with('.') && !text.contains(['/', '\\', '\0']), "{text:?}");
            assert_eq!(Path::new("/folder").join(text).parent(), Some(Path::new("/folder")), "{text:?}");
        }
        // The text is shown escaped, and not beyond what a name could be.
        Err(error) => assert!(error.to_string().len() < 2048, "{} bytes of error", error.to_string().len()),
    }
}

/// The seeds of [`snapshot_name`].
pub fn snapshot_name_seeds() -> Vec<Seed> {
    let texts = [
        ("full", "demo-20260102T030405.678Z-full-0123abcd.mcs"),
        ("incremental", "a_b-9-20260102T030405.678Z-incr-00000000.mcs"),
        ("path", "../demo-20260102T030405.678Z-full-0123abcd.mcs"),
        ("absolute", "/tmp/x-20260102T030405.678Z-full-0123abcd.mcs"),
    ];
    texts.map(|(name, text)| (name, text.into())).to_vec()
}

/// The secret of a cluster. What is accepted comes back from its own text, and what is refused says nothing of a key.
pub fn secret(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Keyring::parse(text) {
        Ok(keyring) => {
            assert_eq!(Keyring::parse(&keyring.to_text()).as_ref(), Ok(&keyring));
            assert!(Role::ALL.iter().all(|&role| keyring.of(role).count() <= MOST_KEYS));
            assert_eq!(keyring.retired().retired(), keyring.retired());
        }
        Err(error) => assert!(error.to_string().len() < 200 && error.line <= text.lines().count(), "{error}"),
    }
}

/// The seeds of [`secret`].
pub fn secret_seeds() -> Vec<Seed> {
    let key = |digit: &str| digit.repeat(64);
    let all = format!("# all\nclient {}\nnode   {}\nadmin  {}\n", key("1"), key("2"), key("a"));
    let rotated = format!("client {} # new\nclient {}\n", key("3"), key("1"));
    vec![("all", all.into_bytes()), ("rotated", rotated.into_bytes()), ("short", b"client 12\n".to_vec())]
}
