//! The head of the file: the fixed header and the server section, as bytes.
//!
//! The header has a fixed size and its own CRC-32, so that a listing reads 512 bytes to know what a
//! file claims to be. The server section follows, N records and a CRC-32. Parsing checks the magic
//! and the version before the CRC (a file of another kind or age should be told so), then the CRC,
//! then every field; what has only one allowed value is compared with it.

use uuid::Uuid;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::BLOCK_BYTES;
use super::bytes::{
    FLAG_PAGES, FLAG_SIGNED, HEADER_BYTES, HeaderBytes, KEY_ID_BYTES, MAGIC, SERVER_BYTES, ServerBytes, VERSION,
    VERSION_PAGES, VERSION_SIGNED,
};
use super::error::{Fault, Part, ensure};
use super::mac::KeyId;
use super::meta::{MAX_CLUSTER_BYTES, MAX_SERVERS, Meta, Parent, ServerRecord};

const CRC_BYTES: usize = 4;

/// Bytes of the server section of a file with `n` servers.
pub(super) fn server_section_bytes(n: usize) -> usize {
    n * SERVER_BYTES + CRC_BYTES
}

/// What the header says.
#[derive(Debug)]
pub(super) struct Head {
    /// The facts. Their `servers` are as many as the header says, and still blank: the server section fills them.
    pub(super) meta: Meta,
    /// The key of a file that is signed.
    pub(super) key: Option<KeyId>,
    /// Bytes of the page table, if there is one.
    pub(super) pages_bytes: Option<u64>,
}

/// The header and the server section of a file about `meta`, whose facts were checked; signed with `key`, if at all, and
/// followed by a page table of so many bytes, if by any.
pub(super) fn encode_head(meta: &Meta, key: Option<KeyId>, pages_bytes: Option<u64>) -> Vec<u8> {
    let mut head = encode_header(meta, key, pages_bytes).as_bytes().to_vec();
    for server in &meta.servers {
        head.extend_from_slice(server_bytes(server).as_bytes());
    }
    let crc = crc32fast::hash(&head[HEADER_BYTES..]);
    head.extend_from_slice(&crc.to_le_bytes());
    head
}

/// What the header of a file says.
pub(super) fn parse_header(bytes: &[u8; HEADER_BYTES]) -> Result<Head, Fault> {
    let header = HeaderBytes::ref_from_bytes(bytes).expect("the sizes are equal");
    let flags = check_fixed_fields(header)?;
    let (is_signed, has_pages) = (flags & FLAG_SIGNED != 0, flags & FLAG_PAGES != 0);
    let crc = crc32fast::hash(&bytes[..HEADER_BYTES - CRC_BYTES]);
    ensure(header.crc.get() == crc, Part::Header, || {
        format!("its CRC is {:#010x}, its bytes have {crc:#010x}", header.crc.get())
    })?;
    ensure(header.reserved.iter().all(|b| *b == 0), Part::Header, || "reserved bytes are not zero".into())?;
    let n = header.n.get() as usize;
    ensure(n <= MAX_SERVERS, Part::Header, || format!("{n} servers, and {MAX_SERVERS} is the most"))?;
    let blank = ServerRecord { segment: Uuid::nil(), change_from_epoch: 0, cut_epoch: 0 };
    let meta = Meta {
        cluster: parse_cluster(header)?,
        k_bytes: header.k_bytes.get(),
        servers: vec![blank; n],
        cut: Uuid::from_bytes(header.cut),
        parent: parse_parent(header)?,
        cut_epoch: header.cut_epoch.get(),
        config_epoch: header.config_epoch.get(),
        created_us: header.created_us.get(),
    };
    meta.faults()?;
    ensure(is_signed || header.key == [0; KEY_ID_BYTES], Part::Header, || "it names a key and has no MAC".into())?;
    let pages_bytes = header.pages_bytes.get();
    ensure(has_pages || pages_bytes == 0, Part::Header, || "it has the length of a page table, and none".into())?;
    Ok(Head { meta, key: is_signed.then_some(header.key), pages_bytes: has_pages.then_some(pages_bytes) })
}

/// Fills the servers of `meta` from the server section, and checks the whole.
pub(super) fn parse_servers(meta: &mut Meta, section: &[u8]) -> Result<(), Fault> {
    assert_eq!(section.len(), server_section_bytes(meta.n()), "the section's length follows from the header");
    let (records, crc_bytes) = section.split_at(section.len() - CRC_BYTES);
    let crc = crc32fast::hash(records).to_le_bytes();
    ensure(crc_bytes == crc, Part::Servers, || format!("its CRC is {crc_bytes:02x?}, its bytes have {crc:02x?}"))?;
    for (server, record) in meta.servers.iter_mut().zip(records.chunks_exact(SERVER_BYTES)) {
        let record = ServerBytes::ref_from_bytes(record).expect("the sizes are equal");
        *server = ServerRecord {
            segment: Uuid::from_bytes(record.segment),
            change_from_epoch: record.change_from_epoch.get(),
            cut_epoch: record.cut_epoch.get(),
        };
    }
    meta.faults()
}

fn encode_header(meta: &Meta, key: Option<KeyId>, pages_bytes: Option<u64>) -> HeaderBytes {
    let mut header = HeaderBytes::new_zeroed();
    header.magic = MAGIC;
    // What needs nothing new is written so that an older mcomp reads it.
    header.version = U32::new(VERSION);
    if let Some(key) = key {
        header.version = U32::new(VERSION_SIGNED);
        header.flags = U32::new(FLAG_SIGNED);
        header.key = key;
    }
    if let Some(pages_bytes) = pages_bytes {
        header.version = U32::new(VERSION_PAGES);
        header.flags = U32::new(header.flags.get() | FLAG_PAGES);
        header.pages_bytes = U64::new(pages_bytes);
    }
    header.header_bytes = U32::new(HEADER_BYTES as u32);
    header.block_bytes = U32::new(BLOCK_BYTES as u32);
    header.k_bytes = U64::new(meta.k_bytes);
    header.n = U32::new(meta.n() as u32);
    header.server_bytes = U32::new(SERVER_BYTES as u32);
    header.cut = *meta.cut.as_bytes();
    if let Some(parent) = meta.parent {
        header.parent = *parent.cut.as_bytes();
        header.parent_epoch = U64::new(parent.epoch);
    }
    header.cut_epoch = U64::new(meta.cut_epoch);
    header.config_epoch = U64::new(meta.config_epoch);
    header.created_us = I64::new(meta.created_us);
    header.cluster_bytes = meta.cluster.len() as u8;
    header.cluster[..meta.cluster.len()].copy_from_slice(meta.cluster.as_bytes());
    header.crc = U32::new(crc32fast::hash(&header.as_bytes()[..HEADER_BYTES - CRC_BYTES]));
    header
}

fn server_bytes(server: &ServerRecord) -> ServerBytes {
    ServerBytes {
        segment: *server.segment.as_bytes(),
        change_from_epoch: U64::new(server.change_from_epoch),
        cut_epoch: U64::new(server.cut_epoch),
    }
}

/// Checks what comes before the CRC; the flags.
fn check_fixed_fields(header: &HeaderBytes) -> Result<u32, Fault> {
    ensure(header.magic == MAGIC, Part::Header, || {
        format!("it begins with \"{}\", not \"MCOMPSNP\"", header.magic.escape_ascii())
    })?;
    let version = header.version.get();
    ensure((VERSION..=VERSION_PAGES).contains(&version), Part::Header, || {
        format!(
            "it has version {version}, this mcomp reads versions {VERSION} to {VERSION_PAGES}; \
             read it with the mcomp that wrote it"
        )
    })?;
    let flags = header.flags.get();
    let allowed: &[u32] = match version {
        VERSION => &[0],
        VERSION_SIGNED => &[FLAG_SIGNED],
        _ => &[FLAG_PAGES, FLAG_PAGES | FLAG_SIGNED],
    };
    ensure(allowed.contains(&flags), Part::Header, || {
        format!("its flags are {flags:#x}, those of version {version} are one of {allowed:x?}")
    })?;
    let sizes = [header.header_bytes.get(), header.block_bytes.get(), header.server_bytes.get()];
    let expected = [HEADER_BYTES as u32, BLOCK_BYTES as u32, SERVER_BYTES as u32];
    ensure(sizes == expected, Part::Header, || {
        format!("header, block and server record have {sizes:?} bytes, version {version} has {expected:?}")
    })?;
    Ok(flags)
}

fn parse_cluster(header: &HeaderBytes) -> Result<String, Fault> {
    let len = usize::from(header.cluster_bytes);
    ensure(len <= MAX_CLUSTER_BYTES, Part::Header, || {
        format!("the cluster name has {len} bytes, {MAX_CLUSTER_BYTES} is the most")
    })?;
    let (name, rest) = header.cluster.split_at(len);
    ensure(rest.iter().all(|b| *b == 0), Part::Header, || "bytes follow the cluster name".into())?;
    // Faulty bytes survive as U+FFFD, which the check of the name refuses.
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn parse_parent(header: &HeaderBytes) -> Result<Option<Parent>, Fault> {
    let (cut, epoch) = (Uuid::from_bytes(header.parent), header.parent_epoch.get());
    if !cut.is_nil() {
        return Ok(Some(Parent { cut, epoch }));
    }
    ensure(epoch == 0, Part::Header, || format!("it has a parent's epoch, {epoch}, and no parent"))?;
    Ok(None)
}
