//! Which servers keep the copies of a block, also while the cluster grows by a server.
//!
//! The copies of a block lie at its home and at the servers after it, around the ring of all servers. A server that is
//! added takes its place at the end of the ring, so copies that lay beyond the end move: each by one server. That is done
//! in steps, in each of which one server receives; no block has more than one copy on the move, and no server needs room
//! for more copies than it has. With the last step the new server's own part begins.

use serde::{Deserialize, Serialize};

use crate::limits;

/// How far a cluster has grown. Later shapes compare as greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Servers whose parts make up the address space.
    pub n: u32,
    /// The step of adding another one; 0 when none is being added.
    pub step: u32,
}

impl Shape {
    /// Whether a cluster can have grown so far: numbers of peers and files are claims.
    pub fn is_sound(self) -> bool {
        self.n > 0 && self.servers() <= limits::MAX_SERVERS && self.step < limits::MAX_REPLICAS
    }

    /// Servers that take part, one that is being added among them.
    pub fn servers(self) -> u32 {
        self.n.saturating_add(u32::from(self.step > 0))
    }

    /// What comes next while a server is being added: another step, or its part as well.
    pub fn next(self, replicas: u32) -> Shape {
        match self.step + 1 < replicas {
            true => Shape { step: self.step + 1, ..self },
            false => Shape { n: self.n + 1, step: 0 },
        }
    }
}

/// Where copies lie.
///
/// Invariants: the shape is sound; `replicas` is at least 1 and at most `shape.n`; `shape.step < replicas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    shape: Shape,
    replicas: u32,
}

impl Placement {
    /// A placement, or `None` when there can be none such.
    pub fn new(shape: Shape, replicas: u32) -> Option<Placement> {
        let is_sound = shape.is_sound() && replicas >= 1 && replicas <= shape.n && shape.step < replicas;
        is_sound.then_some(Placement { shape, replicas })
    }

    /// How far the cluster has grown.
    pub fn shape(self) -> Shape {
        self.shape
    }

    /// Copies of each block.
    pub fn replicas(self) -> u32 {
        self.replicas
    }

    /// The server that keeps copy `replica` of the blocks of `home`; `home` is below `n`, and `replica` below `replicas`.
    #[inline]
    pub fn server(self, home: u32, replica: u32) -> u32 {
        let Shape { n, step } = self.shape;
        let at = home + replica;
        match at.checked_sub(n) {
            None => at,
            Some(beyond) if beyond >= step => beyond,
            // It has moved, by one around the longer ring.
            Some(0) => n,
            Some(beyond) => beyond - 1,
        }
    }

    /// Which copy of the blocks of `home` a server keeps, if any.
    #[inline]
    pub fn replica_of(self, server: u32, home: u32) -> Option<u32> {
        if home >= self.shape.n {
            return None;
        }
        (0..self.replicas).find(|replica| self.server(home, *replica) == server)
    }

    /// Whose blocks those are of which a server keeps copy `replica`; nobody's while the cluster grows, perhaps.
    pub fn home(self, server: u32, replica: u32) -> Option<u32> {
        // The one that would keep them at either length of the ring.
        let behind = |ring: u32| (server + ring).checked_sub(replica).map(|home| home % ring);
        let homes = [behind(self.shape.n), behind(self.shape.servers())];
        homes.into_iter().flatten().find(|home| *home < self.shape.n && self.server(*home, replica) == server)
    }

    /// The server that receives copies in this step, if one is being added.
    pub fn receiver(self) -> Option<u32> {
        match self.shape.step {
            0 => None,
            1 => Some(self.shape.n),
            step => Some(step - 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn placements() -> impl Iterator<Item = Placement> {
        [1, 3, 5].into_iter().flat_map(|replicas| {
            let shapes = (replicas..12).flat_map(move |n| (0..replicas).map(move |step| Shape { n, step }));
            shapes.map(move |shape| Placement::new(shape, replicas).unwrap())
        })
    }

    #[test]
    fn every_block_has_its_copies_on_as_many_servers() {
        for placement in placements() {
            let Shape { n, .. } = placement.shape();
            for home in 0..n {
                let servers: BTreeSet<u32> =
                    (0..placement.replicas()).map(|replica| placement.server(home, replica)).collect();
                assert_eq!(servers.len() as u32, placement.replicas(), "{placement:?} home {home}");
                assert!(servers.iter().all(|server| *server < placement.shape().servers()), "{placement:?}");
                assert_eq!(placement.server(home, 0), home, "a home keeps its own");
            }
        }
    }

    #[test]
    fn the_three_questions_agree() {
        for placement in placements() {
            let servers = placement.shape().servers();
            for home in 0..placement.shape().n {
                for replica in 0..placement.replicas() {
                    let server = placement.server(home, replica);
                    assert_eq!(placement.replica_of(server, home), Some(replica), "{placement:?}");
                    assert_eq!(placement.home(server, replica), Some(home), "{placement:?} {server} {replica}");
                }
            }
            // No place is given to two homes, as each place that has a home leads back to it.
            let places =
                (0..servers).flat_map(|server| (0..placement.replicas()).map(move |replica| (server, replica)));
            let used = places.filter(|(server, replica)| placement.home(*server, *replica).is_some()).count() as u32;
            assert_eq!(used, placement.shape().n * placement.replicas(), "{placement:?}");
            assert_eq!(placement.replica_of(0, placement.shape().n), None);
        }
    }

    #[test]
    fn each_step_moves_one_copy_of_a_block_to_the_one_that_receives() {
        for before in placements() {
            let after = match before.shape().step {
                0 if before.replicas() > 1 => Shape { step: 1, ..before.shape() },
                0 => Shape { n: before.shape().n + 1, step: 0 },
                _ => before.shape().next(before.replicas()),
            };
            assert!(after > before.shape());
            let after = Placement::new(after, before.replicas()).unwrap();
            for home in 0..before.shape().n {
                let moved: Vec<u32> = (0..before.replicas())
                    .filter(|replica| before.server(home, *replica) != after.server(home, *replica))
                    .collect();
                assert!(moved.len() <= 1, "{before:?} {after:?} home {home}");
                for replica in moved {
                    let to = after.server(home, replica);
                    assert_eq!(Some(to), after.receiver(), "{before:?} {after:?}");
                    assert_eq!(before.home(to, replica), None, "the place that it goes to is free");
                }
            }
            if after.receiver().is_none() {
                // The new part begins where nothing lies.
                for replica in 0..after.replicas() {
                    let server = after.server(before.shape().n, replica);
                    assert_eq!(before.home(server, replica), None, "{before:?} {server} {replica}");
                }
            }
        }
    }

    #[test]
    fn a_cluster_that_has_grown_is_like_one_that_began_so() {
        let mut shape = Shape { n: 3, step: 1 };
        let mut steps = 0;
        while shape.step > 0 {
            shape = shape.next(3);
            steps += 1;
        }
        assert_eq!((shape, steps), (Shape { n: 4, step: 0 }, 2));
        let placement = Placement::new(shape, 3).unwrap();
        for home in 0..4 {
            assert_eq!([0, 1, 2].map(|replica| placement.server(home, replica)), [0, 1, 2].map(|r| (home + r) % 4));
        }
    }

    #[test]
    fn no_placement_of_more_copies_than_servers() {
        assert_eq!(Placement::new(Shape { n: 2, step: 0 }, 3), None);
        assert_eq!(Placement::new(Shape { n: 3, step: 3 }, 3), None);
        assert_eq!(Placement::new(Shape { n: 1, step: 1 }, 1), None);
        for (n, step) in [(u32::MAX, 1), (0, 0), (257, 0), (256, 1), (9, u32::MAX)] {
            assert_eq!(Placement::new(Shape { n, step }, 5), None);
        }
        assert!(Placement::new(Shape { n: 1, step: 0 }, 1).is_some());
    }
}
