//! The secret of a cluster: keys for each role, as a file holds them.
//!
//! ```text
//! # comment
//! client 3f5c…   64 hexadecimal digits
//! node   91aa…
//! admin  0b7e…
//! ```
//!
//! Roles have keys of their own, so that a machine that only uses the memory gets a file with the first line only. The
//! first key of a role is the one that this side proves itself with; a second one is accepted as well, so that a
//! secret can be changed machine by machine. It leaves out reading files (`file`) and what is proved (`handshake`).

use mcomp_wire::Role;
use mcomp_wire::control::KeyId;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Keys of one role that are accepted at a time: that of today, and the one before or after it.
pub const MOST_KEYS: usize = 2;

/// One key. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

/// The keys that this process knows, by role.
///
/// - At most [`MOST_KEYS`] of each role, and at least one in all.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<(Role, Key)>,
}

/// What is wrong with the text of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadSecret {
    /// Counted from 1; 0 is the whole.
    pub line: usize,
    /// A sentence, without anything of the key.
    pub what: String,
}

impl Key {
    /// A new one, from the operating system's random numbers.
    pub fn random() -> std::io::Result<Key> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
        Ok(Key(bytes))
    }

    /// As it stands in a file.
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// A short name for it, by which people can compare keys without seeing them.
    pub fn fingerprint(&self) -> String {
        self.hash("mcomp key fingerprint", &[]).to_hex()[..16].to_owned()
    }

    /// The name of the key in one handshake: it says nothing to who does not know the key.
    pub(super) fn id(&self, nonce: &[u8]) -> KeyId {
        *self.hash("mcomp key id", &[nonce]).as_bytes().first_chunk().expect("a hash is longer")
    }

    /// Another key, for `purpose` and nothing else.
    pub fn derive(&self, purpose: &str, context: &[u8]) -> [u8; KEY_BYTES] {
        *self.hash(purpose, &[context]).as_bytes()
    }

    /// The hash of `parts` under this key. The purpose has its length in front, so that no two inputs meet.
    pub(super) fn hash(&self, purpose: &str, parts: &[&[u8]]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(purpose.len() as u64).to_le_bytes()).update(purpose.as_bytes());
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    }

    fn parse(text: &str) -> Option<Key> {
        // The crate's own reader takes capital letters too, and nothing but 64 digits.
        blake3::Hash::from_hex(text).ok().map(|hash| Key(*hash.as_bytes()))
    }
}

impl Keyring {
    /// New keys for all roles.
    pub fn random() -> std::io::Result<Keyring> {
        let keys = Role::ALL.iter().map(|&role| Ok((role, Key::random()?))).collect::<std::io::Result<_>>()?;
        Ok(Keyring { keys })
    }

    /// Reads the text of a secret.
    pub fn parse(text: &str) -> Result<Keyring, BadSecret> {
        let mut keyring = Keyring { keys: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                keyring.parse_line(line).map_err(|what| BadSecret { line: number + 1, what })?;
            }
        }
        match keyring.keys.is_empty() {
            true => Err(BadSecret { line: 0, what: "there is no key: make one with `mcomp secret create`".into() }),
            false => Ok(keyring),
        }
    }

    fn parse_line(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace();
        let (role, key, rest) = (words.next().unwrap_or_default(), words.next(), words.next());
        let Some(&role) = Role::ALL.iter().find(|known| known.word() == role) else {
            return Err("a line begins with client, node or admin".into());
        };
        let key = key.filter(|_| rest.is_none()).and_then(Key::parse);
        let key = key.ok_or_else(|| format!("{role} is followed by one key of 64 hexadecimal digits"))?;
        // Whoever has a key of one role must not have that of another with it.
        if self.keys.iter().any(|(_, known)| *known == key) {
            return Err(format!("this key of {role} stands here twice: each role has keys of its own"));
        }
        if self.of(role).count() == MOST_KEYS {
            return Err(format!("{role} has more than {MOST_KEYS} keys: drop the oldest with `mcomp secret retire`"));
        }
        self.keys.push((role, key));
        Ok(())
    }

    /// The text of a secret with these keys.
    pub fn to_text(&self) -> String {
        self.keys.iter().map(|(role, key)| format!("{:<6} {}\n", role.word(), key.to_hex())).collect()
    }

    /// The keys of `role`, that which is proved with first.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |(of, _)| *of == role).map(|(_, key)| key)
    }

    /// Puts a new key in front of those of each role that has one, and drops what is then too many.
    pub fn rotated(&self) -> std::io::Result<Keyring> {
        let mut keys = Vec::new();
        for &role in Role::ALL {
            if let Some(old) = self.of(role).next() {
                keys.extend([(role, Key::random()?), (role, old.clone())]);
            }
        }
        Ok(Keyring { keys })
    }

    /// Only the first key of each role.
    pub fn retired(&self) -> Keyring {
        let first = |&role: &Role| Some((role, self.of(role).next()?.clone()));
        Keyring { keys: Role::ALL.iter().filter_map(first).collect() }
    }

    /// Only the keys of `roles`, if there are any.
    pub fn only(&self, roles: &[Role]) -> Option<Keyring> {
        let keys: Vec<_> = self.keys.iter().filter(|(role, _)| roles.contains(role)).cloned().collect();
        (!keys.is_empty()).then_some(Keyring { keys })
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.fingerprint())
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222222222222222222222222222";

    #[test]
    fn a_text_comes_back() {
        let keyring = Keyring::random().unwrap();
        assert_eq!(Keyring::parse(&keyring.to_text()), Ok(keyring.clone()));
        assert!(Role::ALL.iter().all(|&role| keyring.of(role).count() == 1));
        let text = format!("# made today\n\n  client {ONE}   # new\nclient {TWO}\n");
        let keyring = Keyring::parse(&text).unwrap();
        assert_eq!(keyring.of(Role::Client).map(Key::to_hex).collect::<Vec<_>>(), [ONE, TWO]);
        assert_eq!(keyring.of(Role::Admin).count(), 0);
    }

    #[test]
    fn a_bad_text_is_refused_by_line_and_shows_no_key() {
        let bad = [
            (String::new(), 0),
            ("# nothing\n".into(), 0),
            (format!("\nclient {ONE}0\n"), 2),
            (format!("client {}\n", &ONE[1..]), 1),
            (format!("client {ONE} {TWO}\n"), 1),
            (format!("root {ONE}\n"), 1),
            (format!("client {ONE}\nclient {ONE}\n"), 2),
            (format!("client {ONE}\nadmin {ONE}\n"), 2),
            (format!("node {ONE}\nnode {TWO}\nnode {}\n", ONE.replace('1', "3")), 3),
            ("client\n".into(), 1),
            (format!("client {}\n", ONE.replace('1', "g")), 1),
        ];
        for (text, line) in bad {
            let error = Keyring::parse(&text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(!error.to_string().contains("1111"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_changed_in_two_steps() {
        let old = Keyring::random().unwrap();
        let both = old.rotated().unwrap();
        for &role in Role::ALL {
            assert_eq!(both.of(role).nth(1), old.of(role).next());
            assert_ne!(both.of(role).next(), old.of(role).next());
        }
        assert_eq!(both.retired().of(Role::Node).collect::<Vec<_>>(), [both.of(Role::Node).next().unwrap()]);
        assert_eq!(both.rotated().unwrap().of(Role::Node).count(), MOST_KEYS);
        let client = both.only(&[Role::Client]).unwrap();
        assert_eq!((client.of(Role::Client).count(), client.of(Role::Admin).count()), (2, 0));
        assert_eq!(client.only(&[Role::Admin]), None);
    }

    #[test]
    fn nothing_shows_a_key() {
        let keyring = Keyring::parse(&format!("client {ONE}")).unwrap();
        assert!(!format!("{keyring:?}").contains("1111"), "{keyring:?}");
    }
}
