//! A cluster over a source registry in this process that misbehaves when a story wants it to.

use std::time::Duration;

use oci::Digest;
use sandbox::image::ImageDigests;
use sandbox::{Cluster, ClusterBuilder, http, image, wait};
use testkit::{FakeRegistry, Image};
use tokio::runtime::Runtime;

/// What the cluster calls the source registry.
pub(crate) const HOST: &str = "registry.test";

/// An answer of a source about a tag serves for a second; after that it is asked again.
pub(crate) const ANSWERS_ARE_OLD: Duration = Duration::from_millis(1200);

/// By then a node that fetches says so.
const FETCHING_DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    // Goes first, so that nothing asks a source that is gone.
    pub(crate) cluster: Cluster,
    pub(crate) source: FakeRegistry,
    runtime: Runtime,
}

impl World {
    /// Starts a cluster whose images of [`HOST`] come from a registry that is empty yet, and whose URL `with` is told.
    pub(crate) fn start(with: impl FnOnce(ClusterBuilder, &str) -> ClusterBuilder) -> Self {
        let runtime = Runtime::new().unwrap();
        let source = runtime.block_on(FakeRegistry::start());
        let builder = Cluster::builder().upstream(HOST, &source.url());
        let cluster = with(builder, &source.url()).start().unwrap();
        Self {
            cluster,
            source,
            runtime,
        }
    }

    pub(crate) fn stop_source(&mut self) {
        self.runtime.block_on(self.source.stop());
    }

    pub(crate) fn restart_source(&mut self) {
        self.runtime.block_on(self.source.restart()).unwrap();
    }

    /// The base URLs of all client listeners: every node's, and then the proxy's.
    pub(crate) fn listeners(&self) -> Vec<String> {
        let nodes = self.cluster.nodes().iter().map(|node| node.url.clone());
        nodes.chain([self.cluster.proxy_url().to_owned()]).collect()
    }

    /// Pulls an image through the proxy and compares it with what was pushed.
    pub(crate) fn assert_pulls(&self, image: &Image) {
        let pulled = image::digests(self.cluster.proxy_url(), &name(image)).unwrap();
        assert_eq!(pulled, digests(image), "{}", name(image));
    }

    /// Pulls an image through the proxy and waits until the cluster calls it complete.
    pub(crate) fn cache(&self, image: &Image) {
        self.assert_pulls(image);
        self.cluster.wait_complete(&name(image)).unwrap();
    }

    /// Lets the cluster learn what an image is made of, as each client does before it asks for a blob.
    pub(crate) fn learn(&self, image: &Image) {
        http::get_bytes(&manifest_url(self.cluster.proxy_url(), image)).unwrap();
    }

    /// Waits until a node has fetched so many bytes of a blob from the source, and says which.
    pub(crate) fn fetching_node(&self, digest: &Digest, bytes: u64) -> usize {
        let fetches = |node: usize| {
            let status = self.cluster.node_status(node).ok()?;
            let mut fills = status.fills.iter();
            fills
                .find(|fill| fill.digest == digest.as_str() && fill.source == "upstream" && fill.bytes_done >= bytes)?;
            Some(node)
        };
        let all = 0..self.cluster.nodes().len();
        wait::until(FETCHING_DEADLINE, "a node that fetches", || {
            Ok(all.clone().find_map(fetches))
        })
        .unwrap()
    }
}

/// The image in full, as `kuik images` shows it.
pub(crate) fn name(image: &Image) -> String {
    format!("{HOST}/{}:{}", image.repository(), image.tag())
}

/// Everything an image is made of.
pub(crate) fn digests(image: &Image) -> ImageDigests {
    let all = image.manifests().keys().chain(image.blobs().keys());
    ImageDigests {
        top: image.root().to_string(),
        all: all.map(Digest::to_string).collect(),
    }
}

/// Where an image's tag is asked for.
pub(crate) fn manifest_url(base: &str, image: &Image) -> String {
    format!("{base}/v2/{HOST}/{}/manifests/{}", image.repository(), image.tag())
}

/// Where a blob of an image is asked for.
pub(crate) fn blob_url(base: &str, image: &Image, digest: &Digest) -> String {
    format!("{base}/v2/{HOST}/{}/blobs/{digest}", image.repository())
}
