//! `mcomp secret`: makes, changes and shows the keys of the cluster. It never prints a key.

use std::path::{Path, PathBuf};

use mcomp_config::ConfigError;
use mcomp_net::auth::{Key, Keyring};
use mcomp_wire::Role;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::flags::{SecretArgs, SecretCommand, SecretRole};
use crate::globals::Globals;
use crate::output;

/// The name of a secret that nobody named.
const FILE: &str = "mcomp.secret";

const HEAD: &str = "The secret of an mcomp cluster. Whoever can read this file can use the cluster.";

pub(crate) fn run(globals: &Globals, args: &SecretArgs) -> anyhow::Result<Exit> {
    match &args.command {
        SecretCommand::Create(target) => create(globals, &Named::find(globals, target.file.as_deref())?),
        SecretCommand::Rotate(target) => rotate(globals, &Named::find(globals, target.file.as_deref())?),
        SecretCommand::Retire(target) => retire(globals, &Named::find(globals, target.file.as_deref())?),
        SecretCommand::Show(target) => show(globals, &Named::find(globals, target.file.as_deref())?),
        SecretCommand::Export(export) => {
            let from = Named::find(globals, export.file.as_deref())?;
            self::export(globals, &from, &export.roles, &export.output)
        }
    }
}

/// The file that is meant, and whether mcomp.cfg names a secret at all.
struct Named {
    path: PathBuf,
    is_configured: bool,
}

impl Named {
    fn find(globals: &Globals, typed: Option<&Path>) -> anyhow::Result<Named> {
        let config = match (globals.config(), typed) {
            (Ok(config), _) => Some(config),
            // Keys can be made before there is a configuration.
            (Err(ConfigError::NotFound { .. }), Some(_)) => None,
            (Err(error), _) => return Err(error.into()),
        };
        let configured = config.as_ref().and_then(|config| config.secret_file());
        let path = match (typed, configured, &config) {
            (Some(typed), _, _) => typed.to_path_buf(),
            (None, Some(configured), _) => configured.to_path_buf(),
            (None, None, Some(config)) => config.folder().join(FILE),
            (None, None, None) => FILE.into(),
        };
        Ok(Named { path, is_configured: configured.is_some() })
    }

    fn load(&self) -> anyhow::Result<Keyring> {
        Ok(Keyring::load(&self.path)?)
    }
}

fn create(globals: &Globals, target: &Named) -> anyhow::Result<Exit> {
    let path = &target.path;
    if path.symlink_metadata().is_ok() {
        let text = format!("{} is there already: change its keys with `mcomp secret rotate`", path.display());
        return Err(Failure::usage(text).into());
    }
    Keyring::random()?.store(path, HEAD, false)?;
    tell(globals, path)?;
    if !target.is_configured {
        let path = std::path::absolute(path)?;
        globals.note(format_args!(
            "name it in mcomp.cfg, on every machine:\n\n[security]\nsecret_file = \"{}\"\n",
            path.display()
        ));
    }
    globals.note("copy it to every machine of the cluster, and restart servers and snapshot processes");
    Ok(Exit::DONE)
}

fn rotate(globals: &Globals, target: &Named) -> anyhow::Result<Exit> {
    target.load()?.rotated()?.store(&target.path, HEAD, true)?;
    tell(globals, &target.path)?;
    globals.note(
        "the old keys are still accepted: copy the file to every machine, restart servers and snapshot processes one \
         after the other, then run `mcomp secret retire`",
    );
    Ok(Exit::DONE)
}

fn retire(globals: &Globals, target: &Named) -> anyhow::Result<Exit> {
    let keyring = target.load()?;
    let retired = keyring.retired();
    if retired == keyring {
        globals.note("no role has more than one key: there is nothing to drop");
    } else {
        retired.store(&target.path, HEAD, true)?;
        globals.note(
            "only the new keys are left: copy the file to every machine, and restart servers and snapshot processes",
        );
    }
    tell(globals, &target.path)
}

fn export(globals: &Globals, from: &Named, roles: &[SecretRole], output: &Path) -> anyhow::Result<Exit> {
    let keyring = from.load()?;
    let roles: Vec<Role> = roles.iter().map(|&role| role.into()).collect();
    if let Some(missing) = roles.iter().find(|&&role| keyring.of(role).next().is_none()) {
        let text = format!("{} has no key of the role {missing}", from.path.display());
        return Err(Failure::new(Exit::NEGATIVE, "not_found", text).into());
    }
    if output.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!("{} is there already: choose another file", output.display())).into());
    }
    let part = keyring.only(&roles).expect("every role that was asked for has a key");
    part.store(output, HEAD, false)?;
    tell(globals, output)
}

fn tell(globals: &Globals, path: &Path) -> anyhow::Result<Exit> {
    match globals.json {
        true => output::json(&json!({"outcome": "ok", "path": path.display().to_string()}))?,
        false => output::line(path.display())?,
    }
    Ok(Exit::DONE)
}

fn show(globals: &Globals, target: &Named) -> anyhow::Result<Exit> {
    let keyring = target.load()?;
    let fingerprints = |role: Role| keyring.of(role).map(Key::fingerprint).collect::<Vec<_>>();
    if globals.json {
        let keys: serde_json::Map<_, _> =
            Role::ALL.iter().map(|&role| (role.word().to_owned(), json!(fingerprints(role)))).collect();
        output::json(&json!({"outcome": "ok", "path": target.path.display().to_string(), "keys": keys}))?;
        return Ok(Exit::DONE);
    }
    let rows = Role::ALL.iter().map(|&role| {
        let mut keys = fingerprints(role).into_iter();
        let or_none = |key: Option<String>| key.unwrap_or_else(|| "-".into());
        vec![role.word().to_owned(), or_none(keys.next()), or_none(keys.next())]
    });
    output::line(output::table(&["ROLE", "KEY", "ALSO ACCEPTED"], rows))?;
    Ok(Exit::DONE)
}

impl From<SecretRole> for Role {
    fn from(role: SecretRole) -> Role {
        match role {
            SecretRole::Client => Role::Client,
            SecretRole::Node => Role::Node,
            SecretRole::Admin => Role::Admin,
        }
    }
}
