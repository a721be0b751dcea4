//! The oracle: what commands mean, said as plainly as possible over whole maps.

use std::collections::{BTreeMap, BTreeSet};

use meta::{
    AbandonGens, BlobRecord, BlobState, BootNode, Command, CommitBlob, CompleteManifest, Completeness, FeatureLevel,
    Gen, InitCluster, LayoutRecord, Link, MarkLost, MemoryState, NodeId, NodeRecord, Outcome, PromoteTag, PutManifest,
    RegisterNode, Rejected, RepositoryId, SetCandidate, SetFeatureLevel, SetLayout, TAG_HISTORY_MAX, TagCheck,
    TagChecked, TagHistoryEntry, TagRecord, view,
};
use oci::{Digest, Repository, Tag};

use crate::model_access::AccessModel;
use crate::universe::{Sample, manifests};

/// Everything a caller can see of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    cluster: Option<InitCluster>,
    now_ms: u64,
    serving_changes: u64,
    nodes: BTreeMap<NodeId, NodeRecord>,
    layout: LayoutRecord,
    repositories: Vec<Repository>,
    blobs: BTreeMap<Digest, BlobRecord>,
    manifests: BTreeMap<Digest, Completeness>,
    links: BTreeSet<(Repository, Digest)>,
    tags: BTreeMap<(Repository, Tag), TagRecord>,
    access: AccessModel,
}

pub(crate) type Answer = Result<Outcome, Rejected>;

impl Model {
    pub(crate) fn apply(&mut self, now_ms: u64, command: &Command) -> Outcome {
        if self.cluster.is_none() && !matches!(command, Command::InitCluster(_)) {
            return Rejected::NotInitialized.into();
        }
        self.now_ms = self.now_ms.max(now_ms);
        let mut after = self.clone();
        match after.decide(command) {
            Ok(outcome) => {
                *self = after;
                outcome
            }
            Err(reason) => reason.into(),
        }
    }

    /// Compares everything the model knows with what views of `state` show.
    pub(crate) fn assert_shown_by(&self, state: &MemoryState) {
        let Some(cluster) = view::cluster(state).unwrap() else {
            assert_eq!(*self, Self::default());
            return;
        };
        assert_eq!(cluster.feature_level, self.level());
        self.access.assert_shown_by(state);
        assert_eq!(
            (cluster.logical_now_ms, cluster.serving_changes),
            (self.now_ms, self.serving_changes)
        );
        assert_eq!(view::nodes(state).unwrap(), Vec::from_iter(self.nodes.clone()));
        assert_eq!(view::layout(state).unwrap(), self.layout);
        assert_eq!(
            view::list_blobs(state, None, usize::MAX).unwrap(),
            Vec::from_iter(self.blobs.clone())
        );
        let repositories = view::list_repositories(state, None, usize::MAX).unwrap();
        assert_eq!(
            Vec::from_iter(repositories.iter().map(|(_, name)| name.clone())),
            self.repositories
        );
        self.assert_manifests_and_links(state, &repositories);
        let tags = view::list_images(state, None, usize::MAX).unwrap();
        let tags = tags
            .into_iter()
            .map(|image| ((image.repository, image.tag), image.record));
        assert_eq!(BTreeMap::from_iter(tags), self.tags);
    }

    fn assert_manifests_and_links(&self, state: &MemoryState, repositories: &[(RepositoryId, Repository)]) {
        let digests = manifests()
            .iter()
            .map(|sample| sample.digest.clone())
            .chain(self.blobs.keys().cloned());
        for digest in digests {
            let completeness = view::manifest(state, &digest)
                .unwrap()
                .map(|manifest| manifest.completeness);
            assert_eq!(completeness, self.manifests.get(&digest).cloned(), "{digest}");
            for (id, repository) in repositories {
                let linked = self.links.contains(&(repository.clone(), digest.clone()));
                assert_eq!(
                    view::is_linked(state, *id, &digest).unwrap(),
                    linked,
                    "{repository} {digest}"
                );
            }
        }
    }

    fn level(&self) -> FeatureLevel {
        self.cluster.as_ref().unwrap().feature_level
    }

    fn decide(&mut self, command: &Command) -> Answer {
        let required = command.feature_level();
        if let Some(cluster) = self.cluster.as_ref().map(|cluster| cluster.feature_level)
            && required > cluster
        {
            return Err(Rejected::FeatureLevelTooLow { required, cluster });
        }
        match command {
            Command::InitCluster(command) => self.init(command),
            Command::SetFeatureLevel(command) => self.set_feature_level(command),
            Command::RegisterNode(command) => self.register(command),
            Command::BootNode(command) => self.boot(command),
            Command::SetLayout(command) => self.set_layout(command),
            Command::PutManifest(command) => self.put(command),
            Command::CommitBlob(command) => self.commit(command),
            Command::AbandonGens(command) => self.abandon(command),
            Command::CompleteManifest(command) => self.complete(command),
            Command::MarkLost(command) => self.mark_lost(command),
            Command::SetCandidate(command) => self.set_candidate(command),
            Command::PromoteTag(command) => self.promote(command),
            Command::TagChecked(command) => self.tag_checked(command),
            Command::Link(command) => self.link(command),
            Command::Newer(_) => unreachable!("never proposed here"),
            access => self.access.decide(access, self.now_ms),
        }
    }

    fn init(&mut self, command: &InitCluster) -> Answer {
        let cluster = self.cluster.get_or_insert_with(|| command.clone());
        if (cluster.cluster_id, cluster.epoch) != (command.cluster_id, command.epoch) {
            return Err(Rejected::AlreadyInitialized {
                cluster_id: cluster.cluster_id,
                epoch: cluster.epoch,
            });
        }
        Ok(Outcome::Initialized)
    }

    fn set_feature_level(&mut self, command: &SetFeatureLevel) -> Answer {
        let level = command.level;
        let current = self.cluster.as_ref().unwrap().feature_level;
        if level < current {
            return Err(Rejected::FeatureLevelLowered { current });
        }
        if self.nodes.is_empty() && level > current {
            return Err(Rejected::NodeTooOld { node: None, level });
        }
        match self.nodes.iter().find(|(_, node)| node.feature_level < level) {
            Some((node, _)) => Err(Rejected::NodeTooOld {
                node: Some(*node),
                level,
            }),
            None => {
                self.cluster.as_mut().unwrap().feature_level = level;
                Ok(Outcome::FeatureLevelSet)
            }
        }
    }

    fn register(&mut self, command: &RegisterNode) -> Answer {
        let level = self.level();
        if command.feature_level < level {
            return Err(Rejected::NodeTooOld { node: None, level });
        }
        let known = self
            .nodes
            .iter()
            .find(|(_, node)| node.nonce == command.nonce)
            .map(|(id, _)| *id);
        let id = known.unwrap_or_else(|| NodeId::new(self.nodes.len() as u64 + 1));
        let node = self.nodes.entry(id).or_insert_with(|| NodeRecord {
            nonce: command.nonce,
            addresses: command.addresses.clone(),
            zone: String::new(),
            feature_level: command.feature_level,
            boot_count: 0,
            last_log: None,
            abandoned_below: 0,
        });
        node.addresses = command.addresses.clone();
        node.zone = command.zone.clone();
        node.feature_level = command.feature_level;
        Ok(Outcome::NodeRegistered { id })
    }

    fn boot(&mut self, command: &BootNode) -> Answer {
        let level = self.level();
        let node = self.node(command.node)?;
        if command.feature_level < level {
            let node = Some(command.node);
            return Err(Rejected::NodeTooOld { node, level });
        }
        let told_again = (command.boot_count, command.last_log) == (node.boot_count, node.last_log);
        let next = command.boot_count > node.boot_count && command.last_log >= node.last_log;
        if !told_again && !next {
            return Err(Rejected::NodeWentBackwards {
                node: command.node,
                boot_count: node.boot_count,
                last_log: node.last_log,
            });
        }
        node.addresses = command.addresses.clone().unwrap_or_else(|| node.addresses.clone());
        node.boot_count = command.boot_count;
        node.last_log = command.last_log;
        node.feature_level = command.feature_level;
        Ok(Outcome::NodeBooted)
    }

    fn set_layout(&mut self, command: &SetLayout) -> Answer {
        let version = self.layout.version;
        if command.expected_version != version {
            return Err(Rejected::LayoutChanged { version });
        }
        let nodes: BTreeSet<_> = command.slots.values().copied().collect();
        if nodes.len() < command.slots.len() {
            return Err(Rejected::LayoutInvalid);
        }
        for node in nodes {
            self.node(node)?;
        }
        self.layout = LayoutRecord {
            version: version + 1,
            slots: command.slots.clone(),
        };
        Ok(Outcome::LayoutSet { version: version + 1 })
    }

    fn put(&mut self, command: &PutManifest) -> Answer {
        self.manifests
            .entry(command.digest.clone())
            .or_insert(Completeness::Known);
        let repository = self.repository(&command.repository);
        self.link_manifest(&command.repository, &command.digest);
        if let Some(candidate) = &command.candidate_of {
            let place = (command.repository.clone(), candidate.tag.clone());
            self.place_candidate(place, &command.digest, candidate.upstream_etag.clone());
        }
        Ok(Outcome::ManifestStored { repository })
    }

    fn commit(&mut self, command: &CommitBlob) -> Answer {
        let generation = command.generation;
        let known = self.blobs.get(&command.digest);
        if let Some(known) = known.map(|blob| blob.size).filter(|size| *size != command.size) {
            return Err(Rejected::SizeMismatch { known });
        }
        let present = known.and_then(BlobRecord::present);
        let lost = known.is_some_and(|blob| blob.state == BlobState::Lost { generation });
        if present.is_none() {
            let writer = self.node(generation.node)?;
            let abandoned = generation.boot_count < writer.abandoned_below;
            if lost || abandoned || generation.epoch > self.cluster.as_ref().unwrap().epoch {
                return Err(Rejected::GenRefused);
            }
        }
        let winner = present.unwrap_or(generation);
        let state = BlobState::Present { generation: winner };
        let size = command.size;
        self.blobs.insert(command.digest.clone(), BlobRecord { size, state });
        self.repository(&command.repository);
        self.links.insert((command.repository.clone(), command.digest.clone()));
        Ok(match winner == generation {
            true => Outcome::BlobCommitted,
            false => Outcome::AlreadyPresent { generation: winner },
        })
    }

    fn abandon(&mut self, command: &AbandonGens) -> Answer {
        let node = self.node(command.node)?;
        if command.boots_below > node.boot_count {
            return Err(Rejected::GenRefused);
        }
        node.abandoned_below = node.abandoned_below.max(command.boots_below);
        Ok(Outcome::GensAbandoned)
    }

    fn complete(&mut self, command: &CompleteManifest) -> Answer {
        let held = self.held(&command.digest)?;
        let sample = sample(&command.digest);
        let are_children = command.children.iter().all(|child| sample.children.contains(child));
        if !are_children || sample.children.is_empty() != command.children.is_empty() {
            return Err(Rejected::NotAChild);
        }
        let named: BTreeSet<Digest> = command.children.iter().cloned().collect();
        let held_before = held.clone().unwrap_or_default();
        let mut to_complete = vec![command.digest.clone()];
        for child in named.difference(&held_before) {
            if self.held(child)?.is_none() {
                to_complete.push(child.clone());
                let digest = child.clone();
                (!is_index(child))
                    .then_some(())
                    .ok_or(Rejected::ChildIncomplete { digest })?;
            }
        }
        self.check_blobs_of(&to_complete)?;
        for child in &to_complete[1..] {
            self.manifests
                .insert(child.clone(), Completeness::Complete { children: Vec::new() });
        }
        let children = held_before.union(&named).cloned().collect();
        self.manifests
            .insert(command.digest.clone(), Completeness::Complete { children });
        Ok(Outcome::ManifestCompleted)
    }

    fn mark_lost(&mut self, command: &MarkLost) -> Answer {
        let generation = command.generation;
        let blob = self
            .blobs
            .get_mut(&command.digest)
            .ok_or(Rejected::GenChanged { current: None })?;
        if blob.state != (BlobState::Lost { generation }) && blob.present() != Some(generation) {
            let current: Option<Gen> = blob.present();
            return Err(Rejected::GenChanged { current });
        }
        blob.state = BlobState::Lost { generation };
        while let Some(broken) = self.manifests.keys().find(|digest| self.is_broken(digest)).cloned() {
            self.manifests.insert(broken, Completeness::Degraded);
        }
        Ok(Outcome::BlobLost)
    }

    fn set_candidate(&mut self, command: &SetCandidate) -> Answer {
        let digest = command.digest.clone();
        if !self.manifests.contains_key(&digest) {
            return Err(Rejected::UnknownManifest { digest });
        }
        if !self.links.contains(&(command.repository.clone(), digest.clone())) {
            return Err(Rejected::NotLinked);
        }
        let place = (command.repository.clone(), command.tag.clone());
        let serving = self.tags.get(&place).and_then(|tag| tag.serving.clone());
        if serving != command.expected_serving {
            return Err(Rejected::ServingChanged { serving });
        }
        self.place_candidate(place, &digest, command.upstream_etag.clone());
        Ok(Outcome::CandidateSet)
    }

    fn promote(&mut self, command: &PromoteTag) -> Answer {
        let now_ms = self.now_ms;
        let place = (command.repository.clone(), command.tag.clone());
        let tag = self.tags.get(&place).ok_or(Rejected::UnknownTag)?.clone();
        let wanted = Some(&command.candidate);
        if tag.candidate.as_ref() != wanted && tag.serving.as_ref() == wanted {
            let serving_index = tag.serving_index;
            return Ok(Outcome::TagPromoted { serving_index });
        }
        if tag.candidate.as_ref() != wanted {
            let candidate = tag.candidate;
            return Err(Rejected::CandidateChanged { candidate });
        }
        let held = self.held(&command.candidate)?.ok_or(Rejected::NotComplete)?;
        if !command.children.iter().all(|child| held.contains(child)) {
            return Err(Rejected::NotComplete);
        }
        self.serving_changes += 1;
        let replaced = tag.serving.map(|digest| TagHistoryEntry {
            digest,
            replaced_at_ms: now_ms,
        });
        let after = TagRecord {
            serving: tag.candidate,
            candidate: None,
            serving_index: self.serving_changes,
            history: replaced.into_iter().chain(tag.history).take(TAG_HISTORY_MAX).collect(),
            ..tag
        };
        self.tags.insert(place, after);
        let serving_index = self.serving_changes;
        Ok(Outcome::TagPromoted { serving_index })
    }

    fn tag_checked(&mut self, command: &TagChecked) -> Answer {
        let at_ms = command.at_ms.min(self.now_ms);
        let place = (command.repository.clone(), command.tag.clone());
        let tag = self.tags.get_mut(&place).ok_or(Rejected::UnknownTag)?;
        let is_late = at_ms < tag.checked_at_ms;
        match &command.check {
            TagCheck::Confirmed { digest, .. } if tag.serving.as_ref() != Some(digest) => {
                let serving = tag.serving.clone();
                return Err(Rejected::ServingChanged { serving });
            }
            TagCheck::Confirmed { upstream_etag, .. } if !is_late => {
                tag.candidate = None;
                tag.upstream_etag = upstream_etag.clone();
                tag.checked_at_ms = at_ms;
                tag.stale_since_ms = None;
            }
            TagCheck::Failed if !is_late && tag.stale_since_ms.is_none() => tag.stale_since_ms = Some(at_ms),
            _ => {}
        }
        Ok(Outcome::TagChecked)
    }

    fn link(&mut self, command: &Link) -> Answer {
        let digest = &command.digest;
        let known_manifests: Vec<_> = self.manifests.keys().map(sample).collect();
        let named = |known: &&Sample| {
            known.children.contains(digest) || known.blobs.iter().any(|blob| blob.content().digest == *digest)
        };
        let stored = self.manifests.contains_key(digest) || self.blobs.contains_key(digest);
        if !stored && !known_manifests.iter().any(named) {
            return Err(Rejected::UnknownDigest);
        }
        self.repository(&command.repository);
        self.links.insert((command.repository.clone(), digest.clone()));
        if self.manifests.contains_key(digest) {
            self.link_manifest(&command.repository, digest);
        }
        Ok(Outcome::Linked)
    }

    fn node(&mut self, node: NodeId) -> Result<&mut NodeRecord, Rejected> {
        self.nodes.get_mut(&node).ok_or(Rejected::UnknownNode { node })
    }

    fn repository(&mut self, repository: &Repository) -> RepositoryId {
        if !self.repositories.contains(repository) {
            self.repositories.push(repository.clone());
        }
        let place = self.repositories.iter().position(|known| known == repository);
        RepositoryId::new(place.unwrap() as u64 + 1)
    }

    fn link_manifest(&mut self, repository: &Repository, digest: &Digest) {
        let sample = sample(digest);
        let blobs = sample.blobs.iter().map(|blob| blob.content().digest);
        for linked in blobs.chain(sample.children.iter().cloned()).chain([digest.clone()]) {
            self.links.insert((repository.clone(), linked));
        }
    }

    fn place_candidate(&mut self, place: (Repository, Tag), digest: &Digest, upstream_etag: Option<String>) {
        let now_ms = self.now_ms;
        let tag = self.tags.entry(place).or_default();
        tag.candidate = Some(digest.clone()).filter(|digest| tag.serving.as_ref() != Some(digest));
        tag.upstream_etag = upstream_etag;
        tag.checked_at_ms = now_ms;
        tag.stale_since_ms = None;
    }

    /// The children a known manifest is Complete for, if it is Complete.
    fn held(&self, digest: &Digest) -> Result<Option<BTreeSet<Digest>>, Rejected> {
        match self.manifests.get(digest) {
            Some(Completeness::Complete { children }) => Ok(Some(children.iter().cloned().collect())),
            Some(_) => Ok(None),
            None => Err(Rejected::UnknownManifest { digest: digest.clone() }),
        }
    }

    fn missing_blobs(&self, digest: &Digest) -> Vec<Digest> {
        let required = sample(digest).blobs.iter().filter(|blob| blob.required);
        let present = |digest: &Digest| self.blobs.get(digest).is_some_and(|blob| blob.present().is_some());
        required
            .map(|blob| blob.content().digest)
            .filter(|digest| !present(digest))
            .collect()
    }

    fn check_blobs_of(&self, manifests: &[Digest]) -> Result<(), Rejected> {
        let mut digests: Vec<Digest> = Vec::new();
        for blob in manifests.iter().flat_map(|digest| self.missing_blobs(digest)) {
            if !digests.contains(&blob) {
                digests.push(blob);
            }
        }
        match digests.len() as u64 {
            0 => Ok(()),
            total => Err(Rejected::MissingBlobs { digests, total }),
        }
    }

    /// True for a Complete manifest that lacks something it needs.
    fn is_broken(&self, digest: &Digest) -> bool {
        let Ok(Some(held)) = self.held(digest) else {
            return false;
        };
        let child_incomplete = |child: &Digest| !matches!(self.held(child), Ok(Some(_)));
        !self.missing_blobs(digest).is_empty() || held.iter().any(child_incomplete)
    }
}

fn sample(digest: &Digest) -> &'static Sample {
    manifests()
        .iter()
        .find(|sample| sample.digest == *digest)
        .expect("a manifest of the universe")
}

fn is_index(digest: &Digest) -> bool {
    !sample(digest).children.is_empty()
}
