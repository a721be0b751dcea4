//! What is planned, story by story.

use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proto::pod::Place;
use proto::v1::{ImageChanges, ImagePhase, ImageState};

use super::*;
use crate::action::{Notice, ObjectKind};
use crate::crd::{
    ANNOTATION_FORCE_UPDATE, CachedImageSpec, CachedImageStatus, FINALIZER_CACHED_IMAGE_V1, Repository, RepositorySpec,
};
use crate::pod::{PodFacts, PodImage, PodKey};
use crate::state::{Change, Seen};
use crate::workload::{Template, WorkloadKey, WorkloadKind};

const NGINX: &str = "docker.io/library/nginx:latest";

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn policy() -> Policy {
    Policy {
        expiry_delay: Duration::from_secs(30 * 24 * 3600),
        ignored_namespaces: BTreeSet::new(),
        architectures: Architectures::Auto,
        restore: true,
    }
}

/// A cluster in which every watch is complete.
struct Cluster(State);

impl Cluster {
    fn new() -> Self {
        let mut state = State::default();
        for list in [Seen::ListBegins, Seen::ListEnds] {
            state.apply(Change::Pod(list));
        }
        for list in [Seen::ListBegins, Seen::ListEnds] {
            state.apply(Change::Image(list));
        }
        for list in [Seen::ListBegins, Seen::ListEnds] {
            state.apply(Change::Repository(list));
        }
        for list in [
            Seen::ListBegins,
            Seen::Listed("node".to_owned(), "linux/amd64".to_owned()),
            Seen::ListEnds,
        ] {
            state.apply(Change::Node(list));
        }
        state.apply(Change::Tier(ImageChanges {
            from_beginning: true,
            synced: true,
            ..ImageChanges::default()
        }));
        state.grants.answered(Some(Vec::new()), now(), 0);
        for kind in WorkloadKind::ALL {
            for list in [Seen::ListBegins, Seen::ListEnds] {
                state.apply(Change::Workload(kind, list));
            }
        }
        Self(state)
    }

    /// One that never heard of pods.
    fn without_pods() -> Self {
        let mut cluster = Self::new();
        cluster.0.pods = crate::state::Watched::default();
        cluster
    }

    fn pod(mut self, name: &str, image: &str) -> Self {
        let key = PodKey {
            namespace: "n".to_owned(),
            name: name.to_owned(),
        };
        let image = PodImage::new(Place::Container, "c", image.to_owned(), false);
        self.0.apply(Change::Pod(Seen::Changed(
            key,
            PodFacts {
                images: vec![image],
                ..PodFacts::default()
            },
        )));
        self
    }

    fn repository(mut self, name: &str, repository: &str) -> Self {
        let spec = RepositorySpec {
            name: repository.to_owned(),
            ..RepositorySpec::default()
        };
        let mut object = Repository::new(name, spec);
        object.metadata.uid = Some(format!("uid-{name}"));
        self.0.apply(Change::Repository(Seen::Changed(name.to_owned(), object)));
        self
    }

    fn image(self, name: &str, source_image: &str) -> Self {
        self.image_with(name, source_image, |_| {})
    }

    fn image_with(mut self, name: &str, source_image: &str, change: impl FnOnce(&mut CachedImage)) -> Self {
        let spec = CachedImageSpec {
            source_image: source_image.to_owned(),
            ..CachedImageSpec::default()
        };
        let mut object = CachedImage::new(name, spec);
        change(&mut object);
        self.0.apply(Change::Image(Seen::Changed(name.to_owned(), object)));
        self
    }

    fn tier(mut self, state: ImageState) -> Self {
        self.0.apply(Change::Tier(ImageChanges {
            changed: vec![state],
            synced: true,
            ..ImageChanges::default()
        }));
        self
    }

    fn plan(&self) -> Vec<Action> {
        plan(&self.0, &policy(), now()).actions
    }

    fn created(&self) -> Vec<(String, String)> {
        let created = self.plan().into_iter().filter_map(|action| match action {
            Action::CreateImage { name, source_image, .. } => Some((name, source_image)),
            _ => None,
        });
        created.collect()
    }

    fn deleted(&self) -> Vec<String> {
        let deleted = self.plan().into_iter().filter_map(|action| match action {
            Action::DeleteImage { name, .. } => Some(name),
            _ => None,
        });
        deleted.collect()
    }

    /// The status that is to be written for an object, and what people are told.
    fn status(&self, name: &str) -> Option<(CachedImageStatus, Vec<&'static str>)> {
        self.plan().into_iter().find_map(|action| match action {
            Action::ImageStatus {
                name: of,
                status,
                notices,
                ..
            } if of == name => {
                let reasons = notices.iter().map(|notice: &Notice| notice.reason).collect();
                Some((*status, reasons))
            }
            _ => None,
        })
    }
}

fn tier_state(phase: ImagePhase) -> ImageState {
    ImageState {
        reference: NGINX.to_owned(),
        phase: phase.into(),
        digest: format!("sha256:{}", "a".repeat(64)),
        source_digest: format!("sha256:{}", "a".repeat(64)),
        copies: 3,
        copies_wanted: 3,
        checked_at_ms: 1_790_000_000_000,
        ..ImageState::default()
    }
}

fn unused_for(days: i64) -> impl FnOnce(&mut CachedImage) {
    move |object| {
        let since = now() - (days * 24).hours();
        object.status = Some(CachedImageStatus {
            unused_since: Some(Time(since)),
            ..CachedImageStatus::default()
        });
    }
}

mod converging;
mod expiring;
mod granting;
mod objects;
mod restoring;
mod statuses;
mod updating;
mod workloads;
