//! What helps a person to type a line: completion, hints, and a little colour.
//!
//! Promises
//! - TAB completes commands, their parts and flags, the names of allocations where an address stands, the ids of
//!   servers, and files. Only TAB asks the servers anything.
//! - A hint is what belongs behind a command, or how a line of the history went on; right arrow takes the latter.
//! - Where `$NO_COLOR` is set nothing is coloured, and since nobody could tell it from what was typed, nothing of the
//!   history is suggested.

use std::borrow::Cow;

use clap::{Arg, CommandFactory};
use mcomp_client::Cluster;
use rustyline::Context;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint, Hinter, HistoryHinter};
use rustyline::validate::Validator;

use crate::flags::Cli;

/// The short commands, and what belongs behind them.
const SHORT: [(&str, &str); 8] = [
    ("h", "[COMMAND]"),
    ("t", ""),
    ("m", "SIZE [--name NAME] [--lease DURATION]"),
    ("f", "ADDR"),
    ("w", "ADDR SIZE DATA, or ADDR FILE [SIZE]"),
    ("r", "ADDR SIZE, or ADDR FILE [SIZE]"),
    ("d", "ADDR, or net"),
    ("exit", ""),
];

pub(super) struct Assistant {
    cluster: Cluster,
    /// The command line of mcomp, with all that is known of it.
    parser: clap::Command,
    history: HistoryHinter,
    is_coloured: bool,
}

impl Assistant {
    pub(super) fn new(cluster: &Cluster) -> Assistant {
        let mut parser = Cli::command();
        parser.build();
        let is_coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Assistant { cluster: cluster.clone(), parser, history: HistoryHinter::new(), is_coloured }
    }

    /// What may stand where a word begins with `begun`, behind `before`.
    fn candidates(&self, before: &[&str], begun: &str) -> Vec<String> {
        let Some(first) = before.first() else { return self.commands() };
        let (command, depth) = self.command_of(before);
        if begun.starts_with('-') {
            let flags = command.into_iter().flat_map(clap::Command::get_arguments).filter(|flag| !flag.is_hide_set());
            return flags.filter_map(Arg::get_long).map(|long| format!("--{long}")).collect();
        }
        if let Some(command) = command.filter(|command| command.has_subcommands() && depth == before.len()) {
            return command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        }
        match *first {
            "kill" | "freeze" | "thaw" | "revive" => (0..self.cluster.space().n()).map(|id| id.to_string()).collect(),
            "d" => [vec!["net".to_owned()], self.names()].concat(),
            "f" | "w" | "r" if before.len() == 1 => self.names(),
            _ if command.is_some_and(takes_place) => self.names(),
            _ => Vec::new(),
        }
    }

    fn commands(&self) -> Vec<String> {
        let long = self.parser.get_subcommands().map(|command| command.get_name().to_owned());
        let long = long.filter(|name| super::help::is_for_lines(name));
        SHORT.iter().map(|(name, _)| (*name).to_owned()).chain(long).collect()
    }

    /// The command that the words name, and how many of them it took.
    fn command_of(&self, words: &[&str]) -> (Option<&clap::Command>, usize) {
        let (mut command, mut depth) = (&self.parser, 0);
        while let Some(next) = words.get(depth).and_then(|word| command.find_subcommand(word)) {
            (command, depth) = (next, depth + 1);
        }
        ((depth > 0).then_some(command), depth)
    }

    /// The names of all allocations; none when nobody answers.
    fn names(&self) -> Vec<String> {
        self.cluster.regions().unwrap_or_default().into_iter().filter_map(|region| region.name).collect()
    }

    /// What belongs behind a command.
    fn form(&self, name: &str) -> Option<String> {
        if let Some((_, form)) = SHORT.iter().find(|(short, _)| *short == name) {
            return Some((*form).to_owned());
        }
        let command = self.parser.find_subcommand(name)?;
        if command.has_subcommands() {
            return Some("COMMAND".to_owned());
        }
        Some(command.get_positionals().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }
}

/// Whether one of a command's words is an address.
fn takes_place(command: &clap::Command) -> bool {
    let mut names = command.get_positionals().flat_map(|word| word.get_value_names().unwrap_or_default());
    names.any(|name| ["ADDR", "ADDR|NAME", "FROM", "TO"].contains(&name.as_str()))
}

/// Whether a file stands behind these words.
fn is_file_next(before: &[&str]) -> bool {
    match before {
        ["w" | "r" | "compare", _] => true,
        [_, .., last] => ["--file", "-o", "--output", "--config"].contains(last),
        _ => false,
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        let start = typed.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        let begun = &typed[start..];
        let mut before: Vec<&str> = typed[..start].split_whitespace().collect();
        if before.first() == Some(&"mcomp") {
            before.remove(0);
        }
        if is_file_next(&before) {
            return FilenameCompleter::new().complete_path(line, pos);
        }
        let pair = |word: String| Pair { replacement: format!("{word} "), display: word };
        let fitting = self.candidates(&before, begun).into_iter().filter(|word| word.starts_with(begun));
        Ok((start, fitting.map(pair).collect()))
    }
}

/// A hint, and whether right arrow takes it.
pub(super) struct Tip {
    text: String,
    is_taken: bool,
}

impl Hint for Tip {
    fn display(&self) -> &str {
        &self.text
    }

    fn completion(&self) -> Option<&str> {
        self.is_taken.then_some(&self.text)
    }
}

impl Hinter for Assistant {
    type Hint = Tip;

    fn hint(&self, line: &str, pos: usize, ctx: &Context<'_>) -> Option<Tip> {
        if pos < line.len() {
            return None;
        }
        let form = self.form(line.trim_end()).filter(|form| !form.is_empty());
        if let Some(form) = form.filter(|_| !line.ends_with("  ")) {
            let blank = if line.ends_with(' ') { "" } else { " " };
            return Some(Tip { text: format!("{blank}{form}"), is_taken: false });
        }
        let text = self.is_coloured.then(|| self.history.hint(line, pos, ctx)).flatten()?;
        Some(Tip { text, is_taken: true })
    }
}

/// Nothing here is called where colours are off.
impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Owned(format!("\x1b[1m{prompt}\x1b[0m"))
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        false
    }
}

impl Validator for Assistant {}

impl rustyline::Helper for Assistant {}

#[cfg(test)]
mod tests {
    use rustyline::history::MemHistory;

    use super::*;

    fn assistant() -> Assistant {
        let config = "[cluster]\nname = \"repl\"\nk = \"4KiB\"\nn = 3\n".to_owned()
            + &["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
                .map(|at| format!("[[server]]\naddress = \"{at}\"\n"))
                .concat();
        let config = mcomp_config::Config::parse(&config, "mcomp.cfg".as_ref(), &Default::default()).unwrap();
        Assistant { is_coloured: false, ..Assistant::new(&Cluster::connect(&config).unwrap()) }
    }

    fn completed(line: &str) -> Vec<String> {
        let history = MemHistory::new();
        let (start, pairs) = assistant().complete(line, line.len(), &Context::new(&history)).unwrap();
        pairs.into_iter().map(|pair| format!("{}{}", &line[..start], pair.replacement)).collect()
    }

    #[test]
    fn commands_their_parts_and_flags_are_completed() {
        assert_eq!(completed("rea"), ["read ", "realloc "]);
        assert_eq!(completed("mcomp snapsh"), ["mcomp snapshot "]);
        assert_eq!(completed("lease re"), ["lease renew ", "lease release "]);
        assert_eq!(completed("alloc 5 --n"), ["alloc 5 --name "]);
        assert_eq!(completed("revive "), ["revive 0 ", "revive 1 ", "revive 2 "]);
        assert_eq!(completed("frobnicate x"), [""; 0]);
        let all = completed("");
        assert!(["w ", "exit ", "status "].iter().all(|word| all.iter().any(|found| found == word)), "{all:?}");
        assert!(!all.iter().any(|found| found == "server "), "what is refused is not offered: {all:?}");
    }

    #[test]
    fn a_hint_is_what_belongs_behind_a_command() {
        let history = MemHistory::new();
        let assistant = assistant();
        let hint = |line: &str| Some(assistant.hint(line, line.len(), &Context::new(&history))?.text);
        assert_eq!(hint("f").as_deref(), Some(" ADDR"));
        assert_eq!(hint("w ").as_deref(), Some("ADDR SIZE DATA, or ADDR FILE [SIZE]"));
        assert_eq!(hint("realloc").as_deref(), Some(" <ADDR|NAME> <SIZE>"));
        for line in ["", "t", "f 0", "frob"] {
            assert_eq!(hint(line), None, "{line}");
        }
    }
}
