//! Signed files: their bytes, and a forger who mends every checksum and hash of what was changed, without the key.

use mcomp_net::auth::Keyring;

use super::fixture::{cut, full, incremental, noise};
use super::*;

const HEAD: usize = 512 + 2 * 32 + 4;
const ENTRY: usize = 64;
const TAIL: usize = 112;

const TODAY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const TOMORROW: &str = "2222222222222222222222222222222222222222222222222222222222222222";

fn keys(nodes: &[&str]) -> FileKeys {
    let lines: String = nodes.iter().map(|key| format!("node {key}\n")).collect();
    FileKeys::of(&Keyring::parse(&format!("client {}\n{lines}", "f".repeat(64))).unwrap())
}

/// Writes signed chunks that are given as address and memory.
fn signed(dir: &Dir, meta: &Meta, keys: &FileKeys, chunks: &[(u64, &[u8])]) -> Finished {
    let mut writer = Writer::create_signed(dir, meta.clone(), keys).unwrap();
    for (address, memory) in chunks {
        writer.append(&EncodedChunk::encode(meta.cut, *address, memory, 1).unwrap()).unwrap();
    }
    writer.finish().unwrap()
}

/// Every codec once, signed with the key of today.
fn small(dir: &Dir) -> Finished {
    let (text, random) = (vec![b'm'; 8192], noise(1, 4096));
    signed(dir, &full(2, 8), &keys(&[TODAY]), &[(40960, &text), (0, &random), (16384, &[0; 4096])])
}

/// What a reader with the key makes of a file: its MAC, when every byte of it was verified.
fn judged(path: &std::path::Path) -> Result<Mac, FileError> {
    let snapshot = Snapshot::open(path)?;
    snapshot.verify(&mut |_, _| ())?;
    Ok(snapshot.mac(Some(&keys(&[TODAY]))))
}

fn u64_at(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Mends all that takes no key, by the document: CRCs, the hashes of the chunks, and the hash of all.
fn forge(file: &mut [u8]) {
    for (from, to) in [(0, 508), (512, HEAD - 4)] {
        let crc = crc32fast::hash(&file[from..to]);
        put(file, to, &crc.to_le_bytes());
    }
    let tail = file.len() - TAIL;
    let table = tail - 3 * ENTRY;
    for entry in (table..tail).step_by(ENTRY) {
        let stored = u64_at(file, entry + 8) >> 32;
        let (from, end) = (u64_at(file, entry + 16), u64_at(file, entry + 16).saturating_add(28 + stored));
        if from < HEAD as u64 || end > table as u64 {
            continue;
        }
        let (from, end) = (from as usize, end as usize);
        let covered = [&file[40..56], &file[entry..entry + 12], &file[entry + 24..entry + 25], &file[from + 28..end]];
        let crc = crc32fast::hash(&covered.concat()).to_le_bytes();
        put(file, entry + 28, &crc);
        put(file, from + 24, &crc);
        let digest = blake3::hash(&file[from..end]);
        put(file, entry + 32, digest.as_bytes());
    }
    let hash = blake3::hash(&[&file[..HEAD], &file[table..tail + 24]].concat());
    put(file, tail + 80, hash.as_bytes());
}

#[test]
fn no_byte_can_be_changed_without_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = small(&Dir::open(folder.path()).unwrap()).path;
    assert_eq!(judged(&path).unwrap(), Mac::Fits);
    let original = std::fs::read(&path).unwrap();
    let mut unmended = original.clone();
    forge(&mut unmended);
    assert_eq!(unmended, original, "the forger knows the format");
    let (mut wrong, mut unknown) = (0, 0);
    for at in 0..original.len() {
        for is_mended in [false, true] {
            let mut bytes = original.clone();
            bytes[at] ^= 0x01;
            if is_mended {
                forge(&mut bytes);
            }
            // What the forger mends back to what it was is not forged.
            if bytes == original {
                continue;
            }
            std::fs::write(&path, &bytes).unwrap();
            match judged(&path) {
                Err(FileError::Bad { .. }) => {}
                Ok(Mac::Wrong) => wrong += 1,
                Ok(Mac::UnknownKey) => unknown += 1,
                other => panic!("byte {at}, mended {is_mended}: {other:?}"),
            }
        }
    }
    assert!(wrong > 4096, "{wrong} forgeries had nothing against them but the MAC");
    assert_eq!(unknown, 16 + 16, "one for each byte of the name of the key, and of the cut that goes into it");
}

/// The MAC is checked before a chunk is read; a chunk that is exchanged afterwards has not the hash of the table.
#[test]
fn a_chunk_that_is_exchanged_behind_the_check_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = small(&Dir::open(folder.path()).unwrap()).path;
    let snapshot = Snapshot::open(&path).unwrap();
    assert_eq!(snapshot.mac(Some(&keys(&[TODAY]))), Mac::Fits);
    let i = snapshot.chunks().iter().position(|chunk| chunk.address == 0).unwrap();
    let entry = snapshot.chunks()[i];
    assert_eq!(entry.codec, Codec::Raw);
    let mut bytes = std::fs::read(&path).unwrap();
    let data = entry.offset as usize + 28..entry.offset as usize + 28 + 4096;
    // Other bytes of the same CRC: a CRC is linear, so the same difference of two equal ones changes nothing of it.
    let polynomial: [u8; 5] = [0x41, 0x06, 0x71, 0xdb, 0x01];
    bytes[data.start..data.start + 5].iter_mut().zip(polynomial).for_each(|(byte, bits)| *byte ^= bits);
    std::fs::write(&path, &bytes).unwrap();
    let error = snapshot.read_chunk(i, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("hash of the table"), "{error}");
}

#[test]
fn a_key_is_known_while_it_is_in_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let old = Snapshot::open(signed(&dir, &full(1, 8), &keys(&[TODAY]), &[]).path).unwrap();
    let new = Snapshot::open(signed(&dir, &full(2, 8), &keys(&[TOMORROW, TODAY]), &[]).path).unwrap();
    let plain = Snapshot::open(fixture::write_chunks(&dir, &full(3, 8), &[]).path).unwrap();
    let seen = |nodes: &[&str]| [&old, &new, &plain].map(|snapshot| snapshot.mac(Some(&keys(nodes))));
    assert_eq!(seen(&[TODAY]), [Mac::Fits, Mac::UnknownKey, Mac::None]);
    assert_eq!(seen(&[TOMORROW, TODAY]), [Mac::Fits, Mac::Fits, Mac::None]);
    assert_eq!(seen(&[TOMORROW]), [Mac::UnknownKey, Mac::Fits, Mac::None]);
    assert_eq!(seen(&[]), [Mac::UnknownKey, Mac::UnknownKey, Mac::None]);
    assert_eq!([&old, &new, &plain].map(|snapshot| snapshot.mac(None)), [Mac::NotChecked, Mac::NotChecked, Mac::None]);
    let unsigned = Writer::create_signed(&dir, full(4, 8), &keys(&[])).unwrap_err();
    assert!(unsigned.to_string().contains("no node key"), "{unsigned}");
}

/// Two files of one key cannot be told to be so by who does not know it, and another cluster has another key.
#[test]
fn the_name_of_a_key_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let ids = [1, 2].map(|number| {
        let path = signed(&dir, &full(number, 8), &keys(&[TODAY]), &[]).path;
        std::fs::read(path).unwrap()[153..169].to_vec()
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_chain_is_accepted_when_each_of_its_files_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let (parent, known) = (full(1, 8), keys(&[TODAY]));
    fixture::write_chunks(&dir, &parent, &[]);
    let chain = Chain::open(signed(&dir, &incremental(2, &parent), &known, &[]).path).unwrap();
    let refused = chain.authenticate(Some(&known), Unsigned::Refuse).unwrap_err();
    assert!(matches!(&refused, FileError::Unproved { path, .. } if path == chain.files()[1].path()), "{refused}");
    assert!(refused.to_string().contains("--unsigned"), "{refused}");
    assert_eq!(chain.authenticate(Some(&known), Unsigned::Accept).unwrap(), [Mac::Fits, Mac::None]);
    assert_eq!(chain.authenticate(None, Unsigned::Refuse).unwrap(), [Mac::NotChecked, Mac::None]);
}

/// Nobody needs a file whose MAC is wrong, so nobody can vouch for it.
#[test]
fn a_wrong_mac_is_always_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = small(&Dir::open(folder.path()).unwrap()).path;
    let mut bytes = std::fs::read(&path).unwrap();
    let mac = bytes.len() - 56 - 32;
    bytes[mac..mac + 32].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let chain = Chain::open(&path).unwrap();
    for unsigned in [Unsigned::Refuse, Unsigned::Accept] {
        let error = chain.authenticate(Some(&keys(&[TODAY])), unsigned).unwrap_err();
        assert!(matches!(&error, FileError::Bad { path: named, .. } if *named == path), "{error}");
    }
}

/// Stretches of a signed file with their offsets: where it differs from one of version 1.
const GOLDEN: &[(usize, &str)] = &[
    (0, "4d434f4d50534e5002000000000200000010000001000000"),
    (153, "7864945fab5b42a70085f8306f83791b"),
    (640, "ea6b08197f945f5f3f94ef452a526d55ba11e18f1336e809fbcadca6de9acfe5"),
    (696, "64a480886e274cb26a92eb77d276ab857844d7148a266f7ddbd68048586e260c"),
];

#[test]
fn the_bytes_of_version_2_do_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let meta = incremental(2, &full(1, 8));
    let path = signed(&dir, &meta, &keys(&[TODAY]), &[(4096, &[0; 8192])]).path;
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes.len(), 752 + 32);
    for (at, hex) in GOLDEN {
        let found: String = bytes[*at..*at + hex.len() / 2].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, *hex, "at {at}");
    }
    // The same by the document alone.
    let key = blake3::Hash::from_hex(TODAY).unwrap();
    let derived = |purpose: &str, context: &[u8]| {
        let length = (purpose.len() as u64).to_le_bytes();
        blake3::keyed_hash(key.as_bytes(), &[&length, purpose.as_bytes(), context].concat())
    };
    assert_eq!(bytes[153..169], derived("mcomp snapshot key id", cut(2).as_bytes()).as_bytes()[..16]);
    assert_eq!(bytes[640..672], *blake3::hash(&bytes[580..608]).as_bytes());
    let hash = blake3::hash(&[&bytes[..580], &bytes[608..672 + 24]].concat());
    assert_eq!(bytes[752..784], *hash.as_bytes());
    let mac_key = derived("mcomp snapshot file", b"demo");
    assert_eq!(bytes[696..728], *blake3::keyed_hash(mac_key.as_bytes(), hash.as_bytes()).as_bytes());
}
