//! The log, the votes and the last image on disk: one file, one transaction for each batch.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mcomp_consensus::{HardState, Image, LogEntry, Persist, Recovered};
use mcomp_wire::control;
use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::MetadataError;

/// Entries of the log, by index.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// Everything else, by name.
const REST: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rest");

const FORMAT: &str = "format";
const HARD_STATE: &str = "hard_state";
const IMAGE: &str = "image";
const JOINED: &str = "joined";
const SEAT: &str = "seat";
const SERVERS: &str = "servers";
/// The version of what is written here.
const FORMAT_VERSION: &[u8] = &[2];
/// What redb keeps of the file in memory. The log is read once, at the start.
const CACHE_BYTES: usize = 1 << 20;

/// An open log.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Opens the file, or makes it, and reads what is in it. There are `servers` by mcomp.cfg: if there is no log yet, it
    /// begins with so many.
    pub(crate) fn open(path: &Path, servers: u32) -> Result<(Store, Recovered), MetadataError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| MetadataError::Folder { path: folder.to_owned(), source })?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|source| MetadataError::Folder { path: path.to_owned(), source })?;
        let backend = FileBackend::new(file).map_err(|error| failed(path, error.into()))?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend);
        let database = database.map_err(|error| failed(path, error.into()))?;
        let store = Store { path: path.to_owned(), database };
        let recovered = store.read(servers).map_err(|error| failed(path, error))?;
        let recovered = recovered.map_err(|source| MetadataError::Corrupt { path: path.to_owned(), source })?;
        Ok((store, recovered))
    }

    fn read(&self, servers: u32) -> Result<Result<Recovered, mcomp_meta::Corrupt>, redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            // Both tables are there from now on, and an older or newer format is not written over.
            let log = transaction.open_table(LOG)?;
            let mut rest = transaction.open_table(REST)?;
            let found = rest.get(FORMAT)?.map(|found| found.value().to_vec());
            match found {
                None => drop(rest.insert(FORMAT, FORMAT_VERSION)?),
                Some(found) if found == FORMAT_VERSION => {}
                Some(found) => {
                    let what = format!("it is of format {found:?}, and this version writes {FORMAT_VERSION:?}");
                    return Ok(Err(mcomp_meta::Corrupt::Contradiction(what)));
                }
            }
            let is_empty = log.is_empty()? && rest.get(IMAGE)?.is_none();
            if is_empty || rest.get(SERVERS)?.is_none() {
                rest.insert(SERVERS, control::encode(&servers).as_slice())?;
            }
        }
        transaction.commit()?;
        let transaction = self.database.begin_read()?;
        let rest = transaction.open_table(REST)?;
        let log = transaction.open_table(LOG)?;
        let mut recovered = Recovered { joined: rest.get(JOINED)?.is_some(), ..Recovered::default() };
        let hard_state = rest.get(HARD_STATE)?.map(|found| control::decode::<HardState>(found.value()));
        let image = rest.get(IMAGE)?.map(|found| control::decode::<Image>(found.value()));
        let seat = rest.get(SEAT)?.map(|found| control::decode::<u16>(found.value()));
        let servers = rest.get(SERVERS)?.map(|found| control::decode::<u32>(found.value()));
        let decoded = || {
            recovered.hard_state = hard_state.transpose()?.unwrap_or_default();
            recovered.image = image.transpose()?;
            recovered.seat = seat.transpose()?.unwrap_or(0);
            recovered.servers = servers.transpose()?;
            Ok::<(), mcomp_wire::Malformed>(())
        };
        if let Err(error) = decoded() {
            return Ok(Err(error.into()));
        }
        for entry in log.iter()? {
            let (_, bytes) = entry?;
            match control::decode::<LogEntry>(bytes.value()) {
                Ok(entry) => recovered.entries.push(entry),
                Err(error) => return Ok(Err(error.into())),
            }
        }
        Ok(Ok(recovered))
    }

    /// What is wrong with what a leader sent, said of this file.
    pub(crate) fn corrupt(&self, source: mcomp_meta::Corrupt) -> MetadataError {
        MetadataError::Corrupt { path: self.path.clone(), source }
    }

    /// Makes a batch durable, all of it or nothing.
    pub(crate) fn write(&self, persist: &Persist) -> Result<(), MetadataError> {
        if persist.is_empty() {
            return Ok(());
        }
        self.try_write(persist).map_err(|error| failed(&self.path, error))
    }

    fn try_write(&self, persist: &Persist) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        if !persist.must_sync {
            transaction.set_durability(Durability::None)?;
        }
        {
            let mut log = transaction.open_table(LOG)?;
            let mut rest = transaction.open_table(REST)?;
            if let Some(image) = &persist.image {
                rest.insert(IMAGE, control::encode(image).as_slice())?;
                match persist.forget_up_to {
                    Some(up_to) => log.retain_in(..=up_to, |_, _| false)?,
                    // The whole log is older than a leader's image.
                    None => log.retain(|_, _| false)?,
                }
            }
            if let Some(first) = persist.entries.first() {
                log.retain_in(first.index.., |_, _| false)?;
                for entry in &persist.entries {
                    log.insert(entry.index, control::encode(entry).as_slice())?;
                }
            }
            if let Some(hard_state) = &persist.hard_state {
                rest.insert(HARD_STATE, control::encode(hard_state).as_slice())?;
            }
            if persist.joined {
                rest.insert(JOINED, [].as_slice())?;
            }
            if let Some(seat) = persist.seat {
                rest.insert(SEAT, control::encode(&seat).as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn failed(path: &Path, source: redb::Error) -> MetadataError {
    MetadataError::Store { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use mcomp_consensus::Voters;

    use super::*;

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry { index, term, data: vec![index as u8; 3], change: None }
    }

    fn indices(path: &Path) -> Vec<(u64, u64)> {
        let (_, recovered) = Store::open(path, 5).unwrap();
        recovered.entries.iter().map(|entry| (entry.index, entry.term)).collect()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/one.redb");
        let (store, recovered) = Store::open(&path, 5).unwrap();
        assert_eq!(recovered, Recovered { servers: Some(5), ..Recovered::default() });
        drop(store);
        let (store, recovered) = Store::open(&path, 3).unwrap();
        assert_eq!(recovered.servers, Some(3), "no log has begun");
        let hard_state = HardState { term: 2, vote: 1, commit: 1 };
        let entries = vec![entry(1, 1), entry(2, 1), entry(3, 1)];
        let hard = Some(hard_state);
        store
            .write(&Persist { entries, hard_state: hard, joined: true, must_sync: true, ..Persist::default() })
            .unwrap();
        store.write(&Persist { entries: vec![entry(2, 2)], must_sync: true, ..Persist::default() }).unwrap();
        drop(store);
        assert_eq!(indices(&path), [(1, 1), (2, 2)], "a newer leader's entries take the place of older ones");
        let (store, recovered) = Store::open(&path, 5).unwrap();
        assert_eq!((recovered.hard_state, recovered.joined, recovered.seat), (hard_state, true, 0));
        assert_eq!(recovered.servers, Some(3), "it began with so many, whatever mcomp.cfg says now");
        store.write(&Persist { seat: Some(3), must_sync: true, ..Persist::default() }).unwrap();
        let voters = Voters { voters: vec![1], ..Voters::default() };
        let image = Image { index: 2, term: 2, voters, data: vec![7] };
        let own = Persist { image: Some(image.clone()), forget_up_to: Some(1), must_sync: true, ..Persist::default() };
        store.write(&own).unwrap();
        drop(store);
        assert_eq!(indices(&path), [(2, 2)]);
        let (store, recovered) = Store::open(&path, 5).unwrap();
        assert_eq!((recovered.image, recovered.seat), (Some(image.clone()), 3));
        store.write(&Persist { image: Some(image), must_sync: true, ..Persist::default() }).unwrap();
        drop(store);
        assert_eq!(indices(&path), []);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.redb");
        std::fs::write(&path, b"something else").unwrap();
        let error = Store::open(&path, 5).unwrap_err().to_string();
        assert!(error.contains("one.redb"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let (store, _) = Store::open(&path, 5).unwrap();
        let transaction = store.database.begin_write().unwrap();
        transaction.open_table(REST).unwrap().insert(FORMAT, [9].as_slice()).unwrap();
        transaction.commit().unwrap();
        drop(store);
        assert!(matches!(Store::open(&path, 5), Err(MetadataError::Corrupt { .. })));
    }
}
