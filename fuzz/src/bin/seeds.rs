//! Writes the seeds of all targets into `fuzz/corpus/`, and removes what is no seed any more.
//!
//! Seeds are made by the encoders that the product uses, so that nobody has to believe a file of bytes. A test
//! says when they must be written anew.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in mcomp_fuzz::TARGETS {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        let seeds = (target.seeds)();
        let names: HashSet<&str> = seeds.iter().map(|(name, _)| *name).collect();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_none_or(|name| !names.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
