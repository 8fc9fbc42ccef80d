//! A secret in a file: read only if nobody else can have read or written it, and never made readable for others.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::keyring::{BadSecret, Keyring};
use crate::private::{self, Unfit};

/// More than any secret needs.
const MOST_BYTES: u64 = 64 << 10;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It cannot be read or written.
    #[error("the secret {path} cannot be {done}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// `read`, `written`.
        done: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others may have read it.
    #[error(
        "the secret {path} has mode {mode:04o}, which opens it to other users: make a new one with \
         `mcomp secret create`, or, if nobody else can have read it, run `chmod 600 {path}`", path = path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the secret {path} belongs to user {owner}, and this process runs as user {ours}", path = path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        ours: u32,
    },
    /// It is no file, or no secret.
    #[error("the secret {path} is none: {what}", path = path.display())]
    Bad {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl SecretError {
    /// Whether only the operating system stands in the way; otherwise the file is to be mended.
    pub fn is_io(&self) -> bool {
        matches!(self, SecretError::Io { .. })
    }
}

impl Keyring {
    /// Reads a secret that is a regular file of this user and of nobody else's business. A link is not followed.
    pub fn load(path: &Path) -> Result<Keyring, SecretError> {
        let bad = |what: String| SecretError::Bad { path: path.into(), what };
        let bytes = private::read(path, MOST_BYTES).map_err(|unfit| unfit_secret(path, unfit))?;
        let text = String::from_utf8(bytes).map_err(|_| bad("it is not text".into()))?;
        Keyring::parse(&text).map_err(|BadSecret { line, what }| match line {
            0 => bad(what),
            line => bad(format!("line {line}: {what}")),
        })
    }

    /// Writes the secret to a new file of mode 0600, wholly or not at all. A file that is there is replaced only if
    /// asked to.
    pub fn store(&self, path: &Path, head: &str, replace: bool) -> Result<(), SecretError> {
        let unwritable = |source: io::Error| SecretError::Io { path: path.into(), done: "written", source };
        if !replace && path.symlink_metadata().is_ok() {
            return Err(unwritable(io::ErrorKind::AlreadyExists.into()));
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&beside, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(opened.map_err(|errno| unwritable(errno.into()))?);
        let text: String = head.lines().map(|line| format!("# {line}\n")).collect();
        let written = file.write_all((text + &self.to_text()).as_bytes()).and_then(|()| file.sync_all());
        let named = written.and_then(|()| match replace {
            true => std::fs::rename(&beside, path),
            // Whoever was faster keeps what it wrote.
            false => std::fs::hard_link(&beside, path).and_then(|()| std::fs::remove_file(&beside)),
        });
        named.map_err(|error| {
            let _ = std::fs::remove_file(&beside);
            unwritable(error)
        })?;
        sync_folder_of(path).map_err(unwritable)
    }
}

/// Lets the new name of a file outlive a power cut.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn unfit_secret(path: &Path, unfit: Unfit) -> SecretError {
    let path = path.to_owned();
    match unfit {
        Unfit::Io(source) => SecretError::Io { path, done: "read", source },
        Unfit::NotAFile => SecretError::Bad { path, what: "it is not a regular file".into() },
        Unfit::Foreign { owner, ours } => SecretError::Foreign { path, owner, ours },
        Unfit::Exposed { mode } => SecretError::Exposed { path, mode },
        Unfit::TooLong => SecretError::Bad { path, what: format!("it has more than {MOST_BYTES} bytes") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_stored_secret_is_private_and_comes_back() {
        let folder = folder();
        let path = folder.path().join("mcomp.secret");
        let keyring = Keyring::random().unwrap();
        keyring.store(&path, "of the cluster demo\nkeep it", false).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(Keyring::load(&path).unwrap(), keyring);
        let again = keyring.store(&path, "", false).unwrap_err();
        assert!(matches!(again, SecretError::Io { ref source, .. } if source.kind() == io::ErrorKind::AlreadyExists));
        let other = keyring.rotated().unwrap();
        other.store(&path, "", true).unwrap();
        assert_eq!(Keyring::load(&path).unwrap(), other);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// A name without a folder is one of the working folder, which is synced as well.
    #[test]
    fn the_folder_of_a_bare_name_is_where_we_are() {
        sync_folder_of(Path::new("mcomp.secret")).unwrap();
        let missing = sync_folder_of(&folder().path().join("missing/mcomp.secret")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_others_can_reach_is_refused() {
        let folder = folder();
        let path = folder.path().join("secret");
        Keyring::random().unwrap().store(&path, "", false).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Keyring::load(&path), Err(SecretError::Exposed { mode: found, .. }) if found == mode));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        Keyring::load(&path).unwrap();
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(Keyring::load(&link), Err(SecretError::Io { .. })));
        assert!(matches!(Keyring::load(folder.path()), Err(SecretError::Bad { .. })));
        assert!(matches!(Keyring::load(&folder.path().join("none")), Err(SecretError::Io { .. })));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let folder = folder();
        let path = folder.path().join("secret");
        for text in [&b""[..], b"client 12", &[0xff; 10], &vec![b'#'; MOST_BYTES as usize + 1]] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(Keyring::load(&path).is_err());
        }
    }
}
