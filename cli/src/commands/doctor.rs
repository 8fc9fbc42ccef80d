//! `mcomp doctor`: what will bite on this machine, before it does, each with the command that mends it.
//!
//! Promises
//! - It changes nothing: no segment, no file and no folder is made, removed or written, and no port is listened on.
//! - It needs no running cluster, and asks one that runs as `mcomp status` does.
//! - A finding that something will fail or may fail has its way out, as a command or an edit to be copied.
//! - Exit code 0 says that nothing will fail, 1 that something will. A wrong mcomp.cfg is 78, as everywhere.
//!
//! Leaves out what no question from outside can tell: the speed of disks and networks, and what other programs
//! will take a moment later.

mod addresses;
mod bounds;
mod certificates;
mod clock;
mod cluster;
mod finding;
mod folder;
mod limits;
mod metadata;
mod oplog;
mod reach;
mod removal;
mod report;
mod room;
mod scene;
mod secret;
mod segments;
mod sockets;
mod threads;

use mcomp_config::is_local_ip;

use crate::exit::Exit;
use crate::globals::Globals;
use crate::output;

use finding::Finding;
use report::Report;
use scene::Scene;

/// All checks, in the order in which a person would mend what they find.
const CHECKS: [fn(&Scene) -> Vec<Finding>; 14] = [
    cluster::check,
    secret::check,
    room::check,
    segments::check,
    removal::check,
    limits::check,
    threads::check,
    addresses::check,
    certificates::check,
    reach::check,
    clock::check,
    metadata::check,
    folder::check,
    oplog::check,
];

pub(crate) fn run(globals: &Globals) -> anyhow::Result<Exit> {
    let scene = Scene::look(globals.config()?, globals.data.as_deref(), globals.verbose > 0, is_local_ip)?;
    let report = Report::new(CHECKS.iter().flat_map(|check| check(&scene)).collect());
    match globals.json {
        true => output::json(&output::Done::with(&report))?,
        false => output::line(report.text(globals.quiet))?,
    }
    Ok(if report.is_ok() { Exit::DONE } else { Exit::NEGATIVE })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use mcomp_config::{Config, Overrides};

    use super::finding::Level;
    use super::*;

    /// Two servers where nobody listens.
    const CONFIG: &str = "
        cluster = { name = 'doctor-of-nobody', k = '4KiB', n = 2 }
        snapshot = { every = 'off' }
        [[server]]
        address = '127.0.0.1:1'
        snapshot = '127.0.0.1:2'
        [[server]]
        address = '127.0.0.2:1'
        snapshot = '127.0.0.2:2'
    ";

    fn findings(is_local: impl Fn(IpAddr) -> bool) -> Vec<Finding> {
        let config = Config::parse(CONFIG, Path::new("mcomp.cfg"), &Overrides::default()).unwrap();
        let scene = Scene::look(config, None, false, is_local).unwrap();
        CHECKS.iter().flat_map(|check| check(&scene)).collect()
    }

    fn levels<'a>(findings: &'a [Finding], check: &'a str) -> Vec<Level> {
        findings.iter().filter(|finding| finding.check == check).map(|finding| finding.level).collect()
    }

    #[test]
    fn a_machine_without_servers_is_told_so_and_nothing_fails() {
        let findings = findings(|_| false);
        let servers = findings.iter().find(|finding| finding.check == "servers").unwrap();
        assert_eq!(servers.level, Level::Warn);
        assert!(servers.what.contains("127.0.0.1:1, 127.0.0.2:1"), "{}", servers.what);
        for check in
            ["remove_ipc", "open_files", "file_size", "address_space", "threads", "address", "metadata", "snapshot_dir"]
        {
            assert_eq!(levels(&findings, check), [Level::Skipped], "{check}");
        }
        assert_eq!(levels(&findings, "reach"), [Level::Warn; 4], "two servers and two snapshot processes are silent");
        assert!(findings.iter().all(|finding| finding.level != Level::Fail), "{findings:?}");
    }

    /// RFC 5737 keeps 192.0.2.0/24 for documentation; nothing is sent there.
    #[test]
    fn an_open_address_without_a_secret_is_a_failure() {
        let parse = |text: &str| Config::parse(text, Path::new("mcomp.cfg"), &Overrides::default()).unwrap();
        let mut scene = Scene::look(parse(CONFIG), None, false, |_| false).unwrap();
        assert!(secret::check(&scene).iter().all(|finding| finding.level == Level::Ok));
        scene.config = parse(&CONFIG.replace("127.0.0.2:2", "192.0.2.1:2"));
        let findings = secret::check(&scene);
        assert_eq!((findings.len(), findings[0].level), (1, Level::Fail));
        assert!(findings[0].what.contains("server.1.snapshot = 192.0.2.1:2"), "{findings:?}");
        let fix = findings[0].fix.as_deref().unwrap();
        assert!(fix.starts_with("mcomp secret create --config mcomp.cfg;"), "{fix}");
    }

    #[test]
    fn other_machines_are_asked_and_their_silence_is_a_warning() {
        let findings = findings(|ip| ip == IpAddr::from([127, 0, 0, 1]));
        assert_eq!(levels(&findings, "reach"), [Level::Warn; 2]);
        let fix = findings.iter().find(|finding| finding.check == "reach").and_then(|finding| finding.fix.as_deref());
        assert_eq!(fix, Some("on that machine: mcomp doctor --config mcomp.cfg"));
        assert!(findings.iter().any(|finding| finding.check == "servers" && finding.what == "it holds server 0"));
    }
}
