//! Batches: items that do not touch the same blocks go through the same rounds.

use std::collections::HashMap;

use mcomp_wire::{Batch, Request, Status, emit_answer_item, limits};

use super::execute::{Asker, TOGETHER, answer};
use super::{PATIENCE, Replicas, Want};
use crate::memory::Refusal;

impl Replicas {
    /// Items are done in the order in which they stand; those that do not touch the same blocks, together.
    pub(super) fn batch(&self, batch: Batch<'_>, asker: Asker, out: &mut Vec<u8>) {
        let mut sentence_bytes = 0;
        let mut wave = Vec::new();
        let mut wants = Vec::new();
        // By block: whether an item of the wave writes it.
        let mut touched: HashMap<u64, bool> = HashMap::new();
        for (index, request) in batch.requests().enumerate() {
            let asker = asker.nth(index);
            let is_simple = !matches!(
                request,
                Request::Copy { .. } | Request::Compare { .. } | Request::Checksum { .. } | Request::ReadV(_)
            );
            let own = if is_simple { self.simple(&request, asker) } else { Ok(Vec::new()) };
            let conflicts = !is_simple
                || wants.len() + own.as_ref().map_or(0, Vec::len) > TOGETHER
                || own.iter().flatten().any(|(block, want)| {
                    touched.get(block).is_some_and(|writes| *writes != matches!(want, Want::Write(..)))
                });
            if conflicts {
                self.flush(&mut wave, &mut wants, &mut sentence_bytes, out);
                touched.clear();
            }
            if is_simple {
                let own = own.map(|own| {
                    touched.extend(own.iter().map(|(block, want)| (*block, matches!(want, Want::Write(..)))));
                    let range = wants.len()..wants.len() + own.len();
                    wants.extend(own);
                    range
                });
                wave.push((request, own));
            } else {
                emit(&request, &mut sentence_bytes, out, |out| self.execute(&request, asker, out));
            }
        }
        self.flush(&mut wave, &mut wants, &mut sentence_bytes, out);
    }

    fn flush(
        &self,
        wave: &mut Vec<(Request<'_>, Result<std::ops::Range<usize>, Refusal>)>,
        wants: &mut Vec<(u64, Want)>,
        sentence_bytes: &mut usize,
        out: &mut Vec<u8>,
    ) {
        let ended = self.run(std::mem::take(wants), PATIENCE);
        for (request, range) in wave.drain(..) {
            emit(&request, sentence_bytes, out, |out| range.and_then(|range| answer(&request, &ended[range], out)));
        }
    }
}

/// Appends an item's answer, or why there is none.
fn emit(
    request: &Request<'_>,
    sentence_bytes: &mut usize,
    out: &mut Vec<u8>,
    execute: impl FnOnce(&mut Vec<u8>) -> Result<(), Refusal>,
) {
    emit_answer_item(request.kind(), out, |out| {
        let body = out.len();
        match execute(out) {
            Ok(()) => Status::Ok,
            Err(refusal) => {
                out.truncate(body);
                // Many refusals must not make the answer larger than a frame may be.
                if *sentence_bytes < limits::MAX_BATCH_SENTENCES {
                    *sentence_bytes += refusal.message.len();
                    refusal.emit(out);
                }
                refusal.status
            }
        }
    });
}
