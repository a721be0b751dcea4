//! Spaces tries of the same thing further and further apart.
//!
//! Pure: time comes in as an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// When each of many things may be tried again.
#[derive(Debug)]
pub(crate) struct Backoff<K> {
    first: Duration,
    longest: Duration,
    known_max: usize,
    tries: HashMap<K, Try>,
}

#[derive(Debug, Clone, Copy)]
struct Try {
    due: Instant,
    pause: Duration,
}

impl<K: Hash + Eq + Clone> Backoff<K> {
    /// Pauses grow from `first` to `longest`. Of more than `known_max` things those that are due are forgotten.
    pub(crate) fn new(first: Duration, longest: Duration, known_max: usize) -> Self {
        Self {
            first,
            longest,
            known_max,
            tries: HashMap::new(),
        }
    }

    /// Says whether `key` may be tried now. Whoever is told so tries: the next pause begins.
    pub(crate) fn try_now(&mut self, key: &K, now: Instant) -> bool {
        let pause = match self.tries.get(key) {
            Some(last) if now < last.due => return false,
            Some(last) => (last.pause * 2).min(self.longest),
            None => self.first,
        };
        if self.tries.len() >= self.known_max {
            self.tries.retain(|_, last| now < last.due);
        }
        if self.tries.len() < self.known_max {
            let due = now + pause;
            self.tries.insert(key.clone(), Try { due, pause });
        }
        true
    }

    /// Forgets the tries of what has succeeded.
    pub(crate) fn forget(&mut self, key: &K) {
        self.tries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_success() {
        let (mut backoff, start) = (Backoff::new(SECOND, 3 * SECOND, 8), Instant::now());
        let tried: Vec<u32> = (0..=12)
            .filter(|second| backoff.try_now(&"a", start + *second * SECOND))
            .collect();
        assert_eq!(tried, [0, 1, 3, 6, 9, 12]);
        backoff.forget(&"a");
        assert!(backoff.try_now(&"a", start));
        assert!(!backoff.try_now(&"a", start));
    }

    #[test]
    fn what_is_known_is_bounded_and_what_is_not_known_is_tried() {
        let (mut backoff, start) = (Backoff::new(SECOND, SECOND, 2), Instant::now());
        assert!([1, 2, 3, 3].iter().all(|key| backoff.try_now(key, start)));
        assert_eq!(backoff.tries.len(), 2);
        assert!(backoff.try_now(&3, start + SECOND));
        assert!(!backoff.try_now(&3, start + SECOND));
    }
}
