//! Who made a snapshot file: the MAC in its footer, and the keys that make and check it.
//!
//! The MAC is a keyed BLAKE3 over the hash in the trailer. That hash covers the head and the table, and the table of
//! a signed file has a BLAKE3 of every chunk, so the MAC binds every byte, and is checked without reading a chunk. Its
//! key comes from a node key of the secret; the header names that key by an id that is different in every file and
//! says nothing to who does not know the key. Hashes are compared in constant time.
//!
//! Leaves out: which of several genuine files is the newest. An older one put in the place of a newer one still fits.

use std::fmt;

use mcomp_net::auth::{Key, Keyring};
use mcomp_wire::Role;

use super::Meta;
use super::bytes::KEY_ID_BYTES;

/// What the key of the MAC is derived for; with it goes the name of the cluster.
const MAC_PURPOSE: &str = "mcomp snapshot file";
/// What the id of the key is derived for; with it goes the id of the cut.
const ID_PURPOSE: &str = "mcomp snapshot key id";

/// Names a key in the header of one file.
pub(super) type KeyId = [u8; KEY_ID_BYTES];

/// The keys that sign and check snapshot files: the node keys of a secret, that of today first.
///
/// There may be none: who holds only the keys of other roles can check no file.
#[derive(Clone, Debug)]
pub struct FileKeys(Vec<Key>);

/// Whether a file is of somebody who knows the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mac {
    /// It is: the MAC fits under a key that is known here.
    Fits,
    /// It is not: the MAC names a key that is known here, and was not made with it.
    Wrong,
    /// It was made with a key that is not known here.
    UnknownKey,
    /// There is a MAC, and no secret here to check it with.
    NotChecked,
    /// There is no MAC.
    None,
}

/// What becomes of a file that no known key has signed, where there is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// It is refused.
    Refuse,
    /// Somebody vouches for it.
    Accept,
}

/// What a signed file says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature {
    pub(super) key: KeyId,
    pub(super) mac: blake3::Hash,
}

/// The key of one file that is being written.
pub(super) struct Signer {
    id: KeyId,
    mac_key: [u8; 32],
}

impl FileKeys {
    /// Those of a secret.
    pub fn of(keyring: &Keyring) -> FileKeys {
        FileKeys(keyring.of(Role::Node).cloned().collect())
    }

    /// Whether nothing can be checked with them.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What new files are signed with.
    pub(super) fn signer(&self, meta: &Meta) -> Option<Signer> {
        self.0.first().map(|key| Signer::of(key, meta))
    }

    fn named(&self, id: &KeyId, meta: &Meta) -> Option<Signer> {
        self.0.iter().map(|key| Signer::of(key, meta)).find(|signer| signer.id == *id)
    }
}

impl Mac {
    /// The stable word for machines.
    pub fn word(self) -> &'static str {
        match self {
            Mac::Fits => "fits",
            Mac::Wrong => "wrong",
            Mac::UnknownKey => "unknown_key",
            Mac::NotChecked => "not_checked",
            Mac::None => "none",
        }
    }

    /// Whether the file carries one.
    pub fn is_signed(self) -> bool {
        self != Mac::None
    }

    /// What there is to say about a signature, if there is one, of the file with these facts and this hash.
    pub(super) fn check(
        signature: Option<&Signature>,
        hash: &blake3::Hash,
        meta: &Meta,
        keys: Option<&FileKeys>,
    ) -> Mac {
        let (Some(signature), Some(keys)) = (signature, keys) else {
            return if signature.is_some() { Mac::NotChecked } else { Mac::None };
        };
        match keys.named(&signature.key, meta) {
            None => Mac::UnknownKey,
            // The comparison of hashes takes the same time wherever they differ.
            Some(signer) if signer.mac(hash) == signature.mac => Mac::Fits,
            Some(_) => Mac::Wrong,
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mac::Fits => "signed, its MAC fits",
            Mac::Wrong => "its MAC is wrong: somebody changed it who does not know the key",
            Mac::UnknownKey => "signed with a key that is not known here",
            Mac::NotChecked => "signed, not checked: no secret here",
            Mac::None => "not signed",
        })
    }
}

impl Signer {
    fn of(key: &Key, meta: &Meta) -> Signer {
        let id = key.derive(ID_PURPOSE, meta.cut.as_bytes());
        Signer {
            id: *id.first_chunk().expect("a hash is longer"),
            mac_key: key.derive(MAC_PURPOSE, meta.cluster.as_bytes()),
        }
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// The MAC of the file whose trailer has this hash.
    pub(super) fn mac(&self, hash: &blake3::Hash) -> blake3::Hash {
        blake3::keyed_hash(&self.mac_key, hash.as_bytes())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}
