//! The line that a person types: editing, history, and what ends it.
//!
//! Promises
//! - Ctrl-C clears the line, and ends the REPL where there is none; what was cleared comes back with Ctrl-Y. Ctrl-D on
//!   an empty line ends the REPL.
//! - A line is in the history file before it is run. One that begins with a blank is not remembered.
//! - Without a terminal that can move its cursor, lines are taken as they come.

use std::path::PathBuf;

use mcomp_client::Cluster;
use rustyline::error::ReadlineError;
use rustyline::history::{FileHistory, History};
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Event, EventContext, EventHandler, KeyEvent, Movement,
    RepeatCount,
};

use super::assistant::Assistant;
use super::history;
use crate::exit::Failure;

const PROMPT: &str = "mcomp> ";

/// What a person did with the line.
pub(super) enum Typed {
    /// He has sent it.
    Line(String),
    /// He wants to go.
    End,
}

/// The editor, with the lines of earlier days.
pub(super) struct Editor {
    editor: rustyline::Editor<Assistant, FileHistory>,
    /// None when nothing can be remembered.
    history: Option<PathBuf>,
}

impl Editor {
    /// One that knows the names of a cluster.
    pub(super) fn new(cluster: &Cluster) -> Result<Editor, Failure> {
        let config = Config::builder()
            .max_history_size(history::LINES_MAX)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(|error| failure(&error))?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .build();
        let history = FileHistory::with_config(&config);
        let mut editor = rustyline::Editor::with_history(config, history).map_err(|error| failure(&error))?;
        editor.set_helper(Some(Assistant::new(cluster)));
        editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(Clear)));
        let history = history::file().filter(|path| is_usable(editor.load_history(path)));
        Ok(Editor { editor, history })
    }

    /// The next line.
    pub(super) fn line(&mut self) -> Result<Typed, Failure> {
        match self.editor.readline(PROMPT) {
            Ok(line) => {
                self.remember(&line);
                Ok(Typed::Line(line))
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(Typed::End),
            Err(error) => Err(failure(&error)),
        }
    }

    fn remember(&mut self, line: &str) {
        // A REPL that cannot remember works all the same.
        let is_new = self.editor.history_mut().add(line).unwrap_or(false);
        if let Some(path) = self.history.as_ref().filter(|_| is_new) {
            let _ = self.editor.append_history(path);
        }
    }
}

/// Whether the file can be read, or made.
fn is_usable(loaded: rustyline::Result<()>) -> bool {
    match loaded {
        Ok(()) => true,
        Err(ReadlineError::Io(error)) => error.kind() == std::io::ErrorKind::NotFound,
        Err(_) => false,
    }
}

fn failure(error: &ReadlineError) -> Failure {
    Failure::io("read a line from the terminal", &std::io::Error::other(error.to_string()))
}

/// Ctrl-C: on an empty line it means what it always does.
struct Clear;

impl ConditionalEventHandler for Clear {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext<'_>) -> Option<Cmd> {
        (!ctx.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}
