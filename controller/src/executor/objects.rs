//! Writes CachedImages and Repositories.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ClusterResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{ActionError, EVENT_ACTION, Executor, Outcome};
use crate::FIELD_MANAGER;
use crate::action::{Notice, Owner};
use crate::crd::{
    ANNOTATION_FORCE_UPDATE, CachedImage, CachedImageSpec, CachedImageStatus, LABEL_REPOSITORY, Repository,
    RepositorySpec, RepositoryStatus,
};
use crate::metrics;
use crate::name::label_value;

impl Executor {
    pub(super) async fn create_repository(&self, name: &str, repository: &str) -> Result<Outcome, ActionError> {
        let spec = RepositorySpec {
            name: repository.to_owned(),
            ..RepositorySpec::default()
        };
        let object = Repository::new(name, spec);
        let created = self.all::<Repository>().create(&created_by_us(), &object).await?;
        Ok(Outcome::Repository(Box::new(slim(created))))
    }

    pub(super) async fn create_image(
        &self,
        name: &str,
        source_image: &str,
        owner: &Owner,
    ) -> Result<Outcome, ActionError> {
        let spec = CachedImageSpec {
            source_image: source_image.to_owned(),
            ..CachedImageSpec::default()
        };
        let mut object = CachedImage::new(name, spec);
        object
            .labels_mut()
            .insert(LABEL_REPOSITORY.to_owned(), label_value(&owner.name));
        let reference = serde_json::from_value(owner_reference(owner)).map_err(kube::Error::SerdeError)?;
        object.owner_references_mut().push(reference);
        let created = self.all::<CachedImage>().create(&created_by_us(), &object).await?;
        Ok(Outcome::Image(Box::new(slim(created))))
    }

    pub(super) async fn adopt_image(&self, name: &str, owner: &Owner) -> Result<Outcome, ActionError> {
        let patch = json!({
            "apiVersion": CachedImage::api_version(&()),
            "kind": CachedImage::kind(&()),
            "metadata": {
                "name": name,
                "labels": {LABEL_REPOSITORY: label_value(&owner.name)},
                "ownerReferences": [owner_reference(owner)],
            },
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let adopted = self
            .all::<CachedImage>()
            .patch(name, &parameters, &Patch::Apply(patch))
            .await?;
        Ok(Outcome::Image(Box::new(slim(adopted))))
    }

    pub(super) async fn keep_finalizers<K>(
        &self,
        name: &str,
        version: &str,
        kept: &[String],
    ) -> Result<Option<K>, ActionError>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": kept}});
        let changed = self
            .all::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match changed {
            // Without its last finalizer an object that was being deleted is gone.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Ok(object) if object.meta().deletion_timestamp.is_some() => Ok(None),
            Ok(object) => Ok(Some(slim(object))),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn take_off_force_update(&self, name: &str) -> Result<Outcome, ActionError> {
        let patch = json!({"metadata": {"annotations": {ANNOTATION_FORCE_UPDATE: null}}});
        let changed = self
            .all::<CachedImage>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(Outcome::Image(Box::new(slim(changed))))
    }

    pub(super) async fn write_image_status(
        &self,
        name: &str,
        uid: &str,
        status: &CachedImageStatus,
        notices: &[Notice],
    ) -> Result<Outcome, ActionError> {
        let fields = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        let written: CachedImage = self.write_status(name, Some(uid), fields, IMAGE_STATUS_FIELDS).await?;
        metrics::told(notices, &written.spec.source_image);
        for notice in notices {
            self.tell(&written, notice).await;
        }
        Ok(Outcome::Image(Box::new(slim(written))))
    }

    pub(super) async fn write_repository_status(
        &self,
        name: &str,
        status: &RepositoryStatus,
    ) -> Result<Outcome, ActionError> {
        let fields = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        let written: Repository = self.write_status(name, None, fields, REPOSITORY_STATUS_FIELDS).await?;
        Ok(Outcome::Repository(Box::new(slim(written))))
    }

    pub(super) async fn write_last_update(&self, name: &str) -> Result<Outcome, ActionError> {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
        let patch = json!({"status": {"lastUpdate": Time(now)}});
        let written = self
            .all::<Repository>()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(Outcome::Repository(Box::new(slim(written))))
    }

    /// A merge, in which what is no longer so is taken out by name: v1 wrote fields that no apply of ours would remove.
    async fn write_status<K>(
        &self,
        name: &str,
        uid: Option<&str>,
        fields: Value,
        known: &[&str],
    ) -> Result<K, ActionError>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let mut status: Map<String, Value> = known.iter().map(|field| ((*field).to_owned(), Value::Null)).collect();
        if let Value::Object(fields) = fields {
            status.extend(fields);
        }
        let patch = json!({"metadata": {"uid": uid}, "status": status});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        Ok(self
            .all::<K>()
            .patch_status(name, &parameters, &Patch::Merge(patch))
            .await?)
    }

    pub(super) async fn delete_image(
        &self,
        name: &str,
        uid: &str,
        version: &str,
        notice: &Notice,
    ) -> Result<Outcome, ActionError> {
        let api = self.all::<CachedImage>();
        let preconditions = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
        };
        let parameters = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let deleted = api.delete(name, &parameters).await?;
        metrics::removed();
        if let Some(object) = deleted.left() {
            self.tell(&object, notice).await;
        }
        Ok(Outcome::Done)
    }

    async fn tell<K>(&self, object: &K, notice: &Notice)
    where
        K: Resource<DynamicType = ()>,
    {
        self.events.tell(&object.object_ref(&()), EVENT_ACTION, notice).await;
    }

    fn all<K>(&self) -> Api<K>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }
}

const IMAGE_STATUS_FIELDS: &[&str] = &[
    "phase",
    "isCached",
    "usedBy",
    "digest",
    "upstreamDigest",
    "upToDate",
    "availableUpstream",
    "lastSync",
    "lastSuccessfulPull",
    "lastSeenUpstream",
    "expiresAt",
    "unusedSince",
    "copies",
    "conditions",
];
const REPOSITORY_STATUS_FIELDS: &[&str] = &["images", "phase", "lastUpdate", "conditions"];

fn owner_reference(owner: &Owner) -> Value {
    json!({
        "apiVersion": Repository::api_version(&()),
        "kind": Repository::kind(&()),
        "name": owner.name,
        "uid": owner.uid,
    })
}

fn created_by_us() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// As the watch would pass it on.
fn slim<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}
