//! Checks of whole files: what is accepted, and for each rule a file that breaks it with the words
//! that the user reads.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use crate::{Checksum, Config, ConfigError, Origin, Overrides, Value};

const SAMPLE: &str = include_str!("../../../mcomp.cfg");

const SERVERS: &str = "[[server]]\naddress = \"10.0.0.1:7401\"\n[[server]]\naddress = \"10.0.0.2:7401\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/mcomp/mcomp.cfg"), &Overrides::default())
}

/// Two servers, with `cluster` and `rest` to vary.
fn parse_two(cluster: &str, rest: &str) -> Result<Config, ConfigError> {
    parse(&format!("[cluster]\n{cluster}\n{SERVERS}{rest}"))
}

fn parse_rest(rest: &str) -> Result<Config, ConfigError> {
    parse_two("name = \"demo\"\nk = \"1M\"\nn = 2", rest)
}

fn assert_refused(result: Result<Config, ConfigError>, part: &str) {
    let message = result.expect_err(part).to_string();
    assert!(message.contains(part), "expected {part:?} in: {message}");
}

#[test]
fn the_sample_is_right() {
    let config = parse(SAMPLE).unwrap();
    assert_eq!(config.name(), "demo");
    assert_eq!((config.k(), config.n(), config.space()), (64 << 20, 3, 192 << 20));
    assert_eq!(config.servers()[2].address.as_str(), "127.0.0.1:7403");
    let snapshot = config.servers()[2].snapshot.as_ref().unwrap();
    assert_eq!(snapshot.as_str(), "127.0.0.1:7503");
    assert_eq!(config.snapshot().every, Some(Duration::from_secs(60)));
    assert_eq!(config.snapshot().dir, Path::new("/etc/mcomp/snapshots"));
    assert_eq!(config.op_log(1), None);
}

/// The sample shows optional keys behind `#`; what it says about them must be true.
#[test]
fn the_sample_shows_every_key_with_its_default() {
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = parse(&uncommented).unwrap();
    let defaults = parse(SAMPLE).unwrap();
    for (shown, default) in config.shown().iter().zip(defaults.shown()) {
        assert_eq!(shown.origin, Origin::File, "{} is not in the sample", shown.key);
        if default.value != Value::Null && !shown.key.ends_with(".http") {
            assert_eq!(shown.value, default.value, "{}", shown.key);
        }
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = parse_rest("").unwrap();
    let (snapshot, limits, client) = (config.snapshot(), config.limits(), config.client());
    assert_eq!(config.replicas(), 1);
    assert_eq!((snapshot.master, snapshot.keep, snapshot.full_every, snapshot.level), (0, 10, 1, 1));
    assert_eq!(snapshot.every, None);
    assert_eq!(snapshot.hold_max, Duration::from_millis(100));
    assert_eq!(snapshot.time_limit, Duration::from_secs(600));
    assert_eq!((limits.max_connections, limits.max_connections_per_address), (4096, None));
    assert_eq!(limits.handshake_timeout, Duration::from_secs(5));
    assert_eq!(limits.frame_timeout, Duration::from_secs(10));
    assert_eq!(limits.write_timeout, Duration::from_secs(10));
    assert_eq!(limits.session_keep, Duration::from_secs(60));
    assert_eq!(limits.buffer_budget_bytes, 256 << 20);
    assert_eq!(client.timeout, Duration::from_secs(5));
    assert_eq!(client.connect_timeout, Duration::from_secs(2));
    assert_eq!((client.max_connections, client.unix), (64, true));
    assert_eq!(client.checksum, Checksum::Auto);
}

#[test]
fn required_keys_have_no_default() {
    for key in ["cluster.name", "cluster.k", "cluster.n"] {
        assert_refused(parse(""), &format!("/etc/mcomp/mcomp.cfg: {key}: is missing"));
    }
}

#[test]
fn cluster_values_are_checked() {
    for (cluster, part) in [
        ("name = \"\"\nk = 4096\nn = 2", ":2: cluster.name: \"\" cannot be part"),
        ("name = \"-a\"\nk = 4096\nn = 2", "a letter or digit first"),
        ("name = \"Demo\"\nk = 4096\nn = 2", "\"Demo\" cannot be part"),
        ("name = 5\nk = 4096\nn = 2", "write it in quotes"),
        ("name = \"a\"\nk = 0\nn = 2", "0 is not a multiple of 4096: write 4 KiB"),
        ("name = \"a\"\nk = 65000\nn = 2", ":3: cluster.k: 65000 is not a multiple of 4096: write 60 KiB or 64 KiB"),
        ("name = \"a\"\nk = -4096\nn = 2", "-4096 is not a size"),
        ("name = \"a\"\nk = \"1.5M\"\nn = 2", "has a fraction"),
        ("name = \"a\"\nk = \"1048576T\"\nn = 2", "write at most 576460752303423488"),
        ("name = \"a\"\nk = 4096\nn = 3", "3 servers, but the file lists 2 [[server]]: write n = 2"),
        ("name = \"a\"\nk = 4096\nn = 0", "0 is not a whole number from 1 to 256"),
        ("name = \"a\"\nk = 4096\nn = 257", "257 is not a whole number"),
        ("name = \"a\"\nk = 4096\nn = \"2\"", "write it without quotes"),
        ("name = \"a\"\nk = 4096\nn = 2\nreplicas = 3", "3 copies of each block take 3 servers, and there are 2"),
        ("name = \"a\"\nk = 4096\nn = 2\nreplicas = 2", "2 is not 1, 3 or 5"),
    ] {
        assert_refused(parse_two(cluster, ""), part);
    }
    let name_longest = "a".repeat(40);
    let cluster = |name: &str| format!("name = \"{name}\"\nk = 4096\nn = 2");
    assert!(parse_two(&cluster(&name_longest), "").is_ok());
    assert_refused(parse_two(&cluster(&(name_longest + "a")), ""), "1 to 40");
    assert_refused(parse("cluster = { name = 'a', k = 4096, n = 2 }"), "lists none");
}

#[test]
fn the_whole_space_may_be_2_to_the_60() {
    let config = parse_two("name = \"a\"\nk = \"524288T\"\nn = 2", "").unwrap();
    assert_eq!(config.space(), 1 << 60);
}

#[test]
fn section_values_are_checked() {
    for (rest, part) in [
        ("[snapshot]\nmaster = 2", ":10: snapshot.master: 2 is no server: ids are 0 to 1"),
        ("[snapshot]\nevery = \"99ms\"", "is not between 100ms and 8760h, or \"off\""),
        ("[snapshot]\nevery = 60", "60 is not a duration: write a string such as \"5s\", or \"off\""),
        ("[snapshot]\nevery = \"60s\"", ":5: server.0.snapshot: is missing, and snapshots are scheduled"),
        ("[snapshot]\ndir = \"\"", "is not a path"),
        ("[snapshot]\nkeep = 0", "0 is not a whole number from 1"),
        ("[snapshot]\nlevel = 20", "from -7 to 19"),
        ("[snapshot]\nhold_max = \"11s\"", "is not between 1ms and 10s"),
        ("[limits]\nframe_timeout = \"0s\"", "\"0s\" is not between 1ms and 24h"),
        ("[limits]\nbuffer_budget = \"1K\"", "the least is 1 MiB"),
        ("[client]\nunix = \"yes\"", "neither true nor false"),
        ("[client]\nchecksum = true", "true is not \"auto\", \"on\" or \"off\""),
        ("[trace]\nop_log = \"\"", "is not a path"),
    ] {
        assert_refused(parse_rest(rest), part);
    }
}

#[test]
fn servers_are_checked() {
    let cluster = "[cluster]\nname = 'a'\nk = 4096\nn = 2\n";
    for (servers, part) in [
        ("[[server]]\n[[server]]", ":5: server.0.address: is missing"),
        ("[[server]]\naddress = 'a:0'\n[[server]]", ":6: server.0.address: \"a:0\" has port 0"),
        (
            "[[server]]\naddress = 'a:1'\n[[server]]\naddress = 'A:1'",
            ":8: server.1.address: a:1 is already server.0.address at line 6",
        ),
        (
            "[[server]]\naddress = 'a:1'\nsnapshot = 'a:1'\n[[server]]\naddress = 'b:1'",
            ":7: server.0.snapshot: a:1 is already server.0.address at line 6",
        ),
        ("[[server]]\naddress = 'a:1'\nhttp = 'b'\n[[server]]", ":7: server.0.http: \"b\""),
        (
            "[[server]]\naddress = '127.0.0.1:1'\nhttp = '127.0.0.1:2'\n[[server]]\naddress = '127.0.0.1:2'",
            ":7: server.0.http: 127.0.0.1:2 is already server.1.address at line 9",
        ),
        (
            "[[server]]\naddress = 'a:1'\nhttp = '127.0.0.1:9'\n[[server]]\naddress = 'a:2'\nhttp = '127.0.0.1:9'",
            ":10: server.1.http: 127.0.0.1:9 is already server.0.http at line 7",
        ),
        (
            "[[server]]\naddress = 'a:1'\nhttp = 'm:9'\n[[server]]\naddress = 'b:1'\nhttp = 'm:9'",
            ":10: server.1.http: m:9 is already server.0.http at line 7",
        ),
    ] {
        assert_refused(parse(&format!("{cluster}{servers}")), part);
    }
}

#[test]
fn each_machine_has_a_loopback_of_its_own_for_monitors() {
    for http in ["127.0.0.1:9400", "[::1]:9400", "localhost:9400"] {
        let server = |host: &str| format!("[[server]]\naddress = '{host}:1'\nhttp = '{http}'\n");
        let text = format!("[cluster]\nname = 'a'\nk = 4096\nn = 2\n{}{}", server("10.0.0.1"), server("10.0.0.2"));
        let config = parse(&text).unwrap();
        let read: Vec<_> = config.servers().iter().map(|server| server.http.as_ref().unwrap().as_str()).collect();
        assert_eq!(read, [http; 2]);
    }
}

#[test]
fn all_problems_are_listed_in_the_order_of_the_file() {
    let overrides = Overrides {
        environment: vec![("MCOMP_CLIENT_UNIX".into(), "perhaps".into())],
        flags: vec![("client.timeout".into(), "never".into())],
        data: None,
    };
    let text = "[snapshot]\nkeep = 0\nevry = 1\n[cluster]\nname = 'A'\nk = 1\nn = 1\n[[server]]\naddress = 'a:1'\n";
    let error = Config::parse(text, Path::new("mcomp.cfg"), &overrides).unwrap_err();
    let ConfigError::Invalid(problems) = &error else { panic!("{error}") };
    let places: Vec<String> = problems.iter().map(|p| format!("{} {}", p.place, p.key)).collect();
    assert_eq!(
        places,
        [
            "mcomp.cfg:2 snapshot.keep",
            "mcomp.cfg:3 snapshot.evry",
            "mcomp.cfg:5 cluster.name",
            "mcomp.cfg:6 cluster.k",
            "$MCOMP_CLIENT_UNIX client.unix",
            "flag client.timeout",
        ]
    );
    assert!(error.to_string().starts_with("6 problems in the configuration:\n  mcomp.cfg:2: "));
}

#[test]
fn everything_is_shown_with_its_origin() {
    let overrides = Overrides {
        environment: vec![("MCOMP_CLUSTER_K".into(), "2M".into())],
        flags: vec![("client.timeout".into(), "300ms".into())],
        data: None,
    };
    let config = Config::parse(SAMPLE, Path::new("/a/mcomp.cfg"), &overrides).unwrap();
    let shown = |key: &str| {
        let shown = config.shown().iter().find(|shown| shown.key == key).unwrap();
        (shown.value.clone(), shown.origin.clone())
    };
    let variable = Origin::Variable("MCOMP_CLUSTER_K".into());
    assert_eq!(shown("cluster.k"), (Value::Size(2 << 20), variable));
    assert_eq!(shown("client.timeout"), (Value::String("300ms".into()), Origin::Flag));
    assert_eq!(shown("cluster.n"), (Value::Integer(3), Origin::File));
    assert_eq!(shown("client.unix"), (Value::Boolean(true), Origin::Default));
    assert_eq!(shown("trace.op_log"), (Value::Null, Origin::Default));
    assert_eq!(shown("server.0.address"), (Value::String("127.0.0.1:7401".into()), Origin::File));
    assert_eq!(config.shown().len(), crate::keys::KEYS.len() + 3 * 3);
}

#[test]
fn relative_folders_begin_at_the_data_folder_if_there_is_one() {
    let data = Overrides { data: Some("/data".into()), ..Overrides::default() };
    let text = SAMPLE.to_string() + "op_log = \"ops\"\n";
    let config = Config::parse(&text, Path::new("mcomp.cfg"), &data).unwrap();
    assert_eq!(config.folder(), Path::new("/data"));
    assert_eq!(config.snapshot().dir, Path::new("/data/snapshots"));
    assert_eq!(config.op_log(2).unwrap(), Path::new("/data/ops.2"));

    let beside = Config::parse(SAMPLE, Path::new("mcomp.cfg"), &Overrides::default()).unwrap();
    assert!(beside.snapshot().dir.is_absolute());
}

#[test]
fn an_id_from_outside_is_a_claim() {
    let config = parse(SAMPLE).unwrap();
    assert_eq!(config.server(2).unwrap().address.port(), 7403);
    let message = config.server(3).unwrap_err().to_string();
    assert_eq!(message, "/etc/mcomp/mcomp.cfg has no server 3: its servers are 0 to 2");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", lines in prop::collection::vec(line(), 0..24)) {
        let _ = parse(&text);
        let _ = parse(&lines.join("\n"));
    }

    #[test]
    fn one_changed_character_never_panics(at in 0..SAMPLE.len(), with in any::<char>()) {
        let at = SAMPLE.floor_char_boundary(at);
        let rest = SAMPLE[at..].chars().skip(1);
        let text: String = SAMPLE[..at].chars().chain([with]).chain(rest).collect();
        let _ = parse(&text);
    }
}

/// Lines that are almost those of a configuration.
fn line() -> impl Strategy<Value = String> {
    let section = "\\[{1,2}(cluster|server|snapshot|limits|client|spin|security|trace)\\]{1,2}";
    let pair = "(name|k|n|replicas|address|every|master|keep|unix|level) = (-?[0-9]{1,25}|'[a-z0-9:.]{0,9}'|true|\\[\\]|\\{\\}|1.5|nan|1979-05-27)";
    prop_oneof![1 => section, 4 => pair]
}

#[test]
fn the_files_of_tls_are_named_together() {
    let all = ["ca", "cert", "key"].map(|name| format!("tls_{name} = \"{name}.pem\"\n"));
    let config = parse_rest(&format!("[security]\n{}", all.concat())).unwrap();
    let files = config.tls().unwrap();
    assert!([&files.ca, &files.cert, &files.key].iter().all(|path| path.is_absolute()), "{files:?}");
    assert_eq!(parse_rest("").unwrap().tls(), None);
    for missing in 0..3 {
        let named: String =
            all.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, line)| &line[..]).collect();
        let error = parse_rest(&format!("[security]\n{named}")).unwrap_err().to_string();
        let key = ["security.tls_ca", "security.tls_cert", "security.tls_key"][missing];
        assert!(error.contains(&format!("of no use without {key}")), "{error}");
    }
}
