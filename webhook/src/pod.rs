//! The few fields of a pod that matter here. All others are never read, and a JSON patch cannot lose them.

use std::collections::BTreeMap;

use proto::pod::Place;
use serde::Deserialize;

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Pod {
    /// `metadata`.
    pub metadata: Metadata,
    /// `spec`.
    pub spec: Spec,
    /// `status`; absent in a pod that is being created.
    #[serde(default)]
    pub status: Option<Status>,
}

/// `metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name; absent where the API server makes it from `generate_name` later.
    #[serde(default)]
    pub name: Option<String>,
    /// The beginning of its name.
    #[serde(default)]
    pub generate_name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Who made it.
    #[serde(default)]
    pub owner_references: Option<Vec<OwnerReference>>,
    /// Set while the pod ends.
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
}

/// One of the objects a pod belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// `group/version`, or `v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Unlike any other's, ever.
    #[serde(default)]
    pub uid: String,
    /// This owner makes and deletes the pod.
    #[serde(default)]
    pub controller: Option<bool>,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Containers.
    #[serde(default)]
    pub containers: Option<Vec<Container>>,
    /// Containers that run before.
    #[serde(default)]
    pub init_containers: Option<Vec<Container>>,
    /// Containers added to a living pod.
    #[serde(default)]
    pub ephemeral_containers: Option<Vec<Container>>,
    /// Volumes.
    #[serde(default)]
    pub volumes: Option<Vec<Volume>>,
    /// Labels of the nodes it may run on.
    #[serde(default)]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// What it runs on.
    #[serde(default)]
    pub os: Option<PodOs>,
}

/// `spec.os`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct PodOs {
    /// `linux` or `windows`.
    #[serde(default)]
    pub name: String,
}

/// A container of any sort.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Unlike any other's in the pod.
    #[serde(default)]
    pub name: String,
    /// Its image.
    #[serde(default)]
    pub image: Option<String>,
    /// `Always`, `IfNotPresent`, `Never`.
    #[serde(default)]
    pub image_pull_policy: Option<String>,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Volume {
    /// Unlike any other's in the pod.
    #[serde(default)]
    pub name: String,
    /// Present where the volume is an image.
    #[serde(default)]
    pub image: Option<VolumeImage>,
}

/// `volumes[].image`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeImage {
    /// The image.
    #[serde(default)]
    pub reference: Option<String>,
    /// As for containers.
    #[serde(default)]
    pub pull_policy: Option<String>,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// How containers are.
    #[serde(default)]
    pub container_statuses: Option<Vec<ContainerStatus>>,
    /// How init containers are.
    #[serde(default)]
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
}

/// How one container is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// The container.
    #[serde(default)]
    pub name: String,
    /// The image it runs; empty until it has been pulled.
    #[serde(default, rename = "imageID")]
    pub image_id: String,
}

/// One image of a pod, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot<'pod> {
    /// Which list.
    pub place: Place,
    /// Index in that list.
    pub index: usize,
    /// Name of the container or volume.
    pub name: &'pod str,
    /// The image.
    pub image: &'pod str,
    /// When it is pulled, where that is written.
    pub pull_policy: Option<&'pod str>,
}

impl Slot<'_> {
    /// The name under which annotations tell of this image; containers of all sorts share one space of names.
    pub fn key(&self) -> String {
        match self.place {
            Place::Volume => format!("volume/{}", self.name),
            Place::Container | Place::InitContainer | Place::EphemeralContainer => self.name.to_owned(),
        }
    }

    /// The JSON pointer's parts.
    pub fn path(&self) -> Vec<String> {
        let index = self.index.to_string();
        let list = |list: &str| vec!["spec".into(), list.into(), index.clone(), "image".into()];
        match self.place {
            Place::Container => list("containers"),
            Place::InitContainer => list("initContainers"),
            Place::EphemeralContainer => list("ephemeralContainers"),
            Place::Volume => [list("volumes"), vec!["reference".into()]].concat(),
        }
    }
}

impl Pod {
    /// Every image that is written in the pod.
    pub fn images(&self) -> Vec<Slot<'_>> {
        let spec = &self.spec;
        let containers = [
            (Place::InitContainer, &spec.init_containers),
            (Place::Container, &spec.containers),
            (Place::EphemeralContainer, &spec.ephemeral_containers),
        ];
        let containers = containers.into_iter().flat_map(|(place, list)| {
            let list = list.iter().flatten().enumerate();
            list.filter_map(move |(index, container)| container.slot(place, index))
        });
        let volumes = spec.volumes.iter().flatten().enumerate();
        let volumes = volumes.filter_map(|(index, volume)| volume.slot(index));
        containers.chain(volumes).collect()
    }

    /// The image that stands in the same place under the same name, whatever its index.
    pub fn image_of(&self, slot: &Slot<'_>) -> Option<&str> {
        let same = |other: &Slot<'_>| other.place == slot.place && other.name == slot.name;
        self.images().into_iter().find(same).map(|other| other.image)
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The value of a node label that it asks for.
    pub fn node_selector(&self, key: &str) -> Option<&str> {
        self.spec.node_selector.as_ref()?.get(key).map(String::as_str)
    }

    /// All owners.
    pub fn owners(&self) -> &[OwnerReference] {
        self.metadata.owner_references.as_deref().unwrap_or_default()
    }

    /// Who makes and deletes this pod.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners().iter().find(|owner| owner.controller == Some(true))
    }

    /// Whether the container's image has been pulled.
    pub fn has_pulled(&self, slot: &Slot<'_>) -> bool {
        let Some(status) = &self.status else { return false };
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let mut statuses = lists.into_iter().flatten().flatten();
        statuses.any(|status| status.name == slot.name && !status.image_id.is_empty())
    }
}

impl OwnerReference {
    /// The part of `apiVersion` before the slash; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _version)| group)
    }
}

impl Container {
    fn slot(&self, place: Place, index: usize) -> Option<Slot<'_>> {
        let image = self.image.as_deref().filter(|image| !image.is_empty())?;
        Some(Slot {
            place,
            index,
            name: &self.name,
            image,
            pull_policy: self.image_pull_policy.as_deref().filter(|policy| !policy.is_empty()),
        })
    }
}

impl Volume {
    fn slot(&self, index: usize) -> Option<Slot<'_>> {
        let volume = self.image.as_ref()?;
        let image = volume.reference.as_deref().filter(|image| !image.is_empty())?;
        Some(Slot {
            place: Place::Volume,
            index,
            name: &self.name,
            image,
            pull_policy: volume.pull_policy.as_deref().filter(|policy| !policy.is_empty()),
        })
    }
}
