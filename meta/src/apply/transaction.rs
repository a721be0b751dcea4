//! The state while one command is applied to it.

use oci::Repository;

use crate::family::Family;
use crate::id::RepositoryId;
use crate::mutation::Mutation;
use crate::outcome::Rejected;
use crate::overlay::Overlay;
use crate::read::{Entry, Read, ReadError};
use crate::record::{ClusterRecord, Record, RepositoryRecord, repository_name_key};
use crate::view;

/// Reads see the command's own changes. The cluster record is held aside, as every command changes it.
pub(super) struct Transaction<R> {
    overlay: Overlay<R>,
    cluster: Option<ClusterRecord>,
    cluster_before: Option<ClusterRecord>,
    stamped_ms: u64,
}

impl<R: Read> Transaction<R> {
    /// Begins at `base`, with the clock put forward to `stamped_ms` unless it is there already.
    pub(super) fn begin(base: R, stamped_ms: u64) -> Result<Self, ReadError> {
        let mut cluster = view::cluster(&base)?;
        if let Some(cluster) = &mut cluster {
            cluster.logical_now_ms = cluster.logical_now_ms.max(stamped_ms);
        }
        Ok(Self {
            overlay: Overlay::new(base),
            cluster_before: cluster.clone(),
            cluster,
            stamped_ms,
        })
    }

    /// Forgets every change but that of the clock.
    pub(super) fn roll_back(&mut self) {
        self.overlay.discard_changes();
        self.cluster = self.cluster_before.clone();
    }

    pub(super) fn finish(mut self) -> Vec<Mutation> {
        if let Some(cluster) = self.cluster.take() {
            self.put(ClusterRecord::KEY, &cluster);
        }
        self.overlay.into_mutations()
    }

    pub(super) fn cluster(&self) -> Result<&ClusterRecord, Rejected> {
        self.cluster.as_ref().ok_or(Rejected::NotInitialized)
    }

    pub(super) fn cluster_mut(&mut self) -> Result<&mut ClusterRecord, Rejected> {
        self.cluster.as_mut().ok_or(Rejected::NotInitialized)
    }

    pub(super) fn found_cluster(&mut self, cluster: ClusterRecord) {
        self.cluster = Some(cluster);
    }

    /// The logical time of this command in milliseconds since the Unix epoch.
    pub(super) fn now_ms(&self) -> u64 {
        self.cluster
            .as_ref()
            .map_or(self.stamped_ms, |cluster| cluster.logical_now_ms)
    }

    pub(super) fn put<T: Record>(&mut self, key: &[u8], record: &T) {
        self.overlay.set(T::FAMILY, key.to_vec(), Some(record.to_value()));
    }

    pub(super) fn put_bytes(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.overlay.set(family, key, Some(value));
    }

    pub(super) fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.overlay.set(family, key, None);
    }

    /// The id of `repository`, which gets one if it has none.
    pub(super) fn repository_id(&mut self, repository: &Repository) -> Result<RepositoryId, super::Refusal> {
        if let Some(id) = view::repository_id(self, repository)? {
            return Ok(id);
        }
        let cluster = self.cluster_mut()?;
        let id = cluster.next_repository_id;
        cluster.next_repository_id = id.next();
        let record = RepositoryRecord {
            repository: repository.clone(),
        };
        self.put(&id.to_key(), &record);
        self.put(&repository_name_key(repository), &id);
        Ok(id)
    }
}

impl<R: Read> Read for Transaction<R> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.overlay.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.overlay.scan(family, prefix, start_after, limit)
    }
}
