//! What clients of a node write: images that appear, move and become complete.

use std::time::Duration;

use meta::{
    Candidate, Command, CommitBlob, CompleteManifest, Gen, ManifestContent, PromoteTag, PutManifest, SetLayout, view,
};
use oci::{Digest, MediaType, Repository, Tag};
use raft::MetaHandle;

use crate::node::SharedRandom;
use crate::oracle::Oracle;

/// Blobs there are. Few, so that nodes compete to commit the same ones.
const BLOBS: u64 = 40;
/// Images there are; each consists of two of the blobs.
const IMAGES: u64 = 12;
/// Tags that move between the images.
const TAGS: u64 = 3;
/// Longest pause between two writes of one node.
const PAUSE_MAX_MS: u64 = 120;
const BLOB_BYTES: u64 = 100;

/// The writer of one node.
pub(crate) struct Workload {
    handle: MetaHandle,
    random: SharedRandom,
    oracle: Oracle,
    repository: Repository,
    written: u64,
}

fn blob(n: u64) -> Digest {
    Digest::sha256(format!("blob {n}").as_bytes())
}

fn image(n: u64) -> Vec<u8> {
    let (config, layer) = (blob(n), blob(n + IMAGES));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{manifest}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{BLOB_BYTES}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":{BLOB_BYTES}}}]}}"#,
        manifest = MediaType::OCI_MANIFEST
    )
    .into_bytes()
}

impl Workload {
    pub(crate) fn new(handle: MetaHandle, random: SharedRandom, oracle: Oracle) -> Self {
        let repository = Repository {
            host: "registry.test".parse().expect("a valid host"),
            name: "library/app".parse().expect("a valid name"),
        };
        Workload {
            handle,
            random,
            oracle,
            repository,
            written: 0,
        }
    }

    /// Writes until the node is gone.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.random.below(PAUSE_MAX_MS))).await;
            let command = self.next();
            // Without an answer it may have happened or not: nothing to hold anyone to.
            if let Ok(outcome) = self.handle.write(command.clone()).await {
                self.oracle.acknowledge(command, outcome);
            }
        }
    }

    fn next(&mut self) -> Command {
        self.written += 1;
        let n = self.random.below(IMAGES);
        match self.random.below(8) {
            0..=3 => self.commit_blob(),
            4 => self.put_manifest(n),
            5 => Command::CompleteManifest(CompleteManifest {
                digest: Digest::sha256(&image(n)),
                children: Vec::new(),
            }),
            6 => Command::PromoteTag(PromoteTag {
                repository: self.repository.clone(),
                tag: self.tag(),
                candidate: Digest::sha256(&image(n)),
                children: Vec::new(),
            }),
            _ => self.set_layout(),
        }
    }

    fn commit_blob(&self) -> Command {
        let generation = Gen {
            epoch: 1,
            node: self.handle.member().node,
            boot_count: self.handle.boot_count(),
            counter: self.written,
        };
        Command::CommitBlob(CommitBlob {
            digest: blob(self.random.below(BLOBS)),
            size: BLOB_BYTES,
            generation,
            repository: self.repository.clone(),
        })
    }

    fn put_manifest(&self, n: u64) -> Command {
        let bytes = image(n);
        Command::PutManifest(PutManifest {
            repository: self.repository.clone(),
            digest: Digest::sha256(&bytes),
            media_type: MediaType::OCI_MANIFEST.parse().expect("a valid media type"),
            content: ManifestContent::Inline { bytes },
            candidate_of: Some(Candidate {
                tag: self.tag(),
                upstream_etag: None,
            }),
        })
    }

    fn set_layout(&self) -> Command {
        let member = self.handle.member().node;
        let layout = view::layout(&self.handle.local()).expect("a state in memory is readable");
        let slot = u32::try_from(member.get()).expect("a small number");
        Command::SetLayout(SetLayout {
            expected_version: layout.version,
            slots: [(slot, member)].into(),
        })
    }

    fn tag(&self) -> Tag {
        format!("v{}", self.random.below(TAGS)).parse().expect("a valid tag")
    }
}
