//! `mcomp shell`: one JSON request per line in, one JSON answer per line out, in order.
//!
//! Promises
//! - Every line gets exactly one answer with the request's `id`, written at once. A line that is no
//!   request is answered with an error, and the shell goes on.
//! - It ends with its input, or quietly when nobody reads its answers.
//! - Memory is bounded: by the longest line and the longest read.
//!
//! Leaves out prompts and history: it is for programs.

mod fields;
pub(crate) mod line;
mod request;
mod session;

use std::io::{self, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure, Verdict};
use crate::globals::Globals;
use crate::output::Stdout;
use line::{Line, Lines};
use request::{Id, Request};
use session::Session;

pub(crate) fn run(globals: &Globals) -> anyhow::Result<Exit> {
    let mut session = Session::open(globals)?;
    let mut lines = Lines::new(io::stdin().lock());
    let mut stdout = Stdout::lock();
    while let Some(line) = lines.next().map_err(|error| Failure::io("read stdin", &error))? {
        let mut answer = answer(&mut session, line);
        answer.push(b'\n');
        stdout.write_all(&answer)?;
        stdout.flush()?;
    }
    Ok(Exit::DONE)
}

/// The answer to one line, without its newline.
fn answer(session: &mut Session, line: Line<'_>) -> Vec<u8> {
    let (id, request) = Request::parse(line);
    let answer = request.map_err(Into::into).and_then(|request| session.run(request));
    let said = match answer {
        Ok(fields) => serde_json::to_vec(&Said { id: &id, outcome: "ok", fields }),
        Err(error) => {
            let verdict = Verdict::of(&error);
            let fields = Failed { kind: verdict.kind, error: &verdict.sentence };
            serde_json::to_vec(&Said { id: &id, outcome: verdict.outcome(), fields })
        }
    };
    said.expect("an answer holds nothing that JSON cannot")
}

/// One line of output.
#[derive(Serialize)]
struct Said<'a, T> {
    id: &'a Id,
    outcome: &'static str,
    #[serde(flatten)]
    fields: T,
}

#[derive(Serialize)]
struct Failed<'a> {
    kind: &'static str,
    error: &'a str,
}

#[cfg(test)]
mod tests {
    use super::session::Answer;
    use super::*;
    use serde_json::value::to_raw_value;

    #[test]
    fn an_answer_is_one_line_with_the_id_first() {
        let id = to_raw_value("a\nb").unwrap();
        let said = Said { id: &id, outcome: "ok", fields: Answer::Value { value: u64::MAX } };
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(text, r#"{"id":"a\nb","outcome":"ok","value":18446744073709551615}"#);
        let said = Said { id: &to_raw_value(&()).unwrap(), outcome: "ok", fields: Answer::Nothing {} };
        assert_eq!(serde_json::to_string(&said).unwrap(), r#"{"id":null,"outcome":"ok"}"#);
    }
}
