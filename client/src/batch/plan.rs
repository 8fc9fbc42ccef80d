//! Which parts of which items travel in which frame.

use mcomp_wire::{Space, limits};

use super::frame::{Frame, Part};
use super::{Item, Progress};

/// Sorts the items that may be sent into frames: in rising order of server, and for each server in the
/// order of the items.
pub(super) fn frames<'a>(items: &mut [Item<'a>], space: Space, progress: &mut Progress<'a>) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    // The frame of each server that takes parts now.
    let mut newest: Vec<Option<usize>> = vec![None; space.n() as usize];
    let room = items.len().min(limits::MAX_BATCH);
    for (index, item) in items.iter_mut().enumerate() {
        let range = match item.check(space) {
            Ok(range) => range,
            Err(error) => {
                progress.refuse(error);
                continue;
            }
        };
        if !progress.begin(item) {
            continue;
        }
        for piece in range.pieces(item.longest()) {
            let part = Part::new(index, piece);
            let weight = part.weight(item);
            let newest = &mut newest[piece.server as usize];
            let frame = match newest.and_then(|at| frames.get_mut(at)).filter(|frame| frame.has_room(&weight)) {
                Some(frame) => frame,
                None => {
                    *newest = Some(frames.len());
                    // Most batches are one frame.
                    let room = if frames.is_empty() { room } else { 0 };
                    frames.push_mut(Frame::new(piece.server, room))
                }
            };
            frame.push(part, &weight);
            progress.expect_part();
        }
    }
    frames.sort_by_key(Frame::server);
    frames
}
