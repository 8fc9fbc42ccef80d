//! One story a test.

use super::*;

#[test]
fn what_is_asked_twice_is_done_once() {
    let mut bench = Bench::new();
    let mut asker = bench.open(10_000);
    let first = asker.start(&mut bench, Command::Allocate(bytes(100))).unwrap();
    let again = asker.again(&mut bench, Command::Allocate(bytes(100))).unwrap();
    assert_eq!(first, again);
    assert_eq!(bench.state.all_regions().count(), 1);
    assert!(bench.last.effects.is_empty(), "nothing is zeroed a second time");
}

#[test]
fn an_answer_that_was_settled_is_not_kept() {
    let mut bench = Bench::new();
    let mut asker = bench.open(10_000);
    asker.allocate(&mut bench, bytes(1)).unwrap();
    let command = Command::Allocate(bytes(2));
    bench.enter(Some(Ask { session: asker.session, number: 2, settled: 1, command: command.clone() }));
    bench.enter(Some(Ask { session: asker.session, number: 1, settled: 1, command }));
    let told = bench.told(Ticket { who: asker.session, number: 1 }).unwrap();
    assert_eq!(told.unwrap_err().status, Status::ResultLost);
}

#[test]
fn every_wrong_address_has_its_answer() {
    let mut bench = Bench::new();
    let mut asker = bench.open(10_000);
    let region = asker.allocate(&mut bench, bytes(8192)).unwrap();
    let free = |addr, generation| Command::Free { addr, generation };
    assert_eq!(asker.ask(&mut bench, free(region.addr + 5, None)), Err(Status::Invalid), "inside");
    assert_eq!(asker.ask(&mut bench, free(region.addr + 8192, None)), Err(Status::NotFound), "behind");
    assert_eq!(asker.ask(&mut bench, free(3 * K_BYTES, None)), Err(Status::OutOfRange), "outside");
    assert_eq!(asker.ask(&mut bench, free(region.addr, Some(region.generation + 1))), Err(Status::Fenced), "stale");
    assert!(asker.ask(&mut bench, free(region.addr, Some(region.generation))).is_ok());
    assert_eq!(asker.ask(&mut bench, free(region.addr, None)), Err(Status::NotFound), "double");
    let again = asker.allocate(&mut bench, bytes(8192)).unwrap();
    assert_eq!(again.addr, region.addr);
    assert_eq!(asker.ask(&mut bench, free(region.addr, Some(region.generation))), Err(Status::Fenced), "another owner");
}

#[test]
fn every_wrong_size_has_its_answer() {
    let mut bench = Bench::new();
    let mut asker = bench.open(10_000);
    assert_eq!(asker.allocate(&mut bench, bytes(0)), Err(Status::Invalid));
    assert_eq!(asker.allocate(&mut bench, bytes(3 * K_BYTES + 1)), Err(Status::Full));
    let all = asker.allocate(&mut bench, bytes(3 * K_BYTES)).unwrap();
    assert_eq!((all.addr, all.capacity), (0, 3 * K_BYTES));
    assert_eq!(asker.allocate(&mut bench, bytes(1)), Err(Status::Full));
    asker.ask(&mut bench, Command::Free { addr: 0, generation: None }).unwrap();
    let over_two = asker.allocate(&mut bench, bytes(2 * K_BYTES)).unwrap();
    assert_eq!(over_two.capacity, 2 * K_BYTES);
    assert_eq!(asker.allocate(&mut bench, bytes(K_BYTES)).unwrap().addr, 2 * K_BYTES);
}

#[test]
fn servers_are_avoided() {
    let mut bench = Bench::new();
    let mut asker = bench.open(10_000);
    let avoiding = |size, avoid: &[u32]| Allocate { avoid: avoid.to_vec(), ..bytes(size) };
    for size in [1, 5000] {
        for server in 0..3u32 {
            let avoid: Vec<u32> = (0..3).filter(|other| *other != server).collect();
            let region = asker.allocate(&mut bench, avoiding(size, &avoid)).unwrap();
            assert_eq!(region.addr / K_BYTES, u64::from(server));
        }
    }
    assert_eq!(asker.allocate(&mut bench, avoiding(1, &[0, 1, 2])), Err(Status::Full));
    assert_eq!(asker.allocate(&mut bench, avoiding(1, &[0; 300])), Err(Status::Invalid));
}

#[test]
fn a_lease_runs_out_by_itself_and_its_memory_rests() {
    let mut bench = Bench { quarantine_ms: 200, ..Bench::new() };
    let mut asker = bench.open(10_000);
    let region = asker.allocate(&mut bench, leased(3 * K_BYTES, 500)).unwrap();
    let lease = region.lease.unwrap();
    assert_eq!(lease.remaining_ms, 500);
    bench.pass(499);
    assert!(bench.region_at(0).is_some());
    bench.pass(1);
    assert_eq!(bench.region_at(0), None);
    assert_eq!(bench.last.effects, [Effect::Unguard { addr: 0 }]);
    assert_eq!(asker.ask(&mut bench, Command::Renew { lease: lease.id, lease_ms: 500 }), Err(Status::NoLease));
    assert_eq!(asker.allocate(&mut bench, bytes(1)), Err(Status::Full), "in quarantine");
    bench.pass(200);
    assert!(asker.allocate(&mut bench, bytes(3 * K_BYTES)).is_ok(), "it has grown together again");
}

#[test]
fn a_lease_that_is_renewed_goes_on_and_one_that_passes_on_has_a_new_fence() {
    let mut bench = Bench::new();
    let (mut one, two) = (bench.open(10_000), bench.open(10_000));
    let region = one.allocate(&mut bench, leased(64, 500)).unwrap();
    let lease = region.lease.clone().unwrap();
    bench.pass(400);
    one.ask(&mut bench, Command::Renew { lease: lease.id, lease_ms: 500 }).unwrap();
    bench.pass(400);
    assert_eq!(bench.region_at(region.addr).unwrap().lease.unwrap().fence, lease.fence);
    let free = Command::Free { addr: region.addr, generation: None };
    assert_eq!(one.ask(&mut bench, free), Err(Status::Fenced));
    one.ask(&mut bench, Command::Transfer { lease: lease.id, to: two.session }).unwrap();
    let passed_on = bench.region_at(region.addr).unwrap();
    assert!(passed_on.lease.unwrap().fence > lease.fence);
    assert_eq!(passed_on.owner, Owner::Session(two.session));
    one.ask(&mut bench, Command::Release { lease: lease.id }).unwrap();
    assert_eq!(bench.region_at(region.addr), None);
}

#[test]
fn a_lock_is_handed_on_in_order_and_when_its_holder_dies() {
    let mut bench = Bench::new();
    let lock = |wait_ms| Command::Acquire { name: "l".into(), permits: 1, wait_ms };
    let mut askers: Vec<Asker> = (0..4).map(|at| bench.open(if at == 0 { 1000 } else { 60_000 })).collect();
    let Ok(Answer::Locked { fence: first, .. }) = askers[0].ask(&mut bench, lock(0)) else { panic!() };
    assert_eq!(askers[1].ask(&mut bench, lock(0)), Err(Status::Locked));
    assert_eq!(askers[1].start(&mut bench, lock(5000)), None);
    assert_eq!(askers[2].start(&mut bench, lock(100)), None);
    assert_eq!(askers[3].start(&mut bench, lock(5000)), None);
    assert_eq!(askers[3].again(&mut bench, lock(5000)), None, "it waits once");
    bench.pass(100);
    assert_eq!(bench.told(askers[2].ticket()).unwrap().unwrap_err().status, Status::Locked, "it waited long enough");
    bench.pass(900);
    let told = bench.told(askers[1].ticket()).expect("the holder died").unwrap();
    let Answer::Locked { fence: second, .. } = told.answer else { panic!() };
    assert!(second > first);
    askers[1].ask(&mut bench, Command::Unlock { name: "l".into() }).unwrap();
    assert!(matches!(bench.told(askers[3].ticket()), Some(Ok(Told { answer: Answer::Locked { .. }, .. }))));
    assert_eq!(askers[1].ask(&mut bench, Command::Unlock { name: "l".into() }), Err(Status::NotFound));
}

#[test]
fn a_barrier_opens_when_all_have_come() {
    let mut bench = Bench::new();
    let mut askers: Vec<Asker> = (0..3).map(|_| bench.open(60_000)).collect();
    let arrive = || Command::Arrive { name: "b".into(), parties: 3, wait_ms: 1000 };
    assert_eq!(askers[0].start(&mut bench, arrive()), None);
    assert_eq!(askers[1].start(&mut bench, arrive()), None);
    let last = askers[2].start(&mut bench, arrive()).unwrap().unwrap();
    assert!(matches!(last.answer, Answer::Passed { .. }));
    for asker in &askers[..2] {
        assert_eq!(bench.told(asker.ticket()).unwrap().unwrap(), last);
    }
    assert_eq!(askers[0].start(&mut bench, arrive()), None, "it is used again");
    bench.pass(1000);
    assert_eq!(bench.told(askers[0].ticket()).unwrap().unwrap_err().status, Status::Locked);
}

#[test]
fn what_the_dead_leave_is_collected_and_what_is_left_on_purpose_is_not() {
    let mut bench = Bench::new();
    let (mut dies, mut closes, mut lives) = (bench.open(1000), bench.open(60_000), bench.open(60_000));
    for asker in [&mut dies, &mut closes, &mut lives] {
        asker.allocate(&mut bench, bytes(4096)).unwrap();
    }
    closes.ask(&mut bench, Command::Close).unwrap();
    bench.pass(1000);
    let owners: Vec<Owner> = bench.state.all_regions().map(|region| region.owner).collect();
    assert_eq!(owners, [Owner::Nobody, Owner::Cluster, Owner::Session(lives.session)]);
    let collected = lives.ask(&mut bench, Command::Collect);
    assert_eq!(collected, Ok(Answer::Freed { regions: 1, bytes: 4096 }));
    assert_eq!(bench.state.all_regions().count(), 2);
    assert_eq!(dies.ask(&mut bench, Command::Collect), Err(Status::NoSession));
}

#[test]
fn an_allocation_takes_the_place_of_another() {
    let mut bench = Bench::new();
    let mut asker = bench.open(10_000);
    let wish = Allocate { name: Some("n".into()), lease_ms: Some(5000), ..bytes(100) };
    let old = asker.allocate(&mut bench, wish).unwrap();
    let new = asker.allocate(&mut bench, bytes(9000)).unwrap();
    let answer = asker.ask(&mut bench, Command::Replace { from: old.addr, to: new.addr }).unwrap();
    let Answer::Region(now) = answer else { panic!("{answer:?}") };
    assert_eq!((now.addr, now.size, now.name.as_deref()), (new.addr, 9000, Some("n")));
    assert_eq!(now.lease.as_ref().map(|lease| lease.id), old.lease.as_ref().map(|lease| lease.id));
    assert_eq!(bench.region_at(old.addr), None);
    let unguard = Effect::Unguard { addr: old.addr };
    assert_eq!(bench.last.effects[0], unguard);
    assert!(matches!(bench.last.effects[1], Effect::Guard { addr, .. } if addr == new.addr));
}

#[test]
fn growth_is_zeroed_and_so_is_what_was_cut_off() {
    let mut bench = Bench::new();
    let mut asker = bench.open(10_000);
    let region = asker.allocate(&mut bench, bytes(4096)).unwrap();
    let resize = |size| Command::Resize { addr: region.addr, size, generation: None };
    asker.ask(&mut bench, resize(8192)).unwrap();
    assert_eq!(bench.last.effects, [Effect::Zero { addr: region.addr + 4096, len: 4096 }]);
    let grown_at = bench.state.index();
    assert_eq!(bench.state.zeroed_since(grown_at - 1), [Effect::Zero { addr: region.addr + 4096, len: 4096 }]);
    // The second page goes back, and the rest of the first is zero before anybody can grow into it again.
    asker.ask(&mut bench, resize(1)).unwrap();
    let cut = Effect::Zero { addr: region.addr + 1, len: 4095 };
    assert_eq!(bench.last.effects, std::slice::from_ref(&cut));
    assert_eq!(bench.state.zeroed_since(grown_at), [cut]);
    asker.ask(&mut bench, resize(100)).unwrap();
    assert!(bench.last.effects.is_empty(), "it is zero already");
    asker.ask(&mut bench, resize(60)).unwrap();
    assert_eq!(bench.last.effects, [Effect::Zero { addr: region.addr + 60, len: 40 }]);
    let cut_at = bench.state.index();
    asker.ask(&mut bench, resize(100)).unwrap();
    let missed = [(1, 59), (60, 4036)].map(|(from, len)| Effect::Zero { addr: region.addr + from, len });
    assert_eq!(bench.state.zeroed_since(grown_at), missed);
    assert_eq!(bench.state.zeroed_since(cut_at - 1), missed[1..]);
    assert_eq!(bench.state.zeroed_since(cut_at), []);
    assert_eq!(asker.ask(&mut bench, resize(0)), Err(Status::Invalid));
    assert_eq!(asker.ask(&mut bench, resize(4 * K_BYTES)), Err(Status::Full));
}

fn part(part: u32, last: bool, regions: &[Region]) -> Command {
    Command::Reset { part, last, regions: regions.to_vec() }
}

#[test]
fn a_page_table_comes_in_parts_and_takes_effect_at_once() {
    let mut bench = Bench::new();
    let mut asker = bench.open(10_000);
    let notes = vec![("by".to_owned(), "me".to_owned())];
    asker.allocate(&mut bench, Allocate { name: Some("kept".into()), notes, ..bytes(5000) }).unwrap();
    let lease = asker.allocate(&mut bench, leased(100, 5000)).unwrap();
    let saved: Vec<Region> = bench.state.all_regions().collect();
    let mut restorer = bench.open(20_000);
    restorer.ask(&mut bench, part(0, false, &saved[..1])).unwrap();
    assert_eq!(bench.state.all_regions().collect::<Vec<_>>(), saved, "nothing has changed");
    for zeroes in [Command::Allocate(bytes(1)), Command::Resize { addr: saved[0].addr, size: 6000, generation: None }] {
        assert_eq!(asker.ask(&mut bench, zeroes), Err(Status::Restoring));
    }
    assert_eq!(asker.ask(&mut bench, part(1, true, &[])), Err(Status::Invalid), "it is not its table");
    let image = bench.state.image();
    bench.state = State::from_image(&image, bench.state.space()).unwrap();
    assert_eq!(bench.state.image(), image);
    restorer.ask(&mut bench, part(1, false, &saved[1..])).unwrap();
    restorer.ask(&mut bench, part(2, true, &[])).unwrap();
    assert_eq!(bench.last.effects, [Effect::Clear]);
    let regions: Vec<Region> = bench.state.all_regions().collect();
    let facts = |regions: &[Region]| -> Vec<_> {
        regions.iter().map(|r| (r.addr, r.size, r.capacity, r.name.clone(), r.notes.clone())).collect()
    };
    assert_eq!(facts(&regions), facts(&saved));
    assert!(regions.iter().all(|r| r.owner == Owner::Cluster && r.lease.is_none()));
    assert!(regions.iter().all(|r| r.generation > lease.generation), "older clients are fenced");
    assert_eq!(bench.state.zeroed_since(0), [], "their bytes are those of the snapshot");
    assert_eq!(asker.ask(&mut bench, Command::Collect), Err(Status::NoSession));
    let mut other = bench.open(10_000);
    other.ask(&mut bench, Command::Free { addr: lease.addr, generation: None }).unwrap();
    restorer.number -= 1;
    let again = restorer.start(&mut bench, part(2, true, &[])).unwrap();
    assert!(again.is_ok(), "whoever did not hear of it may ask again");
    assert_eq!(bench.state.all_regions().count(), 1, "and it is not done again");
}

#[test]
fn a_page_table_that_is_wrong_or_incomplete_changes_nothing() {
    let mut bench = Bench::new();
    let mut asker = bench.open(100_000);
    let named = |name: &str| Allocate { name: Some(name.into()), ..bytes(5000) };
    let one = asker.allocate(&mut bench, named("one")).unwrap();
    let two = asker.allocate(&mut bench, named("two")).unwrap();
    let saved = vec![one.clone(), two];
    let spoiled = |spoil: fn(&mut Region)| {
        let mut region = one.clone();
        spoil(&mut region);
        region
    };
    let wrong = [
        (spoiled(|_| {}), Status::BadData),
        (spoiled(|r| r.addr += 1 << 40), Status::BadData),
        (spoiled(|r| r.capacity = u64::MAX), Status::BadData),
        (spoiled(|r| (r.addr, r.size) = (65536, 0)), Status::BadData),
        (spoiled(|r| r.addr = 65536), Status::BadData),
        (spoiled(|r| (r.addr, r.name) = (65536, Some("0x".into()))), Status::Invalid),
        (spoiled(|r| (r.addr, r.name, r.notes) = (65536, None, vec![(String::new(), String::new())])), Status::Invalid),
    ];
    let mut restorer = bench.open(5000);
    for (region, status) in wrong {
        restorer.ask(&mut bench, part(0, false, &saved)).unwrap();
        assert_eq!(restorer.ask(&mut bench, part(1, true, &[region])), Err(status));
        assert_eq!(restorer.ask(&mut bench, part(2, true, &[])), Err(Status::Invalid), "it has to begin anew");
    }
    restorer.ask(&mut bench, part(0, false, &[])).unwrap();
    assert_eq!(restorer.ask(&mut bench, part(2, true, &[])), Err(Status::Invalid), "a part is missing");
    assert_eq!(bench.state.all_regions().collect::<Vec<_>>(), saved);
    bench.pass(6000);
    asker.allocate(&mut bench, bytes(1)).expect("who restored is gone, and what came with it");
    let mut second = bench.open(5000);
    second.ask(&mut bench, part(0, false, &[])).unwrap();
    let mut third = bench.open(5000);
    third.ask(&mut bench, part(0, false, &[])).expect("whoever begins takes the place of others");
    assert_eq!(second.ask(&mut bench, part(1, true, &[])), Err(Status::Invalid));
    third.ask(&mut bench, part(1, true, &[])).unwrap();
    assert_eq!(bench.state.all_regions().count(), 0);
}

#[test]
fn an_image_of_another_space_or_a_damaged_one_is_refused() {
    let mut bench = Bench::new();
    let mut asker = bench.open(10_000);
    asker.allocate(&mut bench, bytes(5000)).unwrap();
    let image = bench.state.image();
    let space = bench.state.space();
    assert_eq!(State::from_image(&image, space).unwrap().image(), image);
    let other = Space::new(K_BYTES, 2).unwrap();
    assert!(matches!(State::from_image(&image, other), Err(crate::Corrupt::Space { our_n: 2, their_n: 3, .. })));
    for at in 0..image.len() {
        for bit in 0..8 {
            let mut damaged = image.clone();
            damaged[at] ^= 1 << bit;
            // Refused, or a state that holds together: checksums are the business of who stores it.
            if let Ok(state) = State::from_image(&damaged, space) {
                state.assert_invariants();
            }
        }
        assert!(State::from_image(&image[..at], space).is_err());
    }
}
