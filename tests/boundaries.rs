//! Ranges at and across the boundaries between servers, by the library and by the command.
//!
//! Three servers of four blocks each, beside a plain vector. After every step the whole memory is
//! compared with it, so that a byte that lands in the wrong place is seen wherever it lands, and a
//! request that is refused is seen to have changed nothing.

use std::fs;
use std::process::Output;

use mcomp_client::{Cluster as Client, Error};

use crate::harness::{Cluster, Setup, seed};

const N: u64 = 3;
const K: u64 = 16 << 10;
const SIZE: u64 = N * K;

/// Both sides of every boundary, and the boundary itself.
const EDGES: [u64; 9] = [0, K - 1, K, K + 1, 2 * K - 1, 2 * K, 2 * K + 1, SIZE - 1, SIZE];

/// A cluster with random contents, and what should be in it.
struct Memory {
    cluster: Cluster,
    client: Client,
    model: Vec<u8>,
    random: fastrand::Rng,
}

impl Memory {
    fn new() -> Memory {
        let cluster = Setup::new(N as u32, "16KiB").servers();
        let client = cluster.client();
        let mut memory = Memory { cluster, client, model: Vec::new(), random: fastrand::Rng::with_seed(seed()) };
        memory.model = memory.noise(SIZE);
        memory.client.write_at(0, &memory.model).expect("the whole memory is written");
        memory
    }

    fn noise(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.random.u8(..)).collect()
    }

    fn expect(&mut self, addr: u64, bytes: &[u8]) {
        self.model[addr as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn at(&self, addr: u64, len: u64) -> &[u8] {
        &self.model[addr as usize..(addr + len) as usize]
    }

    /// The memory is what it should be, all of it.
    fn check(&self, after: &str) {
        let found = self.client.read_vec(0, SIZE).expect("the whole memory is read");
        let differs = found.iter().zip(&self.model).position(|(found, wanted)| found != wanted);
        assert_eq!(differs, None, "first wrong address after {after}");
    }

    /// A file of the scratch folder.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.cluster.dir.path().join(name);
        fs::write(&path, bytes).expect("a scratch file is written");
        path.to_str().expect("a plain path").to_owned()
    }

    /// Runs the command with decimal numbers among its arguments.
    fn run(&self, line: &str) -> Output {
        self.cluster.run(&line.split_whitespace().collect::<Vec<_>>())
    }
}

/// Every range between two edges.
fn ranges() -> impl Iterator<Item = (u64, u64)> {
    let from = |(i, &start): (usize, &u64)| EDGES[i..].iter().map(move |end| (start, end - start));
    EDGES.iter().enumerate().flat_map(from)
}

/// Every range of one or two bytes at an edge, and some that span servers: few enough for a process
/// each.
fn short_list() -> Vec<(u64, u64)> {
    let tiny = EDGES.iter().flat_map(|&edge| [(edge, 1), (edge, 2)]);
    let wide = [(0, SIZE), (K - 1, K + 2), (1, SIZE - 2), (K, K), (2 * K - 3, 5)];
    tiny.chain(wide).filter(|(addr, len)| addr + len <= SIZE).collect()
}

#[test]
fn the_library_reads_and_writes_every_range_between_edges() {
    let mut memory = Memory::new();
    for (addr, len) in ranges() {
        let bytes = memory.noise(len);
        memory.client.write_at(addr, &bytes).expect("a range inside is written");
        memory.expect(addr, &bytes);
        assert_eq!(memory.client.read_vec(addr, len).expect("a range inside is read"), bytes, "{addr}+{len}");
        memory.check(&format!("write {addr}+{len}"));
    }
}

#[test]
fn the_command_reads_and_writes_across_boundaries() {
    let mut memory = Memory::new();
    for (addr, len) in short_list() {
        let bytes = memory.noise(len);
        let (file, out) = (memory.file("in", &bytes), memory.file("out", b"old"));
        memory.cluster.ok(&["write", &addr.to_string(), "--file", &file]);
        memory.expect(addr, &bytes);
        memory.check(&format!("mcomp write {addr} of {len} bytes"));
        let (addr, len) = (addr.to_string(), len.to_string());
        assert_eq!(memory.cluster.ok(&["read", &addr, &len]), bytes, "mcomp read {addr} {len}");
        memory.cluster.ok(&["read", &addr, &len, "-o", &out]);
        assert_eq!(fs::read(&out).expect("the output file"), bytes, "mcomp read {addr} {len} -o");
        memory.cluster.ok(&["compare", &addr, &file]);
    }
}

/// What the library says to every kind of request for `addr..addr + len`.
fn tries(client: &Client, addr: u64, len: u64) -> Vec<(&'static str, Result<(), Error>)> {
    let bytes = vec![0xEE; len.min(2 * SIZE) as usize];
    let mut buffer = bytes.clone();
    let mut tries = vec![
        ("fill", client.fill(addr, len, 0xEE)),
        ("copy from", client.copy(addr, 0, len)),
        ("copy to", client.copy(0, addr, len)),
        ("checksum", client.checksum(addr, len).map(drop)),
        ("range", client.range(addr, len).map(drop)),
        ("chunks", client.chunks(addr, len, 4096).map(drop)),
        ("read_vec", client.read_vec(addr, len).map(drop)),
        ("copy_from", client.copy_from(std::io::repeat(0xEE), addr, len, |_| ()).map(drop)),
        ("copy_to", client.copy_to(addr, len, std::io::sink(), |_| ()).map(drop)),
    ];
    if bytes.len() as u64 == len {
        let good = [0xEE; 8];
        let of_batch = |mut outcomes: Vec<Result<_, Error>>| outcomes.remove(0).map(drop);
        tries.extend([
            ("write", client.write_at(addr, &bytes)),
            ("read", client.read_at(addr, &mut buffer)),
            ("compare", client.compare(addr, &bytes).map(drop)),
            ("write_vectored", client.write_vectored(&[(0, &good), (addr, &bytes)])),
            ("read_vectored", client.read_vectored(&mut [(0, &mut [0; 8]), (addr, &mut buffer)])),
        ]);
        let mut batch = client.batch();
        batch.write(addr, bytes.as_slice());
        tries.push(("batch", of_batch(batch.run())));
    }
    tries
}

#[test]
fn one_byte_past_the_end_is_refused_whole() {
    let memory = Memory::new();
    let mut past: Vec<(u64, u64)> = EDGES.iter().map(|&addr| (addr, SIZE - addr + 1)).collect();
    past.extend([(SIZE + 1, 0), (SIZE, 1), (u64::MAX, 0), (u64::MAX, 1), (u64::MAX, u64::MAX), (1, u64::MAX)]);
    past.extend([(u64::MAX - 7, 8), (SIZE - 1, u64::MAX - SIZE), (0, u64::MAX)]);
    for (addr, len) in past {
        for (what, result) in tries(&memory.client, addr, len) {
            let error = result.expect_err(what);
            assert_eq!((error.kind(), error.exit_code()), ("out_of_range", 64), "{what} {addr}+{len}: {error}");
            let text = error.to_string();
            // The error of a copy names the first of its two ranges that is outside.
            let names = |addr: u64| text.contains(&format!("address {addr} + {len} bytes"));
            assert!(names(addr) || what.starts_with("copy ") && names(0), "{what} {addr}+{len}: {text:?}");
            assert!(text.contains(&SIZE.to_string()), "{what} {addr}+{len}: {text:?}");
        }
        memory.check(&format!("refusals of {addr}+{len}"));
    }
}

#[test]
fn the_command_refuses_what_is_past_the_end() {
    let memory = Memory::new();
    let (last, max) = (SIZE - 1, u64::MAX);
    let (two, whole) = (memory.file("two", &[0xEE; 2]), memory.file("whole", &vec![0xEE; SIZE as usize + 1]));
    let kept = memory.file("kept", b"kept");
    let lines = [
        (last, format!("read {last} 2")),
        (last, format!("read {last} 2 -o {kept}")),
        (0, format!("read 0 {}", SIZE + 1)),
        (max, format!("read {max} 1")),
        (max, format!("read {max} {max}")),
        (last, format!("write {last} ab")),
        (last, format!("write {last} --hex eeee")),
        (last, format!("write {last} --file {two}")),
        (0, format!("write 0 --file {whole}")),
        (max, format!("write {max} --file {two}")),
        (K, format!("fill {K} {} 0xee", 2 * K + 1)),
        (max, format!("fill {max} 1 0xee")),
        (last, format!("copy 0 {last} 2")),
        (last, format!("copy {last} 0 2")),
        (max, format!("copy 0 {max} {max}")),
        (last, format!("compare {last} {two}")),
        (SIZE, format!("cas {SIZE} 0 1")),
        (SIZE - 4, format!("add {} 1", SIZE - 4)),
        (max, format!("swap {max} 1")),
    ];
    for (addr, line) in lines {
        let output = memory.run(&line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "mcomp {line}: {output:?}");
        assert!(output.stdout.is_empty(), "mcomp {line}: {output:?}");
        for part in [addr.to_string(), SIZE.to_string()] {
            assert!(said.contains(&part), "mcomp {line}: {part:?} is not in {said:?}");
        }
        memory.check(&format!("mcomp {line}"));
    }
    assert_eq!(fs::read(&kept).expect("it is still there"), b"kept", "a refused read keeps the file of -o");
}

#[test]
fn a_stream_that_is_too_long_is_refused_whole() {
    let memory = Memory::new();
    for (addr, len) in [(0, SIZE + 1), (SIZE - 1, 2), (SIZE, 1), (SIZE + 1, 1)] {
        let bytes = fs::File::open(memory.file("long", &vec![0xEE; len as usize])).expect("a scratch file");
        let mut command = memory.cluster.command(&["write", &addr.to_string(), "-"]);
        let output = command.stdin(bytes).output().expect("mcomp runs");
        assert_eq!(output.status.code(), Some(64), "{len} bytes at {addr}: {output:?}");
        memory.check(&format!("a stream of {len} bytes at {addr}"));
    }
}

#[test]
fn a_length_of_zero_is_fine_everywhere_in_the_space() {
    let memory = Memory::new();
    for addr in EDGES {
        for (what, result) in tries(&memory.client, addr, 0) {
            result.unwrap_or_else(|error| panic!("{what} of nothing at {addr}: {error}"));
        }
        assert_eq!(memory.client.compare(addr, &[]).expect("nothing is compared"), None);
        assert_eq!(memory.client.checksum(addr, 0).expect("nothing is summed"), 0);
    }
    // One of the tries writes eight good bytes beside its nothing.
    memory.client.write_at(0, memory.at(0, 8)).expect("they are put back");
    memory.check("nothing at all");
    let empty = memory.file("empty", b"");
    for addr in [0, K, SIZE] {
        for line in [format!("read {addr} 0"), format!("write {addr} --file {empty}"), format!("fill {addr} 0 1")] {
            let output = memory.run(&line);
            assert!(output.status.success() && output.stdout.is_empty(), "mcomp {line}: {output:?}");
        }
        let output = memory.run(&format!("copy {addr} {SIZE} 0"));
        assert!(output.status.success(), "{output:?}");
        let output = memory.run(&format!("compare {addr} {empty}"));
        assert!(output.status.success(), "{output:?}");
    }
    memory.check("nothing by the command");
}

#[test]
fn atomics_work_at_the_edges_and_only_when_aligned() {
    let mut memory = Memory::new();
    let word = |memory: &Memory, addr| u64::from_le_bytes(memory.at(addr, 8).try_into().expect("eight bytes"));
    for addr in [0, K - 8, K, 2 * K - 8, 2 * K, SIZE - 8] {
        let before = word(&memory, addr);
        assert_eq!(memory.client.fetch_add(addr, 1).expect("an aligned add"), before);
        memory.expect(addr, &before.wrapping_add(1).to_le_bytes());
        let printed = memory.cluster.ok(&["add", &addr.to_string(), "-1"]);
        assert_eq!(String::from_utf8_lossy(&printed).trim(), before.wrapping_add(1).to_string());
        memory.expect(addr, &before.to_le_bytes());
        memory.check(&format!("adds at {addr}"));
    }
    for edge in [0, K, 2 * K] {
        for addr in (edge + 1..edge + 8).chain(edge.saturating_sub(7)..edge) {
            let error = memory.client.fetch_add(addr, 1).expect_err("an unaligned add");
            assert_eq!((error.kind(), error.exit_code()), ("unaligned", 64), "{addr}: {error}");
            assert!(error.to_string().contains(&addr.to_string()), "{error}");
        }
        let error = memory.client.compare_exchange_16(edge + 8, 0, 1).expect_err("a half-aligned swap");
        assert_eq!(error.kind(), "unaligned", "{error}");
    }
    for line in [format!("add {} 1", K - 4), format!("cas {} 0 1", K + 1), format!("swap {} 9", 2 * K + 7)] {
        assert_eq!(memory.run(&line).status.code(), Some(64), "mcomp {line}");
    }
    memory.check("unaligned atomics");
}

#[test]
fn fills_copies_comparisons_and_checksums_cross_boundaries() {
    let mut memory = Memory::new();
    for (addr, len) in ranges() {
        let byte = memory.random.u8(..);
        memory.client.fill(addr, len, byte).expect("a fill");
        memory.expect(addr, &vec![byte; len as usize]);
        memory.check(&format!("fill {addr}+{len}"));
        let noise = memory.noise(SIZE);
        memory.client.write_at(0, &noise).expect("new noise");
        memory.model = noise;
        let sum = memory.client.checksum(addr, len).expect("a checksum");
        assert_eq!(sum, crc32fast::hash(memory.at(addr, len)), "{addr}+{len}");
        assert_eq!(memory.client.compare(addr, memory.at(addr, len)).expect("a comparison"), None);
        if len > 0 {
            let differs = memory.random.u64(addr..addr + len);
            let mut other = memory.at(addr, len).to_vec();
            other[(differs - addr) as usize] ^= 1;
            *other.last_mut().expect("not empty") ^= 2;
            assert_eq!(memory.client.compare(addr, &other).expect("a comparison"), Some(differs));
        }
    }
}

#[test]
fn overlapping_copies_move_like_memmove_in_both_directions() {
    let mut memory = Memory::new();
    // Distances within a block, over a block, over a server; forward and backward.
    for distance in [0, 1, 7, 4095, 4096, 4097, K - 1, K, K + 1, 2 * K - 1] {
        for (from, to) in [(0, distance), (distance, 0), (1, 1 + distance), (1 + distance, 1)] {
            let len = SIZE - from.max(to);
            memory.client.copy(from, to, len).expect("a copy inside the space");
            memory.model.copy_within(from as usize..(from + len) as usize, to as usize);
            memory.check(&format!("copy {from} {to} {len}"));
            let noise = memory.noise(SIZE);
            memory.client.write_at(0, &noise).expect("new noise");
            memory.model = noise;
        }
    }
}

#[test]
fn the_command_fills_copies_and_compares_across_boundaries() {
    let mut memory = Memory::new();
    let (addr, len) = (K - 5, K + 9);
    memory.cluster.ok(&["fill", &addr.to_string(), &len.to_string(), "0xA5"]);
    memory.expect(addr, &vec![0xA5; len as usize]);
    memory.check("mcomp fill");
    for (from, to, len) in [(1, K + 1, 2 * K - 1), (K + 1, 1, 2 * K - 1), (3, 0, SIZE - 3), (0, 3, SIZE - 3)] {
        memory.cluster.ok(&["copy", &from.to_string(), &to.to_string(), &len.to_string()]);
        memory.model.copy_within(from as usize..(from + len) as usize, to as usize);
        memory.check(&format!("mcomp copy {from} {to} {len}"));
    }
    let mut other = memory.at(3, SIZE - 3).to_vec();
    other[(2 * K - 3) as usize] ^= 1;
    let file = memory.file("other", &other);
    let output = memory.cluster.exits(1, &["compare", "3", &file]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), (2 * K).to_string(), "the first address that differs");
}
