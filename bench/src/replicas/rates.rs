//! Reads and writes of a block beside the linearizable gets and puts of an etcd whose data lies in memory, so that it
//! pays for no disk either. One client: the median of its round trips. Many: what they do together.

use crate::bench::{Bench, System};
use crate::case::{Group, size_word};
use crate::etcd::{self, Etcd};
use crate::measure;
use crate::peer::Conn;
use crate::placement::Placement;
use crate::replicas::{Case, Pair, SERVERS, SIZE_BYTES, connect};
use crate::result::{CaseResult, Unit};
use crate::scratch::Scratch;

pub(super) fn run(bench: &mut Bench, pair: &Pair, case: &Case) -> anyhow::Result<()> {
    bench.cores.enter_client(Placement::Free)?;
    // Goes after the nodes have ended.
    let folder = Scratch::memory_folder()?;
    let etcd = match bench.wants_system(etcd::NAME) {
        true => Etcd::start(&bench.scratch, folder.path(), SERVERS)?,
        false => None,
    };
    let mut systems = Vec::new();
    for (name, servers) in pair.wanted(bench) {
        let conns = connect(servers, case.op, SIZE_BYTES, case.clients)?;
        systems.push(system(name, conns, servers.pids()));
    }
    if let Some(etcd) = &etcd {
        match conns_of(etcd, case) {
            Ok(conns) => systems.push(system(etcd::NAME, conns, etcd.pids())),
            Err(error) => bench.failures.push(format!("{}, etcd: {error:#}", case.id)),
        }
    }
    let rows = bench.interleave(case.id, systems)?;
    let (op, size) = (case.op.word(), size_word(SIZE_BYTES));
    let (title, unit) = match case.clients {
        1 => (format!("{op} {size}, 1 client, p50"), Unit::Microseconds),
        clients => (format!("{op} {size}, {clients} clients"), Unit::KiloOperations),
    };
    let (group, id, placement) = (Group::Replicas, case.id.to_owned(), Placement::Free);
    let mut result = CaseResult { group, id, title, placement, unit, rows };
    result.compare(|_| Some(etcd::NAME.to_owned()));
    bench.keep(result);
    Ok(())
}

fn system<'a>(name: &str, mut conns: Vec<Box<dyn Conn>>, pids: Vec<u32>) -> System<'a> {
    let measure = move |window| match conns.as_mut_slice() {
        [one] => measure::trips(one.as_mut(), &pids, window),
        many => measure::rate(many, 1, &pids, window),
    };
    (name.to_owned(), Box::new(measure))
}

fn conns_of(etcd: &Etcd, case: &Case) -> anyhow::Result<Vec<Box<dyn Conn>>> {
    let one = |number| Ok(Box::new(etcd.connect(case.op, SIZE_BYTES, number)?) as Box<dyn Conn>);
    (0..case.clients).map(one).collect()
}
