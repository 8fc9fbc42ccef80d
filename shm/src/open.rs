//! How a server comes by its segment: it makes a new one, or takes over what its predecessor left.
//!
//! Steps that can race with another server or with a purge end in "look again" and not in an error: whoever has
//! the lock of the file that the name leads to is the server, and all others find that out.

use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use rustix::io::Errno;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::error::ShmError;
use crate::identity;
use crate::image::Image;
use crate::layout::{BLOCK_BYTES, Header, LAYOUT_VERSION, MAGIC, Regions, Spec, State};
use crate::map::{Access, Map};
use crate::object::{Object, Open};
use crate::preflight;
use crate::segment::{Opened, Segment};
use crate::settle::{Settled, end_old_cut, settle_blocks};

/// How long a held lock is waited for. A server that was just killed holds its lock until the kernel has taken its
/// memory down, and a listing holds it for an instant.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);
/// Between two looks at a held lock; the kernel offers no wait with a limit.
const LOCK_LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The epoch in which a new segment starts. 0 is left to mean "never".
const FIRST_EPOCH: u64 = 1;

impl Segment {
    /// Opens the segment of this specification to serve it: takes over the one that exists, or creates it.
    ///
    /// Nothing is served or changed before every field of an existing segment has been checked. Each block that a
    /// killed server left half written is finished from its receive slot; if that is damaged, it is marked torn and
    /// refused until it is wholly written.
    ///
    /// # Errors
    /// [`ShmError::Spec`], [`ShmError::Full`], [`ShmError::Layout`] and [`ShmError::Mismatch`] are for the operator;
    /// [`ShmError::Busy`] names the server that has it, and says that this one could serve it;
    /// [`ShmError::Unfinished`] passes when the server that makes it is done.
    pub fn open(spec: &Spec) -> Result<(Segment, Opened), ShmError> {
        spec.check()?;
        let give_up = Instant::now() + LOCK_PATIENCE;
        loop {
            let attempt = match Object::open(&spec.cluster, spec.id, Open::ReadWrite) {
                Ok(object) => open_existing(spec, object, give_up)?,
                Err(ShmError::Missing { .. }) => create(spec)?,
                Err(error) => return Err(error),
            };
            if let Some(opened) = attempt {
                return Ok(opened);
            }
        }
    }
}

/// Takes an existing file over; `None` means look again.
fn open_existing(spec: &Spec, object: Object, give_up: Instant) -> Result<Option<(Segment, Opened)>, ShmError> {
    if !object.lock()? {
        if Instant::now() >= give_up {
            return Err(held(spec, object)?);
        }
        std::thread::sleep(LOCK_LOOK_AGAIN);
        return Ok(None);
    }
    if !object.is_current()? {
        return Ok(None);
    }
    let image = Image::of(&object)?;
    if is_leftover(&image, &object)? {
        // Its creation or its removal was cut short. We hold the lock, so nobody is at it.
        object.unlink()?;
        return Ok(None);
    }
    let regions = image.verify_for(spec, &object)?;
    take_over(object, regions).map(Some)
}

/// The error for a segment that another process serves. What could not be taken over from it anyway is told
/// first, so that nobody asks a server to stop for a successor that cannot be one.
fn held(spec: &Spec, object: Object) -> Result<ShmError, ShmError> {
    let image = Image::of(&object)?;
    if image.is_unfinished() {
        // Whoever makes it has not said who it is.
        return Ok(ShmError::Unfinished { path: object.path });
    }
    if !is_leftover(&image, &object)? {
        image.verify_for(spec, &object)?;
    }
    Ok(ShmError::Busy { pid: image.pid(), path: object.path })
}

/// Whether there is nothing in the file to serve. The state is believed of a known layout only: in another one the
/// word may mean something else.
fn is_leftover(image: &Image, object: &Object) -> Result<bool, ShmError> {
    if image.is_unfinished() {
        return Ok(true);
    }
    image.verify_layout(&object.path)?;
    Ok(image.state() == State::Retired)
}

/// Makes a segment that has passed all checks ours.
///
/// The data pages exist, so their first touch costs a soft fault of well under a microsecond; only the table,
/// which is walked anyway, is put into the page tables here. That keeps a restart short at any k.
fn take_over(object: Object, regions: Regions) -> Result<(Segment, Opened), ShmError> {
    let map = map_object(&object, regions)?;
    populate(&map, &object, 0, regions.data_offset)?;
    let header = map.header();
    let clean = header.state.load(Relaxed) == State::CLEAN;
    let epoch = end_old_cut(header);
    let settled = settle_blocks(&map, epoch);
    let incarnation = header.incarnation.load(Relaxed).saturating_add(1).max(identity::unix_ms());
    header.incarnation.store(incarnation, SeqCst);
    header.pid.store(std::process::id(), Relaxed);
    header.state.store(State::SERVING, SeqCst);
    let Settled { repaired, torn, newly_torn } = settled;
    let segment = Segment::new(map, object, repaired, torn);
    segment.punch_shadow()?;
    Ok((segment, Opened::TakenOver { clean, repaired, torn: newly_torn }))
}

/// Creates the segment; `None` means that another was faster: look again.
fn create(spec: &Spec) -> Result<Option<(Segment, Opened)>, ShmError> {
    let boot_id = identity::boot_id()?;
    let regions = spec.regions();
    preflight::check(regions.shadow_offset)?;
    let object = match Object::open(&spec.cluster, spec.id, Open::New) {
        Err(ShmError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => return Ok(None),
        opened => opened?,
    };
    if !object.lock()? || !object.is_current()? {
        return Ok(None);
    }
    match allocate_and_map(&object, regions) {
        Ok(map) => {
            write_header(map.header(), spec, &regions, boot_id);
            Ok(Some((Segment::new(map, object, 0, 0), Opened::Created)))
        }
        Err(error) => {
            // The error that says why is the one to report; a leftover is removed by the next server.
            let _ = object.unlink();
            Err(error)
        }
    }
}

/// Gives the file its size, everything but the shadow area its memory, and maps it.
fn allocate_and_map(object: &Object, regions: Regions) -> Result<Map, ShmError> {
    allocate(object, 0, regions.shadow_offset)?;
    ftruncate(&object.file, regions.file_bytes).map_err(|errno| ShmError::io("size", &object.path, errno))?;
    let map = map_object(object, regions)?;
    populate(&map, object, 0, regions.shadow_offset)?;
    Ok(map)
}

fn map_object(object: &Object, regions: Regions) -> Result<Map, ShmError> {
    Map::new(&object.file, regions, Access::ReadWrite).map_err(|source| ShmError::Io {
        action: "map",
        path: object.path.clone(),
        source,
    })
}

/// Reserves memory for a range of the file, all or nothing. `ftruncate` alone would succeed on a full /dev/shm,
/// and the process would die of SIGBUS at the first touch.
pub(crate) fn allocate(object: &Object, offset: u64, len_bytes: u64) -> Result<(), ShmError> {
    loop {
        match fallocate(&object.file, FallocateFlags::empty(), offset, len_bytes) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC | Errno::NOMEM) => return Err(preflight::full(len_bytes)),
            Err(errno) => return Err(ShmError::io("allocate", &object.path, errno)),
        }
    }
}

pub(crate) fn populate(map: &Map, object: &Object, offset: u64, len_bytes: u64) -> Result<(), ShmError> {
    map.populate(offset, len_bytes).map_err(|source| ShmError::Io {
        action: "populate",
        path: object.path.clone(),
        source,
    })
}

/// Fills the header of a new segment; the magic comes last, so that a header with it is complete.
fn write_header(header: &Header, spec: &Spec, regions: &Regions, boot_id: [u8; 16]) {
    let now_unix_ms = identity::unix_ms();
    header.layout.store(LAYOUT_VERSION, Relaxed);
    header.block_bytes.store(BLOCK_BYTES as u32, Relaxed);
    header.k_bytes.store(spec.k_bytes, Relaxed);
    header.id.store(spec.id, Relaxed);
    header.n.store(spec.n, Relaxed);
    store_bytes(&header.cluster, &cluster_field(&spec.cluster));
    store_bytes(&header.boot_id, &boot_id);
    store_bytes(&header.segment_id, uuid::Uuid::new_v4().as_bytes());
    header.incarnation.store(now_unix_ms.max(1), Relaxed);
    header.config_epoch.store(FIRST_EPOCH, Relaxed);
    header.pid.store(std::process::id(), Relaxed);
    header.created_unix_ms.store(now_unix_ms, Relaxed);
    header.cut.store(FIRST_EPOCH << 1, Relaxed);
    write_directory(header, regions);
    header.state.store(State::SERVING, Relaxed);
    header.magic.store(MAGIC, SeqCst);
}

fn write_directory(header: &Header, regions: &Regions) {
    let directory = &header.directory;
    directory.table_offset.store(regions.table_offset, Relaxed);
    directory.table_bytes.store(regions.table_bytes, Relaxed);
    directory.data_offset.store(regions.data_offset, Relaxed);
    directory.data_bytes.store(regions.k_bytes, Relaxed);
    directory.slots_offset.store(regions.slots_offset, Relaxed);
    directory.slots_bytes.store(regions.slots_bytes, Relaxed);
    directory.slot_count.store(regions.slot_count, Relaxed);
    directory.slot_bytes.store(regions.slot_bytes, Relaxed);
    directory.shadow_offset.store(regions.shadow_offset, Relaxed);
    directory.shadow_bytes.store(regions.k_bytes, Relaxed);
    directory.file_bytes.store(regions.file_bytes, Relaxed);
}

/// The name as the header holds it: its length in one byte, then its bytes, then zeros.
fn cluster_field(cluster: &str) -> [u8; 64] {
    let mut field = [0; 64];
    field[0] = cluster.len() as u8;
    field[1..=cluster.len()].copy_from_slice(cluster.as_bytes());
    field
}

/// Stores bytes into words; both have the same size.
fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (chunks, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty() && chunks.len() == words.len(), "{} bytes into {} words", bytes.len(), words.len());
    for (word, chunk) in words.iter().zip(chunks) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
}
