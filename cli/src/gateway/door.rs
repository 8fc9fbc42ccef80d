//! What all connections of a gateway share, and the answer to one request. Knows nothing of sockets.
//!
//! Promises: nothing is remembered from one request to the next; who is not let in learns nothing of the memory.
//!
//! A browser that shows a page of somebody else can reach loopback too. So a gateway without a token answers to
//! addresses and `localhost` alone (a page under a name that was pointed here has another Host), and takes JSON only
//! where it is called that (which a browser does not send across without asking first).

use std::time::Duration;

use mcomp_client::Cluster;
use mcomp_config::Config;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, JSON};
use super::head::Head;
use super::problem::Problem;
use super::route::{self, Astray, Route};
use super::{memory, register};
use crate::commands::status::ClusterStatus;
use crate::flags::value;
use crate::output::Done;

/// The OpenAPI description of every route.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// What requests are answered from.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) config: Config,
    pub(super) cluster: Cluster,
    /// Bytes of the longest body, of a request and of an answer.
    pub(super) max_body: u64,
    /// How long a request is tried again that others are in the way of.
    pub(super) patience: Duration,
    /// The hash of the token that every request must show, if there is one.
    pub(super) token: Option<blake3::Hash>,
}

/// `POST /write`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    addr: u64,
    value: String,
}

impl Door {
    /// Where a head leads, before its body is read; and why not, if it does not.
    pub(super) fn admit(&self, head: &Head) -> Result<Route, Problem> {
        self.check_token(head)?;
        let route = route::find(&head.method, &head.path).map_err(|astray| match astray {
            Astray::Nowhere => {
                let sentence = format!("nothing stands at {:?}: GET /openapi.json tells what does", head.path);
                Problem::new(404, "not_found", sentence)
            }
            Astray::Method(allow) => {
                let sentence = format!("{} is not done there, but {allow}", head.method);
                Problem::new(405, "usage", sentence).with("allow", allow)
            }
        })?;
        if !matches!(head.method.as_str(), "GET" | "HEAD") && head.body_len.is_none() {
            return Err(Problem::new(411, "usage", "a body is sent whole, with its Content-Length"));
        }
        match head.body_len {
            Some(len) if len > self.max_body => Err(Problem::body_too_large(len, self.max_body)),
            _ => Ok(route),
        }
    }

    /// Does what is asked for, and says what came of it.
    pub(super) fn answer(&self, route: &Route, head: &Head, body: &[u8]) -> Answer {
        let answered = self.respond(route, head, body);
        if answered.as_ref().is_err_and(Problem::is_of_a_restore) {
            // Whoever asked is told. The next one meets the memory as it is now.
            self.cluster.reconnect();
        }
        answered.unwrap_or_else(|problem| problem.answer())
    }

    fn respond(&self, route: &Route, head: &Head, body: &[u8]) -> Result<Answer, Problem> {
        match route {
            Route::Register(number) => {
                let register = register::read(&self.cluster, value::number(number)?)?;
                let text = register.text.unwrap_or_else(|| "nil".to_owned());
                Ok(Answer::json(&json!({"tag": register.tag, "value": text})))
            }
            Route::Write => self.write(head, body),
            Route::Status => Ok(Answer::json(&Done::with(ClusterStatus::ask(&self.config, &self.cluster)))),
            Route::Memory(place) => match head.method.as_str() {
                "PUT" => memory::put(&self.cluster, place, head, body, self.patience),
                "PATCH" => memory::patch(&self.cluster, place, head, body, self.patience),
                _ => memory::get(&self.cluster, place, head, self.max_body),
            },
            Route::OpenApi => Ok(Answer::new(200, JSON, OPENAPI.into())),
        }
    }

    fn write(&self, head: &Head, body: &[u8]) -> Result<Answer, Problem> {
        let content_type = head.field("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        if !content_type.trim().eq_ignore_ascii_case(JSON) {
            return Err(Problem::new(415, "usage", format!("the body is JSON, with `Content-Type: {JSON}`")));
        }
        let write: Write = serde_json::from_slice(body).map_err(|error| {
            Problem::usage(format!("the body is not {{\"addr\": NUMBER, \"value\": TEXT}}: {error}"))
        })?;
        let tag = register::write(&self.cluster, write.addr, &write.value, self.patience)?;
        Ok(Answer::json(&json!({"tag": tag})))
    }

    fn check_token(&self, head: &Head) -> Result<(), Problem> {
        let Some(token) = self.token else { return check_host(head) };
        let shown = head.field("authorization").and_then(|field| field.split_once(' '));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        // Hashes are compared in constant time.
        match shown.is_some_and(|shown| blake3::hash(shown.as_bytes()) == token) {
            true => Ok(()),
            false => {
                let problem = Problem::new(401, "denied", "show this gateway's token: `Authorization: Bearer TOKEN`");
                Err(problem.with("www-authenticate", "Bearer"))
            }
        }
    }
}

/// Refuses a host that is a name somebody may have pointed here.
fn check_host(head: &Head) -> Result<(), Problem> {
    let Some(host) = head.field("host") else { return Ok(()) };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err(Problem::new(421, "denied", format!("{host:?} is not this gateway: call it by its address, or localhost")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(token: Option<&str>) -> Door {
        let text = "[cluster]\nname = \"door\"\nk = \"4KiB\"\nn = 1\n[[server]]\naddress = \"127.0.0.1:7401\"\n";
        let overrides = mcomp_config::Overrides::default();
        let config = Config::parse(text, std::path::Path::new("mcomp.cfg"), &overrides).unwrap();
        Door {
            cluster: Cluster::connect(&config).unwrap(),
            config,
            max_body: 10,
            patience: Duration::from_secs(1),
            token: token.map(|token| blake3::hash(token.as_bytes())),
        }
    }

    fn admitted(door: &Door, line: &str, fields: &str) -> Result<Route, (u16, &'static str)> {
        let head = Head::parse(format!("{line} HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap().unwrap();
        door.admit(&head).map_err(|problem| (problem.status, problem.kind))
    }

    #[test]
    fn what_is_refused_is_refused_before_its_body() {
        let door = door(None);
        let host = "Host: [::1]:80\r\n";
        for (line, fields, refused) in [
            ("GET /nowhere", "", (404, "not_found")),
            ("DELETE /status", "", (405, "usage")),
            ("PUT /v1/memory/0", "", (411, "usage")),
            ("PUT /v1/memory/0", "Content-Length: 11\r\n", (413, "too_large")),
            ("GET /status", "Content-Length: 11\r\n", (413, "too_large")),
        ] {
            assert_eq!(admitted(&door, line, &format!("{host}{fields}")), Err(refused), "{line} {fields}");
        }
        assert_eq!(admitted(&door, "POST /write", &format!("{host}Content-Length: 10\r\n")), Ok(Route::Write));
    }

    #[test]
    fn a_name_that_was_pointed_here_is_not_answered() {
        let door = door(None);
        for host in ["127.0.0.1", "127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]", "[::1]:8080"] {
            assert_eq!(admitted(&door, "GET /status", &format!("Host: {host}\r\n")), Ok(Route::Status), "{host}");
        }
        for host in ["", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            let found = admitted(&door, "GET /status", &format!("Host: {host}\r\n"));
            assert_eq!(found, Err((421, "denied")), "{host}");
        }
    }

    #[test]
    fn who_does_not_show_the_token_learns_nothing() {
        let door = door(Some("0123456789abcdef"));
        let with = |field: &str| admitted(&door, "GET /nowhere", &format!("Host: a.example\r\n{field}\r\n"));
        for field in ["X: y", "Authorization: 0123456789abcdef", "Authorization: Bearer 0123456789abcdeF"] {
            assert_eq!(with(field), Err((401, "denied")), "{field}");
        }
        assert_eq!(with("Authorization: bearer 0123456789abcdef"), Err((404, "not_found")));
    }
}
