//! The secret: is there one where one is needed, may nobody else read it, and has it the keys that this machine needs?
//!
//! No key is shown. Whether the other machines have the same keys is for them to say, when they are asked.

use std::io;
use std::path::Path;

use mcomp_net::auth::{Keyring, SecretError};
use mcomp_wire::Role;
use rustix::io::Errno;
use rustix::process::geteuid;

use super::finding::{Finding, as_root, quoted, servers};
use super::scene::Scene;
use crate::commands::exposed::{EDIT, exposed};

const SECRET: &str = "secret";

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let finding = match (scene.config.secret_file(), &scene.secret) {
        (Some(path), Ok(Some(keyring))) => keys(scene, path, keyring),
        (Some(path), Err(error)) => Finding::fail(SECRET, path.display(), error, mend(scene, path, error)),
        _ => none(scene),
    };
    vec![finding]
}

/// No secret is named, which is for loopback addresses alone.
fn none(scene: &Scene) -> Finding {
    const KEY: &str = "security.secret_file";
    let open = exposed(&scene.config);
    if open.is_empty() {
        return Finding::ok(
            SECRET,
            KEY,
            "it names none, and no address of the file can be reached from other machines",
        );
    }
    let what = format!(
        "it names none, and others can reach {}: servers and snapshot processes refuse to start there",
        open.join(", ")
    );
    let fix = format!("mcomp secret create {}; then {EDIT} of {}", scene.flags, quoted(scene.config.path()));
    Finding::fail(SECRET, KEY, what, fix)
}

/// A secret that can be read. Who only uses the memory needs the client's key alone; the servers of a machine are asked
/// by all roles, and its snapshot process is a node.
fn keys(scene: &Scene, path: &Path, keyring: &Keyring) -> Finding {
    let (some, missing): (Vec<Role>, Vec<Role>) =
        Role::ALL.iter().partition(|&&role| keyring.of(role).next().is_some());
    if let ([missing, ..], false) = (&missing[..], scene.locals.is_empty()) {
        let what = format!("it has no key of the role {missing}, which {} ask for", servers(&scene.local_ids()));
        let fix = format!("copy the whole secret there from the machine where it was made: {}", quoted(path));
        return Finding::fail(SECRET, path.display(), what, fix);
    }
    let two: Vec<Role> = some.iter().copied().filter(|&role| keyring.of(role).count() > 1).collect();
    let mut what = format!("mode and owner are right; it has the keys of {}", words(&some));
    if !two.is_empty() {
        what += &format!(", and those before a change of {} (`mcomp secret retire` drops them)", words(&two));
    }
    Finding::ok(SECRET, path.display(), what)
}

fn words(roles: &[Role]) -> String {
    roles.iter().map(|role| role.word()).collect::<Vec<_>>().join(", ")
}

/// The way out of a secret that no process takes.
fn mend(scene: &Scene, path: &Path, error: &SecretError) -> String {
    let (file, flags, user) = (quoted(path), &scene.flags, geteuid().as_raw());
    match error {
        SecretError::Exposed { .. } => {
            format!("chmod 600 {file}; and if others may have read it: mcomp secret rotate {flags}")
        }
        SecretError::Foreign { .. } => as_root(format_args!("chown {user} {file}")),
        SecretError::Io { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => {
                format!("mcomp secret create {flags}; or copy it there from a machine that has it: {file}")
            }
            io::ErrorKind::PermissionDenied => as_root(format_args!("chown {user} {file}")),
            // A link is not followed.
            _ if Errno::from_io_error(source) == Some(Errno::LOOP) => {
                format!("cp --remove-destination \"$(readlink -f {file})\" {file}; chmod 600 {file}")
            }
            _ => format!("ls -l {file}"),
        },
        _ => format!("mv {file} {file}.old; mcomp secret create {flags}"),
    }
}
