//! Watches the volume of a node: how full it is, and whether it answers.
//!
//! A node whose disk is full goes on serving: it is ready, and says what it does not do any more. A tier whose disks are
//! all full still serves all it has. Only a disk that does not answer makes a node unready.

mod ballast;
mod usage;
mod volume;

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::readiness::Gate;
use daemon::task::TaskSet;
use metrics::gauge;
use raft::LogDisk;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use ballast::{Ballast, Trim, trim};
pub use usage::{STORE_DIRECTORY, Usage};
pub use volume::{Fullness, Marks, Volume};

/// How often the volume is looked at: at a gigabyte per second that is half of what is kept free.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A disk that does not answer for this long hangs. Twice what consensus takes for a hang, as it is no harm to wait.
const HANGS_AFTER: Duration = Duration::from_secs(4);

/// What is known of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskState {
    /// How full it is.
    pub fullness: Fullness,
    /// What it does not come to an end with.
    pub hangs: Option<&'static str>,
}

impl DiskState {
    /// What there is to say of it, for people.
    pub fn reasons(&self) -> impl Iterator<Item = String> {
        let hangs = self.hangs.map(|what| format!("the disk hangs: {what} does not end"));
        let full = self.fullness.reason().map(str::to_owned);
        hangs.into_iter().chain(full)
    }
}

/// Lets the ballast go if the volume is so full that the databases could not be opened. Blocks.
/// Counts in `usage` what is there, as no store does yet.
pub fn make_room_to_start(data_dir: &Path, usage: &Usage) {
    if let Err(error) = usage.look_at_all(data_dir) {
        tracing::warn!(%error, "what the data directory takes cannot be counted");
    }
    let Ok(volume) = usage.measure(data_dir) else { return };
    let ballast = Ballast::of(data_dir);
    let wanted = trim(Fullness::Ample.next(volume), volume, ballast.bytes());
    if wanted == Trim::Drop
        && let Err(error) = ballast.carry_out(wanted)
    {
        tracing::warn!(%error, "the ballast file is left as it is");
    }
}

/// Starts watching the volume of `data_dir` in `tasks`, for as long as they run. `log_disk` is told what is left for
/// the log.
pub fn start(
    data_dir: PathBuf,
    usage: Usage,
    log_disk: LogDisk,
    gate: Gate,
    tasks: &TaskSet,
) -> watch::Receiver<DiskState> {
    let (published, state) = watch::channel(DiskState::default());
    let guard = DiskGuard {
        ballast: Ballast::of(&data_dir),
        data_dir,
        usage,
        log_disk,
        gate,
        published,
        looking: None,
    };
    let stop = tasks.stop_token();
    tasks.spawn_critical("disk", async move {
        stop.run_until_cancelled_owned(guard.run()).await;
    });
    state
}

struct DiskGuard {
    data_dir: PathBuf,
    usage: Usage,
    ballast: Ballast,
    log_disk: LogDisk,
    gate: Gate,
    published: watch::Sender<DiskState>,
    /// A look that has not ended: only one at a time, so that a disk that hangs takes one thread.
    looking: Option<JoinHandle<Fullness>>,
}

impl DiskGuard {
    async fn run(mut self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let before = self.published.borrow().clone();
            let now = self.look(&before).await;
            self.tell(&before, &now);
            self.published.send_replace(now);
        }
    }

    async fn look(&mut self, before: &DiskState) -> DiskState {
        let looking = match self.looking.take() {
            Some(looking) => looking,
            None => self.measure_and_trim(before.fullness),
        };
        let looked = timeout(HANGS_AFTER, self.looking.insert(looking)).await;
        let working = self.log_disk.oldest_work().filter(|work| work.lasts >= HANGS_AFTER);
        let hangs = working.map(|work| work.what);
        let Ok(fullness) = looked else {
            return DiskState {
                fullness: before.fullness,
                hangs: hangs.or(Some("measuring the volume")),
            };
        };
        self.looking = None;
        DiskState {
            fullness: fullness.unwrap_or(before.fullness),
            hangs,
        }
    }

    fn measure_and_trim(&self, before: Fullness) -> JoinHandle<Fullness> {
        let (data_dir, usage, ballast) = (self.data_dir.clone(), self.usage.clone(), self.ballast.clone());
        let measure = move || {
            usage.look_beside_blobs(&data_dir)?;
            usage.measure(&data_dir)
        };
        tokio::task::spawn_blocking(move || match measure() {
            Ok(volume) => {
                let fullness = before.next(volume);
                if let Err(error) = ballast.carry_out(trim(fullness, volume, ballast.bytes())) {
                    tracing::debug!(%error, "the ballast file is left as it is");
                }
                fullness
            }
            Err(error) => {
                tracing::warn!(%error, "the volume cannot be measured");
                before
            }
        })
    }

    fn tell(&self, before: &DiskState, now: &DiskState) {
        self.log_disk.set_room(now.fullness.log_room());
        gauge!("kube_image_keeper_node_disk_fullness").set(f64::from(now.fullness as u8));
        gauge!("kube_image_keeper_node_disk_hangs").set(f64::from(u8::from(now.hangs.is_some())));
        match now.hangs {
            Some(what) => self.gate.close(format!("{what} does not end, the disk hangs")),
            None => self.gate.open(),
        }
        if before == now {
            return;
        }
        for reason in now.reasons() {
            tracing::warn!(reason, "the disk is not well");
        }
        if now.reasons().next().is_none() {
            tracing::info!("the disk is well");
        }
    }
}
