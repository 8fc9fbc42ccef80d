//! `mcomp config check` and `mcomp config show`.

use std::path::Path;
use std::time::SystemTime;

use mcomp_config::{Config, TlsFiles, Value, format_size};
use mcomp_net::tls::{Doubt, Tls, TlsError};
use serde_json::{Map, json};

use super::exposed::{EDIT, exposed};
use crate::exit::Exit;
use crate::flags::{ConfigArgs, ConfigCommand};
use crate::globals::Globals;
use crate::output;

pub(crate) fn run(globals: &Globals, args: &ConfigArgs) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    if let (ConfigCommand::Check, Some(files)) = (args.command, config.tls()) {
        check_certificate(files)?;
    }
    match (args.command, globals.json) {
        (ConfigCommand::Check, true) => output::json(&checked_json(&config))?,
        (ConfigCommand::Check, false) => output::line(checked_text(&config))?,
        (ConfigCommand::Show, true) => output::json(&shown_json(&config))?,
        (ConfigCommand::Show, false) => output::line(shown_text(&config))?,
    }
    if matches!(args.command, ConfigCommand::Check)
        && let Some(warning) = warning(&exposed(&config), config.path())
    {
        globals.note(warning);
    }
    Ok(Exit::DONE)
}

/// The file is valid; that processes do not start with it is their own refusal, which may come on another machine.
fn warning(exposed: &[String], path: &Path) -> Option<String> {
    let (first, rest) = exposed.split_first()?;
    let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
    Some(format!(
        "WARNING: {first}{more} can be reached from other machines, and there is no secret: servers and snapshot \
         processes refuse to start there. Make one with `mcomp secret create`, and write {EDIT} of {}",
        path.display()
    ))
}

/// Refuses files that cannot be read, and a certificate that nobody will believe. For which hosts it is, and that it
/// may be of another authority than its peers', is told by `mcomp doctor`, which knows this machine.
fn check_certificate(files: &TlsFiles) -> Result<(), TlsError> {
    let tls = Tls::load(&files.ca, &files.cert, &files.key)?;
    match tls.doubt(None, SystemTime::now()) {
        None | Some(Doubt::Authority(_)) => Ok(()),
        Some(doubt) => Err(TlsError::Bad { what: "certificate", path: files.cert.clone(), why: doubt.to_string() }),
    }
}

fn checked_text(config: &Config) -> String {
    let (n, k, size) = (config.n(), format_size(config.k()), format_size(config.space()));
    let servers = if n == 1 { "server" } else { "servers" };
    format!("{} is valid: {n} {servers} x {k} = {size}", config.path().display())
}

fn checked_json(config: &Config) -> serde_json::Value {
    json!({
        "outcome": "ok",
        "path": config.path().display().to_string(),
        "cluster": config.name(),
        "n": config.n(),
        "k": config.k(),
        "size": config.space(),
    })
}

fn shown_text(config: &Config) -> String {
    let rows =
        config.shown().iter().map(|shown| vec![shown.key.clone(), shown.value.to_string(), shown.origin.to_string()]);
    format!("{}\n\n{}", config.path().display(), output::table(&["KEY", "VALUE", "FROM"], rows))
}

fn shown_json(config: &Config) -> Map<String, serde_json::Value> {
    let value = |value: &Value| match value {
        Value::String(text) => json!(text),
        Value::Integer(number) => json!(number),
        Value::Size(bytes) => json!(bytes),
        Value::Boolean(yes) => json!(yes),
        Value::Null => json!(null),
    };
    let entry = |shown: &mcomp_config::Shown| {
        (shown.key.clone(), json!({"value": value(&shown.value), "origin": shown.origin.to_string()}))
    };
    let mut map: Map<_, _> = config.shown().iter().map(entry).collect();
    map.insert("path".into(), config.path().display().to_string().into());
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcomp_config::Overrides;

    fn config() -> Config {
        let text = "cluster = { name = 'demo', k = '64MiB', n = 1 }\n[[server]]\naddress = '127.0.0.1:7401'\n";
        let overrides = Overrides { flags: vec![("client.timeout".into(), "3s".into())], ..Overrides::default() };
        Config::parse(text, Path::new("mcomp.cfg"), &overrides).unwrap()
    }

    #[test]
    fn check_does_the_sum() {
        assert_eq!(checked_text(&config()), "mcomp.cfg is valid: 1 server x 64 MiB = 64 MiB");
    }

    #[test]
    fn the_warning_names_an_address_and_the_way_out() {
        let path = Path::new("mcomp.cfg");
        assert_eq!(warning(&[], path), None);
        let text = warning(&["server.0.address = 192.0.2.1:1".into(), "server.1.address = 192.0.2.2:1".into()], path);
        let text = text.unwrap();
        for part in ["server.0.address = 192.0.2.1:1 (and 1 more)", "mcomp secret create", "in [security] of mcomp.cfg"]
        {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn show_has_every_value_with_its_origin() {
        let json = shown_json(&config());
        assert_eq!(json["path"], "mcomp.cfg");
        assert_eq!(json["cluster.k"], json!({"value": 64 << 20, "origin": "file"}));
        assert_eq!(json["client.timeout"], json!({"value": "3s", "origin": "flag"}));
        assert_eq!(json["snapshot.keep"]["origin"], "default");
        let text = shown_text(&config());
        assert!(text.contains("\nclient.timeout "), "{text}");
    }
}
