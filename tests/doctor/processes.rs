//! Addresses, limits and logs: what keeps a process from starting, or turns its clients away.

use std::fs;
use std::net::TcpListener;

use rustix::process::Signal;

use super::{apply, doctor, doctor_among_strangers, doctor_under, find, fix, setup};
use crate::harness::{Setup, under};

#[test]
fn a_snapshot_process_that_is_missed_is_told() {
    let mut cluster = Setup::new(1, "64KiB").with("[snapshot]\nevery = \"1h\"\n").servers();
    let found = doctor(&cluster, 0);
    let finding = find(&found, "address", "warn", &cluster.snapshot_address(0));
    assert!(fix(finding).starts_with("mcomp snapshotter --id 0 --config "), "{finding}");
    cluster.start_snapshotter(0);
    find(&doctor(&cluster, 0), "address", "ok", &cluster.snapshot_address(0));
}

#[test]
fn limits_that_are_too_low_are_told_before_they_bite() {
    let cluster = setup().prepare();
    let limited = |ulimit: &str, code| {
        let script = format!("{ulimit} && exec \"$@\"");
        doctor_under(&cluster, &["sh", "-c", &script, "sh"], code)
    };
    let found = limited("ulimit -n 64", 1);
    assert!(fix(find(&found, "open_files", "fail", "servers 0, 1")).contains("--nofile=4128:4128"));
    find(&found, "open_files", "warn", "snapshot processes 0, 1");
    // The kernel counts such a limit for /dev/shm as well; `ulimit -f` is in 512 bytes in some shells.
    let found = limited("ulimit -f 16", 1);
    assert!(fix(find(&found, "file_size", "fail", "servers 0, 1")).contains("--fsize="));
    find(&found, "file_size", "warn", "snapshot process 0");
    // What the report says is what a server meets.
    let server = cluster.command(&["server", "--id", "0"]);
    let output = under(&["sh", "-c", "ulimit -f 16 && exec \"$@\"", "sh"], server).output().expect("it runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}

#[test]
fn a_running_server_is_judged_by_its_own_limits() {
    let mut cluster = setup().prepare();
    cluster.start_server_under(&["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"], 0);
    cluster.start_server(1);
    let found = doctor(&cluster, 1);
    let fix = fix(find(&found, "open_files", "fail", "server 0, running"));
    assert!(fix.contains(&format!("prlimit --pid {} ", cluster.server_pid(0))), "{fix}");
    find(&found, "open_files", "ok", "server 1, running");
}

#[test]
fn an_address_that_something_else_has_names_it() {
    let cluster = setup().prepare();
    let _server = TcpListener::bind(cluster.address(0)).expect("a free address");
    let _snapshotter = TcpListener::bind(cluster.snapshot_address(1)).expect("a free address");
    let found = doctor_among_strangers(&cluster);
    for address in [cluster.address(0), cluster.snapshot_address(1)] {
        let finding = find(&found, "address", "fail", &address);
        assert_eq!(fix(finding), format!("kill {}", std::process::id()));
    }
    find(&found, "address", "ok", &cluster.address(1));
}

#[test]
fn the_name_of_a_unix_socket_that_something_else_has_is_told() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let cluster = setup().prepare();
    let name = format!("mcomp.{}.1.7402", cluster.name);
    let _taken = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("it is free");
    let found = doctor_among_strangers(&cluster);
    assert_eq!(fix(find(&found, "unix_socket", "fail", &name)), format!("kill {}", std::process::id()));
}

#[test]
fn a_server_of_another_configuration_and_a_frozen_one_are_no_servers_of_ours() {
    let mut cluster = setup().servers();
    let file = fs::read_to_string(cluster.config_path()).expect("the file");
    fs::write(cluster.config_path(), file.replace("64KiB", "128KiB")).expect("the file");
    let found = doctor(&cluster, 1);
    let finding = find(&found, "address", "fail", &cluster.address(0));
    assert!(finding["what"].as_str().unwrap().contains("131072"), "{finding}");
    assert!(fix(find(&found, "segment", "fail", ".0")).starts_with("mcomp purge"));
    fs::write(cluster.config_path(), file).expect("the file");
    cluster.freeze_server(1);
    let found = doctor(&cluster, 1);
    let fix = fix(find(&found, "address", "fail", &cluster.address(1))).to_owned();
    assert!(fix.starts_with(&format!("kill -9 {}; mcomp server --id 1", cluster.server_pid(1))), "{fix}");
    cluster.signal_server(1, Signal::CONT);
    doctor(&cluster, 0);
    cluster.stop_server(0);
    let found = doctor(&cluster, 0);
    assert!(find(&found, "segment", "ok", ".0")["what"].as_str().unwrap().contains("stopped"));
}

#[test]
fn a_log_without_a_folder_keeps_its_server_from_starting() {
    let cluster = setup().with("[trace]\nop_log = \"none/ops.log\"\n").prepare();
    let found = doctor(&cluster, 1);
    apply(&cluster, fix(find(&found, "op_log", "fail", "none/ops.log.0")));
    find(&doctor(&cluster, 0), "op_log", "ok", "none/ops.log.0");
}
