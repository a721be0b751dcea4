//! The newest tag token this proxy has seen per tag, so that what it answers for a tag never goes back in time.
//!
//! Guarantees that [`TagTokens::judge`] never accepts an index older than one it accepted before for the same tag,
//! while it remembers that tag; it remembers at least the [`TAGS_MAX`]/2 tags used last. Nothing is promised across
//! two proxies or a restart, as `docs/consistency.md` says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use distribution::CacheIndex;
use oci::{Repository, Tag};

/// Tags remembered: a Kubernetes node runs some hundred images; about 200 bytes each.
pub(crate) const TAGS_MAX: usize = 1024;

/// Whether an answer may be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// As new as anything given out before.
    Current,
    /// Something newer was given out already.
    Behind,
}

/// Remembers tokens, least recently used ones first to go.
#[derive(Debug, Default)]
pub(crate) struct TagTokens {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    clock: u64,
    tags: HashMap<(Repository, Tag), Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    index: CacheIndex,
    used: u64,
}

impl TagTokens {
    /// The token to send when asking for a tag.
    pub(crate) fn get(&self, repository: &Repository, tag: &Tag) -> Option<CacheIndex> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clock += 1;
        let clock = seen.clock;
        let entry = seen.tags.get_mut(&(repository.clone(), tag.clone()))?;
        entry.used = clock;
        Some(entry.index)
    }

    /// Compares the token of an answer with what was seen, and remembers it unless it is behind.
    pub(crate) fn judge(&self, repository: &Repository, tag: &Tag, index: CacheIndex) -> Judgement {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clock += 1;
        let used = seen.clock;
        let key = (repository.clone(), tag.clone());
        if seen.tags.get(&key).is_some_and(|entry| entry.index > index) {
            return Judgement::Behind;
        }
        seen.tags.insert(key, Entry { index, used });
        seen.shrink();
        Judgement::Current
    }
}

impl Seen {
    /// Drops the less recently used half once full, so that the sort is paid once per many insertions.
    fn shrink(&mut self) {
        if self.tags.len() <= TAGS_MAX {
            return;
        }
        let mut uses: Vec<u64> = self.tags.values().map(|entry| entry.used).collect();
        let middle = uses.len() / 2;
        let (_, median, _) = uses.select_nth_unstable(middle);
        let keep_from = *median;
        self.tags.retain(|_, entry| entry.used >= keep_from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Repository {
        Repository::new("quay.io".parse().unwrap(), "a/b".parse().unwrap())
    }

    fn tag(n: usize) -> Tag {
        format!("v{n}").parse().unwrap()
    }

    fn index(epoch: u64, index: u64) -> CacheIndex {
        CacheIndex { epoch, index }
    }

    #[test]
    fn an_older_token_is_behind_and_does_not_replace_the_newer() {
        let tokens = TagTokens::default();
        assert_eq!(tokens.judge(&repository(), &tag(0), index(1, 7)), Judgement::Current);
        assert_eq!(tokens.judge(&repository(), &tag(0), index(1, 6)), Judgement::Behind);
        assert_eq!(tokens.get(&repository(), &tag(0)), Some(index(1, 7)));
        assert_eq!(tokens.judge(&repository(), &tag(0), index(1, 7)), Judgement::Current);
        assert_eq!(
            tokens.judge(&repository(), &tag(0), index(2, 1)),
            Judgement::Current,
            "a new epoch starts over"
        );
        assert_eq!(tokens.judge(&repository(), &tag(0), index(1, 9)), Judgement::Behind);
    }

    #[test]
    fn tags_do_not_share_tokens() {
        let tokens = TagTokens::default();
        tokens.judge(&repository(), &tag(0), index(1, 7));
        assert_eq!(tokens.get(&repository(), &tag(1)), None);
        assert_eq!(tokens.judge(&repository(), &tag(1), index(1, 2)), Judgement::Current);
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let tokens = TagTokens::default();
        for n in 0..3 * TAGS_MAX {
            tokens.judge(&repository(), &tag(n), index(1, 1));
            assert!(tokens.get(&repository(), &tag(0)).is_some(), "in use, after {n} others");
        }
        assert!(tokens.seen.lock().unwrap().tags.len() <= TAGS_MAX);
    }
}
