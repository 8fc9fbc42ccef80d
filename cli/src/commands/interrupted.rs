//! The last words of a command that changes memory and is cut off by a signal: what became of the
//! memory. The outcome is unknown, and so is the exit code.

use std::io::{self, Write};

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::exit::{Exit, Failure};
use crate::globals::Globals;
use crate::output;

/// Until it is dropped, a signal ends this process with a sentence.
#[derive(Debug)]
pub(crate) struct Guard(Handle);

impl Guard {
    /// Has Ctrl-C and SIGTERM say `sentence`, which is made when one of them comes.
    pub(crate) fn new(globals: &Globals, sentence: impl Fn() -> String + Send + 'static) -> Result<Guard, Failure> {
        let failed = |error: io::Error| Failure::io("listen for signals", &error);
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let handle = signals.handle();
        let (json, kept) = (globals.json, globals.kept.clone());
        let speak = move || {
            if signals.forever().next().is_some() {
                last_words(json, &sentence());
                // A REPL ends too. Its allocations are not those of a program that died.
                if let Some(kept) = kept {
                    kept.leave_soon();
                }
                std::process::exit(i32::from(Exit::UNKNOWN.code()));
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(speak).map_err(failed)?;
        Ok(Guard(handle))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn last_words(json: bool, sentence: &str) {
    // A progress bar or the ^C of the terminal stands on the line.
    let _ = writeln!(io::stderr(), "\nmcomp: {sentence}");
    if json {
        let _ = output::json(&json!({ "outcome": "unknown", "kind": "interrupted", "error": sentence }));
    }
}
