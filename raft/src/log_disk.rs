//! What is known of the disk a node's log and state lie on: the room left, and whether it answers.
//!
//! Shared by who measures the volume, who works on it, and who decides what a node may do. It decides nothing itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Room for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogRoom {
    /// Enough.
    #[default]
    Enough,
    /// A leader proposes nothing more, and gives leadership away; a follower takes in what others propose.
    Scarce,
    /// No entry is taken in any more, so that the disk never refuses a write halfway. Votes still fit.
    Exhausted,
}

/// The disk of one node. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LogDisk {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    room: LogRoom,
    next: u64,
    working: Vec<Working>,
}

#[derive(Debug)]
struct Working {
    id: u64,
    what: &'static str,
    since: Instant,
}

/// What a disk has been busy with for longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// The work, for people.
    pub what: &'static str,
    /// Since when.
    pub lasts: Duration,
}

/// One piece of work on the disk; over when dropped.
#[derive(Debug)]
pub(crate) struct Work {
    disk: LogDisk,
    id: u64,
}

impl LogDisk {
    /// Says how much room there is now.
    pub fn set_room(&self, room: LogRoom) {
        self.lock().room = room;
    }

    /// How much room there is.
    pub fn room(&self) -> LogRoom {
        self.lock().room
    }

    /// The oldest work in hand, if any.
    pub fn oldest_work(&self) -> Option<Stall> {
        let shared = self.lock();
        let oldest = shared.working.iter().min_by_key(|work| work.since)?;
        Some(Stall {
            what: oldest.what,
            lasts: oldest.since.elapsed(),
        })
    }

    /// Notes that work on the disk begins.
    pub(crate) fn begin(&self, what: &'static str) -> Work {
        let mut shared = self.lock();
        let id = shared.next;
        shared.next += 1;
        let since = Instant::now();
        shared.working.push(Working { id, what, since });
        Work { disk: self.clone(), id }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.disk.lock().working.retain(|work| work.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_work_in_hand_is_what_counts() {
        let disk = LogDisk::default();
        assert_eq!(disk.oldest_work(), None);
        let sync = disk.begin("sync the log");
        tokio::time::advance(Duration::from_secs(3)).await;
        let apply = disk.begin("apply entries");
        let lasts = Duration::from_secs(3);
        assert_eq!(
            disk.oldest_work(),
            Some(Stall {
                what: "sync the log",
                lasts
            })
        );
        drop(sync);
        assert_eq!(disk.oldest_work().unwrap().what, "apply entries");
        drop(apply);
        assert_eq!(disk.oldest_work(), None);
    }
}
