//! The handshake between two who share a key.
//!
//! | step | who | what |
//! |---|---|---|
//! | HELLO | client | its role, what it means to reach, and a nonce |
//! | CHALLENGE | server | a nonce, and the names under which it knows the keys of that role |
//! | PROVE | client | which key, and a hash under it of both frames before |
//! | WELCOME | server | its answer, sealed under the same key: only who knows it can |
//!
//! The hash is over both frames to the byte, headers included: so over the version, the cluster, the server, the role, the
//! session, the epoch and both nonces. All keys of the connection are derived from it, one for each direction, so that
//! nothing of another connection, or of the other direction, fits.

use std::io;

use mcomp_wire::control::{Challenge, Hello, KeyId, NONCE_LEN, Prove};
use mcomp_wire::{Header, Role};

use super::keyring::{Key, Keyring};
use super::seal::{Opener, Sealer};

/// Both frames of a handshake that come before the proof.
struct Transcript(blake3::Hasher);

impl Transcript {
    fn new() -> Transcript {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"mcomp handshake 1");
        Transcript(hasher)
    }

    /// The header says how long the body is, so no two transcripts meet.
    fn add(&mut self, header: &Header, body: &[u8]) {
        self.0.update(&header.emit()).update(body);
    }

    /// What is proved with `key`, and the keys from client to server and back.
    fn finish(&self, key: &Key) -> Agreed {
        let all = self.0.finalize();
        let part = |purpose: &str| key.derive(purpose, all.as_bytes());
        Agreed {
            proof: part("mcomp client's proof"),
            to_server: part("mcomp client to server"),
            to_client: part("mcomp server to client"),
        }
    }
}

struct Agreed {
    proof: [u8; 32],
    to_server: [u8; 32],
    to_client: [u8; 32],
}

/// A nonce of the operating system's random numbers.
fn nonce() -> io::Result<[u8; NONCE_LEN]> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(io::Error::from)?;
    Ok(nonce)
}

/// The client's side.
pub struct Prover<'k> {
    keyring: &'k Keyring,
    role: Role,
    nonce: [u8; NONCE_LEN],
    transcript: Transcript,
}

impl<'k> Prover<'k> {
    /// Puts a fresh nonce into `hello`.
    pub fn new(keyring: &'k Keyring, hello: &mut Hello) -> io::Result<Prover<'k>> {
        let nonce = nonce()?;
        hello.auth = nonce.to_vec();
        Ok(Prover { keyring, role: hello.role, nonce, transcript: Transcript::new() })
    }

    /// Notes the HELLO as it was sent.
    pub fn sent(&mut self, header: &Header, body: &[u8]) {
        self.transcript.add(header, body);
    }

    /// The proof, and what seals and opens the frames from then on; none if no key of ours is known there.
    pub fn prove(mut self, header: &Header, body: &[u8], challenge: &Challenge) -> Option<(Prove, Sealer, Opener)> {
        self.transcript.add(header, body);
        let known = |key: &&Key| challenge.keys.contains(&key.id(&self.nonce));
        let key = self.keyring.of(self.role).find(known)?;
        let agreed = self.transcript.finish(key);
        let prove = Prove { key: key.id(&self.nonce), proof: agreed.proof };
        Some((prove, Sealer::new(agreed.to_server), Opener::new(agreed.to_client)))
    }
}

/// The server's side, after a HELLO that came with a nonce.
pub struct Challenged<'k> {
    keys: Vec<(KeyId, &'k Key)>,
    transcript: Transcript,
}

impl<'k> Challenged<'k> {
    /// What to ask of the sender of `hello`; none if it offers no nonce.
    pub fn new(
        keyring: &'k Keyring,
        header: &Header,
        body: &[u8],
        hello: &Hello,
    ) -> io::Result<Option<(Challenged<'k>, Challenge)>> {
        if hello.auth.len() != NONCE_LEN {
            return Ok(None);
        }
        let mut transcript = Transcript::new();
        transcript.add(header, body);
        let keys: Vec<_> = keyring.of(hello.role).map(|key| (key.id(&hello.auth), key)).collect();
        let challenge = Challenge { nonce: nonce()?, keys: keys.iter().map(|(id, _)| *id).collect() };
        Ok(Some((Challenged { keys, transcript }, challenge)))
    }

    /// Notes the challenge as it was sent.
    pub fn sent(&mut self, header: &Header, body: &[u8]) {
        self.transcript.add(header, body);
    }

    /// What opens and seals the frames from now on, if the proof is one.
    pub fn check(self, prove: &Prove) -> Option<(Opener, Sealer)> {
        let (_, key) = self.keys.iter().find(|(id, _)| *id == prove.key)?;
        let agreed = self.transcript.finish(key);
        // Hashes are compared in constant time.
        let proved = blake3::Hash::from_bytes(agreed.proof) == blake3::Hash::from_bytes(prove.proof);
        proved.then(|| (Opener::new(agreed.to_server), Sealer::new(agreed.to_client)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcomp_wire::Kind;
    use mcomp_wire::control::{decode, encode};

    fn hello(role: Role) -> Hello {
        let session = uuid::Uuid::nil();
        Hello { cluster: "demo".into(), role, server: 1, k: 4096, n: 3, session, features: 0, auth: Vec::new() }
    }

    fn header(kind: Kind, body: &[u8]) -> Header {
        Header { kind: kind as u8, request_id: 1, ..Header::default() }.for_body(body, false)
    }

    /// A whole handshake, in which `spoil` may change what is on the way. Whether both sides agree in the end.
    fn shake(client: &Keyring, server: &Keyring, role: Role, spoil: impl Fn(usize, &mut Vec<u8>)) -> bool {
        let mut said = hello(role);
        let mut prover = Prover::new(client, &mut said).unwrap();
        let sent = encode(&said);
        prover.sent(&header(Kind::Hello, &sent), &sent);

        let mut heard = sent.clone();
        spoil(0, &mut heard);
        let Ok(heard_hello) = decode::<Hello>(&heard) else { return false };
        let head = header(Kind::Hello, &heard);
        let Some((mut challenged, challenge)) = Challenged::new(server, &head, &heard, &heard_hello).unwrap() else {
            return false;
        };
        let mut asked = encode(&challenge);
        challenged.sent(&header(Kind::Challenge, &asked), &asked);
        spoil(1, &mut asked);
        let Ok(challenge) = decode::<Challenge>(&asked) else { return false };
        let proved = prover.prove(&header(Kind::Challenge, &asked), &asked, &challenge);
        let Some((prove, mut sealer, mut opener)) = proved else { return false };

        let mut told = encode(&prove);
        spoil(2, &mut told);
        let Ok(prove) = decode::<Prove>(&told) else { return false };
        let Some((mut their_opener, mut their_sealer)) = challenged.check(&prove) else { return false };
        let (there, back) = (sealer.seal(b"h", &[b"a"]), their_sealer.seal(b"h", &[b"b"]));
        assert_ne!(there, sealer.seal(b"h", &[b"a"]));
        their_opener.open(b"h", b"a", &there) && opener.open(b"h", b"b", &back)
    }

    #[test]
    fn who_shares_a_key_agrees() {
        let keyring = Keyring::random().unwrap();
        for &role in Role::ALL {
            assert!(shake(&keyring, &keyring, role, |_, _| {}));
        }
        // A change of the secret: either side may be first.
        let both = keyring.rotated().unwrap();
        for (client, server) in [(&keyring, &both), (&both, &keyring), (&both, &both.retired()), (&both, &both)] {
            assert!(shake(client, server, Role::Client, |_, _| {}));
        }
        assert!(!shake(&keyring, &both.retired(), Role::Client, |_, _| {}), "the old key was retired");
    }

    #[test]
    fn who_shares_none_does_not() {
        let (ours, theirs) = (Keyring::random().unwrap(), Keyring::random().unwrap());
        for &role in Role::ALL {
            assert!(!shake(&ours, &theirs, role, |_, _| {}));
        }
        let client = ours.only(&[Role::Client]).unwrap();
        assert!(shake(&client, &ours, Role::Client, |_, _| {}));
        assert!(!shake(&client, &ours, Role::Node, |_, _| {}), "a client's key opens no node's door");
        assert!(!shake(&client, &ours, Role::Admin, |_, _| {}));
        // The key of one role, put down as that of another.
        let forged = Keyring::parse(&client.to_text().replace("client", "admin")).unwrap();
        assert!(!shake(&forged, &ours, Role::Admin, |_, _| {}));
    }

    /// docs/protocol.md, step by step and without our own functions, for a handshake with fixed nonces.
    #[test]
    fn the_hashes_are_the_documented_ones() {
        let keyring = Keyring::parse(&format!("client {}", "07".repeat(32))).unwrap();
        let h = |key: &[u8; 32], purpose: &str, rest: &[u8]| {
            let input = [&(purpose.len() as u64).to_le_bytes(), purpose.as_bytes(), rest].concat();
            *blake3::keyed_hash(key, &input).as_bytes()
        };
        let key = [7; 32];
        let said = Hello { auth: vec![0xc1; 32], ..hello(Role::Client) };
        let (sent, nonce) = (encode(&said), [0xc1; 32]);
        let challenge =
            Challenge { nonce: [0x5e; 32], keys: vec![h(&key, "mcomp key id", &nonce)[..8].try_into().unwrap()] };
        let asked = encode(&challenge);
        let (hello_head, challenge_head) = (header(Kind::Hello, &sent), header(Kind::Challenge, &asked));
        let words = [&b"mcomp handshake 1"[..], &hello_head.emit(), &sent, &challenge_head.emit(), &asked].concat();
        let transcript = *blake3::hash(&words).as_bytes();

        let mut prover = Prover { keyring: &keyring, role: Role::Client, nonce, transcript: Transcript::new() };
        prover.sent(&hello_head, &sent);
        let (prove, mut sealer, _) = prover.prove(&challenge_head, &asked, &challenge).unwrap();
        assert_eq!(prove, Prove { key: challenge.keys[0], proof: h(&key, "mcomp client's proof", &transcript) });

        let seal_key = h(&key, "mcomp client to server", &transcript);
        let seal = |number: u64, rest: &[u8]| {
            *blake3::keyed_hash(&seal_key, &[&number.to_le_bytes(), &[3; 48][..], rest].concat()).as_bytes()
        };
        assert_eq!(sealer.seal(&[3; 48], &[&[9; 1024]]), seal(0, &[9; 1024]));
        let long_key = blake3::keyed_hash(&seal_key, b"mcomp long bodies");
        let long = blake3::keyed_hash(long_key.as_bytes(), &[9; 1025]);
        assert_eq!(sealer.seal(&[3; 48], &[&[9; 1000], &[9; 25]]), seal(1, long.as_bytes()));
    }

    /// Each bit of each message, one at a time.
    #[test]
    fn a_flipped_bit_ends_it() {
        let keyring = Keyring::random().unwrap();
        for step in 0..3 {
            for bit in 0.. {
                let is_there = std::cell::Cell::new(false);
                let agreed = shake(&keyring, &keyring, Role::Client, |at, bytes| {
                    if at == step && bit < bytes.len() * 8 {
                        is_there.set(true);
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    }
                });
                if !is_there.get() {
                    break;
                }
                assert!(!agreed, "bit {bit} of message {step} does not matter");
            }
        }
    }

    #[test]
    fn a_handshake_without_a_nonce_is_not_challenged() {
        let keyring = Keyring::random().unwrap();
        for len in [0, 1, NONCE_LEN - 1, NONCE_LEN + 1, 300] {
            let hello = Hello { auth: vec![1; len], ..hello(Role::Client) };
            let body = encode(&hello);
            let asked = Challenged::new(&keyring, &header(Kind::Hello, &body), &body, &hello).unwrap();
            assert!(asked.is_none(), "{len} bytes");
        }
    }
}
