//! The seal behind a frame: what proves that it is the next one of its direction, as its sender made it.

/// Bytes of a seal. They follow the body, and the header's length does not count them.
pub const SEAL_LEN: usize = 32;

/// Seals the frames of one direction, in the order in which they are sent.
#[derive(Clone)]
pub struct Sealer(Line);

/// Checks the seals of the other direction, in the order in which they arrive.
#[derive(Clone)]
pub struct Opener(Line);

/// Bodies above this are hashed by themselves first: BLAKE3 hashes several chunks of 1024 bytes at once, and only if
/// nothing in front of the body shifts them.
const INLINE: usize = 1024;

/// - `number` is that of the next frame; none has been used twice with this key.
#[derive(Clone)]
struct Line {
    key: [u8; 32],
    /// For bodies above [`INLINE`].
    body_key: [u8; 32],
    number: u64,
}

impl Line {
    fn new(key: [u8; 32]) -> Line {
        let body_key = *blake3::keyed_hash(&key, b"mcomp long bodies").as_bytes();
        Line { key, body_key, number: 0 }
    }

    fn next(&mut self, header: &[u8], body: &[&[u8]]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&self.number.to_le_bytes()).update(header);
        // At a frame each nanosecond this is reached in five hundred years.
        self.number = self.number.checked_add(1).expect("a connection ends before its numbers do");
        if body.iter().map(|part| part.len()).sum::<usize>() <= INLINE {
            return of_parts(hasher, body);
        }
        let long = of_parts(blake3::Hasher::new_keyed(&self.body_key), body);
        of_parts(hasher, &[long.as_bytes()])
    }
}

fn of_parts(mut hasher: blake3::Hasher, parts: &[&[u8]]) -> blake3::Hash {
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

impl Sealer {
    pub(super) fn new(key: [u8; 32]) -> Sealer {
        Sealer(Line::new(key))
    }

    /// The seal of the next frame: its header's bytes, and its body in any number of parts.
    pub fn seal(&mut self, header: &[u8], body: &[&[u8]]) -> [u8; SEAL_LEN] {
        *self.0.next(header, body).as_bytes()
    }
}

impl Opener {
    pub(super) fn new(key: [u8; 32]) -> Opener {
        Opener(Line::new(key))
    }

    /// Whether this is the next frame of the peer. After a `false` nothing of the connection can be believed.
    pub fn open(&mut self, header: &[u8], body: &[u8], seal: &[u8; SEAL_LEN]) -> bool {
        let fits = self.0.next(header, &[body]) == blake3::Hash::from_bytes(*seal);
        fits || is_blind()
    }
}

/// Whether this process is to believe every seal: a known mistake, so that tests can prove that they would notice
/// it. Only their build knows it.
#[cfg(feature = "mutants")]
fn is_blind() -> bool {
    std::env::var("MCOMP_MUTANT").is_ok_and(|name| name == "no-seal")
}

/// Never: this build leaves the feature `mutants` out.
#[cfg(not(feature = "mutants"))]
const fn is_blind() -> bool {
    false
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "before frame {}", self.number)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sealer").field(&self.0).finish()
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Opener").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_frame_as_it_was_fits() {
        let pair = || (Sealer::new([7; 32]), Opener::new([7; 32]));
        let (mut sealer, mut opener) = pair();
        let seals = [sealer.seal(b"head", &[b"bo", b"dy"]), sealer.seal(b"head", &[b"body"])];
        assert_ne!(seals[0], seals[1], "the number counts");
        assert!(opener.open(b"head", b"body", &seals[0]) && opener.open(b"head", b"body", &seals[1]));
        assert!(!opener.open(b"head", b"body", &seals[1]), "repeated");
        assert!(!pair().1.open(b"head", b"body", &seals[1]), "one was left out");
        assert!(!pair().1.open(b"head", b"bodY", &seals[0]), "changed");
        assert!(!Opener::new([8; 32]).open(b"head", b"body", &seals[0]), "of another key");
        for bit in 0..SEAL_LEN * 8 {
            let mut spoiled = seals[0];
            spoiled[bit / 8] ^= 1 << (bit % 8);
            assert!(!pair().1.open(b"head", b"body", &spoiled), "bit {bit} of the seal does not matter");
        }
    }

    #[test]
    fn long_bodies_count_to_the_last_byte() {
        for len in [INLINE - 1, INLINE, INLINE + 1, 4096, 70_001] {
            let body = vec![1; len];
            let seal = Sealer::new([7; 32]).seal(b"head", &[&body[..8], &body[8..]]);
            assert!(Opener::new([7; 32]).open(b"head", &body, &seal), "{len}");
            for at in [0, len / 2, len - 1] {
                let mut other = body.clone();
                other[at] ^= 0x80;
                assert!(!Opener::new([7; 32]).open(b"head", &other, &seal), "byte {at} of {len}");
            }
            assert!(!Opener::new([7; 32]).open(b"heaD", &body, &seal), "{len}");
        }
    }
}
