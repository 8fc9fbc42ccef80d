//! Whose copies the segment keeps where, when the cluster has grown: places that go to another home begin anew.

use mcomp_shm::{Arrangement, Life, REGISTER_BYTES, Segment};
use mcomp_wire::replica::PAGE;
use mcomp_wire::{Placement, Shape};

/// Makes the segment of server `id` one of this placement, before anybody is served. `part` is the number of blocks of each
/// home, and `epoch` that in which the placement began.
///
/// Places of other homes than before do not vote until they are filled, except those of a part of the address space that
/// was not there before: what nobody has ever voted about is known to be empty. It may be killed at any instruction: it is
/// done again then, or, if the log has forgotten that the cluster has grown, this server takes no part, since its memory
/// says that it has seen a later epoch.
pub(super) fn arrange(segment: &Segment, id: u32, part: u64, placement: Placement, epoch: u64) {
    let Shape { n, step } = placement.shape();
    let wanted = Arrangement { n, step };
    let known = segment.arrangement().filter(|_| segment.life() != Life::Unknown);
    let Some(before) = known else {
        return segment.set_arrangement(wanted);
    };
    let before = Shape { n: before.n, step: before.step };
    let Some(old) = Placement::new(before, placement.replicas()).filter(|_| before < placement.shape()) else {
        return;
    };
    let homes = (0..placement.replicas()).map(|replica| (replica, old.home(id, replica), placement.home(id, replica)));
    let places: Vec<(u32, Option<u32>, Option<u32>)> = homes.filter(|(_, was, is)| was != is).collect();
    let blocks = |replica: u32| u64::from(replica) * part..u64::from(replica + 1) * part;
    let is_new = |home: u32| home >= before.n;
    let is_to_fill = |home: Option<u32>| home.is_some_and(|home| !is_new(home));
    segment.set_replica_epoch(epoch);
    if segment.life() == Life::Whole && places.iter().any(|(_, _, is)| is_to_fill(*is)) {
        (0..u64::from(placement.replicas()) * part).for_each(|block| segment.set_filled(block));
        segment.set_life(Life::Filling);
    }
    for &(replica, was, is) in &places {
        blocks(replica).for_each(|block| segment.set_unfilled(block));
        if was.is_some() {
            // Also when it is nobody's for now: then the last step, which all servers go through at once, has only marks
            // to set.
            blocks(replica).for_each(|block| segment.set_register(block, &[0; PAGE], &[0; REGISTER_BYTES]));
        }
        if is.is_some_and(is_new) {
            blocks(replica).for_each(|block| segment.set_filled(block));
        }
    }
    tracing::info!(places = places.len(), servers = placement.shape().servers(), step, "the copies are arranged anew");
    segment.set_arrangement(wanted);
}

#[cfg(test)]
mod tests {
    use mcomp_shm::Spec;

    use super::*;

    /// Blocks of a home.
    const PART: u64 = 2;

    struct Scratch(Spec);

    impl Scratch {
        fn new() -> Scratch {
            let cluster = format!("arrange-{}", uuid::Uuid::new_v4().simple());
            Scratch(Spec { cluster, id: 0, n: 3, k_bytes: 3 * PART * 4096, registers: true })
        }

        fn segment(&self) -> Segment {
            Segment::open(&self.0).expect("a scratch segment").0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = mcomp_shm::purge(&self.0.cluster);
        }
    }

    fn arrange_as(segment: &Segment, n: u32, step: u32, epoch: u64) {
        arrange(segment, 0, PART, Placement::new(Shape { n, step }, 3).unwrap(), epoch);
    }

    /// Of each place, whether its blocks vote, and the first byte and the ballots of one.
    fn seen(segment: &Segment) -> [(bool, u8, u64); 3] {
        std::array::from_fn(|replica| {
            let block = replica as u64 * PART + 1;
            let votes = segment.life() == Life::Whole || segment.is_filled(block);
            (votes, segment.register(block).0[0], segment.ballots(block).1)
        })
    }

    fn fill(segment: &Segment, replica: u64, byte: u8) {
        for block in replica * PART..(replica + 1) * PART {
            let mut register = [0; REGISTER_BYTES];
            register[8] = byte;
            segment.set_register(block, &[byte; PAGE], &register);
            segment.set_filled(block);
        }
    }

    /// A whole segment of three servers.
    fn whole(scratch: &Scratch) -> Segment {
        let segment = scratch.segment();
        arrange_as(&segment, 3, 0, 3);
        segment.set_life(Life::Whole);
        (0..3).for_each(|replica| fill(&segment, replica, 1 + replica as u8));
        segment
    }

    #[test]
    fn places_with_another_home_do_not_vote_until_they_are_filled() {
        let scratch = Scratch::new();
        let segment = whole(&scratch);
        let kept = (true, 1, 1);
        for _ in 0..2 {
            arrange_as(&segment, 3, 1, 4);
            assert_eq!(seen(&segment), [kept, (true, 0, 0), (true, 0, 0)], "nobody asks for what it has lost");
            assert_eq!((segment.life(), segment.replica_epoch()), (Life::Whole, 4));
        }
        arrange_as(&segment, 3, 2, 6);
        assert_eq!(seen(&segment), [kept, (true, 0, 0), (false, 0, 0)]);
        assert_eq!(segment.life(), Life::Filling);
        fill(&segment, 2, 7);
        segment.set_life(Life::Whole);
        arrange_as(&segment, 4, 0, 7);
        assert_eq!(seen(&segment), [kept, (true, 0, 0), (true, 7, 7)], "nobody ever voted about the last part");
        assert_eq!(segment.life(), Life::Whole, "who loses nothing votes on");
        // The same again, and an older log.
        fill(&segment, 1, 9);
        for (n, step) in [(4, 0), (3, 2), (3, 0)] {
            arrange_as(&segment, n, step, 4);
            assert_eq!((seen(&segment)[1], segment.replica_epoch()), ((true, 9, 9), 7));
        }
    }

    #[test]
    fn who_was_away_comes_to_all_of_it_at_once() {
        let scratch = Scratch::new();
        drop(whole(&scratch));
        let segment = scratch.segment();
        arrange_as(&segment, 4, 0, 7);
        assert_eq!(seen(&segment), [(true, 1, 1), (true, 0, 0), (false, 0, 0)]);
        assert_eq!(segment.life(), Life::Filling);
    }

    #[test]
    fn a_segment_that_has_said_nothing_yet_is_of_any_arrangement() {
        let scratch = Scratch::new();
        let segment = scratch.segment();
        for (n, step) in [(4, 0), (3, 1)] {
            arrange_as(&segment, n, step, 4);
            assert_eq!(segment.arrangement(), Some(Arrangement { n, step }));
        }
        assert_eq!((segment.life(), segment.replica_epoch()), (Life::Unknown, 0));
    }
}
