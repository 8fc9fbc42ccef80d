//! The rules of the atomics, written out once more: a mistake in the product's own is seen.

use mcomp_client::{AtomicOp, Exchanged, Exchanged16};

/// Every operation on eight bytes.
pub(super) const OPS: [AtomicOp; 8] = [
    AtomicOp::CompareExchange,
    AtomicOp::Add,
    AtomicOp::And,
    AtomicOp::Or,
    AtomicOp::Xor,
    AtomicOp::Min,
    AtomicOp::Max,
    AtomicOp::Swap,
];

pub(super) fn word_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

pub(super) fn wide_of(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(bytes.try_into().expect("sixteen bytes"))
}

pub(super) fn exchange(model: &mut [u8], expected: u64, new: u64) -> Exchanged {
    let previous = word_of(model);
    let swapped = previous == expected;
    if swapped {
        model.copy_from_slice(&new.to_le_bytes());
    }
    Exchanged { swapped, previous }
}

pub(super) fn exchange_16(model: &mut [u8], expected: u128, new: u128) -> Exchanged16 {
    let previous = wide_of(model);
    let swapped = previous == expected;
    if swapped {
        model.copy_from_slice(&new.to_le_bytes());
    }
    Exchanged16 { swapped, previous }
}

pub(super) fn fetch(model: &mut [u8], op: AtomicOp, operand: u64) -> u64 {
    let previous = word_of(model);
    let new = match op {
        AtomicOp::Add => previous.wrapping_add(operand),
        AtomicOp::And => previous & operand,
        AtomicOp::Or => previous | operand,
        AtomicOp::Xor => previous ^ operand,
        AtomicOp::Min => previous.min(operand),
        AtomicOp::Max => previous.max(operand),
        AtomicOp::Swap => operand,
        op => panic!("{op:?} does not fetch"),
    };
    model.copy_from_slice(&new.to_le_bytes());
    previous
}
