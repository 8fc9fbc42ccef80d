//! A pseudo-terminal with a REPL in it, and a screen that knows the few ways in which its cursor moves.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::harness::{PATIENCE, wait_until};

const PROMPT: &str = "mcomp> ";

/// A REPL at a terminal. It is killed when it is dropped.
pub(super) struct Terminal {
    child: Child,
    keys: File,
    /// What comes out of it, a little at a time: who does not take it makes the REPL wait.
    output: Receiver<Vec<u8>>,
    screen: Screen,
    greeting: String,
    addrs: BTreeMap<String, String>,
}

impl Terminal {
    /// Starts it, and waits for its prompt.
    pub(super) fn start(mut command: Command) -> Terminal {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
        grantpt(&keys).and_then(|()| unlockpt(&keys)).expect("it is ours");
        let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&keys, size).expect("it has a size");
        let name = ptsname(&keys, Vec::new()).expect("it has a name").into_string().expect("of letters");
        let far = |_| OpenOptions::new().read(true).write(true).open(Path::new(&name)).expect("its other end");
        let [stdin, stdout, stderr] = [0, 1, 2].map(far);
        let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().expect("mcomp starts");
        // It holds the other end open.
        drop(command);
        let output = bytes_of(keys.try_clone().expect("a descriptor"));
        let keys = File::from(keys);
        let screen = Screen::default();
        let mut repl = Terminal { child, keys, output, screen, greeting: String::new(), addrs: BTreeMap::new() };
        repl.wait("the first prompt", |screen| screen.last() == PROMPT);
        repl.greeting = repl.screen.text(0);
        repl
    }

    /// What it says before the first prompt.
    pub(super) fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Types a line, and returns what comes before the next prompt.
    pub(super) fn say(&mut self, line: &str) -> String {
        let before = self.screen.lines.len();
        self.press(&format!("{line}\r"));
        self.wait(line, |screen| screen.lines.len() > before && screen.last() == PROMPT);
        assert_eq!(self.screen.line(before - 1), format!("{PROMPT}{line}").trim_end(), "the line is on the screen");
        self.screen.text(before)
    }

    /// Presses keys.
    pub(super) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until the line of the cursor is this.
    pub(super) fn shows(&mut self, line: &str) {
        self.wait(line, |screen| screen.last() == line);
    }

    /// Waits until what was typed so far is answered like this.
    pub(super) fn wait(&mut self, what: &str, is_there: impl Fn(&Screen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_there(&self.screen) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.screen.show(&bytes),
                Err(error) => panic!("{what}: {error}, and on the screen is\n{}", self.screen.text(0)),
            }
        }
    }

    /// Presses keys that end it, and returns its exit code.
    pub(super) fn leave(mut self, keys: &str) -> Option<i32> {
        self.press(keys);
        self.ended().code()
    }

    /// Waits until it has ended, and shows its last words.
    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the REPL has ended", || {
            self.drain();
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Sends Ctrl-C, as the kernel does while no line is typed, until it has ended.
    pub(super) fn interrupted_to_the_end(mut self) -> (Option<i32>, String) {
        let mut status = None;
        wait_until("the REPL has ended", || {
            self.drain();
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some() || {
                self.interrupt();
                false
            }
        });
        // The terminal keeps what was written last.
        while let Ok(bytes) = self.output.recv_timeout(PATIENCE) {
            self.screen.show(&bytes);
        }
        (status.expect("it has ended").code(), self.screen.text(0))
    }

    /// Sends Ctrl-C once.
    pub(super) fn interrupt(&self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a pid");
        kill_process(pid, Signal::INT).expect("it has not been waited for");
    }

    fn drain(&mut self) {
        while let Ok(bytes) = self.output.recv_timeout(std::time::Duration::from_millis(1)) {
            self.screen.show(&bytes);
        }
    }

    /// Everything that came out of it, as it came.
    pub(super) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.screen.raw).into_owned()
    }

    /// Gives an address a name for the test.
    pub(super) fn name(&mut self, name: &str, addr: &str) {
        self.addrs.insert(name.to_owned(), addr.to_owned());
    }

    pub(super) fn addr(&self, name: &str) -> String {
        self.addrs[name].clone()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes_of(near: OwnedFd) -> Receiver<Vec<u8>> {
    let (sender, output) = sync_channel(4);
    std::thread::spawn(move || {
        let (mut near, mut buffer) = (File::from(near), [0; 4096]);
        // With the other end closed, Linux answers EIO.
        while let Ok(len @ 1..) = near.read(&mut buffer) {
            if sender.send(buffer[..len].to_vec()).is_err() {
                return;
            }
        }
    });
    output
}

/// What a terminal of endless height shows. Beyond letters it knows what the editor of lines makes use of.
#[derive(Default)]
pub(super) struct Screen {
    raw: Vec<u8>,
    /// How much of `raw` is shown.
    shown: usize,
    lines: Vec<Vec<char>>,
    column: usize,
}

impl Screen {
    fn show(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        while let Some((len, c)) = next_of(&self.raw[self.shown..]) {
            let sequence = self.raw[self.shown..self.shown + len].to_vec();
            self.shown += len;
            self.put(c, &sequence);
        }
    }

    fn put(&mut self, c: char, sequence: &[u8]) {
        if self.lines.is_empty() {
            self.lines.push(Vec::new());
        }
        let line = self.lines.last_mut().expect("there is one");
        match c {
            '\x1b' => {
                let number: usize = String::from_utf8_lossy(&sequence[2..sequence.len() - 1]).parse().unwrap_or(0);
                match sequence.last() {
                    Some(b'C') => self.column += number.max(1),
                    Some(b'D') => self.column = self.column.saturating_sub(number.max(1)),
                    Some(b'K' | b'J') => line.truncate(self.column),
                    // Colours, and modes of the keyboard.
                    _ => {}
                }
            }
            '\r' => self.column = 0,
            '\n' => {
                self.lines.push(Vec::new());
                self.column = 0;
            }
            '\x08' => self.column = self.column.saturating_sub(1),
            c if c.is_control() => {}
            c => {
                line.resize(line.len().max(self.column + 1), ' ');
                line[self.column] = c;
                self.column += 1;
            }
        }
    }

    /// The line of the cursor.
    fn last(&self) -> String {
        self.lines.last().map(|line| line.iter().collect()).unwrap_or_default()
    }

    fn line(&self, at: usize) -> String {
        self.lines[at].iter().collect::<String>().trim_end().to_owned()
    }

    /// The lines from one on, but for that of the cursor.
    fn text(&self, from: usize) -> String {
        let to = self.lines.len().saturating_sub(1).max(from);
        (from..to).map(|at| self.line(at)).collect::<Vec<_>>().join("\n")
    }

    /// Whether the line of the cursor begins like this.
    pub(super) fn begins(&self, line: &str) -> bool {
        self.last().starts_with(line)
    }

    /// Whether any line begins like this.
    pub(super) fn has_begun(&self, line: &str) -> bool {
        (0..self.lines.len()).any(|at| self.line(at).starts_with(line))
    }

    /// Whether any line is this one.
    pub(super) fn has_line(&self, line: &str) -> bool {
        (0..self.lines.len()).any(|at| self.line(at) == line)
    }

    /// Whether the cursor stands behind a prompt.
    pub(super) fn is_ready(&self) -> bool {
        self.last() == PROMPT
    }
}

/// The first character of the bytes and its length, or that of a whole escape sequence; none while more has to come.
fn next_of(bytes: &[u8]) -> Option<(usize, char)> {
    if bytes.first() == Some(&0x1b) {
        let end = bytes.iter().skip(2).position(|byte| (0x40..=0x7e).contains(byte))?;
        return Some((end + 3, '\x1b'));
    }
    let len = (1..=bytes.len().min(4)).find(|len| std::str::from_utf8(&bytes[..*len]).is_ok())?;
    std::str::from_utf8(&bytes[..len]).ok()?.chars().next().map(|c| (len, c))
}
