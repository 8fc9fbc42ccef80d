//! What a look sees is what a server that starts then would meet, and the look changes nothing.

use std::fs::{self, OpenOptions, Permissions};
use std::mem::offset_of;
use std::os::unix::fs::{FileExt, PermissionsExt};

use super::Scratch;
use crate::layout::Header;
use crate::{Found, Opened, Segment, ShmError, Sizes, Spec, clusters, look};

/// Overwrites a field of the header, as a damage or another version would.
fn spoil(scratch: &Scratch, offset: usize, bytes: &[u8]) {
    let path = crate::object::path(&scratch.cluster, 0);
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset as u64).unwrap();
}

/// The sentences of the look and of the server that starts after it, which must be one.
fn refusal(spec: &Spec) -> String {
    let seen = look(spec).unwrap_err().to_string();
    assert_eq!(Segment::open(spec).map(|_| ()).unwrap_err().to_string(), seen);
    seen
}

#[test]
fn a_life_is_seen_from_its_beginning_to_its_end() {
    let scratch = Scratch::new();
    let spec = scratch.spec(2);
    assert!(matches!(look(&spec), Err(ShmError::Missing { .. })));
    let segment = scratch.segment(2);
    assert_eq!(look(&spec).unwrap(), Found::Served { pid: std::process::id() });
    drop(segment);
    assert_eq!(look(&spec).unwrap(), Found::Left { clean: false });
    let (segment, opened) = scratch.reopen(2);
    assert_eq!(opened, Opened::TakenOver { clean: false, repaired: 0, torn: 0 }, "the looks have changed nothing");
    segment.mark_clean();
    drop(segment);
    assert_eq!(look(&spec).unwrap(), Found::Left { clean: true });
    spoil(&scratch, offset_of!(Header, magic), &[0; 8]);
    assert_eq!(look(&spec).unwrap(), Found::Unfinished);
    assert_eq!(scratch.reopen(2).1, Opened::Created);
    assert!(clusters().unwrap().contains(&scratch.cluster));
}

#[test]
fn what_a_server_would_refuse_is_refused_with_the_same_words() {
    let scratch = Scratch::new();
    drop(scratch.segment(2));
    assert!(refusal(&scratch.spec(4)).contains("has k 8192, and 16384 is expected"));
    assert!(look(&Spec { n: 3, ..scratch.spec(2) }).is_ok(), "a cluster may grow");
    spoil(&scratch, offset_of!(Header, boot_id), &[7]);
    assert!(refusal(&scratch.spec(2)).contains("boot id"));
    spoil(&scratch, offset_of!(Header, layout), &[99]);
    assert!(refusal(&scratch.spec(2)).contains("layout version 99"));
    fs::set_permissions(crate::object::path(&scratch.cluster, 0), Permissions::from_mode(0o644)).unwrap();
    assert!(refusal(&scratch.spec(2)).contains("mode 0644"));
    assert!(refusal(&Spec { k_bytes: 5, ..scratch.spec(2) }).contains("k = 5"));
}

#[test]
fn sizes_are_those_that_a_segment_takes() {
    let scratch = Scratch::new();
    let segment = scratch.segment(3);
    let Sizes { start_bytes, cut_bytes, file_bytes } = scratch.spec(3).sizes().unwrap();
    let listed = |what: &str| crate::list(&scratch.cluster).unwrap().pop().expect(what);
    let before = listed("the segment");
    assert_eq!((before.allocated_bytes, before.file_bytes), (start_bytes, file_bytes));
    segment.prepare_shadow().unwrap();
    assert_eq!(listed("the segment in a cut").allocated_bytes, start_bytes + cut_bytes);
}
