//! What the controller can do: the words in which plans are made.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use proto::pod::Place;
use proto::v1::{ChangeDesiredRequest, PlaceRequest};

use crate::crd::{CachedImageStatus, RepositoryStatus};
use crate::grant::GrantKey;
use crate::pod::{PodImage, PodKey};

/// One thing to do. Doing it twice is doing it once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    CreateRepository {
        name: String,
        /// `host/name`.
        repository: String,
    },
    CreateImage {
        name: String,
        source_image: String,
        owner: Owner,
    },
    /// Puts our label and owner on an object that others made.
    AdoptImage { name: String, owner: Owner },
    RemoveFinalizers {
        object: ObjectKind,
        name: String,
        /// From which this was decided.
        version: String,
        /// Those that stay.
        kept: Vec<String>,
    },
    ImageStatus {
        name: String,
        uid: String,
        /// Boxed, as it is much larger than the others.
        status: Box<CachedImageStatus>,
        notices: Vec<Notice>,
    },
    RepositoryStatus {
        name: String,
        status: Box<RepositoryStatus>,
    },
    DeleteImage {
        name: String,
        uid: String,
        /// From which this was decided.
        version: String,
        notice: Notice,
    },
    /// Has the image checked at its source, then takes the annotation off that asked for it.
    ForceUpdate { name: String, image: String },
    /// Tells the tier which images to keep.
    Desire(ChangeDesiredRequest),
    /// Has the tier try a namespace's pull secrets for a repository.
    Grant {
        key: GrantKey,
        /// To try with, the likeliest first.
        images: Vec<String>,
        secrets: Vec<SecretName>,
        /// Service accounts of the namespace whose pull secrets are tried too.
        accounts: Vec<String>,
    },
    /// Asks the tier which grants there are.
    ListGrants {
        /// How often it had been doubted by then.
        doubts: u64,
    },
    /// Has the tier forget a grant.
    Revoke { key: GrantKey },
    /// Tells the tier which nodes run pods of private repositories.
    Place(PlaceRequest),
    /// Has images of a Repository checked at their source, as its interval asks for.
    Update { name: String, images: Vec<String> },
    /// Puts original images back into a pod.
    Restore(Restoration),
    /// Tells people about a Repository.
    TellRepository {
        about: Box<ObjectReference>,
        notice: Notice,
    },
    /// Takes v1's finalizer off a pod.
    ReleasePod {
        pod: PodKey,
        version: String,
        kept: Vec<String>,
    },
}

/// Original images to be put back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Restoration {
    pub(crate) pod: PodKey,
    pub(crate) uid: String,
    /// From which this was decided.
    pub(crate) version: String,
    pub(crate) images: Vec<RestoredImage>,
    /// By container, why others were put back before: that stays.
    pub(crate) before: BTreeMap<String, String>,
    /// Why, for people.
    pub(crate) reason: String,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestoredImage {
    pub(crate) place: Place,
    pub(crate) container: String,
    pub(crate) image: String,
}

impl RestoredImage {
    /// Kubernetes takes new images for containers and init containers alone in a pod that lives.
    pub(crate) fn of(image: &PodImage) -> Option<Self> {
        matches!(image.place, Place::Container | Place::InitContainer).then(|| Self {
            place: image.place,
            container: image.name.clone(),
            image: image.original.clone(),
        })
    }
}

/// A pull secret by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SecretName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl SecretName {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl std::fmt::Display for SecretName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// A Repository that owns CachedImages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Kinds of objects with finalizers of v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ObjectKind {
    CachedImage,
    Repository,
}

/// An event for people, about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

impl Notice {
    pub(crate) fn normal(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason,
            text: text.into(),
        }
    }

    pub(crate) fn warning(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            warning: true,
            reason,
            text: text.into(),
        }
    }
}

/// What an action is about. Two actions of one key are never under way at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ActionKey {
    Image(String),
    ImageStatus(String),
    Repository(String),
    RepositoryStatus(String),
    Desired,
    GrantList,
    Grant(GrantKey),
    Places,
    Pod(PodKey),
    Update(String),
    Told(String),
}

impl Action {
    pub(crate) fn key(&self) -> ActionKey {
        match self {
            Self::CreateRepository { name, .. } => ActionKey::Repository(name.clone()),
            Self::CreateImage { name, .. }
            | Self::AdoptImage { name, .. }
            | Self::DeleteImage { name, .. }
            | Self::ForceUpdate { name, .. } => ActionKey::Image(name.clone()),
            Self::RemoveFinalizers {
                object: ObjectKind::CachedImage,
                name,
                ..
            } => ActionKey::Image(name.clone()),
            Self::RemoveFinalizers {
                object: ObjectKind::Repository,
                name,
                ..
            } => ActionKey::Repository(name.clone()),
            Self::ImageStatus { name, .. } => ActionKey::ImageStatus(name.clone()),
            Self::RepositoryStatus { name, .. } => ActionKey::RepositoryStatus(name.clone()),
            Self::Desire(_) => ActionKey::Desired,
            Self::ListGrants { .. } => ActionKey::GrantList,
            Self::Grant { key, .. } | Self::Revoke { key } => ActionKey::Grant(key.clone()),
            Self::Place(_) => ActionKey::Places,
            Self::TellRepository { about, .. } => ActionKey::Told(about.name.clone().unwrap_or_default()),
            Self::Update { name, .. } => ActionKey::Update(name.clone()),
            Self::Restore(Restoration { pod, .. }) | Self::ReleasePod { pod, .. } => ActionKey::Pod(pod.clone()),
        }
    }
}
