//! Whether a snapshot file is of somebody who knows the secret: what the commands ask, and what they say of it.

use mcomp_config::ConfigError;
use mcomp_net::auth::SecretError;
use mcomp_snapshot::file::{Chain, FileKeys, Mac, Unsigned};
use mcomp_snapshot::{SnapshotError, file_keys};

use crate::flags::UnsignedFlag;
use crate::globals::Globals;

/// The keys of the secret, if mcomp.cfg names one. A file that is named by its path may be looked at where there is no
/// mcomp.cfg; where there is one that cannot be read, nobody can say that there is no secret.
pub(super) fn keys(globals: &Globals) -> anyhow::Result<Option<FileKeys>> {
    match globals.config() {
        Ok(config) => Ok(file_keys(&config)?),
        Err(ConfigError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same for a command that only says what is there: a secret that is not for this user is no reason to fail.
pub(super) fn keys_if_any(globals: &Globals) -> Option<FileKeys> {
    match globals.config().map(|config| file_keys(&config)) {
        Ok(Ok(keys)) => keys,
        Ok(Err(SnapshotError::Secret(error))) => {
            note_no_secret(globals, &error);
            None
        }
        _ => None,
    }
}

fn note_no_secret(globals: &Globals, error: &SecretError) {
    globals.note(format_args!("no MAC is checked: {error}"));
}

/// Whether files that no known key has signed are to be taken.
pub(crate) fn accepted(flag: UnsignedFlag) -> Unsigned {
    if flag.unsigned { Unsigned::Accept } else { Unsigned::Refuse }
}

/// Refuses a chain that is not proved to be of this cluster, and says what was taken on trust.
pub(super) fn authenticate(globals: &Globals, chain: &Chain, flag: UnsignedFlag) -> anyhow::Result<Vec<Mac>> {
    let keys = keys(globals)?;
    let macs = chain.authenticate(keys.as_ref(), accepted(flag))?;
    warn(globals, &macs, keys.is_some());
    Ok(macs)
}

/// Says what is taken on trust: by who said so, or because there is no secret to check it with.
pub(crate) fn warn(globals: &Globals, macs: &[Mac], has_secret: bool) {
    let count = |wanted: Mac| macs.iter().filter(|mac| **mac == wanted).count();
    for mac in [Mac::None, Mac::UnknownKey].into_iter().filter(|mac| has_secret && count(*mac) > 0) {
        let (unproved, all) = (count(mac), macs.len());
        globals.note(format_args!(
            "WARNING: {unproved} of {all} files: {mac}; accepted because of --unsigned, whoever wrote it"
        ));
    }
    if count(Mac::NotChecked) > 0 {
        globals.note(format_args!("{} of {} files: {}", count(Mac::NotChecked), macs.len(), Mac::NotChecked));
    }
}

/// What can be said of all files together: as much as of that of which least is known.
pub(crate) fn weakest(macs: &[Mac]) -> Mac {
    let order = [Mac::Wrong, Mac::None, Mac::UnknownKey, Mac::NotChecked];
    order.into_iter().find(|mac| macs.contains(mac)).unwrap_or(Mac::Fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_as_good_as_its_weakest_file() {
        assert_eq!(weakest(&[Mac::Fits, Mac::Fits]), Mac::Fits);
        assert_eq!(weakest(&[Mac::Fits, Mac::NotChecked, Mac::None]), Mac::None);
        assert_eq!(weakest(&[Mac::UnknownKey, Mac::Wrong]), Mac::Wrong);
    }
}
