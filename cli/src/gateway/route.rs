//! What stands at which path, and what may be done with it. The list here and docs/openapi.json are held equal by a test.

/// Every path, with what may be done there. `{place}` stands for one part of a path. HEAD goes wherever GET does.
const ROUTES: &[(&str, &[&str], Make)] = &[
    ("/read/{addr}", &["GET"], Route::Register),
    ("/registers/{addr}", &["GET"], Route::Register),
    ("/write", &["POST"], |_| Route::Write),
    ("/status", &["GET"], |_| Route::Status),
    ("/v1/memory/{place}", &["GET", "PUT", "PATCH"], Route::Memory),
    ("/openapi.json", &["GET"], |_| Route::OpenApi),
];

type Make = fn(String) -> Route;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The register of this number, as text.
    Register(String),
    /// Where registers are written.
    Write,
    /// What every process says of itself.
    Status,
    /// The memory at a place, as text.
    Memory(String),
    /// The description of all of this.
    OpenApi,
}

/// What a path does not lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Astray {
    /// Nothing stands there.
    Nowhere,
    /// It can be asked in these ways alone.
    Method(String),
}

/// What `method` asks for at `path`.
pub(super) fn find(method: &str, path: &str) -> Result<Route, Astray> {
    let found = ROUTES.iter().find_map(|(template, methods, make)| Some((methods, make(matched(template, path)?))));
    let (methods, route) = found.ok_or(Astray::Nowhere)?;
    let is_allowed = methods.contains(&method) || (method == "HEAD" && methods.contains(&"GET"));
    if is_allowed { Ok(route) } else { Err(Astray::Method(allowed(methods))) }
}

/// The value of `Allow`.
fn allowed(methods: &[&str]) -> String {
    let head = methods.contains(&"GET").then_some("HEAD");
    methods.iter().copied().chain(head).collect::<Vec<_>>().join(", ")
}

/// The part of `path` that stands for the braces of `template`, empty where there are none; none if they differ.
fn matched(template: &str, path: &str) -> Option<String> {
    let Some((before, _)) = template.split_once('{') else {
        return (template == path).then(String::new);
    };
    let part = path.strip_prefix(before)?;
    if part.is_empty() || part.contains('/') { None } else { decoded(part) }
}

/// Text with `%XX` in it; none if it is not UTF-8 then, or a byte is cut off.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    #[test]
    fn paths_lead_to_what_stands_there() {
        let memory = |place: &str| Ok(Route::Memory(place.into()));
        for (method, path, expected) in [
            ("GET", "/read/7", Ok(Route::Register("7".into()))),
            ("HEAD", "/registers/0x7", Ok(Route::Register("0x7".into()))),
            ("POST", "/write", Ok(Route::Write)),
            ("GET", "/status", Ok(Route::Status)),
            ("GET", "/v1/memory/results+64", memory("results+64")),
            ("PUT", "/v1/memory/results%5B0%3a64%5D", memory("results[0:64]")),
            ("PATCH", "/v1/memory/%C3%A9", memory("é")),
            ("POST", "/v1/memory/7", Err(Astray::Method("GET, PUT, PATCH, HEAD".into()))),
            ("HEAD", "/write", Err(Astray::Method("POST".into()))),
            ("get", "/status", Err(Astray::Method("GET, HEAD".into()))),
            ("GET", "/", Err(Astray::Nowhere)),
            ("GET", "", Err(Astray::Nowhere)),
            ("GET", "/read/", Err(Astray::Nowhere)),
            ("GET", "/read/7/8", Err(Astray::Nowhere)),
            ("GET", "/status/", Err(Astray::Nowhere)),
            ("GET", "/v1/memory/%ff", Err(Astray::Nowhere)),
            ("GET", "/v1/memory/%4", Err(Astray::Nowhere)),
            ("GET", "/v1/memory/%+1", Err(Astray::Nowhere)),
            ("GET", "/v1/memory/%é", Err(Astray::Nowhere)),
        ] {
            assert_eq!(find(method, path), expected, "{method} {path}");
        }
    }

    fn description() -> Value {
        serde_json::from_str(include_str!("../../../docs/openapi.json")).expect("JSON")
    }

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let of_path = |(path, item): (&String, &Value)| {
            let methods = item.as_object().expect("an object").keys().filter(|key| *key != "parameters");
            (path.clone(), methods.map(|method| method.to_uppercase()).collect())
        };
        let of_route = |(path, methods, _): &(&str, &[&str], Make)| {
            ((*path).to_owned(), allowed(methods).split(", ").map(str::to_owned).collect())
        };
        let described: BTreeMap<String, BTreeSet<String>> =
            description()["paths"].as_object().expect("paths").iter().map(of_path).collect();
        assert_eq!(described, ROUTES.iter().map(of_route).collect());
    }

    #[test]
    fn the_description_refers_to_what_it_has() {
        let description = description();
        let (mut left, mut references) = (vec![&description], 0);
        while let Some(value) = left.pop() {
            if let Some(reference) = value.get("$ref") {
                let pointer = reference.as_str().and_then(|text| text.strip_prefix('#')).expect("a place in the file");
                assert!(description.pointer(pointer).is_some(), "{pointer} is nowhere");
                references += 1;
            }
            left.extend(value.as_object().into_iter().flat_map(|object| object.values()));
            left.extend(value.as_array().into_iter().flatten());
        }
        assert!(references > 20, "{references}");
    }
}
