//! The commands that work on files themselves, under the same sweep: export, prune, and those that only read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use super::folder::{State, Stricken, files_in};
use super::{ENDLESS, FAULTS};

/// Runs a command once for every fault that it meets, each time after `before`; hands it to `judge`, and
/// returns how many it met of each kind.
fn sweep(
    stricken: &mut Stricken,
    args: &[&str],
    mut before: impl FnMut(&Stricken),
    mut judge: impl FnMut(&mut Stricken, &Output, &str),
) -> u32 {
    let mut met = 0;
    for (kind, effect) in FAULTS.iter().flat_map(|(kind, effects)| effects.iter().map(move |effect| (kind, effect))) {
        for nth in 1.. {
            assert!(nth < ENDLESS, "a fault at every {kind} is always met");
            let fault = format!("{args:?} {kind}:{nth}:{effect}");
            stricken.set_back(State::Full);
            before(stricken);
            let output = stricken.command(args, &format!("{kind}:{nth}:{effect}"));
            if !is_met(&output) {
                assert_eq!(output.status.code(), Some(0), "{fault}: {output:?}");
                break;
            }
            ends_well(&output, &fault, effect);
            judge(stricken, &output, &fault);
            met += 1;
        }
    }
    eprintln!("{met} faults met by {args:?}");
    met
}

fn is_met(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("a fault was asked for")
}

/// A killed command is killed; the others say 74 and the reason, or have done it in spite of all.
fn ends_well(output: &Output, fault: &str, effect: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    match effect {
        "kill" => assert_eq!(output.status.signal(), Some(9), "{fault}: {output:?}"),
        "short" => assert_eq!(output.status.code(), Some(0), "{fault}: {output:?}"),
        _ if output.status.success() => {}
        _ => {
            let reason = if effect == "eio" { "Input/output error" } else { "No space left on device" };
            assert_eq!(output.status.code(), Some(74), "{fault}: {output:?}");
            assert!(said.contains("cannot ") && said.contains(reason), "{fault}: {said}");
        }
    }
}

#[test]
fn an_export_survives_a_fault_at_every_call() {
    let mut stricken = Stricken::start();
    let newest = stricken.newest_aside();
    let image = stricken.image(&newest).to_vec();
    let folder = stricken.scratch().join("images");
    let out = folder.join("image.bin");
    let args = ["snapshot", "export", &newest, "--force", "-o", out.to_str().expect("a plain path")];
    let [fresh, old] = [None, Some(vec![7; 3])].map(|old: Option<Vec<u8>>| {
        let set_back = |_: &Stricken| {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir(&folder).expect("a folder for images");
            old.iter().for_each(|old| fs::write(&out, old).expect("an old image"));
        };
        sweep(&mut stricken, &args, set_back, |stricken, output, fault| {
            let found = fs::read(&out).ok();
            let is_new = found.as_ref() == Some(&image);
            assert!(is_new || found == old && !output.status.success(), "{fault}: neither the old image nor the new");
            let leftovers = files_in(&folder).len() - usize::from(out.exists());
            let excused = output.status.signal().is_some() || fault.contains("unlink");
            assert!(leftovers == 0 || excused, "{fault}: {:?} are left", files_in(&folder));
            assert!(stricken.command(&args, "").status.success(), "{fault}: the next export fails");
            assert!(fs::read(&out).expect("the image") == image, "{fault}: the next export is wrong");
            assert_eq!(files_in(&folder), ["image.bin"], "{fault}: the next export clears away what was left");
        })
    });
    assert!(fresh > 20 && old > 20, "few calls of an export were met");
}

#[test]
fn a_prune_survives_a_fault_at_every_call() {
    let mut stricken = Stricken::start();
    let args = ["snapshot", "prune", "--keep", "1"];
    let met = sweep(
        &mut stricken,
        &args,
        |_| (),
        |stricken, output, fault| {
            // Whole chains, the newest among them, and each its own memory.
            stricken.check(fault);
            let named = String::from_utf8_lossy(&output.stdout).lines().filter(|name| name.ends_with(".mcs")).count();
            let removed = 4 - stricken.names().len();
            assert!(named == removed || !output.status.success(), "{fault}: {removed} are gone: {output:?}");
            assert!(stricken.command(&args, "").status.success(), "{fault}: the next prune fails");
            stricken.check(fault);
            assert_eq!((stricken.names().len(), stricken.leftovers().len()), (2, 0), "{fault}: the next prune is done");
        },
    );
    assert!(met > 20, "few calls of a prune were met");
}

#[test]
fn what_only_reads_says_so_and_changes_nothing() {
    let mut stricken = Stricken::start();
    let newest = stricken.newest_aside();
    let reading: [&[&str]; 4] = [
        &["snapshot", "ls"],
        &["snapshot", "show", &newest],
        &["snapshot", "verify", &newest],
        &["restore", &newest, "--dry-run"],
    ];
    for args in reading {
        let met = sweep(
            &mut stricken,
            args,
            |_| (),
            |stricken, _, fault| {
                assert!(stricken.is_as_aside(), "{fault}: a file was changed");
                stricken.check(fault);
            },
        );
        assert!(met > 5, "few calls of {args:?} were met");
    }
}

/// Until its file is read to the end, a restore has touched nothing; later it leaves the memory closed.
#[test]
fn a_restore_that_cannot_read_its_file_leaves_no_mixture() {
    let mut stricken = Stricken::start();
    let newest = stricken.newest_aside();
    let args = ["restore", &newest];
    let mut codes = BTreeMap::new();
    for (kind, effect) in [("open", "eio"), ("read", "eio"), ("read", "kill")] {
        for nth in 1.. {
            let fault = format!("{kind}:{nth}:{effect}");
            stricken.set_back(State::Full);
            stricken.reconnect();
            stricken.change();
            let output = stricken.command(&args, &fault);
            let code = output.status.code().unwrap_or(-1);
            *codes.entry(code).or_insert(0) += 1;
            let read = stricken.command(&["read", "0", "128KiB", "-o", "/dev/null"], "");
            match code {
                // The file that could not be read was not needed.
                0 => {}
                74 => stricken.check(&fault),
                // The far side of a cut, where nothing was sent yet.
                2 | -1 if read.status.success() => stricken.check(&fault),
                2 | -1 => assert_eq!(read.status.code(), Some(75), "{fault}: a mixture is read: {read:?}"),
                _ => panic!("{fault}: {output:?}"),
            }
            assert!(stricken.is_as_aside(), "{fault}: a file was changed");
            stricken.restores();
            if !is_met(&output) {
                assert_eq!(code, 0, "{fault}: {output:?}");
                break;
            }
        }
    }
    eprintln!("restores with a fault by exit code: {codes:?}");
    assert!([2, 74, -1].iter().all(|code| codes.contains_key(code)), "{codes:?}");
}
