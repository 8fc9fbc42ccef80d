//! A network that falls apart: the side with most servers goes on under one leader, any other side does nothing that it
//! would have to take back, and when all is well again everybody says the same.
//!
//! Clients here reach one side, as they would.

use std::time::{Duration, Instant};

use mcomp_client::meta::Allocate;
use mcomp_client::{Cluster as Client, Error, Options, Session};

use super::leader::{lasting_leader, leader_of, one_leader, stays};
use super::table;
use crate::harness::{Cluster, PATIENCE, Rule, Setup, wait_until};

const K: u64 = 64 << 10;

/// How long a client waits for an answer that should not come.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What a network can do to those that it parts.
const PARTINGS: [Rule; 3] = [Rule::Hold, Rule::Lose, Rule::Refuse];

/// A client that reaches these servers alone.
fn client_of(cluster: &Cluster, servers: &[u32], timeout: Duration) -> Client {
    let mut options = Options::from_config(&cluster.config());
    for id in (0..cluster.n).filter(|id| !servers.contains(id)) {
        let ip = cluster.address(id).rsplit_once(':').expect("an address has a port").0.to_owned();
        options.servers[id as usize] = format!("{ip}:1");
    }
    (options.unix, options.segment, options.timeout) = (false, false, timeout);
    Client::with_options(options).expect("a client")
}

fn wish(name: &str) -> Allocate {
    Allocate { size: 10, name: Some(name.to_owned()), ..Allocate::default() }
}

/// No question is answered, and no command is said to be done.
fn nothing_is_agreed(session: &Session) {
    let client = session.cluster();
    for error in [client.regions().expect_err("nobody knows"), client.locks().map(drop).expect_err("nobody knows")] {
        assert!(matches!(error, Error::Unavailable { .. } | Error::Timeout { .. }), "{error:?}");
    }
    let refused = [
        session.allocate(wish("doubtful")).map(drop),
        // Of nothing: a command of which nobody was told may be done in the end.
        session.free(K - 16, None).map(drop),
        session.lock("doubtful", Duration::ZERO).map(drop),
        client.session().map(drop),
    ];
    for error in refused.map(|outcome| outcome.expect_err("most servers are not there")) {
        assert_eq!(error.kind(), "unknown", "{error}");
    }
}

/// Everybody says the same, and what was certain is what it was.
fn all_agree(cluster: &Cluster, names: &[&str]) {
    let all: Vec<u32> = (0..cluster.n).collect();
    wait_until("all servers follow one leader", || leader_of(&cluster.client(), &all).is_some());
    // Each server answers from its own state, when that is up to date.
    let tables = all.iter().map(|id| client_of(cluster, &[*id], PATIENCE).regions().expect("an answer"));
    let known: Vec<Vec<String>> = tables
        .map(|regions| {
            let mut names: Vec<String> = regions.into_iter().filter_map(|region| region.name).collect();
            // What nobody could be told of may have been done, but once.
            assert!(names.iter().filter(|name| *name == "doubtful").count() <= 1, "{names:?}");
            names.retain(|name| name != "doubtful");
            names.sort_unstable();
            names
        })
        .collect();
    assert!(known.iter().all(|found| found == names), "{known:?}, and not {names:?}");
}

#[test]
fn two_and_two_have_no_leader_and_do_nothing() {
    for rule in PARTINGS {
        let cluster = Setup::new(4, &K.to_string()).breakable().servers();
        let client = cluster.client();
        one_leader(&client, &[0, 1, 2, 3]);
        let sides = [[0, 1], [2, 3]];
        let sessions = sides.map(|side| client_of(&cluster, &side, TIMEOUT).session().expect("a session"));
        cluster.ok(&["alloc", "10", "--name", "before"]);
        cluster.ok(&["write", "before", "kept"]);

        cluster.network().split(&[&sides[0], &sides[1]], rule);
        let nobody = || (0..4).all(|id| client.consensus(id).is_ok_and(|report| report.leader.is_none()));
        wait_until("nobody leads", nobody);
        std::thread::scope(|scope| {
            sessions.iter().for_each(|session| drop(scope.spawn(|| nothing_is_agreed(session))));
        });
        let begun = Instant::now();
        while begun.elapsed() < stays() {
            for id in 0..4 {
                let report = client.consensus(id).expect("a server that is there answers");
                assert_eq!(report.leader, None, "server {id}, under {rule:?}: {report:?}");
            }
        }
        let addr = 3 * K + 100;
        client.write_at(addr, b"memory").expect("memory is written to as before");
        assert_eq!(client.read_vec(addr, 6).expect("and read from"), b"memory");

        cluster.network().heal();
        lasting_leader(&client, &[0, 1, 2, 3]);
        all_agree(&cluster, &["before"]);
        assert_eq!(cluster.ok(&["read", "before", "4"]), b"kept");
        for session in sessions {
            assert!(!session.is_lost(), "time stood still");
            session.close().expect("it lived");
        }
    }
}

/// Parts the leader from the other three, as `part` does it, and heals.
fn three_go_on(part: impl Fn(&Cluster, u32)) {
    let cluster = Setup::new(4, &K.to_string()).breakable().servers();
    let client = cluster.client();
    let all = [0, 1, 2, 3];
    let (first, first_term) = one_leader(&client, &all);
    let three: Vec<u32> = all.into_iter().filter(|id| *id != first).collect();
    let alone = client_of(&cluster, &[first], TIMEOUT).session().expect("a session");
    let together = client_of(&cluster, &three, PATIENCE).session().expect("a session");
    together.allocate(wish("before")).expect("there is room");

    part(&cluster, first);
    let (second, second_term) = lasting_leader(&client, &three);
    assert!(second != first && second_term > first_term, "{second} in {second_term}, {first} in {first_term}");
    let leads = || client.consensus(first).expect("it answers").leader == Some(first);
    wait_until("it knows that it leads no more", || !leads());
    nothing_is_agreed(&alone);
    let during = together.allocate(wish("during")).expect("three of four agree");
    assert!(during.addr / K != u64::from(first), "{first} is not there to make its memory ready: {during:?}");
    assert_eq!(leader_of(&client, &three), Some((second, second_term)), "{first} disturbs nobody");

    cluster.network().heal();
    wait_until("the one follows", || leader_of(&client, &all) == Some((second, second_term)));
    all_agree(&cluster, &["before", "during"]);
    assert_eq!(lasting_leader(&client, &all), (second, second_term), "the leader remains when all is well");
    together.free(during.addr, Some(during.generation)).expect("it is there");
    assert_eq!(table(&cluster).iter().filter(|region| region["name"] == "during").count(), 0);
}

#[test]
fn three_have_one_leader_and_the_one_that_is_alone_serves_nothing() {
    for rule in PARTINGS {
        three_go_on(|cluster, first| {
            let three: Vec<u32> = (0..4).filter(|id| *id != first).collect();
            cluster.network().split(&[&[first], &three], rule);
        });
    }
}

#[test]
fn a_leader_that_speaks_and_hears_nothing_gives_up() {
    for rule in [Rule::Hold, Rule::Lose] {
        three_go_on(|cluster, first| {
            (0..4).filter(|id| *id != first).for_each(|id| cluster.network().rule(id, first, rule));
        });
    }
}

#[test]
fn a_leader_that_hears_and_cannot_speak_is_replaced() {
    for rule in [Rule::Hold, Rule::Lose] {
        three_go_on(|cluster, first| {
            (0..4).filter(|id| *id != first).for_each(|id| cluster.network().rule(first, id, rule));
        });
    }
}
