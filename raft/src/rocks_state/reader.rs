//! `meta::Read` over a generation: as it is now, or as it was at one moment.

#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;

use meta::{Family, Read, ReadError};
use rocksdb::{DB, Direction, IteratorMode, ReadOptions, SnapshotWithThreadMode};

use super::generation::Generation;
use crate::db::{self, to_io};

/// Reads what was committed last.
pub(crate) struct LatestReader(pub(super) Arc<Generation>);

/// Reads the state as it was when this was made.
pub(super) struct PinnedReader {
    // Declared before the generation, so it is released first.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    generation: Arc<Generation>,
}

impl PinnedReader {
    pub(super) fn new(generation: Arc<Generation>) -> Self {
        let snapshot = generation.db().snapshot();
        // SAFETY: the snapshot borrows the `DB` inside `*generation`. That value never moves, since it is behind an
        // Arc that nothing can take it out of, and lives at least as long as the Arc in this struct, which is dropped
        // after the snapshot because fields are dropped in the order they are declared. The prolonged lifetime does
        // not leave this struct.
        let snapshot = unsafe {
            std::mem::transmute::<SnapshotWithThreadMode<'_, DB>, SnapshotWithThreadMode<'static, DB>>(snapshot)
        };
        PinnedReader { snapshot, generation }
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
    }
}

fn storage_error(family: Family) -> impl Fn(io::Error) -> ReadError {
    move |error| ReadError::Storage {
        family,
        source: Box::new(error),
    }
}

fn get(db: &DB, options: &ReadOptions, family: Family, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    db.get_cf_opt(db::family(db, family.name())?, key, options)
        .map_err(to_io)
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(
    db: &DB,
    options: ReadOptions,
    family: Family,
    prefix: &[u8],
    start_after: Option<&[u8]>,
    limit: usize,
) -> io::Result<Entries> {
    let from = start_after.map_or(prefix, |start| start.max(prefix));
    let iterator = db.iterator_cf_opt(
        db::family(db, family.name())?,
        options,
        IteratorMode::From(from, Direction::Forward),
    );
    let mut found = Vec::new();
    for item in iterator {
        let (key, value) = item.map_err(to_io)?;
        if found.len() == limit || !key.starts_with(prefix) {
            break;
        }
        if start_after.is_none_or(|start| &*key > start) {
            found.push((key.into_vec(), value.into_vec()));
        }
    }
    Ok(found)
}

impl Read for LatestReader {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        get(self.0.db(), &ReadOptions::default(), family, key).map_err(storage_error(family))
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Entries, ReadError> {
        scan(self.0.db(), ReadOptions::default(), family, prefix, start_after, limit).map_err(storage_error(family))
    }
}

impl Read for PinnedReader {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        get(self.generation.db(), &self.options(), family, key).map_err(storage_error(family))
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Entries, ReadError> {
        scan(self.generation.db(), self.options(), family, prefix, start_after, limit).map_err(storage_error(family))
    }
}
