//! The header as a private copy, and its check before anything is mapped.
//!
//! A header is read with `pread` first: a file that is too short is then an error and not a SIGBUS, and nothing
//! that it claims is used before it has been compared with what the caller expects. There is no checksum,
//! because most fields change while the segment lives; each field that matters is compared instead.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::ShmError;
use crate::identity;
use crate::layout::{BLOCK_BYTES, Directory, HEADER_BYTES, Header, LAYOUT_VERSION, MAGIC, Regions, Spec, State};
use crate::object::Object;

/// The bytes of a header at one moment.
pub(crate) struct Image {
    bytes: [u8; HEADER_BYTES],
}

impl Image {
    /// Reads the header; what is missing in a short file reads as zeros, which is an unfinished header.
    pub(crate) fn read(file: &File) -> io::Result<Image> {
        let mut bytes = [0; HEADER_BYTES];
        let mut have = 0;
        while have < HEADER_BYTES {
            match file.read_at(&mut bytes[have..], have as u64) {
                Ok(0) => break,
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Image { bytes })
    }

    /// The same for a segment's file, with an error that names it.
    pub(crate) fn of(object: &Object) -> Result<Image, ShmError> {
        Image::read(&object.file).map_err(|source| ShmError::Io { action: "read", path: object.path.clone(), source })
    }

    /// Whether the creation was cut short, or is going on.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.u64_at(offset_of!(Header, magic)) == 0
    }

    /// The life cycle word.
    pub(crate) fn state(&self) -> State {
        State::from_word(self.u32_at(offset_of!(Header, state)))
    }

    /// The serving process, 0 when there is none.
    pub(crate) fn pid(&self) -> u32 {
        self.u32_at(offset_of!(Header, pid))
    }

    /// Index of the server.
    pub(crate) fn id(&self) -> u32 {
        self.u32_at(offset_of!(Header, id))
    }

    /// Number of servers.
    pub(crate) fn n(&self) -> u32 {
        self.u32_at(offset_of!(Header, n))
    }

    /// Bytes lent.
    pub(crate) fn k_bytes(&self) -> u64 {
        self.u64_at(offset_of!(Header, k_bytes))
    }

    /// Compares everything with what a server of this specification needs, and says where the regions lie. Of how many
    /// servers the cluster is may have changed.
    pub(crate) fn verify_for(&self, spec: &Spec, object: &Object) -> Result<Regions, ShmError> {
        let regions = self.verify(&object.path, object.file_bytes()?, &spec.cluster, spec.id)?;
        same(&object.path, "k", self.k_bytes(), spec.k_bytes)?;
        let kind = |registers| if registers { "replicated" } else { "not replicated" };
        same(&object.path, "blocks that are", kind(regions.has_registers()), kind(spec.registers))?;
        Ok(regions)
    }

    /// Compares everything that does not depend on the configuration: version, name, boot, sizes. What comes
    /// back is where the regions of this file certainly lie.
    pub(crate) fn verify(&self, path: &Path, file_bytes: u64, cluster: &str, id: u32) -> Result<Regions, ShmError> {
        self.verify_layout(path)?;
        let boot_id = identity::boot_id()?;
        same(path, "cluster name", self.cluster(), cluster.to_owned())?;
        same(path, "server id", self.id(), id)?;
        same(path, "block size", self.u32_at(offset_of!(Header, block_bytes)), BLOCK_BYTES as u32)?;
        let found = uuid::Uuid::from_bytes(self.bytes_at(offset_of!(Header, boot_id)));
        same(path, "boot id", found, uuid::Uuid::from_bytes(boot_id))?;
        self.verify_regions(path, file_bytes)
    }

    /// Compares the two fields that keep their place in every version: what this is, and in which version.
    pub(crate) fn verify_layout(&self, path: &Path) -> Result<(), ShmError> {
        same(path, "magic", self.u64_at(offset_of!(Header, magic)), MAGIC)?;
        match self.u32_at(offset_of!(Header, layout)) {
            LAYOUT_VERSION => Ok(()),
            found => Err(ShmError::Layout { path: path.into(), found, ours: LAYOUT_VERSION }),
        }
    }

    /// Compares the region directory with what k and the slots imply, and the file with its end.
    fn verify_regions(&self, path: &Path, file_bytes: u64) -> Result<Regions, ShmError> {
        let base = offset_of!(Header, directory);
        let slot_count = self.u32_at(base + offset_of!(Directory, slot_count));
        let slot_bytes = self.u32_at(base + offset_of!(Directory, slot_bytes));
        let Some(regions) = Regions::new(self.k_bytes(), slot_count, slot_bytes) else {
            let found = format!("k {}, {slot_count} slots of {slot_bytes}", self.k_bytes());
            return Err(mismatch(path, "sizes", found, "possible ones"));
        };
        let directory = [
            ("table offset", offset_of!(Directory, table_offset), regions.table_offset),
            ("table size", offset_of!(Directory, table_bytes), regions.table_bytes),
            ("data offset", offset_of!(Directory, data_offset), regions.data_offset),
            ("data size", offset_of!(Directory, data_bytes), regions.k_bytes),
            ("slots offset", offset_of!(Directory, slots_offset), regions.slots_offset),
            ("slots size", offset_of!(Directory, slots_bytes), regions.slots_bytes),
            ("shadow offset", offset_of!(Directory, shadow_offset), regions.shadow_offset),
            ("shadow size", offset_of!(Directory, shadow_bytes), regions.k_bytes),
            ("end of the file", offset_of!(Directory, file_bytes), regions.file_bytes),
        ];
        for (what, offset, expected) in directory {
            same(path, what, self.u64_at(base + offset), expected)?;
        }
        same(path, "file size", file_bytes, regions.file_bytes)?;
        Ok(regions)
    }

    fn cluster(&self) -> String {
        let at = offset_of!(Header, cluster);
        let len_bytes = usize::from(self.bytes[at]).min(63);
        String::from_utf8_lossy(&self.bytes[at + 1..][..len_bytes]).into_owned()
    }

    fn bytes_at<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.bytes[at + i])
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes_at(at))
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes_at(at))
    }
}

/// Refuses a field that differs, naming both values.
fn same<T: PartialEq + Display>(path: &Path, what: &'static str, found: T, expected: T) -> Result<(), ShmError> {
    if found == expected { Ok(()) } else { Err(mismatch(path, what, found, expected)) }
}

fn mismatch(path: &Path, what: &'static str, found: impl Display, expected: impl Display) -> ShmError {
    ShmError::Mismatch { path: path.into(), what, found: found.to_string(), expected: expected.to_string() }
}
