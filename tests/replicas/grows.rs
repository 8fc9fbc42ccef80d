//! Servers are added to a cluster at work, with clients that still have the old mcomp.cfg.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use mcomp_client::meta::Allocate;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::moves::add as add_on;
use super::{BLOCK, K, SERVERS, lose_memory, setup};
use crate::harness::{Cluster, Setup, config_at, length, mcomp, seed, wait_until};

/// Bytes of a server's part.
const PART: u64 = 64 << 10;

/// Lists a server more, starts it, and has it added.
fn begin_to_add(cluster: &mut Cluster, setup: Setup) -> u32 {
    let id = cluster.n;
    cluster.list_another(setup);
    cluster.start_server(id);
    let told = add(cluster, id, &["--no-wait"]);
    assert_eq!((&told["outcome"], &told["server"]), (&json!("ok"), &json!(id)), "{told}");
    id
}

/// Adds a server, or waits until one is that is being added.
fn add(cluster: &Cluster, id: u32, more: &[&str]) -> Value {
    let address = cluster.address(id);
    let args = [&["member", "add", &address, "--json"], more].concat();
    serde_json::from_slice(&cluster.ok(&args)).expect("JSON")
}

/// Contents that tell where they are.
fn noise(len: u64) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at / BLOCK) as u8).collect()
}

fn bytes(size: u64) -> Allocate {
    Allocate { size, ..Allocate::default() }
}

/// Bytes of a part that clients add to.
const COUNTED: u64 = 8 * BLOCK;

/// Two servers are added one after the other. Meanwhile any server is killed, and some of them come back by the old
/// mcomp.cfg.
#[test]
fn servers_are_added_under_load_and_kills() {
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let old_config = cluster.dir.path().join("old.cfg");
    fs::copy(cluster.config_path(), &old_config).expect("mcomp.cfg is there");
    let client = cluster.client();
    let data = noise(3 * PART);
    for part in 0..3 {
        let from = part * PART + COUNTED;
        let until = (part + 1) * PART;
        client.write_at(from, &data[from as usize..until as usize]).expect("three of three");
    }
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut random = fastrand::Rng::with_seed(seed());
    std::thread::scope(|scope| {
        let adders: Vec<_> = (0..6)
            .map(|thread: u64| {
                let (client, done, stop) = (client.clone(), &done, &stop);
                scope.spawn(move || add_on(&client, thread / 2 * PART + thread % 2 * BLOCK, done, stop))
            })
            .collect();
        let _stop = super::plague::Stop(&stop);
        for _ in 0..2 {
            let id = begin_to_add(&mut cluster, setup());
            for _ in 0..length("MCOMP_TEST_GROWTH_KILLS", 4) {
                let enough = done.load(Relaxed) + random.u64(..30);
                wait_until("clients are at work", || done.load(Relaxed) >= enough || stop.load(Relaxed));
                let victim = random.u32(..=id);
                cluster.kill_server(victim);
                match victim < SERVERS && random.bool() {
                    true => drop(cluster.start_server_elsewhere(victim, &old_config, &[])),
                    false => cluster.start_server(victim),
                }
            }
            let told = add(&cluster, id, &[]);
            assert_eq!((&told["done"], &told["n"]), (&json!(true), &json!(id + 1)), "{told}");
        }
        stop.store(true, Relaxed);
        for (thread, adder) in (0..).zip(adders) {
            let (sure, unknown) = adder.join().expect("a client found nothing wrong");
            let addr = thread / 2 * PART + thread % 2 * BLOCK;
            let found = cluster.client().fetch_add(addr, 0).expect("all of them are there");
            assert!((sure..=sure + unknown).contains(&found), "{found} of {sure} to {}", sure + unknown);
        }
    });
    let grown = cluster.client();
    assert_eq!(grown.size(), 5 * PART);
    for part in 0..3 {
        let (from, len) = (part * PART + COUNTED, PART - COUNTED);
        let wanted = &data[from as usize..(from + len) as usize];
        for client in [&client, &grown] {
            assert!(client.read_vec(from, len).expect("five of five") == wanted, "part {part}");
        }
    }
    assert!(grown.read_vec(3 * PART, 2 * PART).expect("five of five").iter().all(|byte| *byte == 0));
    save_and_restore(&mut cluster, &old_config);
    any_server_may_die(&mut cluster);
    // Copies have moved to servers that it does not know: it asks those that it does.
    let older = mcomp_client::Cluster::connect(&config_at(&old_config)).expect("a client");
    for victim in 0..cluster.n {
        cluster.kill_server(victim);
        assert!(older.read_vec(0, 3 * PART).expect("a majority of each block") == noise(5 * PART)[..3 * PART as usize]);
        cluster.start_server(victim);
        cluster.wait_until_whole();
    }
}

/// A command by the old mcomp.cfg is refused, as there are so many servers.
fn is_of_another_map(old_config: &Path, args: &[&str], servers: u32) {
    let old = ["--config", old_config.to_str().expect("a plain name")];
    let output = mcomp(&[args, &old].concat()).output().expect("mcomp runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(76) && said.contains(&format!("{servers} servers")), "{args:?}: {output:?}");
}

/// A snapshot is of all servers, and made by those alone who know of them.
fn save_and_restore(cluster: &mut Cluster, old_config: &Path) {
    (0..cluster.n).for_each(|id| cluster.start_snapshotter(id));
    is_of_another_map(old_config, &["snapshot", "create"], 5);
    let path = String::from_utf8(cluster.ok(&["snapshot", "create"])).expect("a path");
    let client = cluster.client();
    let kept = client.read_vec(0, client.size()).expect("five of five");
    client.fill(0, client.size(), 9).expect("five of five");
    cluster.ok(&["restore", path.trim()]);
    assert!(cluster.client().read_vec(0, client.size()).expect("five of five") == kept);
}

/// Whichever server loses its memory, all of it is there.
fn any_server_may_die(cluster: &mut Cluster) {
    let client = cluster.client();
    let data = noise(client.size());
    client.write_at(0, &data).expect("all are there");
    for victim in 0..cluster.n {
        cluster.kill_server(victim);
        assert!(client.read_vec(0, client.size()).expect("a majority of each block") == data, "without {victim}");
        cluster.start_server(victim);
        lose_memory(cluster, victim);
        cluster.wait_until_whole();
    }
    assert!(client.read_vec(0, client.size()).expect("all are there") == data);
}

/// The one that receives is frozen, and loses its memory when it has some of it.
#[test]
fn who_receives_may_be_frozen_and_may_lose_what_it_has() {
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let client = cluster.client();
    let data = noise(client.size());
    client.write_at(0, &data).expect("three of three");
    let id = begin_to_add(&mut cluster, setup());
    cluster.freeze_server(id);
    client.write_at(5, b"while it was cold").expect("two of three, or three");
    cluster.signal_server(id, Signal::CONT);
    lose_memory(&mut cluster, id);
    let told = add(&cluster, id, &[]);
    assert_eq!(told["done"], json!(true), "{told}");
    assert_eq!(client.read_vec(5, 17).expect("four of four"), b"while it was cold");
    client.write_at(5, &data[5..22]).expect("four of four");
    assert!(client.read_vec(0, client.size()).expect("four of four") == data);
    any_server_may_die(&mut cluster);
}

#[test]
fn what_cannot_be_added_is_refused_and_nothing_has_changed() {
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let taken = cluster.exits(64, &["member", "add", &cluster.address(2)]);
    assert!(String::from_utf8_lossy(&taken.stderr).contains("is the address of server 2"), "{taken:?}");
    let nobody = cluster.exits(69, &["member", "add", &cluster.address(3)]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("Start `mcomp server --id 3` there first"), "{nobody:?}");
    cluster.list_another(setup());
    cluster.start_server(3);
    // It is not one of them: who believes so is told what is to be done.
    let early = cluster.exits(76, &["read", "0", "8"]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("mcomp member add"), "{early:?}");
    cluster.kill_server(1);
    let dead = cluster.exits(69, &["member", "add", &cluster.address(3)]);
    assert!(String::from_utf8_lossy(&dead.stderr).contains("server 1 is unreachable"), "{dead:?}");
    cluster.start_server(1);
    assert_eq!(add(&cluster, 3, &[])["done"], json!(true));
    assert_eq!(add(&cluster, 3, &[])["done"], json!(true), "asking again changes nothing");
    assert_eq!(cluster.client().size(), 4 * PART);
}

/// Without copies the address space is longer at once. Who has the old mcomp.cfg goes on with what it knows, but neither
/// saves nor restores a part for the whole.
#[test]
fn a_cluster_without_copies_grows_from_one_server_to_three() {
    let mut cluster = Setup::new(1, K).start();
    let old_config = cluster.dir.path().join("old.cfg");
    fs::copy(cluster.config_path(), &old_config).expect("mcomp.cfg is there");
    let client = cluster.client();
    let session = client.session().expect("a session");
    let region = session.allocate(bytes(PART / 2)).expect("half of it");
    client.write_at(region.addr, b"before").expect("one of one");
    let first = String::from_utf8(cluster.ok(&["snapshot", "create"])).expect("a path").trim().to_owned();
    for id in 1..3 {
        assert_eq!(begin_to_add(&mut cluster, Setup::new(1, K)), id);
        assert_eq!(add(&cluster, id, &[])["n"], json!(id + 1));
    }
    client.write_at(region.addr + 6, b" and after").expect("it knows this one");
    let beyond = session.allocate(bytes(2 * PART)).expect_err("it does not know the others").to_string();
    assert!(beyond.contains("was added"), "{beyond}");
    let session = cluster.client().session().expect("a session");
    let larger = session.allocate(bytes(2 * PART)).expect("there is room by now");
    assert!(larger.addr + larger.size > PART, "{larger:?}");
    cluster.client().write_at(larger.addr, &noise(2 * PART)).expect("three of three");
    // Its own snapshot process still has the old one, too.
    is_of_another_map(&old_config, &["snapshot", "create"], 3);
    (0..3).for_each(|id| {
        if id == 0 {
            cluster.stop_snapshotter(0);
        }
        cluster.start_snapshotter(id);
    });
    let path = String::from_utf8(cluster.ok(&["snapshot", "create"])).expect("a path");
    let grown = cluster.client();
    let kept = grown.read_vec(0, grown.size()).expect("three of three");
    assert_eq!(&kept[region.addr as usize..][..16], b"before and after");
    grown.fill(0, grown.size(), 9).expect("three of three");
    is_of_another_map(&old_config, &["restore", &first], 3);
    cluster.ok(&["restore", path.trim()]);
    let grown = cluster.client();
    assert!(grown.read_vec(0, grown.size()).expect("three of three") == kept);
    // All of them come back, also by the old mcomp.cfg.
    (0..3).for_each(|id| cluster.kill_server(id));
    drop(cluster.start_server_elsewhere(0, &old_config, &[]));
    (1..3).for_each(|id| cluster.start_server(id));
    wait_until("they have a leader", || cluster.client().session().is_ok());
    assert!(cluster.client().read_vec(0, grown.size()).expect("three of three") == kept);
}

/// A server lost its log and has a mcomp.cfg that is ahead of what is agreed on, before and while another one is added: what
/// it begins with is what the others say.
#[test]
fn who_lost_its_log_believes_the_others_and_not_its_own_list() {
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let client = cluster.client();
    let data = noise(client.size());
    client.write_at(0, &data).expect("three of three");
    cluster.list_another(setup());
    lose_log(&mut cluster, &client, 0);
    client.write_at(PART, &data[PART as usize..][..PART as usize]).expect("two of three, or three");
    cluster.start_server(3);
    add(&cluster, 3, &["--no-wait"]);
    // One after the other: most logs must not be lost at a time.
    lose_log(&mut cluster, &client, 0);
    lose_log(&mut cluster, &client, 1);
    assert_eq!(add(&cluster, 3, &[])["done"], json!(true));
    assert!(client.read_vec(0, client.size()).expect("four of four") == data);
    any_server_may_die(&mut cluster);
}

/// Kills a server and starts it without its log.
fn lose_log(cluster: &mut Cluster, client: &mcomp_client::Cluster, victim: u32) {
    cluster.kill_server(victim);
    let log = cluster.metadata_dir().join(format!("{}.{victim}.redb", cluster.name));
    fs::remove_file(log).expect("it had a log");
    cluster.start_server(victim);
    wait_until("it has the log, and takes part", || {
        let has_log = client.consensus(victim).is_ok_and(|report| report.leader.is_some() && report.applied > 0);
        has_log && client.status(victim).is_ok_and(|status| status.state == "serving")
    });
}

/// Of five copies four move, and two servers may be lost at any time.
#[test]
fn a_server_is_added_where_there_are_five_copies() {
    let five = || Setup::new(5, "16KiB").replicated(5);
    let mut cluster = five().servers();
    cluster.wait_until_whole();
    let client = cluster.client();
    let data = noise(client.size());
    client.write_at(0, &data).expect("five of five");
    let id = begin_to_add(&mut cluster, five());
    assert_eq!(add(&cluster, id, &[])["done"], json!(true));
    for victims in [[0, 1], [2, 3], [4, 5]] {
        victims.into_iter().for_each(|victim| cluster.kill_server(victim));
        assert!(client.read_vec(0, client.size()).expect("three of five") == data, "without {victims:?}");
        victims.into_iter().for_each(|victim| cluster.start_server(victim));
        cluster.wait_until_whole();
    }
}

/// The new server is lost before it has come: another address takes the place of the first one.
#[test]
fn where_nobody_has_come_from_another_address_is_as_good() {
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let id = begin_to_add(&mut cluster, setup());
    cluster.kill_server(id);
    // It needs the log first, and those who have that begin anew just now; but it may have been faster.
    let mut members = None;
    wait_until("the others have begun anew", || {
        members = cluster.client().members().ok();
        members.is_some()
    });
    let has_come = members.is_some_and(|members| members.members.contains_key(&id));
    let _ = fs::remove_file(cluster.segment_path(id));
    let (ip, port) = (cluster.address(0), 7451);
    let address = format!("{}:{port}", ip.rsplit_once(':').expect("host:port").0);
    let text = fs::read_to_string(cluster.config_path()).expect("mcomp.cfg is read");
    let other = cluster.dir.path().join("other.cfg");
    let metadata = "[metadata]\ndir = \"metadata-other\"\n";
    let text = text.split("[metadata]").next().expect("there is something before it");
    fs::write(&other, text.replace(&cluster.address(id), &address) + metadata).expect("it is written");
    drop(cluster.start_server_elsewhere(id, &other, &[]));
    let config = other.to_str().expect("a plain name");
    let output = mcomp(&["member", "add", &address, "--json", "--config", config]).output().expect("mcomp runs");
    match has_come {
        true => assert_eq!(output.status.code(), Some(75), "one that has come is replaced: {output:?}"),
        false => {
            assert!(output.status.success(), "{output:?}");
            let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!((&told["done"], &told["address"]), (&json!(true), &json!(address)), "{told}");
        }
    }
}
