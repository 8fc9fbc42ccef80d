//! Every flag as typed, and what becomes of it.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("mcomp").chain(line.split_whitespace()))
}

fn source(line: &str) -> Source {
    match parse(line).unwrap().command {
        Command::Write(args) => args.source.into_source(),
        other => panic!("{other:?} is no write"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn global_flags_stand_before_or_after_the_subcommand() {
    for line in ["--json -q --config x.cfg --timeout 3s status", "status --json -q --config x.cfg --timeout 3s"] {
        let global = parse(line).unwrap().global;
        assert!(global.json && global.quiet, "{line}");
        assert_eq!(global.config, Some("x.cfg".into()), "{line}");
        assert_eq!(global.timeout, Some(Duration::from_secs(3)), "{line}");
    }
    assert_eq!(parse("-v config show -vv").unwrap().global.verbose, 2);
    assert_eq!(parse("snapshot create --incremental --data x").unwrap().global.data, Some("x".into()));
}

#[test]
fn a_write_has_exactly_one_source() {
    assert_eq!(source("write 0 hello"), Source::Bytes(b"hello".to_vec()));
    assert_eq!(source("write 0 --hex 00ff"), Source::Bytes(vec![0, 255]));
    assert_eq!(source("write 0 --file a"), Source::File("a".into()));
    assert_eq!(source("write 0 -"), Source::Stdin);
    assert_eq!(source("write 0 --file -"), Source::Stdin);
    assert_eq!(source("write 0 -- --dashes"), Source::Bytes(b"--dashes".to_vec()));
    for line in ["write 0", "write 0 a --hex 00", "write 0 a --file b", "write 0 --hex 0", "write"] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn a_delta_may_be_negative() {
    for (line, delta) in [("add 0 -1", u64::MAX), ("add 0 0x10", 16), ("add 0 -- -2", u64::MAX - 1)] {
        match parse(line).unwrap().command {
            Command::Add(args) => assert_eq!(args.delta, delta, "{line}"),
            other => panic!("{other:?} is no add"),
        }
    }
}

#[test]
fn wrong_arguments_are_refused() {
    for line in [
        "read -1 5",
        "read 0 5 --format base64",
        "read 1x 5",
        "read name[3:2]",
        "fill 0 16 256",
        "cas 0 1",
        "cas 0 1 -1",
        "swap 0 18446744073709551616",
        "server --id -1",
        "snapshot prune --keep 0",
        "gateway --listen 8080",
        "gateway --listen 127.0.0.1:65536",
        "gateway --max-body 0",
        "gateway --max-body 2GiB",
        "gateway --max-connections 0",
        "snapshot export x",
        "status --timeout 5",
        "completion csh",
        "config",
        "frobnicate",
        "",
    ] {
        let kind = parse(line).unwrap_err().kind();
        assert!(!matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{line}");
    }
}

#[test]
fn every_subcommand_has_examples() {
    fn check(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Examples:"), "{} has none", command.get_name());
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

/// A line that is broken by hand is broken again, badly, by a terminal that is narrower.
#[test]
fn help_leaves_its_lines_to_the_terminal() {
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let prose = help.split("Examples:").next().expect("split gives one part");
        for paragraph in prose.split("\n\n") {
            let lines: Vec<&str> = paragraph.trim().lines().collect();
            let is_set_apart = |pair: &[&str]| pair.iter().any(|line| line.starts_with("  "));
            assert!(lines.windows(2).all(is_set_apart), "{}: {paragraph}", command.get_name());
        }
        commands.extend(command.get_subcommands().cloned());
    }
}
