//! The read-only side: snapshot processes and clients of the same machine.
//!
//! A `Reader` maps the segment without the right to write, and holds nothing that the server could wait for: kill
//! it or freeze it at any moment, and no writer notices. Whatever it reads, it validates afterwards; when it was
//! frozen while the memory moved on, it finds out and gives up. What a client reads is in `client_read`, and what the
//! copier of a cut reads in `cut_read`.
//!
//! Shadow pages are read with `pread` and not through the mapping. A reader that was frozen past the end of its
//! cut would otherwise touch a page that has been given back: that allocates it anew, or, on a full machine, is a
//! SIGBUS.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::ShmError;
use crate::image::Image;
use crate::layout::{self, BLOCK_BYTES, Header, State};
use crate::map::{Access, Map};
use crate::mutant::{self, Mutant};
use crate::object::{Object, Open};
use crate::segment::words_to_bytes;
use crate::span::Span;

/// A segment that another process serves, mapped read-only.
///
/// * Only relaxed loads are made in it, ordered by fences; read-only memory allows no others.
pub struct Reader {
    pub(crate) map: Map,
    object: Object,
    n: u32,
    id: u32,
    pub(crate) mutant: Mutant,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.object.path).finish_non_exhaustive()
    }
}

impl Reader {
    /// Maps the segment of a server of this machine.
    ///
    /// # Errors
    /// [`ShmError::Missing`], [`ShmError::Unfinished`] and [`ShmError::Retired`] pass with time; the others do not.
    pub fn open(cluster: &str, id: u32) -> Result<Reader, ShmError> {
        layout::check_cluster(cluster)?;
        let object = Object::open(cluster, id, Open::ReadOnly)?;
        let image = Image::of(&object)?;
        if image.is_unfinished() {
            return Err(ShmError::Unfinished { path: object.path });
        }
        image.verify_layout(&object.path)?;
        if !matches!(image.state(), State::Serving | State::Clean) {
            return Err(ShmError::Retired { path: object.path });
        }
        let regions = image.verify(&object.path, object.file_bytes()?, cluster, id)?;
        let map = Map::new(&object.file, regions, Access::ReadOnly).map_err(|source| ShmError::Io {
            action: "map",
            path: object.path.clone(),
            source,
        })?;
        Ok(Reader { map, object, n: image.n(), id: image.id(), mutant: mutant::active() })
    }

    pub(crate) fn header(&self) -> &Header {
        self.map.header()
    }

    /// The checked span of `len_bytes` from `offset`, or `None` when it leaves the k bytes.
    pub fn span(&self, offset: u64, len_bytes: u64) -> Option<Span> {
        Span::new(offset, len_bytes, self.k_bytes())
    }

    /// Bytes lent.
    pub fn k_bytes(&self) -> u64 {
        self.map.regions().k_bytes
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.map.regions().blocks()
    }

    /// Number of servers of the cluster.
    pub fn n(&self) -> u32 {
        self.n
    }

    /// Index of the server.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The segment's file.
    pub fn path(&self) -> &Path {
        &self.object.path
    }

    /// Random id given at creation: another id is other memory.
    pub fn segment_id(&self) -> [u8; 16] {
        words_to_bytes(&self.header().segment_id)
    }

    /// Number of the server's life on the segment; it grows with each take-over.
    pub fn incarnation(&self) -> u64 {
        self.header().incarnation.load(Relaxed)
    }

    /// The server's process id, 0 after it has stopped in good order.
    pub fn pid(&self) -> u32 {
        self.header().pid.load(Relaxed)
    }

    /// Reads a block's shadow page, not through the mapping.
    pub(crate) fn pread_shadow(&self, block: u64, bytes: &mut [u8; BLOCK_BYTES]) -> io::Result<()> {
        self.object.file.read_exact_at(bytes, self.map.shadow_offset(block))
    }
}
