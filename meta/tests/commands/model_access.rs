//! The oracle's part about desired images, grants and placements, over whole maps.

use std::collections::{BTreeMap, BTreeSet};

use meta::{
    ChangeDesired, Command, CredentialId, CredentialRecord, DESIRED_AT_ONCE_MAX, DesiredRecord, GrantRecord,
    MarkGrants, MemoryState, NoteDesired, Outcome, PlacementRecord, PutGrant, Rejected, ResealCredential, Visibility,
    WantedRecord, view,
};
use oci::{ImageReference, Repository, SourceHost};

use crate::model::Answer;

/// What a caller can see of desired images and of who may read what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessModel {
    wanted: WantedRecord,
    desired: BTreeMap<ImageReference, DesiredRecord>,
    public: BTreeMap<Repository, (bool, u64)>,
    grants: BTreeMap<(Repository, String), GrantRecord>,
    credentials: BTreeMap<CredentialId, CredentialRecord>,
    placements: BTreeMap<String, BTreeSet<String>>,
    hosts: BTreeSet<SourceHost>,
}

impl AccessModel {
    pub(crate) fn decide(&mut self, command: &Command, now_ms: u64) -> Answer {
        match command {
            Command::ChangeDesired(command) => self.change(command, now_ms),
            Command::NoteDesired(command) => Ok(self.note(command, now_ms)),
            Command::SetVisibility(command) => {
                self.see(&command.repository, command.public, now_ms);
                Ok(Outcome::VisibilitySet)
            }
            Command::PutGrant(command) => Ok(self.grant(command, now_ms)),
            Command::RevokeGrants(command) => {
                for repository in &command.repositories {
                    self.grants.remove(&(repository.0.clone(), command.namespace.clone()));
                }
                self.count();
                Ok(Outcome::Revoked)
            }
            Command::MarkGrants(command) => Ok(self.mark(command, now_ms)),
            Command::ResealCredential(command) => self.reseal(command),
            Command::SetPlacements(command) => {
                for placement in &command.placements {
                    let names = placement.repositories.iter().map(|repository| repository.0.to_string());
                    self.placements.insert(placement.node.clone(), names.collect());
                }
                self.placements.retain(|_, repositories| !repositories.is_empty());
                Ok(Outcome::PlacementsSet)
            }
            Command::KnowHosts(command) => {
                self.know(command.hosts.iter());
                Ok(Outcome::HostsKnown)
            }
            _ => unreachable!("a command of the first level"),
        }
    }

    fn change(&mut self, command: &ChangeDesired, now_ms: u64) -> Answer {
        let put = command.put.iter().map(|image| &image.reference);
        if put
            .chain(&command.drop)
            .any(|reference| reference.tag.is_some() == reference.digest.is_some())
        {
            return Err(Rejected::ReferenceNotCanonical);
        }
        if command.begin {
            self.wanted.list += 1;
            self.wanted.listing = true;
        }
        if !command.platforms.is_empty() {
            self.wanted.platforms = BTreeSet::from_iter(command.platforms.clone()).into_iter().collect();
        }
        for image in &command.put {
            let fresh = DesiredRecord {
                retain: false,
                since_ms: now_ms,
                list: 0,
                completed_at_ms: None,
                error: None,
            };
            let record = self.desired.entry(image.reference.clone()).or_insert(fresh);
            record.retain = image.retain;
            record.list = self.wanted.list;
            self.know([&image.reference.repository.host].into_iter());
        }
        for reference in &command.drop {
            self.desired.remove(reference);
        }
        if command.end && self.wanted.listing {
            assert!(self.desired.len() < DESIRED_AT_ONCE_MAX, "a small world");
            self.desired.retain(|_, record| record.list == self.wanted.list);
            self.wanted.listing = false;
        }
        self.wanted.n_desired = self.desired.len() as u64;
        Ok(Outcome::DesiredChanged { pending: false })
    }

    fn note(&mut self, command: &NoteDesired, now_ms: u64) -> Outcome {
        if let Some(record) = self.desired.get_mut(&command.reference) {
            record.error = command.error.clone();
            if command.complete && record.completed_at_ms.is_none() {
                record.completed_at_ms = Some(now_ms);
            }
        }
        Outcome::DesiredNoted
    }

    fn see(&mut self, repository: &Repository, public: bool, now_ms: u64) {
        let seen = self.public.entry(repository.clone()).or_insert((public, now_ms));
        if seen.0 != public {
            *seen = (public, now_ms);
        }
    }

    fn grant(&mut self, command: &PutGrant, now_ms: u64) -> Outcome {
        let grant = GrantRecord {
            credential: command.credential,
            verified_at_ms: now_ms,
            refused_since_ms: None,
        };
        self.grants
            .insert((command.repository.clone(), command.namespace.clone()), grant);
        let credential = CredentialRecord {
            sealed: command.sealed.clone(),
            key_id: command.key_id.clone(),
            origin: command.origin.clone(),
            n_grants: 0,
        };
        self.credentials.insert(command.credential, credential);
        self.see(&command.repository, false, now_ms);
        self.count();
        Outcome::Granted
    }

    /// Counts the grants of each credential, and drops those without.
    fn count(&mut self) {
        for (id, credential) in &mut self.credentials {
            let rest = self.grants.values().filter(|grant| grant.credential == *id);
            credential.n_grants = rest.count() as u64;
        }
        self.credentials.retain(|_, credential| credential.n_grants > 0);
    }

    fn mark(&mut self, command: &MarkGrants, now_ms: u64) -> Outcome {
        for namespace in &command.namespaces {
            let key = (command.repository.clone(), namespace.clone());
            if let Some(grant) = self.grants.get_mut(&key)
                && grant.credential == command.credential
            {
                grant.refused_since_ms = match command.refused {
                    true => grant.refused_since_ms.or(Some(now_ms)),
                    false => None,
                };
            }
        }
        Outcome::GrantsMarked
    }

    fn reseal(&mut self, command: &ResealCredential) -> Answer {
        let credential = self.credentials.get_mut(&command.credential);
        let credential = credential.ok_or(Rejected::UnknownCredential)?;
        if credential.key_id != command.expected_key_id {
            return Err(Rejected::KeyChanged);
        }
        credential.sealed = command.sealed.clone();
        credential.key_id = command.key_id.clone();
        Ok(Outcome::Resealed)
    }

    fn know<'a>(&mut self, hosts: impl Iterator<Item = &'a SourceHost>) {
        self.hosts.extend(hosts.filter(|host| host.port().is_some()).cloned());
    }

    pub(crate) fn assert_shown_by(&self, state: &MemoryState) {
        assert_eq!(view::wanted(state).unwrap(), self.wanted);
        let desired = view::list_desired(state, None, usize::MAX).unwrap();
        assert_eq!(BTreeMap::from_iter(desired), self.desired);
        for (repository, (public, since_ms)) in &self.public {
            let since_ms = *since_ms;
            let expected = match public {
                true => Visibility::Public { since_ms },
                false => Visibility::Private { since_ms },
            };
            assert_eq!(view::visibility(state, repository).unwrap(), Some(expected));
        }
        let grants = view::list_grants(state, None, usize::MAX).unwrap();
        let grants = grants
            .into_iter()
            .map(|grant| ((grant.repository, grant.namespace), grant.record));
        assert_eq!(BTreeMap::from_iter(grants), self.grants);
        let credentials = view::list_credentials(state, None, usize::MAX).unwrap();
        assert_eq!(BTreeMap::from_iter(credentials), self.credentials);
        let placements = view::placements(state).unwrap();
        let expected = self.placements.iter().map(|(node, repositories)| {
            let repositories = repositories.iter().cloned().collect();
            (node.clone(), PlacementRecord { repositories })
        });
        assert_eq!(placements, Vec::from_iter(expected));
        assert_eq!(BTreeSet::from_iter(view::known_hosts(state).unwrap()), self.hosts);
    }
}
