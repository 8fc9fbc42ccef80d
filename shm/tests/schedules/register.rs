//! Stands in for `src/register.rs`: the blocks of the model are not replicated.

use crate::layout::REGISTER_BYTES;
use crate::map::Map;

pub(crate) fn store(_map: &Map, block: u64, _register: &[u8; REGISTER_BYTES]) {
    unreachable!("block {block} is not replicated and has no register")
}
