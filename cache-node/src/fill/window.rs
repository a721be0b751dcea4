//! The last bytes of a fill, in memory, for readers that keep up.

use std::collections::VecDeque;

use bytes::Bytes;

/// A run of the blob that ends with the newest byte.
#[derive(Debug, Default)]
pub(super) struct Window {
    pieces: VecDeque<Bytes>,
    start: u64,
    end: u64,
}

impl Window {
    /// Offset of the oldest byte held.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Offset after the newest byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.end += piece.len() as u64;
            self.pieces.push_back(piece);
        }
    }

    /// Bytes from `at` on, at least one and none from `limit` on. `None` where the window does not reach.
    pub(super) fn get(&self, at: u64, limit: u64) -> Option<Bytes> {
        if at < self.start || at >= limit.min(self.end) {
            return None;
        }
        let mut piece_start = self.start;
        for piece in &self.pieces {
            let piece_end = piece_start + piece.len() as u64;
            if at < piece_end {
                // Both lie within one piece, whose length fits.
                let within = (at - piece_start) as usize..(limit.min(piece_end) - piece_start) as usize;
                return Some(piece.slice(within));
            }
            piece_start = piece_end;
        }
        None
    }

    /// Lets go of the oldest pieces until `target_bytes` are left, but of none that reaches beyond `needed_from`.
    pub(super) fn shrink(&mut self, target_bytes: u64, needed_from: u64) {
        while self.len() > target_bytes
            && let Some(piece) = self.pieces.front()
            && self.start + piece.len() as u64 <= needed_from
        {
            self.start += piece.len() as u64;
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_held_reads_as_it_was_pushed(
            lengths in proptest::collection::vec(0usize..40, 1..20),
            target in 0u64..400,
            needed_from in 0u64..400,
            at in 0u64..400,
            limit in 0u64..400,
        ) {
            let mut window = Window::default();
            let mut content = Vec::new();
            for length in lengths {
                let piece: Vec<u8> = (0..length).map(|n| (content.len() + n) as u8).collect();
                content.extend_from_slice(&piece);
                window.push(piece.into());
            }
            window.shrink(target, needed_from);
            prop_assert!(window.start() <= needed_from);
            if needed_from >= window.end() {
                prop_assert!(window.len() <= target);
            }
            prop_assert_eq!(window.end(), content.len() as u64);
            match window.get(at, limit) {
                Some(bytes) => {
                    prop_assert!(!bytes.is_empty() && at + bytes.len() as u64 <= limit);
                    prop_assert_eq!(&bytes[..], &content[at as usize..][..bytes.len()]);
                }
                None => prop_assert!(at < window.start() || at >= limit.min(window.end())),
            }
        }
    }
}
