//! Registers over a cluster: one block each, see [`super::layout`] for the bytes, the steps of a write and the proof.
//!
//! Promises: reads and writes are linearizable, tags are unique and rise by one, and a value is that of its tag, also
//! among several gateways and over the death of any of them. A failure before the publication is a failure that
//! certainly had no effect. Two writers that claim past each other for ever would fail as busy; they wait random times.

use std::time::{Duration, Instant};

use mcomp_client::{BatchOutcome, Cluster, Error, Outcome};

use super::layout::{BLOCK, Block, Exchange, Plan, Register, TEXT_LEN_MAX, WORD};
use crate::exit::{Exit, Failure};

/// How long a writer is waited for that has claimed a register and does nothing.
const POLITENESS: Duration = Duration::from_millis(50);

/// The pause between two looks; each is random.
const PAUSE_US: std::ops::Range<u64> = 50..1000;

/// Reads register `number`.
pub(super) fn read(cluster: &Cluster, number: u64) -> anyhow::Result<Register> {
    let bytes = block_at(cluster, addr_of(cluster, number)?)?;
    let register = Block::parse(&bytes).and_then(|block| block.register());
    Ok(register.ok_or_else(|| foreign(number))?)
}

/// Puts `text` into register `number`; the tag that it has now. Gives up after `patience`, if it is never its turn.
pub(super) fn write(cluster: &Cluster, number: u64, text: &str, patience: Duration) -> anyhow::Result<u64> {
    if text.len() > TEXT_LEN_MAX {
        let sentence = format!("{} bytes do not fit into a register, at most {TEXT_LEN_MAX}", text.len());
        return Err(Failure::new(Exit::USAGE, "too_large", sentence).into());
    }
    let addr = addr_of(cluster, number)?;
    let begun = Instant::now();
    let (mut seen, mut since) = (None, begun);
    loop {
        let bytes = block_at(cluster, addr)?;
        let block = Block::parse(&bytes).ok_or_else(|| foreign(number))?;
        if seen != Some(block.head()) {
            (seen, since) = (Some(block.head()), Instant::now());
        }
        if !block.head().is_claimed() || since.elapsed() >= POLITENESS {
            let plan = block.plan(text).ok_or_else(|| foreign(number))?;
            if carry_out(cluster, addr, &plan)? {
                return Ok(plan.tag);
            }
        }
        if begun.elapsed() >= patience {
            let sentence = format!("register {number} is being written by others, without a gap in {patience:?}");
            return Err(Failure::new(Exit::TRY_AGAIN, "busy", sentence).into());
        }
        std::thread::sleep(Duration::from_micros(fastrand::u64(PAUSE_US)));
    }
}

/// Whether the text is published. Nobody sees a write that is not: up to its last step it either fails for certain or
/// is given up, whatever became of the exchanges.
fn carry_out(cluster: &Cluster, addr: u64, plan: &Plan) -> Result<bool, Error> {
    for step in [std::slice::from_ref(&plan.claim), &plan.stage] {
        match exchange(cluster, addr, step) {
            Ok(true) => {}
            Err(error) if error.outcome() == Outcome::Fail => return Err(error),
            _ => return Ok(false),
        }
    }
    exchange(cluster, addr, std::slice::from_ref(&plan.publish))
}

/// Makes all the exchanges; whether each found what it expected.
fn exchange(cluster: &Cluster, addr: u64, exchanges: &[Exchange]) -> Result<bool, Error> {
    let mut batch = cluster.batch();
    for Exchange { at, expected, new } in exchanges {
        batch.compare_exchange_16(addr + (at * WORD) as u64, *expected, *new);
    }
    let mut all = true;
    for outcome in batch.run() {
        all &= matches!(outcome?, BatchOutcome::Exchanged16(exchanged) if exchanged.swapped);
    }
    Ok(all)
}

fn block_at(cluster: &Cluster, addr: u64) -> Result<[u8; BLOCK], Error> {
    let mut bytes = [0; BLOCK];
    cluster.read_at(addr, &mut bytes)?;
    Ok(bytes)
}

fn addr_of(cluster: &Cluster, number: u64) -> Result<u64, Failure> {
    let (block, registers) = (BLOCK as u64, cluster.size() / BLOCK as u64);
    let none = || {
        let sentence = format!("there is no register {number}: the memory has {registers}, from 0 on");
        Failure::new(Exit::USAGE, "out_of_range", sentence)
    };
    if number < registers { Ok(number * block) } else { Err(none()) }
}

fn foreign(number: u64) -> Failure {
    let addr = number.saturating_mul(BLOCK as u64);
    let sentence = format!(
        "block {number} holds something else than a register: use another one, or empty it with `mcomp fill {addr} \
         {BLOCK} 0`"
    );
    Failure::new(Exit::BAD_DATA, "not_a_register", sentence)
}
