//! Servers are replaced by others on machines of their own, with clients at work that still have the old mcomp.cfg.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use mcomp_client::Outcome;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{BLOCK, SERVERS, lose_memory, setup};
use crate::full::private_mounts;
use crate::harness::{Cluster, Moved, mcomp, seed, wait_until};

/// Where a server is to be.
struct Newcomer {
    id: u32,
    address: String,
    config: PathBuf,
}

impl Newcomer {
    /// One that is not there yet, with the mcomp.cfg that it is to have: that of before, and its own address.
    fn of(cluster: &Cluster, before: &Path, id: u32, seat: u32) -> Newcomer {
        let old = cluster.address(id);
        let (ip, port) = old.rsplit_once(':').expect("host:port");
        let address = format!("{ip}:{}", port.parse::<u32>().expect("a port") + 200 * seat);
        let text = fs::read_to_string(before).expect("mcomp.cfg is read");
        let text = text.split("[metadata]").next().expect("there is something before it");
        let text = text.replace(&format!("\"{old}\""), &format!("\"{address}\""));
        let config = cluster.dir.path().join(format!("moved-{id}-{seat}.cfg"));
        let metadata = format!("[metadata]\ndir = \"metadata-{id}-{seat}\"\n");
        fs::write(&config, format!("{text}\n{metadata}")).expect("a mcomp.cfg is written");
        Newcomer { id, address, config }
    }

    /// Starts it on a machine of its own: it sees no other segments than its own. Where mounts are not allowed it is the
    /// machine of the old one, which is dead and empty then.
    fn start(&self, cluster: &mut Cluster) -> Moved {
        let own_memory = "mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm && exec \"$@\"";
        match private_mounts() {
            Some(way) => {
                let wrapper = [&way[..], &["sh", "-c", own_memory, "sh"]].concat();
                cluster.start_server_elsewhere(self.id, &self.config, &wrapper)
            }
            None => {
                cluster.kill_server(self.id);
                let _ = fs::remove_file(cluster.segment_path(self.id));
                cluster.start_server_elsewhere(self.id, &self.config, &[])
            }
        }
    }

    /// By the new mcomp.cfg: whoever moves a server has it.
    fn replace(&self, more: &[&str]) -> Value {
        let (id, config) = (self.id.to_string(), self.config.to_str().expect("a plain name"));
        let args = [&["member", "replace", &id, &self.address, "--json", "--config", config], more].concat();
        let output = mcomp(&args).output().expect("mcomp runs");
        assert!(output.status.success(), "mcomp {args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// What the members' list says of a server.
fn listed(cluster: &Cluster, id: u32) -> Value {
    let listed: Value = serde_json::from_slice(&cluster.ok(&["member", "ls", "--json"])).expect("JSON");
    listed["members"][id as usize].clone()
}

/// In the middle of each change another server, the new one, or the old one is killed.
#[test]
fn each_server_is_replaced_in_turn_under_load_and_kills() {
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let seed = seed();
    std::thread::scope(|scope| {
        let (client, done, stop) = (cluster.client(), &done, &stop);
        let adders: Vec<_> = (0..SERVERS)
            .map(|thread| {
                let client = client.clone();
                scope.spawn(move || add(&client, u64::from(thread) * client.size() / 3, done, stop))
            })
            .collect();
        let _stop = super::plague::Stop(stop);
        let mut random = fastrand::Rng::with_seed(seed);
        let wait_for = |more: u64| {
            let enough = done.load(Relaxed) + more;
            wait_until("clients are at work", || done.load(Relaxed) >= enough || stop.load(Relaxed));
        };
        let mut config = cluster.config_path().to_owned();
        for (id, victim) in [(0, "other"), (1, "new"), (2, "old")] {
            let newcomer = Newcomer::of(&cluster, &config, id, 1);
            config.clone_from(&newcomer.config);
            let old = newcomer.start(&mut cluster);
            newcomer.replace(&["--no-wait"]);
            wait_for(random.u64(..20));
            match victim {
                "other" => {
                    cluster.kill_server(1);
                    cluster.start_server(1);
                }
                "new" => {
                    cluster.kill_server(id);
                    // What it had is gone with it.
                    newcomer.start(&mut cluster).end();
                }
                _ => old.kill(),
            }
            let told = newcomer.replace(&[]);
            assert_eq!((&told["done"], &told["address"]), (&json!(true), &json!(newcomer.address)), "{told}");
            old.end();
            wait_for(50);
        }
        stop.store(true, Relaxed);
        for (at, adder) in (0..).zip(adders) {
            let (sure, unknown) = adder.join().expect("a client found nothing wrong");
            let found = client.fetch_add(at * client.size() / 3, 0).expect("all of them are there");
            assert!((sure..=sure + unknown).contains(&found), "{found} of {sure} to {}", sure + unknown);
        }
    });
}

/// Adds 1 again and again; how often that was done, and how often it may have been.
pub(super) fn add(client: &mcomp_client::Cluster, addr: u64, done: &AtomicU64, stop: &AtomicBool) -> (u64, u64) {
    let (mut sure, mut unknown) = (0, 0);
    while !stop.load(Relaxed) {
        match client.fetch_add(addr, 1) {
            Ok(before) => {
                assert!((sure..=sure + unknown).contains(&before), "{before} of {sure} to {}", sure + unknown);
                sure += 1;
                done.fetch_add(1, Relaxed);
            }
            Err(error) if error.outcome() == Outcome::Unknown => unknown += 1,
            Err(_) => {}
        }
    }
    (sure, unknown)
}

/// It was frozen when it was replaced, or dead, and nobody speaks to it when it comes back.
#[test]
fn who_was_replaced_meanwhile_ends_when_it_comes_back() {
    if private_mounts().is_none() {
        return;
    }
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let client = cluster.client();
    let addr = client.size() / 3 + BLOCK;
    client.write_at(addr, b"before").expect("three of three");
    cluster.freeze_server(1);
    let newcomer = Newcomer::of(&cluster, cluster.config_path(), 1, 1);
    let old = newcomer.start(&mut cluster);
    newcomer.replace(&[]);
    client.write_at(addr, b"since").expect("three of three");
    old.signal(Signal::CONT);
    old.end();
    let again = cluster.run(&["server", "--id", "1"]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(said.contains(&format!("was replaced: it is at {}", newcomer.address)), "{said}");
    // Of three servers one is dead, and the new one must be good for something.
    cluster.kill_server(0);
    assert_eq!(client.read_vec(addr, 6).expect("two of three"), b"sincee");
}

#[test]
fn a_move_is_given_up_and_refused_when_others_could_not_fill_it() {
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let newcomer = Newcomer::of(&cluster, cluster.config_path(), 1, 1);
    let told = newcomer.replace(&["--no-wait"]);
    assert_eq!(told["done"], json!(false), "{told}");
    assert_eq!(listed(&cluster, 1)["moves_to"], json!(newcomer.address));
    let refused = cluster.exits(1, &["member", "replace", "2", "127.0.0.9:7", "--no-wait"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("server 1 is being replaced"), "{refused:?}");
    cluster.ok(&["member", "replace", "1", &cluster.address(1)]);
    assert_eq!(listed(&cluster, 1)["moves_to"], Value::Null);
    let taken = cluster.exits(64, &["member", "replace", "1", &cluster.address(2)]);
    assert!(String::from_utf8_lossy(&taken.stderr).contains("address of server 2"), "{taken:?}");
    cluster.kill_server(0);
    let alone = cluster.exits(69, &["member", "replace", "1", &newcomer.address]);
    assert!(String::from_utf8_lossy(&alone.stderr).contains("server 0 is unreachable"), "{alone:?}");
    cluster.start_server(0);
    cluster.wait_until_whole();
}

/// The memory stays where it is and is found under another address: nothing is copied.
#[test]
fn a_server_changes_its_address_with_its_memory() {
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let client = cluster.client();
    client.write_at(0, b"kept").expect("three of three");
    let before = listed(&cluster, 0);
    let mut newcomer = Newcomer::of(&cluster, cluster.config_path(), 0, 1);
    // The log stays as well.
    let text = fs::read_to_string(&newcomer.config).expect("it was written");
    newcomer.config = cluster.dir.path().join("moved.cfg");
    fs::write(&newcomer.config, text.replace("metadata-0-1", "metadata")).expect("it is written");
    cluster.stop_server(0);
    drop(cluster.start_server_elsewhere(0, &newcomer.config, &[]));
    newcomer.replace(&[]);
    let after = listed(&cluster, 0);
    assert_eq!((&after["incarnation"], &after["memory"]), (&before["incarnation"], &before["memory"]), "{after}");
    assert_eq!(after["address"], json!(newcomer.address));
    lose_memory(&mut cluster, 1);
    cluster.wait_until_whole();
    assert_eq!(client.read_vec(0, 4).expect("three of three"), b"kept");
}
