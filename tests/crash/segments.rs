//! Segments of servers that are gone, that live, or that had another shape.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Output, Stdio};
use std::time::Instant;

use super::{K, N, full_of_noise, segment, whole};
use crate::harness::{PATIENCE, mcomp};

#[test]
fn a_purge_refuses_live_memory_and_removes_the_rest() {
    let (mut cluster, noise) = full_of_noise();
    cluster.stop_server(2);
    let output = cluster.exits(75, &["purge"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for id in [0, 1] {
        assert!(said.contains(&cluster.server_pid(id).to_string()), "the process of server {id} is not in {said}");
        assert!(segment(&cluster, id).exists(), "server {id} is live");
    }
    assert!(!segment(&cluster, 2).exists(), "server 2 was stopped");
    let live = 2 * K;
    assert!(cluster.client().read_vec(0, live).expect("they serve on") == noise[..live as usize]);
    let said = cluster.start_server_saying(2);
    assert!(said.contains("created"), "{said}");
    assert_eq!(cluster.client().read_vec(live, K).expect("new memory"), vec![0; K as usize]);
    (0..N).for_each(|id| cluster.kill_server(id));
    cluster.ok(&["purge"]);
    assert!((0..N).all(|id| !segment(&cluster, id).exists()), "nobody serves any more");
    cluster.ok(&["purge"]);
}

#[test]
fn a_segment_of_another_shape_is_refused_and_kept() {
    let (mut cluster, noise) = full_of_noise();
    let text = std::fs::read_to_string(cluster.config_path()).expect("mcomp.cfg is read");
    let last = text.rfind("[[server]]").expect("it lists servers");
    let other_n = text[..last].replace("n = 3", "n = 2");
    let shapes = [("k", text.replace("\"64KiB\"", "\"128KiB\"")), ("n", other_n)];
    cluster.stop_server(0);
    for (what, text) in shapes {
        let path = cluster.dir.path().join("other.cfg");
        std::fs::write(&path, text).expect("another configuration");
        let config = path.to_str().expect("a plain path");
        let output = refused_start(&["server", "--id", "0", "--config", config]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "another {what}: {said}");
        let path = if what == "k" { segment(&cluster, 0) } else { cluster.metadata_dir() };
        assert!(said.contains(&path.display().to_string()), "another {what}: {said}");
        assert!(said.contains("purge"), "another {what}: the way out is not in {said}");
    }
    cluster.start_server(0);
    assert!(whole(&cluster.client()) == noise, "the refused starts have changed something");
}

/// The number at offset 8 of the header, as another version of mcomp would have written it.
#[test]
fn a_segment_of_another_layout_is_refused_with_the_way_out_and_kept() {
    let (mut cluster, noise) = full_of_noise();
    cluster.stop_server(0);
    let file = File::options().write(true).open(segment(&cluster, 0)).expect("it is there");
    let write_version = |version: u32| file.write_all_at(&version.to_le_bytes(), 8).expect("a number");
    let config = cluster.config_path().to_str().expect("a plain path");
    for version in [1, 3, 77] {
        write_version(version);
        let output = refused_start(&["server", "--id", "0", "--config", config]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(76), "{said}");
        for part in
            [&format!("layout version {version}, "), "`mcomp snapshot create`", "`mcomp purge`", "`mcomp restore`"]
        {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        assert!(said.contains(&segment(&cluster, 0).display().to_string()), "{said}");
    }
    write_version(2);
    let said = cluster.start_server_saying(0);
    assert!(said.contains("taken over"), "{said}");
    assert!(whole(&cluster.client()) == noise, "the refused starts have changed something");
}

/// What `mcomp up` gives its children: a second `up` is a mistake.
#[test]
fn a_second_server_that_may_not_take_over_is_refused() {
    let (cluster, noise) = full_of_noise();
    let config = cluster.config_path().to_str().expect("a plain path");
    for id in 0..N {
        let output = refused_start(&["server", "--no-takeover", "--id", &id.to_string(), "--config", config]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains(&cluster.server_pid(id).to_string()), "the first one's process is not in {said}");
    }
    assert!(whole(&cluster.client()) == noise, "the first ones serve on");
}

/// Runs a server that should not start. One that does is killed.
pub(super) fn refused_start(args: &[&str]) -> Output {
    let mut command = mcomp(args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("mcomp starts");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child can be waited for").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        std::thread::yield_now();
    }
    child.wait_with_output().expect("its last words")
}
