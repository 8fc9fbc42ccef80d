//! Memory that is not there: a start, a snapshot and a writer that meet a full /dev/shm.
//!
//! Each is told with the numbers and 73, or not at all; none dies of SIGBUS. The /dev/shm is a small
//! one of the test's own, in a mount namespace that its processes enter, where the machine allows that;
//! elsewhere one server asks for more than the machine's whole /dev/shm, and nothing else can be tried.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use mcomp_snapshot::create;

use crate::harness::{Cluster, MCOMP, Setup, under};

/// What a server of the tests lends: 256 blocks.
const K: u64 = 1 << 20;
/// A segment of K without its shadow area: header, block table, data, receive slots.
const SEGMENT: u64 = 4096 + K / 64 + K + 532_480;

/// A /dev/shm of one's own, as long as its holder lives: until stdin of the holder is closed, so
/// also when the test is killed.
struct OwnShm {
    holder: Child,
    alive: Option<ChildStdin>,
    enter: Vec<String>,
}

impl OwnShm {
    /// One of so many bytes; none where the machine does not allow it.
    fn of(bytes: u64) -> Option<OwnShm> {
        let found = ["-m", "-Urm"].into_iter().find_map(|flags| OwnShm::by(flags, bytes));
        match found {
            Some(_) => eprintln!("with a /dev/shm of {bytes} bytes of our own"),
            None => eprintln!("no mounts of our own on this machine: a k beyond the whole /dev/shm stands in"),
        }
        found
    }

    fn by(flags: &str, bytes: u64) -> Option<OwnShm> {
        let script = format!("mount -t tmpfs -o size={bytes},mode=1777 tmpfs /dev/shm && echo mounted && exec cat");
        let mut command = Command::new("unshare");
        command.args([flags, "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = command.spawn().ok()?;
        let alive = holder.stdin.take();
        let mut said = [0; 8];
        let mounted = std::io::Read::read_exact(holder.stdout.as_mut().expect("piped"), &mut said).is_ok();
        let user = if flags.contains('U') { " -U --preserve-credentials" } else { "" };
        let enter = format!("nsenter -t {} -m{user}", holder.id());
        let enter = enter.split(' ').map(str::to_owned).collect();
        // Dropped when it is no good, and so ended.
        let own = OwnShm { holder, alive, enter };
        (mounted && own.output(Command::new("true")).is_some_and(|output| output.status.success())).then_some(own)
    }

    /// The words that bring a command line into it.
    fn enter(&self) -> Vec<&str> {
        self.enter.iter().map(String::as_str).collect()
    }

    fn output(&self, command: Command) -> Option<Output> {
        under(&self.enter(), command).output().ok()
    }

    /// Where it is seen from outside.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/dev/shm", self.holder.id()))
    }

    /// Takes all that is left, as another program would, until the file is removed.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).expect("a file of another program");
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for OwnShm {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A start or a snapshot that failed for want of memory: 73, three numbers, and the way out. Returns what was said.
fn is_full(output: &Output, needed: u64) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(73), "{output:?}");
    let is_number = |text: &&str| text.parse::<u64>().is_ok_and(|number| number >= needed);
    let words = || said.split(|c: char| !c.is_ascii_digit());
    assert!(words().find(is_number).is_some(), "{needed} or more is not needed: {said}");
    assert!(words().filter(|word| !word.is_empty()).count() >= 3, "needed, free and total are not in {said}");
    assert!(said.contains("smaller k"), "no way out: {said}");
    said
}

fn server(cluster: &Cluster) -> Command {
    cluster.command(&["server", "--id", "0"])
}

#[test]
fn a_start_without_room_is_refused_with_the_numbers() {
    let Some(shm) = OwnShm::of(K / 2) else {
        let stat = rustix::fs::statvfs("/dev/shm").expect("every Linux has it");
        let k = (stat.f_blocks * stat.f_frsize).next_multiple_of(4096) + 4096;
        let cluster = Setup::new(1, &k.to_string()).prepare();
        // What is short may be the machine's memory, too.
        is_full(&server(&cluster).output().expect("mcomp runs"), k);
        return;
    };
    let cluster = Setup::new(1, &K.to_string()).prepare();
    let said = is_full(&shm.output(server(&cluster)).expect("mcomp runs"), K);
    assert!(said.contains("/dev/shm") && said.contains(&(K / 2).to_string()), "{said}");
    assert_eq!(fs::read_dir(shm.path()).expect("a folder").count(), 0, "something is left");
}

/// Starts the cluster's processes in a /dev/shm of their own.
fn start(shm: &OwnShm, setup: Setup) -> Cluster {
    let mut cluster = setup.prepare();
    cluster.start_server_under(&shm.enter(), 0);
    cluster.start_snapshotter_under(&shm.enter(), 0);
    cluster
}

/// Every byte can be written and read.
fn serves(cluster: &Cluster, byte: u8) {
    let client = cluster.client();
    client.fill(0, K, byte).expect("a fill");
    client.write_at(K - 3, &[byte; 3]).expect("a write");
    assert!(client.read_vec(0, K).expect("a read").iter().all(|found| *found == byte));
}

#[test]
fn a_shadow_area_without_room_fails_the_snapshot_and_nothing_else() {
    // Room for the segment, and for half of its shadow area.
    let Some(shm) = OwnShm::of(SEGMENT + K / 2) else { return };
    let cluster = start(&shm, Setup::new(1, &K.to_string()));
    let pid = cluster.server_pid(0);
    for byte in 1..4 {
        serves(&cluster, byte);
        let said = is_full(&cluster.run(&["snapshot", "create"]), K);
        assert!(said.contains("/dev/shm") && said.contains("server 0"), "{said}");
    }
    let filler = shm.fill();
    serves(&cluster, 4);
    is_full(&cluster.run(&["snapshot", "create"]), K);
    serves(&cluster, 5);
    fs::remove_file(filler).expect("the other program goes");
    assert_eq!(cluster.server_pid(0), pid);
    let counters = cluster.client().status(0).expect("a status").counters;
    assert_eq!(counters.snapshot.ok, 0, "{counters:?}");
    assert!(!cluster.snapshot_dir().exists() || fs::read_dir(cluster.snapshot_dir()).expect("a folder").count() == 0);
}

#[test]
fn memory_that_others_take_is_met_by_no_writer() {
    let Some(shm) = OwnShm::of(3 * K) else { return };
    let cluster = start(&shm, Setup::new(1, &K.to_string()).with("[snapshot]\nkeep = 2"));
    let filler = shm.fill();
    serves(&cluster, 1);
    is_full(&cluster.run(&["snapshot", "create"]), K);
    fs::remove_file(filler).expect("the other program goes");
    create(&cluster.config(), false, &mut |_| {}).expect("there is room again");
    let (mut made, mut full) = (0, 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Another program takes what is left and gives it back, at any moment of a snapshot.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::remove_file(shm.fill()).expect("our own file");
            }
        });
        scope.spawn(|| {
            (2..=255).cycle().take_while(|_| !done.load(Ordering::Relaxed)).for_each(|b| serves(&cluster, b))
        });
        let _stop = Stop(&done);
        while made + full < 20 || (made == 0 || full == 0) && made + full < 2_000 {
            let output = cluster.run(&["snapshot", "create"]);
            match output.status.code() {
                Some(0) => made += 1,
                _ => {
                    is_full(&output, K);
                    full += 1;
                }
            }
        }
    });
    eprintln!("{made} snapshots made and {full} refused while another program took the memory");
    assert!(made > 0 && full > 0, "the other program never stood in the way, or always");
    serves(&cluster, 1);
    let created = create(&cluster.config(), false, &mut |_| {}).expect("there is room again");
    cluster.ok(&["snapshot", "verify", &created.name]);
}

/// Ends the other threads, also when this one panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the preflight saw may be gone when the memory is allocated.
#[test]
fn a_start_beside_one_who_takes_the_memory_serves_or_is_refused() {
    let Some(shm) = OwnShm::of(2 * K) else { return };
    let cluster = Setup::new(1, &K.to_string()).prepare();
    let segment = shm.path().join(format!("mcomp.{}.0", cluster.name));
    let done = AtomicBool::new(false);
    let (mut served, mut full) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::remove_file(shm.fill()).expect("our own file");
            }
        });
        let _stop = Stop(&done);
        while served + full < 20 || (served == 0 || full == 0) && served + full < 1_000 {
            let (ready, output) = start_once(&shm, &cluster);
            match ready {
                true => served += 1,
                false => {
                    is_full(&output, K);
                    full += 1;
                    assert!(!segment.exists(), "a segment without its memory is left");
                }
            }
            let _ = fs::remove_file(&segment);
        }
    });
    eprintln!("{served} starts served and {full} were refused while another program took the memory");
    assert!(served > 0 && full > 0, "the other program never stood in the way, or always");
}

/// Starts a server and ends it as soon as it is ready; whether it was.
fn start_once(shm: &OwnShm, cluster: &Cluster) -> (bool, Output) {
    let mut command = server(cluster);
    command.arg("--die-with").arg(std::process::id().to_string());
    let mut command = under(&shm.enter(), command);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect(MCOMP);
    let mut said = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut stdout, &mut said).expect("text");
    let ready = said.contains("ready");
    if ready {
        child.kill().expect("our own child");
    }
    (ready, child.wait_with_output().expect("its last words"))
}
