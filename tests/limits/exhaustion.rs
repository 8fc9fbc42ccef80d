//! A process that the system refuses something: descriptors, threads, large files.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mcomp_snapshot::create;
use rustix::process::{Signal, geteuid};

use super::*;
use crate::harness::{MCOMP, under};

/// Ticks of processor time that a process has used.
fn processor_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The name, which may hold spaces, ends with the last parenthesis; time is in fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_server_without_descriptors_says_so_and_does_not_spin() {
    const FLOOD: usize = 100;
    let cluster = Setup::new(1, "1MiB").servers();
    let mut inside: Vec<Peer> = (0..4).map(|_| greeted(&cluster)).collect();
    let inside_count = inside.len() as u64;
    limit(&cluster, Resource::Nofile, Some(40));
    let ticks = processor_ticks(cluster.server_pid(0));
    let greeting = hello(&cluster, 0, Role::Client);
    let mut refused = 0;
    let mut admitted = Vec::new();
    for _ in 0..FLOOD {
        match Peer::try_greeted(&tcp(&cluster, 0), &greeting) {
            Ok(peer) => admitted.push(peer),
            Err(answer) => {
                assert!(answer.is_none_or(|answer| answer.status() == Status::Busy));
                refused += 1;
            }
        }
    }
    assert!(refused > FLOOD / 2 && admitted.len() < 40, "{refused} refused, {} admitted", admitted.len());
    for (number, peer) in (0..).zip(inside.iter_mut().chain(&mut admitted)) {
        works(peer, number * 4096, number);
    }
    let spent = processor_ticks(cluster.server_pid(0)) - ticks;
    eprintln!("{} admitted, {refused} refused, {spent} ticks of processor time", admitted.len());
    let status = status_over(&mut inside[0]);
    assert_eq!(rejected(&status, "open_files"), refused as u64, "{:?}", status.counters.rejected);
    drop(admitted);
    wait_until("all others have left", || status_over(&mut inside[0]).connections == inside_count);
    // The acceptor has waited with the last descriptor; there are others now.
    works(&mut greeted(&cluster), 0, 99);
    works(&mut inside[0], 4096, 100);
}

/// How a program is run as somebody to whom threads can be denied: root cannot be, and becomes nobody.
fn as_ordinary_user() -> Option<Vec<&'static str>> {
    let way = match geteuid().is_root() {
        true => vec!["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"],
        false => vec!["env"],
    };
    let probe = Command::new(way[0]).args(&way[1..]).args(["prlimit", "--version"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(way);
    }
    eprintln!("threads cannot be denied to a process here, for want of setpriv or prlimit: the unit test stands in");
    None
}

/// Starts server 0 in that way. What only root may look at stands open for a copy of the program.
fn start_in(cluster: &mut Cluster, way: &[&str]) {
    let dir = cluster.dir.path().to_owned();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).expect("our own folder");
    // Where that user may keep the metadata.
    let metadata = dir.join("metadata");
    fs::create_dir(&metadata).expect("a folder");
    fs::set_permissions(&metadata, fs::Permissions::from_mode(0o777)).expect("our own folder");
    let program = dir.join("mcomp");
    fs::copy(MCOMP, &program).expect("a copy of the program");
    let script = format!("shift && exec {} '{}' \"$@\"", way.join(" "), program.display());
    cluster.start_server_under(&["sh", "-c", &script, "sh"], 0);
}

/// Sets how many threads the user of server 0 may have for it to start another.
fn limit_threads(cluster: &Cluster, way: &[&str], most: &str) {
    let (pid, most) = (cluster.server_pid(0).to_string(), format!("--nproc={most}:"));
    let output = Command::new(way[0]).args(&way[1..]).args(["prlimit", "--pid", &pid, &most]).output();
    let output = output.expect("prlimit runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_server_without_threads_says_so_and_goes_on_when_there_are_some() {
    const FLOOD: u64 = 50;
    let mut cluster = Setup::new(1, "1MiB").prepare();
    let Some(way) = as_ordinary_user() else { return };
    start_in(&mut cluster, &way);
    let mut inside: Vec<Peer> = (0..4).map(|_| greeted(&cluster)).collect();
    let greeting = hello(&cluster, 0, Role::Client);
    limit_threads(&cluster, &way, "1");
    for _ in 0..FLOOD {
        let refused = Peer::try_greeted(&tcp(&cluster, 0), &greeting).expect_err("no thread").expect("a reason");
        let sentence = String::from_utf8_lossy(&refused.body);
        assert!(refused.status() == Status::Busy && sentence.contains("thread"), "{sentence}");
    }
    for (number, peer) in (0..).zip(&mut inside) {
        works(peer, number * 4096, number);
    }
    let status = status_over(&mut inside[0]);
    assert_eq!((rejected(&status, "threads"), status.connections), (FLOOD, inside.len() as u64));
    let maximum = getrlimit(Resource::Nproc).maximum.map_or("unlimited".to_owned(), |most| most.to_string());
    limit_threads(&cluster, &way, &maximum);
    works(&mut greeted(&cluster), 0, 99);
}

fn limit(cluster: &Cluster, resource: Resource, most: Option<u64>) {
    let pid = Pid::from_raw(cluster.server_pid(0).cast_signed());
    let maximum = getrlimit(resource).maximum;
    prlimit(pid, resource, Rlimit { current: most, maximum }).expect("our own child");
}

#[test]
fn a_segment_above_the_limit_on_file_sizes_is_refused_before_it_is_made() {
    let mut cluster = Setup::new(1, "8MiB").prepare();
    // Beyond what the log of the metadata takes.
    let wrapper = ["sh", "-c", "ulimit -f 8192 && exec \"$@\"", "sh"];
    let refuse = |cluster: &Cluster| {
        let output = under(&wrapper, cluster.command(&["server", "--id", "0"])).output().expect("it runs");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        assert!(message.contains("ulimit -f") && message.contains("bytes"), "{message}");
    };
    let segment = format!("/dev/shm/mcomp.{}.0", cluster.name);
    refuse(&cluster);
    assert!(!fs::exists(&segment).expect("a look"), "something was made");
    cluster.start_server(0);
    cluster.client().write_at(0, b"kept").expect("a write");
    cluster.stop_server(0);
    // One that is there already may be as large as it is.
    cluster.start_server_under(&wrapper, 0);
    assert_eq!(cluster.client().read_vec(0, 4).expect("a read"), b"kept");
}

/// A broken pipe, and a file that may not grow: both come as signals that end a program that does not expect them.
#[test]
fn signals_about_files_and_pipes_end_nobody() {
    let cluster = Setup::new(1, "1MiB").start();
    let mut peer = greeted(&cluster);
    for signal in [Signal::PIPE, Signal::XFSZ] {
        cluster.signal_server(0, signal);
        cluster.signal_snapshotter(0, signal);
    }
    limit(&cluster, Resource::Fsize, Some(4096));
    works(&mut peer, 0, 1);
    create(&cluster.config(), false, &mut |_| {}).expect("a snapshot, its shadow area inside of a file that is there");
    works(&mut peer, 0, 2);
    assert_eq!(status_over(&mut peer).pid, cluster.server_pid(0));
}
