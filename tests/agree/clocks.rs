//! A clock that jumps by two hours on one server changes nothing: no lease ends early, and none lives on.
//!
//! The clock is the one that people set (`CLOCK_REALTIME`), as when a wrong one is corrected; the one that servers count
//! the cluster's time by does not jump on a real machine. It jumps for one server alone, by libfaketime. Where that is
//! not installed the test says so and is over.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mcomp_client::meta::{Allocate, Region};
use mcomp_client::{Cluster as Client, Session};

use super::leader::one_leader;
use crate::harness::{Cluster, Setup, wait_until};

const K: u64 = 64 << 10;
const HOUR: Duration = Duration::from_secs(3600);
/// What a short lease has to live.
const SHORT: Duration = Duration::from_millis(1500);
/// In seconds: forth, back by twice as much, and home.
const JUMPS: [&str; 3] = ["+7200", "-7200", "+0"];

/// Where distributions put the library.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let folders = folders.chain(["/usr/lib64".into(), "/usr/lib".into(), "/usr/local/lib".into()]);
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// Where the jump of a server's clock stands.
fn jump_of(cluster: &Cluster, id: u32) -> PathBuf {
    cluster.dir.path().join(format!("clock-{id}"))
}

fn start(cluster: &mut Cluster, wrong: &mut Wrong, library: &Path, id: u32) {
    let (library, file) = (library.display(), jump_of(cluster, id));
    let preload = format!("LD_PRELOAD={library}");
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", file.display());
    let words = ["env", &preload, &file, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
    cluster.start_server_under(&words, id);
    wrong.0.push(cluster.server_pid(id));
}

/// The processes whose clocks were wrong. The library leaves a segment and a semaphore of those that are killed behind.
#[derive(Default)]
struct Wrong(Vec<u32>);

impl Drop for Wrong {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = fs::remove_file(format!("/dev/shm/faketime_shm_{pid}"));
            let _ = fs::remove_file(format!("/dev/shm/sem.faketime_sem_{pid}"));
        }
    }
}

/// Lets the clock of a server jump, and sees that it has.
fn jump(cluster: &Cluster, id: u32, by: &str) {
    fs::write(jump_of(cluster, id), by).expect("a scratch file is written");
    shows(cluster, id, by.parse().expect("a number"));
}

/// Waits until the clock of a server is so many seconds off.
fn shows(cluster: &Cluster, server: u32, wanted: i64) {
    let client = cluster.remote_client();
    wait_until("its log has the time", || {
        client.read_vec(u64::from(server) * K, 1).expect("memory is there");
        let log = fs::read_to_string(cluster.dir.path().join(format!("ops.{server}"))).unwrap_or_default();
        let Some(line) = log.lines().next_back() else { return false };
        let said: f64 = line.split(' ').next().and_then(|time| time.parse().ok()).expect("a line begins with a time");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs_f64();
        (said - now - wanted as f64).abs() < 600.0
    });
}

fn leased(session: &Session, ttl: Duration) -> (Region, Instant) {
    let asked = Instant::now();
    let wish = Allocate { size: 100, lease_ms: Some(ttl.as_millis() as u64), ..Allocate::default() };
    (session.allocate(wish).expect("there is room"), asked)
}

fn lives(client: &Client, region: &Region) -> bool {
    let lease = region.lease.as_ref().expect("it has one");
    client.region_leased(lease.id).expect("an answer").is_some()
}

/// A short lease is there until its time, and then it is gone; a long one is there, with as much time left as it should.
fn leases_keep_time(
    cluster: &mut Cluster,
    session: &Session,
    long: &(Region, Instant),
    meanwhile: impl FnOnce(&mut Cluster),
) {
    let client = session.cluster();
    let (short, asked) = leased(session, SHORT);
    meanwhile(cluster);
    loop {
        // It was asked for before, and looked for before: so it was not due.
        let lived = lives(client, &short);
        if asked.elapsed() + Duration::from_millis(20) < SHORT {
            assert!(lived, "a lease of {SHORT:?} ended after {:?}", asked.elapsed());
        } else if !lived {
            break;
        }
        assert!(asked.elapsed() < HOUR / 60, "a lease of {SHORT:?} lives on");
    }
    assert!(lives(client, &long.0), "a lease of an hour is over");
    let listed = super::told(cluster, 0, &["lease", "ls"]);
    let left = Duration::from_millis(super::number(&listed["regions"][0], "remaining_ms"));
    assert!(left <= HOUR && left + long.1.elapsed() + HOUR / 60 > HOUR, "{left:?} are left of an hour: {listed}");
}

#[test]
fn a_clock_that_jumps_ends_no_lease_and_prolongs_none() {
    let Some(library) = library() else {
        eprintln!("SKIPPED: no clock jumps without libfaketime.so.1 in /usr/lib (package faketime or libfaketime)");
        return;
    };
    // Declared first, it goes last.
    let mut wrong = Wrong::default();
    let mut cluster = Setup::new(3, &K.to_string()).with("[trace]\nop_log = \"ops\"").prepare();
    for id in 0..3 {
        fs::write(jump_of(&cluster, id), "+0").expect("a scratch file is written");
        start(&mut cluster, &mut wrong, &library, id);
    }
    let client = cluster.remote_client();
    let session = client.session().expect("a session");
    let (leader, term) = one_leader(&client, &[0, 1, 2]);
    let long = leased(&session, HOUR);
    for victim in [leader, (leader + 1) % 3] {
        for by in JUMPS {
            leases_keep_time(&mut cluster, &session, &long, |cluster| {
                jump(cluster, victim, by);
                shows(cluster, (victim + 2) % 3, 0);
            });
            assert_eq!(one_leader(&client, &[0, 1, 2]), (leader, term), "nobody was taken for dead");
        }
    }

    // And when one whose clock is wrong comes to lead.
    for by in JUMPS {
        let (leader, _) = one_leader(&client, &[0, 1, 2]);
        leases_keep_time(&mut cluster, &session, &long, |cluster| {
            (0..3).filter(|id| *id != leader).for_each(|id| jump(cluster, id, by));
            cluster.kill_server(leader);
            start(cluster, &mut wrong, &library, leader);
        });
    }
    session.close().expect("nobody thought it dead");
}
