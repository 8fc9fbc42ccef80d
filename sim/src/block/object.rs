//! What the block holds: four fields, and what can be done to them.

use mcomp_quorum::Object;

/// How many fields there are.
pub(super) const FIELDS: usize = 4;

/// The contents of the block.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Fields(pub(super) [u32; FIELDS]);

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wish {
    Read,
    /// A field becomes this.
    Patch(usize, u32),
    /// A field grows by one.
    Add(usize),
    /// A field becomes the second, if it is the first.
    Swap(usize, u32, u32),
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Told {
    Holds(Fields),
    Done,
    /// What the field held before.
    Was(u32),
}

impl Object for Fields {
    type Op = Wish;
    type Answer = Told;

    fn apply(&mut self, wish: &Wish) -> Told {
        match *wish {
            Wish::Read => Told::Holds(self.clone()),
            Wish::Patch(field, value) => {
                self.0[field] = value;
                Told::Done
            }
            Wish::Add(field) => {
                self.0[field] += 1;
                Told::Was(self.0[field] - 1)
            }
            Wish::Swap(field, old, new) => {
                let was = self.0[field];
                if was == old {
                    self.0[field] = new;
                }
                Told::Was(was)
            }
        }
    }
}
