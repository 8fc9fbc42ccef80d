//! The README tells the truth: every command of its `console` blocks is run, in order, in one folder
//! with a copy of the sample mcomp.cfg, and its output compared. `…` stands for anything in a line.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{MCOMP, Setup, mcomp};

/// A command of the README and the lines that it promises.
struct Step {
    command: String,
    promised: Vec<String>,
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let blocks = readme.split("```console\n").skip(1).map(|rest| rest.split("```").next().expect("a block"));
    for line in blocks.flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_owned(), promised: Vec::new() }),
            None => steps.last_mut().expect("a command first").promised.push(line.to_owned()),
        }
    }
    steps
}

/// Whether `line` is `promised`, in which `…` stands for anything.
fn matches(promised: &str, line: &str) -> bool {
    let mut parts = promised.split('…');
    let first = parts.next().expect("split gives one part");
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
        last = Some(part);
    }
    // A line that ends in `…` may end in anything; one that ends in text has to end in it.
    rest.is_empty() || last == Some("") || last.is_some_and(|part| line.ends_with(part))
}

/// `mcomp up` or `mcomp gateway`, stopped by Ctrl-C when the tour is over.
struct Running(Child);

impl Running {
    fn start(folder: &Path, args: &[&str]) -> (Running, String) {
        let mut command = mcomp(args);
        let mut child = command.current_dir(folder).stdout(Stdio::piped()).spawn().expect("mcomp starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("a ready line");
        (Running(child), ready)
    }

    fn stop(mut self) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).expect("a pid");
        kill_process(pid, Signal::INT).expect("it runs");
        assert!(self.0.wait().expect("it ends").success(), "it ends well on Ctrl-C");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its children die with it. After `stop` this finds nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(step: &Step, folder: &Path) {
    let bin = Path::new(MCOMP).parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{} 2>&1", group(&step.command))]).current_dir(folder).stdin(Stdio::null());
    command.env("PATH", format!("{bin}:{path}"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MCOMP_")) {
        command.env_remove(name);
    }
    let output = command.output().expect("bash runs");
    let found = String::from_utf8(output.stdout).expect("text");
    compare(step, &found);
    assert!(output.status.success(), "{}: {:?}\n{found}", step.command, output.status);
}

/// The command with its stderr where its stdout goes.
fn group(command: &str) -> String {
    format!("{{ {command}\n}}")
}

fn compare(step: &Step, found: &str) {
    let promised: Vec<&str> = step.promised.iter().map(|line| line.trim_end()).collect();
    let found: Vec<&str> = found.lines().map(str::trim_end).collect();
    // Blank lines at the end of a block are the README's own.
    let same =
        promised.len() == found.len() && promised.iter().zip(&found).all(|(promised, line)| matches(promised, line));
    assert!(same, "$ {}\npromised:\n{}\nfound:\n{}", step.command, promised.join("\n"), found.join("\n"));
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    // A prepared cluster gives a folder, a name and addresses of our own, and cleans up after us.
    let cluster = Setup::new(3, "64MiB").prepare();
    let sample = fs::read_to_string(root.join("mcomp.cfg")).expect("the sample");
    let ip = cluster.address(0).split(':').next().expect("an address").to_owned();
    let ours = sample.replace("name = \"demo\"", &format!("name = \"{}\"", cluster.name)).replace("127.0.0.1", &ip);
    fs::write(cluster.config_path(), ours).expect("the sample is copied");
    let folder = cluster.dir.path();

    let has_curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    let listen = format!("{ip}:8080");
    let mut running = Vec::new();
    for step in steps(&readme.replace("127.0.0.1:8080", &listen)) {
        let args: &[&str] = match step.command.as_str() {
            "mcomp up" => &["up"],
            "mcomp gateway" => &["gateway", "--listen", &listen],
            command if command.starts_with("curl ") && !has_curl => continue,
            _ => {
                run(&step, folder);
                continue;
            }
        };
        let (started, ready) = Running::start(folder, args);
        compare(&step, &ready);
        running.push(started);
    }
    assert_eq!(running.len(), 2, "the tour starts a cluster and a gateway");
    running.into_iter().rev().for_each(Running::stop);
    cluster.ok(&["purge"]);
}

#[test]
fn the_two_commands_are_the_ones_that_are_checked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
    let readme = read("README.md");
    let first = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let commands: Vec<&str> = first.lines().map(|line| line.split('#').next().expect("a part").trim()).collect();
    assert_eq!(commands, ["cargo run --release -- demo", "scripts/test"]);
    assert!(read("scripts/check").lines().any(|line| line == "scripts/test"));
    assert!(read(".ci/run").lines().any(|line| line.ends_with("scripts/check")));
}
