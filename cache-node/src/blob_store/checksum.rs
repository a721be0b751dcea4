//! A CRC-32C for each chunk of a blob, and the file that holds them.
//!
//! File, little endian: magic (8 bytes), chunk size (u32), number of sums (u32), length of the blob (u64), the sums
//! (u32 each), CRC-32C of all before it (u32). Nothing follows.

use bytes::{Buf, BufMut};

use super::CHUNK_BYTES;

const MAGIC: &[u8; 8] = b"KUIKSUM1";
const HEADER_BYTES: usize = 24;
const TRAILER_BYTES: usize = 4;

/// The checksums of a whole blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkSums {
    length: u64,
    sums: Vec<u32>,
}

/// Why a checksum file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checksum file is {0}")]
pub(super) struct SumsError(&'static str);

impl ChunkSums {
    /// Length of the blob in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// What the given chunk must be.
    pub(super) fn chunk(&self, chunk: u64) -> Option<ChunkSum> {
        let crc = *self.sums.get(usize::try_from(chunk).ok()?)?;
        Some(ChunkSum::new(chunk, crc, self.length))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.sums.len() * 4 + TRAILER_BYTES);
        out.put_slice(MAGIC);
        out.put_u32_le(CHUNK_BYTES as u32);
        out.put_u32_le(u32::try_from(self.sums.len()).expect("a blob of 2^52 bytes does not exist"));
        out.put_u64_le(self.length);
        for sum in &self.sums {
            out.put_u32_le(*sum);
        }
        out.put_u32_le(crc32c::crc32c(&out));
        out
    }

    pub(super) fn decode(file: &[u8]) -> Result<Self, SumsError> {
        if file.len() < HEADER_BYTES + TRAILER_BYTES {
            return Err(SumsError("too short"));
        }
        let (body, mut trailer) = file.split_at(file.len() - TRAILER_BYTES);
        if trailer.get_u32_le() != crc32c::crc32c(body) {
            return Err(SumsError("damaged"));
        }
        let (header, mut sums) = body.split_at(HEADER_BYTES);
        let (magic, mut header) = header.split_at(MAGIC.len());
        if magic != MAGIC || u64::from(header.get_u32_le()) != CHUNK_BYTES {
            return Err(SumsError("of another format"));
        }
        let n_sums = u64::from(header.get_u32_le());
        let length = header.get_u64_le();
        if n_sums != length.div_ceil(CHUNK_BYTES) || sums.len() as u64 != n_sums * 4 {
            return Err(SumsError("of the wrong length"));
        }
        let sums = (0..n_sums).map(|_| sums.get_u32_le()).collect();
        Ok(Self { length, sums })
    }
}

/// What one chunk must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkSum {
    /// Its length; less than [`CHUNK_BYTES`] only for the last one.
    pub(super) length: usize,
    crc: u32,
}

impl ChunkSum {
    fn new(chunk: u64, crc: u32, blob_length: u64) -> Self {
        let length = (blob_length - chunk * CHUNK_BYTES).min(CHUNK_BYTES);
        let length = usize::try_from(length).expect("a chunk fits memory");
        Self { length, crc }
    }

    /// Whether `bytes` are those of the chunk.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.length && self.is(crc32c::crc32c(bytes))
    }

    /// Whether a CRC-32C taken over exactly [`length`](Self::length) bytes is that of the chunk.
    pub(super) fn is(&self, crc: u32) -> bool {
        crc == self.crc
    }
}

/// The checksums of a blob whose bytes are still arriving.
#[derive(Debug, Default)]
pub(super) struct GrowingSums {
    sums: Vec<u32>,
    open_sum: u32,
    length: u64,
    closed: bool,
}

impl GrowingSums {
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        debug_assert!(!self.closed);
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.length % CHUNK_BYTES;
            let room = usize::try_from(room).expect("a chunk fits memory");
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.open_sum = crc32c::crc32c_append(self.open_sum, now);
            self.length += now.len() as u64;
            if now.len() == room {
                self.sums.push(std::mem::take(&mut self.open_sum));
            }
            bytes = later;
        }
    }

    /// No more bytes follow: the last chunk may be shorter.
    pub(super) fn close(&mut self) -> ChunkSums {
        if !self.closed && !self.length.is_multiple_of(CHUNK_BYTES) {
            self.sums.push(self.open_sum);
        }
        self.closed = true;
        ChunkSums {
            length: self.length,
            sums: self.sums.clone(),
        }
    }

    /// Bytes that have a checksum by now.
    pub(super) fn readable_bytes(&self) -> u64 {
        if self.closed {
            return self.length;
        }
        self.sums.len() as u64 * CHUNK_BYTES
    }

    /// What the given chunk must be, if it is complete.
    pub(super) fn chunk(&self, chunk: u64) -> Option<ChunkSum> {
        let crc = *self.sums.get(usize::try_from(chunk).ok()?)?;
        Some(ChunkSum::new(chunk, crc, self.length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums_of(content: &[u8]) -> ChunkSums {
        let mut growing = GrowingSums::default();
        growing.add(content);
        growing.close()
    }

    #[test]
    fn checksum_file_round_trips_at_chunk_borders() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let sums = sums_of(&vec![7; length as usize]);
            assert_eq!(sums.length(), length);
            assert_eq!(ChunkSums::decode(&sums.encode()).unwrap(), sums);
        }
    }

    #[test]
    fn any_flipped_bit_or_cut_of_the_checksum_file_is_noticed() {
        let file = sums_of(&vec![7; 2 * CHUNK_BYTES as usize + 5]).encode();
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ChunkSums::decode(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..file.len() {
            assert!(ChunkSums::decode(&file[..length]).is_err(), "length {length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn how_bytes_are_cut_into_appends_does_not_matter(cuts in proptest::collection::vec(0usize..3_000_000, 0..6)) {
            let content: Vec<u8> = b"0123456789abcdef!".repeat(3_000_000 / 17 + 1);
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut growing = GrowingSums::default();
            let mut from = 0;
            for cut in cuts.into_iter().chain([content.len()]) {
                growing.add(&content[from..cut]);
                prop_assert_eq!(growing.readable_bytes(), cut as u64 / CHUNK_BYTES * CHUNK_BYTES);
                from = cut;
            }
            prop_assert_eq!(growing.close(), sums_of(&content));
            prop_assert_eq!(growing.readable_bytes(), content.len() as u64);
        }
    }
}
