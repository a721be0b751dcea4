//! What changed of the desired images, for those who watch: the newest state of each, and in which order they changed.
//!
//! A watcher holds a place in that order. One that comes back finds what changed since; one whose place was long ago, or
//! on another node or boot, is told everything anew. Nothing is queued for a watcher, so a slow one costs nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::v1::{ImageChanges, ImageState};
use tokio::sync::watch;

/// Changes remembered: some hours of a busy cluster.
const CHANGES_MAX: usize = 16_384;
/// Images told in one message.
const PAGE: usize = 500;

/// A place in the order of changes of one boot of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    node: u64,
    boot: u64,
    sequence: u64,
}

/// The newest state of every desired image.
pub struct Board {
    node: u64,
    boot: u64,
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    states: BTreeMap<String, ImageState>,
    changes: VecDeque<(u64, String)>,
    sequence: u64,
    /// Every image was looked at since this node started.
    is_whole: bool,
}

/// How far a watcher is.
#[derive(Debug, Clone)]
pub struct Watching {
    place: Option<Place>,
    /// The last image told of those from the beginning.
    beginning: Option<Option<String>>,
}

impl Place {
    fn encode(self) -> Vec<u8> {
        [self.node, self.boot, self.sequence].map(u64::to_be_bytes).concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (node, rest) = bytes.split_first_chunk::<8>()?;
        let (boot, rest) = rest.split_first_chunk::<8>()?;
        let sequence: [u8; 8] = rest.try_into().ok()?;
        Some(Self {
            node: u64::from_be_bytes(*node),
            boot: u64::from_be_bytes(*boot),
            sequence: u64::from_be_bytes(sequence),
        })
    }
}

impl Watching {
    /// From where `resume` of an earlier message left off; from the beginning where it is empty or not understood.
    pub fn from(resume: &[u8]) -> Self {
        Self {
            place: Place::decode(resume),
            beginning: None,
        }
    }
}

impl Board {
    /// An empty one, of this boot of this node.
    pub fn new(node: u64, boot: u64) -> Self {
        let (newest, _) = watch::channel(0);
        Self {
            node,
            boot,
            inner: Mutex::default(),
            newest,
        }
    }

    /// Takes in how it stands with an image.
    pub fn put(&self, state: ImageState) {
        let mut inner = self.lock();
        if inner.states.get(&state.reference) == Some(&state) {
            return;
        }
        let reference = state.reference.clone();
        inner.states.insert(reference.clone(), state);
        let sequence = inner.changed(reference);
        self.newest.send_replace(sequence);
    }

    /// Forgets every image but these, which are all there are.
    pub fn retain(&self, desired: &BTreeSet<String>) {
        let mut inner = self.lock();
        let gone: Vec<String> = inner
            .states
            .keys()
            .filter(|known| !desired.contains(*known))
            .cloned()
            .collect();
        for reference in gone {
            inner.states.remove(&reference);
            inner.changed(reference);
        }
        let was_whole = std::mem::replace(&mut inner.is_whole, true);
        let sequence = inner.sequence;
        drop(inner);
        self.newest
            .send_if_modified(|newest| std::mem::replace(newest, sequence) != sequence || !was_whole);
    }

    /// Rings when something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// What to tell a watcher next; nothing if it knows all.
    pub fn next(&self, watching: &mut Watching) -> Option<ImageChanges> {
        let inner = self.lock();
        if !inner.is_whole {
            return None;
        }
        let own = watching.place.filter(|place| self.is_known(&inner, *place));
        match (own, watching.beginning.clone()) {
            (Some(place), None) => self.since(&inner, watching, place),
            // Whoever lost its place while it was told all is told all anew.
            (place, told) => Some(self.tell_all(&inner, watching, place, told.flatten().filter(|_| place.is_some()))),
        }
    }

    /// A message without news, so that a connection is seen to live.
    pub fn keepalive(&self, watching: &Watching) -> ImageChanges {
        let is_synced = watching.place.is_some() && watching.beginning.is_none();
        ImageChanges {
            resume: watching
                .place
                .filter(|_| is_synced)
                .map(Place::encode)
                .unwrap_or_default()
                .into(),
            synced: is_synced,
            ..ImageChanges::default()
        }
    }

    /// Whether the changes after a place are all remembered.
    fn is_known(&self, inner: &Inner, place: Place) -> bool {
        let oldest = inner
            .changes
            .front()
            .map_or(inner.sequence + 1, |(sequence, _)| *sequence);
        let is_ours = (place.node, place.boot) == (self.node, self.boot);
        is_ours && place.sequence <= inner.sequence && place.sequence + 1 >= oldest
    }

    fn since(&self, inner: &Inner, watching: &mut Watching, place: Place) -> Option<ImageChanges> {
        if place.sequence == inner.sequence {
            return None;
        }
        let mut changed = BTreeSet::new();
        let mut reached = place.sequence;
        let first = inner
            .changes
            .partition_point(|(sequence, _)| *sequence <= place.sequence);
        for (sequence, reference) in inner.changes.range(first..) {
            if changed.len() == PAGE {
                break;
            }
            changed.insert(reference);
            reached = *sequence;
        }
        let place = self.place(reached);
        watching.place = Some(place);
        let (there, gone): (Vec<_>, Vec<_>) = changed.into_iter().partition(|name| inner.states.contains_key(*name));
        Some(ImageChanges {
            resume: place.encode().into(),
            from_beginning: false,
            changed: there
                .iter()
                .filter_map(|name| inner.states.get(*name))
                .cloned()
                .collect(),
            removed: gone.into_iter().cloned().collect(),
            synced: true,
        })
    }

    /// Tells the next page of all there is. What changes meanwhile is told afterwards, from where the telling began.
    fn tell_all(
        &self,
        inner: &Inner,
        watching: &mut Watching,
        began_at: Option<Place>,
        told: Option<String>,
    ) -> ImageChanges {
        use std::ops::Bound::{Excluded, Unbounded};
        let began_at = match (&told, began_at) {
            (Some(_), Some(place)) => place,
            _ => self.place(inner.sequence),
        };
        let after = told.as_ref().map_or(Unbounded, Excluded);
        let page = inner.states.range::<String, _>((after, Unbounded)).take(PAGE);
        let page: Vec<ImageState> = page.map(|(_, state)| state.clone()).collect();
        let is_last = page.len() < PAGE;
        watching.place = Some(began_at);
        watching.beginning = (!is_last).then(|| page.last().map(|state| state.reference.clone()));
        ImageChanges {
            resume: if is_last {
                began_at.encode().into()
            } else {
                Vec::new().into()
            },
            from_beginning: true,
            changed: page,
            removed: Vec::new(),
            synced: is_last,
        }
    }

    fn place(&self, sequence: u64) -> Place {
        Place {
            node: self.node,
            boot: self.boot,
            sequence,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn changed(&mut self, reference: String) -> u64 {
        self.sequence += 1;
        self.changes.push_back((self.sequence, reference));
        if self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
        }
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(reference: &str, percent: u32) -> ImageState {
        ImageState {
            reference: reference.to_owned(),
            percent,
            ..ImageState::default()
        }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn board(images: &[&str]) -> Board {
        let board = Board::new(7, 1);
        for image in images {
            board.put(state(image, 0));
        }
        board.retain(&names(images));
        board
    }

    fn told(changes: &ImageChanges) -> Vec<(&str, u32)> {
        let changed = changes.changed.iter();
        changed.map(|state| (state.reference.as_str(), state.percent)).collect()
    }

    #[test]
    fn nothing_is_told_before_every_image_was_looked_at() {
        let board = Board::new(7, 1);
        board.put(state("a", 0));
        assert_eq!(board.next(&mut Watching::from(b"")), None);
        board.retain(&names(&["a"]));
        assert!(board.next(&mut Watching::from(b"")).is_some());
    }

    #[test]
    fn all_is_told_and_then_what_changes() {
        let board = board(&["a", "b"]);
        let mut watching = Watching::from(b"");
        let first = board.next(&mut watching).unwrap();
        assert_eq!(told(&first), [("a", 0), ("b", 0)]);
        assert!(first.from_beginning && first.synced);
        assert_eq!(board.next(&mut watching), None);
        board.put(state("a", 0));
        assert_eq!(board.next(&mut watching), None, "the same state is no change");
        board.put(state("b", 50));
        board.put(state("b", 60));
        board.retain(&names(&["b"]));
        let second = board.next(&mut watching).unwrap();
        assert_eq!(told(&second), [("b", 60)]);
        assert_eq!(second.removed, ["a"]);
        assert!(!second.from_beginning && second.synced);
    }

    #[test]
    fn a_watcher_that_comes_back_hears_what_it_missed() {
        let board = board(&["a", "b"]);
        let mut watching = Watching::from(b"");
        let resume = board.next(&mut watching).unwrap().resume;
        board.put(state("b", 50));
        let missed = board.next(&mut Watching::from(&resume)).unwrap();
        assert_eq!(told(&missed), [("b", 50)]);
        assert!(!missed.from_beginning);
    }

    #[test]
    fn a_place_of_elsewhere_or_long_ago_begins_anew() {
        let known = board(&["a"]);
        let resume = known.next(&mut Watching::from(b"")).unwrap().resume;
        for (node, boot) in [(8, 1), (7, 2)] {
            let other = Board::new(node, boot);
            other.put(state("x", 0));
            other.retain(&names(&["x"]));
            let anew = other.next(&mut Watching::from(&resume)).unwrap();
            assert!(anew.from_beginning);
        }
        for percent in 0..=CHANGES_MAX {
            known.put(state("a", u32::try_from(percent).unwrap() + 1));
        }
        assert!(known.next(&mut Watching::from(&resume)).unwrap().from_beginning);
        assert!(known.next(&mut Watching::from(b"nonsense")).unwrap().from_beginning);
    }

    #[test]
    fn many_images_are_told_in_pages_and_nothing_that_changes_meanwhile_is_missed() {
        let images: Vec<String> = (0..PAGE * 2 + 1).map(|number| format!("{number:05}")).collect();
        let board = board(&images.iter().map(String::as_str).collect::<Vec<_>>());
        let mut watching = Watching::from(b"");
        let first = board.next(&mut watching).unwrap();
        assert!(first.from_beginning && !first.synced && first.resume.is_empty());
        board.put(state("00000", 70));
        let second = board.next(&mut watching).unwrap();
        let third = board.next(&mut watching).unwrap();
        assert!(third.synced && third.from_beginning);
        assert_eq!(
            first.changed.len() + second.changed.len() + third.changed.len(),
            images.len()
        );
        assert_eq!(told(&board.next(&mut watching).unwrap()), [("00000", 70)]);
    }
}
