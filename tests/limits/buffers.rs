//! The budget for large buffers.

use super::*;

#[test]
fn announced_bodies_cost_no_more_than_the_budget() {
    const PEERS: usize = 200;
    const BUDGET: u64 = 8 << 20;
    raise_open_files();
    let cluster = Setup::new(1, "1MiB").with("[limits]\nbuffer_budget = \"8MiB\"").servers();
    let mut good = greeted(&cluster);
    works(&mut good, 0, 1);
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| greeted(&cluster)).collect();
    let before = cluster.resident_bytes_of_server(0);
    let announced = Header { kind: Kind::Write as u8, length: limits::MAX_BODY as u32, ..Header::default() }.emit();
    // A header and half of the body: what was announced would be 235 MB.
    let half = vec![0; limits::MAX_BODY / 2];
    for peer in &mut peers {
        peer.send(&announced);
        peer.send(&half);
    }
    let refused = PEERS - BUDGET as usize / limits::MAX_BODY - 1;
    wait_until("those beyond the budget are refused", || {
        rejected(&status_over(&mut good), "buffer_budget") >= refused as u64
    });
    let grown = cluster.resident_bytes_of_server(0).saturating_sub(before);
    assert!(grown < BUDGET + (64 << 20), "{grown} bytes more, with a budget of {BUDGET}");
    // Small requests need no budget.
    works(&mut good, 0, 2);
    drop(peers);
    let large = body(&Request::Write { addr: 0, data: &vec![3; limits::MAX_PAYLOAD] });
    let mut id = 100;
    wait_until("the budget comes back", || {
        id += 1;
        let mut peer = greeted(&cluster);
        peer.request(Kind::Write as u8, id, &large);
        peer.next().is_some_and(|answer| answer.status() == Status::Ok)
    });
}
