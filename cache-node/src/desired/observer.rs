//! Looks at every desired image as the state changes: posts how it stands on the board, has copies counted, and hands this
//! node's own images to the filler.
//!
//! Images that are all there and unchanged are looked at a page at a time, others whenever something happens.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::one_line;
use daemon::task::TaskSet;
use meta::{DesiredRecord, Platform, Read, ReadError, Visibility, view};
use oci::{Digest, ImageReference};
use proto::v1::ImagePhase;
use raft::MetaHandle;
use tokio::time::{sleep, timeout};

use super::assess::{Assessed, assess, resolve};
use super::board::Board;
use super::copies::{Copies, Wanted};
use super::filler::Filler;
use super::platforms;
use super::state::{Facts, image_state};
use crate::blobs::Blobs;
use crate::control::Control;
use crate::recorder::Recorder;
use crate::tier::{Seat, Tier};

/// How often it is looked where nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes of the state are looked at together when they come within this time.
const SETTLE: Duration = Duration::from_millis(200);
/// Settled images looked at in one round.
const PAGE: usize = 200;
/// Desired images read at once.
const READ_PAGE: usize = 1000;
/// Grants that count as a change of who may read a repository.
const GRANTS_MAX: usize = 64;

/// What the observer works with.
pub struct ObserverParts {
    /// The replicated state.
    pub ledger: MetaHandle,
    /// Who owns what.
    pub tier: Arc<Tier>,
    /// What is fetched and held.
    pub blobs: Arc<Blobs>,
    /// Asks other nodes what they hold.
    pub control: Control,
    /// Takes what is learned.
    pub recorder: Recorder,
    /// Fills this node's images.
    pub filler: Filler,
    /// Where states are posted.
    pub board: Arc<Board>,
}

/// Starts looking in `tasks`.
pub fn start(parts: ObserverParts, tasks: &TaskSet) {
    let stop = tasks.stop_token();
    let copies = Copies::new(
        Arc::clone(&parts.tier),
        Arc::clone(&parts.blobs),
        parts.control.clone(),
        parts.recorder.clone(),
    );
    let observer = Observer {
        parts,
        copies,
        images: BTreeMap::new(),
        cursor: None,
    };
    tasks.spawn_critical("desired images", async move {
        stop.run_until_cancelled_owned(observer.run()).await;
    });
}

struct Observer {
    parts: ObserverParts,
    copies: Copies,
    images: BTreeMap<String, Image>,
    /// The last settled image looked at.
    cursor: Option<String>,
}

struct Image {
    reference: ImageReference,
    record: DesiredRecord,
    is_settled: bool,
    /// What it is made of, where it is all there.
    blobs: Vec<(Digest, meta::Gen)>,
}

/// What is the same for all images of one look.
struct Round {
    platforms: Vec<Platform>,
    in_flight: HashMap<Digest, u64>,
}

impl Observer {
    async fn run(mut self) {
        let mut applied = self.parts.ledger.applied();
        loop {
            applied.borrow_and_update();
            if let Err(error) = self.look() {
                tracing::error!(error = one_line(&error), "the state cannot be read");
            }
            self.count_copies().await;
            sleep(SETTLE).await;
            // Whether something changed or time went by.
            timeout(LOOK_EVERY, applied.changed()).await.ok();
        }
    }

    fn look(&mut self) -> Result<(), ReadError> {
        let state = self.parts.ledger.local();
        self.read_desired(&state)?;
        let round = self.round(&state)?;
        for name in self.due() {
            if let Some(mut image) = self.images.remove(&name) {
                let looked = self.look_at(&state, &name, &mut image, &round);
                self.images.insert(name, image);
                looked?;
            }
        }
        let names: BTreeSet<String> = self.images.keys().cloned().collect();
        self.parts.board.retain(&names);
        self.parts.filler.retain(|name| names.contains(name));
        Ok(())
    }

    fn read_desired(&mut self, state: &impl Read) -> Result<(), ReadError> {
        let mut seen = BTreeMap::new();
        let mut after: Option<ImageReference> = None;
        loop {
            let page = view::list_desired(state, after.as_ref(), READ_PAGE)?;
            let is_last = page.len() < READ_PAGE;
            after = page.last().map(|(reference, _)| reference.clone());
            for (reference, record) in page {
                let name = reference.to_string();
                let known = self.images.remove(&name).filter(|known| known.record == record);
                let image = known.unwrap_or(Image {
                    reference,
                    record,
                    is_settled: false,
                    blobs: Vec::new(),
                });
                seen.insert(name, image);
            }
            if is_last {
                break;
            }
        }
        self.images = seen;
        Ok(())
    }

    fn round(&self, state: &impl Read) -> Result<Round, ReadError> {
        let mut platforms = view::wanted(state)?.platforms;
        if platforms.is_empty() {
            platforms.push(platforms::own());
        }
        let fills = self.parts.blobs.fills().into_iter();
        Ok(Round {
            platforms,
            in_flight: fills.map(|fill| (fill.digest, fill.done_bytes)).collect(),
        })
    }

    /// Unsettled images, and the next page of the others.
    fn due(&mut self) -> Vec<String> {
        use std::ops::Bound::{Excluded, Unbounded};
        let unsettled = self.images.iter().filter(|(_, image)| !image.is_settled);
        let mut due: Vec<String> = unsettled.map(|(name, _)| name.clone()).collect();
        let after = self.cursor.as_ref().map_or(Unbounded, Excluded);
        let settled = self.images.range::<String, _>((after, Unbounded));
        let settled = settled.filter(|(_, image)| image.is_settled);
        let page: Vec<String> = settled.take(PAGE).map(|(name, _)| name.clone()).collect();
        self.cursor = page.last().cloned().filter(|_| page.len() == PAGE);
        due.extend(page);
        due
    }

    fn look_at(&self, state: &impl Read, name: &str, image: &mut Image, round: &Round) -> Result<(), ReadError> {
        let reference = &image.reference;
        let resolved = resolve(state, reference)?;
        let assess = |digest: Option<&Digest>| match digest {
            Some(digest) => assess(state, reference, digest, &round.platforms),
            None => Ok(Assessed::default()),
        };
        let to_fill = assess(resolved.to_fill.as_ref())?;
        let is_moving = resolved.served != resolved.to_fill;
        let shown = if is_moving {
            assess(resolved.served.as_ref())?
        } else {
            to_fill.clone()
        };
        let visibility = view::visibility(state, &reference.repository)?;
        if self.parts.tier.owner(name) == Seat::Own {
            let access = access_of(state, reference, visibility)?;
            self.parts
                .filler
                .see(reference, &image.record, &resolved, &to_fill, access);
        }
        image.blobs = blobs_of(&shown);
        let copies = image.blobs.iter().map(|(digest, _)| self.copies.of(digest)).min();
        let posted = image_state(&Facts {
            reference: name.to_owned(),
            record: &image.record,
            resolved: &resolved,
            assessed: &shown,
            in_flight: &round.in_flight,
            copies: copies.unwrap_or(0),
            copies_wanted: u32::try_from(self.parts.tier.copies()).unwrap_or(u32::MAX),
            private: matches!(visibility, Some(Visibility::Private { .. })),
        });
        image.is_settled = posted.phase == i32::from(ImagePhase::Ready) && !is_moving;
        self.parts.board.put(posted);
        Ok(())
    }

    async fn count_copies(&mut self) {
        let blobs = self.images.values().flat_map(|image| &image.blobs);
        let distinct: HashMap<Digest, meta::Gen> = blobs.cloned().collect();
        self.copies.retain(&distinct.keys().cloned().collect::<HashSet<_>>());
        let wanted = distinct
            .into_iter()
            .map(|(digest, generation)| Wanted { digest, generation });
        self.copies.renew(wanted).await;
    }
}

/// The blobs whose copies are counted: those that are there, of an image that was whole.
fn blobs_of(assessed: &Assessed) -> Vec<(Digest, meta::Gen)> {
    if !assessed.is_whole {
        return Vec::new();
    }
    let blobs = assessed.blobs.iter();
    blobs
        .filter_map(|(digest, blob)| Some((digest.clone(), blob.present?)))
        .collect()
}

/// Changes when who may read an image changes.
fn access_of(state: &impl Read, reference: &ImageReference, visibility: Option<Visibility>) -> Result<u64, ReadError> {
    let mut hasher = DefaultHasher::new();
    matches!(visibility, Some(Visibility::Private { .. })).hash(&mut hasher);
    for grant in view::grants_of(state, &reference.repository, GRANTS_MAX)? {
        (grant.namespace, grant.record.credential, grant.record.verified_at_ms).hash(&mut hasher);
    }
    Ok(hasher.finish())
}
