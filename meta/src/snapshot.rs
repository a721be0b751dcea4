//! The state as a versioned stream of records, and back.
//!
//! Layout: `KUIKMETA`, format version (1 byte); then per record family number (1 byte, never 0), length of the key
//! (4 bytes), length of the value (4 bytes), key, value; then 0, the number of records (8 bytes) and the state hash
//! (16 bytes). Integers are big-endian. The count and the hash at the end tell a whole stream from one cut short or
//! damaged.

use std::io;

use crate::family::Family;
use crate::mutation::Mutation;
use crate::read::{Read, ReadError, for_each_entry};
use crate::state_hash::StateHash;

const MAGIC: &[u8; 8] = b"KUIKMETA";
const FORMAT_VERSION: u8 = 1;
const END: u8 = 0;
/// Longest key: two digests of the longest kind and what stands between them, with room.
const KEY_BYTES_MAX: usize = 4 << 10;
/// Longest value: the references of the largest manifest, with room.
const VALUE_BYTES_MAX: usize = 8 << 20;

/// Why a snapshot was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The stream failed, or ended too early.
    #[error("transfer snapshot")]
    Io(#[source] io::Error),
    /// The state to be written could not be read.
    #[error("read state for snapshot")]
    Read(#[from] ReadError),
    /// Not a snapshot, or of a version this binary does not know.
    #[error("not a snapshot of a known format")]
    UnknownFormat,
    /// The bytes are not those that were written.
    #[error("snapshot is damaged: {reason}")]
    Damaged {
        /// What gave it away.
        reason: &'static str,
    },
}

/// Writes all of `state`; returns its hash.
///
/// # Errors
/// [`SnapshotError::Io`] and [`SnapshotError::Read`].
pub fn write(state: &impl Read, out: &mut impl io::Write) -> Result<StateHash, SnapshotError> {
    let mut hash = StateHash::EMPTY;
    let mut count = 0_u64;
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(SnapshotError::Io);
    put(MAGIC)?;
    put(&[FORMAT_VERSION])?;
    for family in Family::ALL {
        for_each_entry(state, family, |key, value| {
            put(&[family.number()])?;
            put(&length(key, KEY_BYTES_MAX)?)?;
            put(&length(value, VALUE_BYTES_MAX)?)?;
            put(key)?;
            put(value)?;
            hash.add(family, key, value);
            count += 1;
            Ok::<_, SnapshotError>(())
        })?;
    }
    put(&[END])?;
    put(&count.to_be_bytes())?;
    put(&hash.to_bytes())?;
    Ok(hash)
}

/// Reads what [`write()`] wrote, one record at a time; `store` gets each as a put into an empty state.
///
/// Returns the hash of the records. `store` has seen records of a damaged stream before the damage shows: make them
/// visible only after this returned.
///
/// # Errors
/// [`SnapshotError::UnknownFormat`], [`SnapshotError::Damaged`], [`SnapshotError::Io`], also for what `store` returns.
pub fn read(
    from: &mut impl io::Read,
    mut store: impl FnMut(Mutation) -> io::Result<()>,
) -> Result<StateHash, SnapshotError> {
    let header: [u8; 9] = array(from)?;
    if header[..8] != *MAGIC || header[8] != FORMAT_VERSION {
        return Err(SnapshotError::UnknownFormat);
    }
    let mut hash = StateHash::EMPTY;
    let mut count = 0_u64;
    while let Some(record) = record(from)? {
        hash.add(record.family, &record.key, record.value.as_deref().unwrap_or_default());
        count += 1;
        store(record).map_err(SnapshotError::Io)?;
    }
    if u64::from_be_bytes(array(from)?) != count {
        return damaged("number of records");
    }
    if StateHash::from_bytes(array(from)?) != hash {
        return damaged("state hash");
    }
    Ok(hash)
}

fn record(from: &mut impl io::Read) -> Result<Option<Mutation>, SnapshotError> {
    let [number] = array(from)?;
    if number == END {
        return Ok(None);
    }
    let Some(family) = Family::from_number(number) else {
        return damaged("unknown family");
    };
    let key_length = u32::from_be_bytes(array(from)?) as usize;
    let value_length = u32::from_be_bytes(array(from)?) as usize;
    if key_length > KEY_BYTES_MAX || value_length > VALUE_BYTES_MAX {
        return damaged("record too long");
    }
    let key = bytes(from, key_length)?;
    let value = Some(bytes(from, value_length)?);
    Ok(Some(Mutation { family, key, value }))
}

fn length(bytes: &[u8], max: usize) -> Result<[u8; 4], SnapshotError> {
    match u32::try_from(bytes.len()) {
        Ok(length) if bytes.len() <= max => Ok(length.to_be_bytes()),
        _ => damaged("record too long"),
    }
}

fn array<const N: usize>(from: &mut impl io::Read) -> Result<[u8; N], SnapshotError> {
    let mut array = [0; N];
    from.read_exact(&mut array).map_err(SnapshotError::Io)?;
    Ok(array)
}

fn bytes(from: &mut impl io::Read, length: usize) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).map_err(SnapshotError::Io)?;
    Ok(bytes)
}

fn damaged<T>(reason: &'static str) -> Result<T, SnapshotError> {
    Err(SnapshotError::Damaged { reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryState;

    fn written() -> (MemoryState, Vec<u8>) {
        let mut state = MemoryState::new();
        state.apply_mutations((0..5_u8).map(|i| Mutation {
            family: Family::ALL[usize::from(i)],
            key: vec![i; usize::from(i)],
            value: Some(vec![0; 40]),
        }));
        let mut bytes = Vec::new();
        write(&state, &mut bytes).unwrap();
        (state, bytes)
    }

    fn read_back(mut bytes: &[u8]) -> Result<(MemoryState, StateHash), SnapshotError> {
        let mut state = MemoryState::new();
        let hash = read(&mut bytes, |mutation| {
            state.apply_mutations([mutation]);
            Ok(())
        })?;
        Ok((state, hash))
    }

    #[test]
    fn what_was_written_is_read() {
        let (state, bytes) = written();
        let (read, hash) = read_back(&bytes).unwrap();
        assert_eq!(read, state);
        assert_eq!(hash, StateHash::of(&state).unwrap());
    }

    #[test]
    fn no_cut_or_flipped_byte_goes_unnoticed() {
        let (_, bytes) = written();
        for end in 0..bytes.len() {
            assert!(read_back(&bytes[..end]).is_err(), "cut at {end}");
        }
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            assert!(read_back(&flipped).is_err(), "flipped at {place}");
        }
    }
}
