//! The folder of the metadata's log.

use std::fs;

use super::{apply, doctor, find, fix, setup};

#[test]
fn a_file_where_the_folder_of_the_log_belongs_is_in_the_way() {
    let cluster = setup().prepare();
    let dir = cluster.config().metadata().dir.clone();
    fs::write(&dir, "no folder").expect("a file");
    let found = doctor(&cluster, 1);
    let finding = find(&found, "metadata", "fail", "metadata");
    assert!(finding["what"].as_str().expect("a sentence").contains("servers do not start"), "{finding}");
    apply(&cluster, fix(finding));
    doctor(&cluster, 0);
    assert!(!dir.exists(), "the doctor makes nothing");
}
