//! What keys do: they find lines again, complete words, clear, and leave; and Ctrl-C while a command runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::terminal::Terminal;
use super::{repl, setup};
use crate::harness::Setup;

#[test]
fn lines_are_remembered_in_a_file_of_ones_own() {
    let cluster = setup().servers();
    let mut first = Terminal::start(repl(&cluster));
    first.say("w 0 5 hello");
    first.say(" w 0 6 secret");
    assert_eq!(first.say("r 0 6"), "secret");
    let path = cluster.dir.path().join("state/mcomp/history");
    let history = fs::read_to_string(&path).expect("it is written before the end");
    assert_eq!(history.lines().skip(1).collect::<Vec<_>>(), ["w 0 5 hello", "r 0 6"]);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert_eq!(first.leave("\x04"), Some(0), "Ctrl-D ends it");

    let mut second = Terminal::start(repl(&cluster));
    second.press("\x1b[A\x1b[A");
    second.shows("mcomp> w 0 5 hello");
    second.press("\x03");
    second.shows("mcomp> ");
    assert_eq!(second.say("r 0 6"), "secret", "Ctrl-C cleared the line and ran nothing");
    assert_eq!(second.leave("\x03"), Some(0), "on an empty line it ends it");
}

#[test]
fn without_a_place_for_the_history_it_works_all_the_same() {
    let cluster = setup().servers();
    let mut command = repl(&cluster);
    command.env("XDG_STATE_HOME", "/proc/nothing");
    let mut repl = Terminal::start(command);
    repl.say("w 0 5 hello");
    repl.press("\x1b[A");
    repl.shows("mcomp> w 0 5 hello");
    assert_eq!(repl.leave("\x03\x03"), Some(0));
}

#[test]
fn tab_completes_commands_names_and_files() {
    let cluster = setup().servers();
    fs::write(cluster.dir.path().join("input.bin"), b"bytes").expect("a file");
    let mut repl = Terminal::start(repl(&cluster));
    repl.say("m 100 --name measurements");
    for (typed, line) in [
        ("statu\t", "mcomp> status "),
        ("f meas\t", "mcomp> f measurements "),
        ("w measurements inp\t", "mcomp> w measurements input.bin"),
        ("r measurements+0 ./inp\t", "mcomp> r measurements+0 ./input.bin"),
        ("lease rel\t", "mcomp> lease release "),
        ("d n\t", "mcomp> d net "),
    ] {
        repl.press(typed);
        repl.wait(typed, |screen| screen.begins(line));
        repl.press("\x03");
        repl.shows("mcomp> ");
    }
    // What belongs behind a command is shown before it is typed, and never becomes a part of the line.
    repl.press("f");
    repl.shows("mcomp> f ADDR");
    repl.press("\x1b[C\x03");
    repl.shows("mcomp> ");
    assert_eq!(repl.leave("\x04"), Some(0));
}

#[test]
fn colours_are_for_those_who_want_them() {
    let cluster = setup().servers();
    let styled = |repl: &Terminal| repl.raw().contains("\x1b[1m") || repl.raw().contains("\x1b[2m");
    let mut plain = Terminal::start(repl(&cluster));
    plain.press("f");
    plain.shows("mcomp> f ADDR");
    assert!(!styled(&plain), "{:?}", plain.raw());
    let mut command = repl(&cluster);
    command.env_remove("NO_COLOR");
    let coloured = Terminal::start(command);
    assert!(styled(&coloured), "{:?}", coloured.raw());
}

#[test]
fn ctrl_c_stops_a_long_dump_and_nothing_else() {
    let cluster = Setup::new(1, "4MiB").servers();
    let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(4 << 20).collect();
    cluster.client().write_at(0, &bytes).expect("written");
    let mut repl = Terminal::start(repl(&cluster));
    repl.press("read 0 4MiB --format hex\r");
    repl.wait("the dump", |screen| screen.has_begun("00000010"));
    // Nobody takes what it prints now, so it cannot come to its end.
    repl.interrupt();
    repl.wait("a prompt", super::terminal::Screen::is_ready);
    repl.wait("no end of the dump", |screen| !screen.has_line("00400000"));
    assert_eq!(repl.say("r 0 0"), "", "the next line is as any other");
    assert_eq!(repl.say("add 0 0"), u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")).to_string());
    assert_eq!(repl.leave("\x04"), Some(0));
}

#[test]
fn a_second_ctrl_c_leaves_a_command_that_waits() {
    let cluster = setup().servers();
    let mut repl = Terminal::start(repl(&cluster));
    cluster.freeze_server(1);
    repl.press("add 65536 1 --remote --timeout 1h\r");
    repl.wait("the line", |screen| screen.has_line("mcomp> add 65536 1 --remote --timeout 1h"));
    let (code, screen) = repl.interrupted_to_the_end();
    assert_eq!(code, Some(2), "{screen}");
    assert!(screen.contains("what the command did is not known"), "{screen}");
}
