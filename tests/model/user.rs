//! One user of the memory: random requests of every kind, and the vector that says what should come.

use mcomp_client::{AtomicOp, BatchOutcome, Cluster as Client, Error};

use super::BLOCK;
use super::rules::{OPS, exchange, exchange_16, fetch, wide_of, word_of};

/// A range that is about to be asked for. It may lie outside of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) addr: u64,
    pub(super) len: u64,
}

/// One user of the memory, and what it should find there.
///
/// - `model` is as long as the space. With `fields`, only the bytes of those are the user's own, and
///   nothing else is asked for.
pub(super) struct User {
    pub(super) client: Client,
    pub(super) model: Vec<u8>,
    pub(super) fields: Option<Vec<Claim>>,
    pub(super) random: fastrand::Rng,
}

impl User {
    /// One request of any kind, compared with the model.
    pub(super) fn step(&mut self) {
        match self.random.u32(..12) {
            0 | 1 => self.read(),
            2 | 3 => self.write(),
            4 => self.fill(),
            5 => self.copy(),
            6 => self.compare(),
            7 => self.checksum(),
            8 => self.atomic(),
            9 => self.cas16(),
            10 if self.random.bool() => self.read_vectored(),
            10 => self.write_vectored(),
            _ => self.batch(),
        }
    }

    fn read(&mut self) {
        let claim = self.claim();
        let mut buffer = vec![0x77; claim.len.min(self.size() + 1) as usize];
        let done = self.client.read_at(claim.addr, &mut buffer);
        self.verdict(claim, done.map(|()| buffer), |model| model.to_vec());
    }

    fn write(&mut self) {
        let claim = self.claim();
        let bytes = self.noise(claim.len);
        let done = self.client.write_at(claim.addr, &bytes);
        self.verdict(claim, done, |model| model.copy_from_slice(&bytes));
    }

    fn fill(&mut self) {
        let (claim, byte) = (self.claim(), self.random.u8(..));
        let done = self.client.fill(claim.addr, claim.len, byte);
        self.verdict(claim, done, |model| model.fill(byte));
    }

    fn copy(&mut self) {
        let (mut from, mut to) = (self.claim(), self.claim());
        from.len = from.len.min(to.len);
        to.len = from.len;
        let done = self.client.copy(from.addr, to.addr, to.len);
        if !self.holds(from) || !self.holds(to) {
            assert_eq!(done.expect_err("a range is outside").kind(), "out_of_range", "copy {from:?} {to:?}");
            return;
        }
        done.unwrap_or_else(|error| panic!("copy {from:?} {to:?}: {error}"));
        self.model.copy_within(from.addr as usize..(from.addr + from.len) as usize, to.addr as usize);
    }

    /// Compares with what is there, or with something that differs in up to two bytes.
    fn compare(&mut self) {
        let claim = self.claim();
        let mut bytes = if self.holds(claim) { self.own(claim).to_vec() } else { self.noise(claim.len) };
        let mut differs = None;
        for _ in 0..self.random.u32(..3) {
            if let Some(index) = bytes.len().checked_sub(1).map(|last| self.random.usize(..=last)) {
                bytes[index] = bytes[index].wrapping_add(1);
                let addr = claim.addr.saturating_add(index as u64);
                differs = Some(differs.map_or(addr, |first: u64| first.min(addr)));
            }
        }
        let done = self.client.compare(claim.addr, &bytes);
        self.verdict(claim, done, |_| differs);
    }

    fn checksum(&mut self) {
        let claim = self.claim();
        let done = self.client.checksum(claim.addr, claim.len);
        self.verdict(claim, done, |model| crc32fast::hash(model));
    }

    fn atomic(&mut self) {
        let claim = Claim { len: 8, ..self.word(8) };
        let (op, operand, expected) = self.operation(claim);
        let Claim { addr, .. } = claim;
        if op == AtomicOp::CompareExchange {
            let done = self.client.compare_exchange(addr, expected, operand);
            self.verdict_of_word(claim, done, |model| exchange(model, expected, operand));
            return;
        }
        let done = match op {
            AtomicOp::Add => self.client.fetch_add(addr, operand),
            AtomicOp::And => self.client.fetch_and(addr, operand),
            AtomicOp::Or => self.client.fetch_or(addr, operand),
            AtomicOp::Xor => self.client.fetch_xor(addr, operand),
            AtomicOp::Min => self.client.fetch_min(addr, operand),
            AtomicOp::Max => self.client.fetch_max(addr, operand),
            _ => self.client.swap(addr, operand),
        };
        self.verdict_of_word(claim, done, |model| fetch(model, op, operand));
    }

    fn cas16(&mut self) {
        let claim = Claim { len: 16, ..self.word(16) };
        let (expected, new) = self.wide(claim);
        let done = self.client.compare_exchange_16(claim.addr, expected, new);
        self.verdict_of_word(claim, done, |model| exchange_16(model, expected, new));
    }

    fn read_vectored(&mut self) {
        let claims = self.claims();
        let mut buffers: Vec<Vec<u8>> = claims.iter().map(|claim| vec![0x77; claim.len as usize]).collect();
        let mut ranges: Vec<(u64, &mut [u8])> =
            claims.iter().zip(&mut buffers).map(|(claim, buffer)| (claim.addr, &mut buffer[..])).collect();
        let done = self.client.read_vectored(&mut ranges);
        if self.all_held(&claims, done) {
            for (claim, buffer) in claims.iter().zip(buffers) {
                assert!(self.own(*claim) == buffer, "read_vectored {claim:?} of {claims:?}");
            }
        }
    }

    /// Ranges that overlap are written in the order given.
    fn write_vectored(&mut self) {
        let claims = self.claims();
        let parts: Vec<Vec<u8>> = claims.iter().map(|claim| self.noise(claim.len)).collect();
        let ranges: Vec<(u64, &[u8])> =
            claims.iter().zip(&parts).map(|(claim, bytes)| (claim.addr, bytes.as_slice())).collect();
        let done = self.client.write_vectored(&ranges);
        if self.all_held(&claims, done) {
            for (claim, bytes) in claims.into_iter().zip(&parts) {
                self.own_mut(claim).copy_from_slice(bytes);
            }
        }
    }

    /// Items of every kind; each one that is wrong is refused alone.
    fn batch(&mut self) {
        let count = self.random.usize(..12);
        let items: Vec<Item> = (0..count).map(|_| self.item()).collect();
        let mut batch = self.client.batch();
        for item in &items {
            match item {
                Item::Read(claim) => batch.read(claim.addr, claim.len),
                Item::Write(claim, bytes) => batch.write(claim.addr, bytes.as_slice()),
                Item::Fill(claim, byte) => batch.fill(claim.addr, claim.len, *byte),
                Item::Atomic(claim, AtomicOp::CompareExchange, new, expected) => {
                    batch.compare_exchange(claim.addr, *expected, *new)
                }
                Item::Atomic(claim, op, operand, _) => batch.atomic(claim.addr, *op, *operand),
                Item::Cas16(claim, expected, new) => batch.compare_exchange_16(claim.addr, *expected, *new),
            };
        }
        let outcomes = batch.run();
        assert_eq!(outcomes.len(), items.len());
        items.into_iter().zip(outcomes).for_each(|(item, outcome)| self.check_item(item, outcome));
    }

    fn item(&mut self) -> Item {
        let claim = self.claim();
        match self.random.u32(..5) {
            0 => Item::Read(claim),
            1 => Item::Write(claim, self.noise(claim.len)),
            2 => Item::Fill(claim, self.random.u8(..)),
            3 => {
                let word = Claim { len: 8, ..self.word(8) };
                let (op, operand, expected) = self.operation(word);
                Item::Atomic(word, op, operand, expected)
            }
            _ => {
                let word = Claim { len: 16, ..self.word(16) };
                let (expected, new) = self.wide(word);
                Item::Cas16(word, expected, new)
            }
        }
    }

    fn check_item(&mut self, item: Item, outcome: Result<BatchOutcome, Error>) {
        match item {
            Item::Read(claim) => self.verdict(claim, outcome, |model| BatchOutcome::Bytes(model.to_vec())),
            Item::Write(claim, bytes) => self.verdict(claim, outcome, |model| {
                model.copy_from_slice(&bytes);
                BatchOutcome::Done
            }),
            Item::Fill(claim, byte) => self.verdict(claim, outcome, |model| {
                model.fill(byte);
                BatchOutcome::Done
            }),
            Item::Atomic(claim, AtomicOp::CompareExchange, new, expected) => {
                self.verdict_of_word(claim, outcome, |model| BatchOutcome::Exchanged(exchange(model, expected, new)));
            }
            Item::Atomic(claim, op, operand, _) => {
                self.verdict_of_word(claim, outcome, |model| BatchOutcome::Previous(fetch(model, op, operand)));
            }
            Item::Cas16(claim, expected, new) => {
                self.verdict_of_word(claim, outcome, |model| {
                    BatchOutcome::Exchanged16(exchange_16(model, expected, new))
                });
            }
        }
    }

    /// The answer is what the model says, and outside the space it is a refusal.
    fn verdict<T: PartialEq + std::fmt::Debug>(
        &mut self,
        claim: Claim,
        found: Result<T, Error>,
        of_model: impl FnOnce(&mut [u8]) -> T,
    ) {
        if !self.holds(claim) {
            assert_eq!(found.expect_err("it is outside").kind(), "out_of_range", "{claim:?}");
            return;
        }
        let found = found.unwrap_or_else(|error| panic!("{claim:?}: {error}"));
        let wanted = of_model(self.own_mut(claim));
        assert!(found == wanted, "{claim:?}: found {found:?} and not {wanted:?}");
    }

    /// The same for a word, which must be aligned too.
    fn verdict_of_word<T: PartialEq + std::fmt::Debug>(
        &mut self,
        claim: Claim,
        found: Result<T, Error>,
        of_model: impl FnOnce(&mut [u8]) -> T,
    ) {
        if self.holds(claim) && !claim.addr.is_multiple_of(claim.len) {
            assert_eq!(found.expect_err("it is not aligned").kind(), "unaligned", "{claim:?}");
            return;
        }
        self.verdict(claim, found, of_model);
    }

    /// Whether all ranges of one call are inside; the call is refused whole otherwise.
    fn all_held(&self, claims: &[Claim], done: Result<(), Error>) -> bool {
        let is_inside = claims.iter().all(|&claim| self.holds(claim));
        match done {
            Ok(()) => assert!(is_inside, "{claims:?} went through"),
            Err(error) => assert!(!is_inside && error.kind() == "out_of_range", "{claims:?}: {error}"),
        }
        is_inside
    }

    fn claims(&mut self) -> Vec<Claim> {
        (0..self.random.usize(..6)).map(|_| self.claim()).collect()
    }

    /// A range: in one of the fields, or anywhere, with a liking for boundaries and the end.
    fn claim(&mut self) -> Claim {
        if let Some(fields) = &self.fields {
            let field = fields[self.random.usize(..fields.len())];
            let skip = self.random.u64(..=field.len);
            return Claim { addr: field.addr + skip, len: self.random.u64(..=field.len - skip) };
        }
        let size = self.size();
        let near = |random: &mut fastrand::Rng, at: u64| at.saturating_add(random.u64(..20)).saturating_sub(10);
        let addr = match self.random.u32(..20) {
            0..8 => {
                let block = self.random.u64(..=size / BLOCK);
                near(&mut self.random, block * BLOCK)
            }
            8..19 => self.random.u64(..size),
            _ => near(&mut self.random, u64::MAX),
        };
        let left = size.saturating_sub(addr);
        let len = match self.random.u32(..20) {
            0..10 => self.random.u64(..40),
            10..19 => self.random.u64(..=left.min(size)),
            _ => near(&mut self.random, left),
        };
        Claim { addr, len: if addr > size { len.min(100) } else { len } }
    }

    /// A place for an atomic: aligned most of the time, and always inside a field if there are any.
    fn word(&mut self, align: u64) -> Claim {
        let claim = self.claim();
        let aligned = Claim { addr: claim.addr & !(align - 1), len: align };
        let Some(fields) = &self.fields else {
            return if self.random.u32(..8) == 0 { Claim { len: align, ..claim } } else { aligned };
        };
        let words = fields.iter().flat_map(|field| {
            let first = field.addr.next_multiple_of(align);
            (first..(field.addr + field.len + 1).saturating_sub(align)).step_by(align as usize)
        });
        let words: Vec<u64> = words.collect();
        Claim { addr: words[self.random.usize(..words.len())], len: align }
    }

    /// An operation that has a fair chance to matter.
    fn operation(&mut self, claim: Claim) -> (AtomicOp, u64, u64) {
        let there = self.holds(claim).then(|| word_of(self.own(claim)));
        let expected = there.filter(|_| self.random.u32(..3) > 0).unwrap_or_else(|| self.random.u64(..));
        (OPS[self.random.usize(..OPS.len())], self.random.u64(..), expected)
    }

    fn wide(&mut self, claim: Claim) -> (u128, u128) {
        let there = self.holds(claim).then(|| wide_of(self.own(claim)));
        let expected = there.filter(|_| self.random.u32(..3) > 0).unwrap_or_else(|| self.random.u128(..));
        (expected, self.random.u128(..))
    }

    fn noise(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.random.u8(..)).collect()
    }

    fn size(&self) -> u64 {
        self.model.len() as u64
    }

    fn holds(&self, Claim { addr, len }: Claim) -> bool {
        addr.checked_add(len).is_some_and(|end| end <= self.size())
    }

    /// What the model holds there.
    pub(super) fn own(&self, Claim { addr, len }: Claim) -> &[u8] {
        &self.model[addr as usize..(addr + len) as usize]
    }

    fn own_mut(&mut self, Claim { addr, len }: Claim) -> &mut [u8] {
        &mut self.model[addr as usize..(addr + len) as usize]
    }
}

/// A request in a batch.
enum Item {
    Read(Claim),
    Write(Claim, Vec<u8>),
    Fill(Claim, u8),
    /// With operand and expected value.
    Atomic(Claim, AtomicOp, u64, u64),
    /// With expected and new value.
    Cas16(Claim, u128, u128),
}
