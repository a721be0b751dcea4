//! `kuik explain`: what the living nodes hold of one image, where each blob came from, and why.
//!
//! The verdict is made from files the nodes have looked at, never from the metadata: an image is called cached only
//! if each of its blobs, and the manifests above them, are held by a node that answers now.

mod asked;
mod merge;
mod view;

use daemon::runtime::Failure;
use daemon::shutdown::Ended;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::args::ExplainArguments;
use crate::ask;
use crate::platform::AskedPlatform;

/// What is held of an image. This is also the JSON form, which is a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explanation {
    /// The image in full.
    pub(crate) image: String,
    /// The platform asked about, or `all`.
    pub(crate) platform: String,
    /// Everything that was asked about is held by nodes that answer.
    pub(crate) cached: bool,
    /// Why, in one sentence.
    pub(crate) reason: String,
    /// The manifest or index the image resolves to.
    pub(crate) digest: Option<String>,
    /// When the source last confirmed the tag, in milliseconds since 1970.
    pub(crate) checked_at_ms: Option<u64>,
    /// The source could not be asked when the tag was last wanted.
    pub(crate) stale: bool,
    /// Someone wants it kept: it is filled ahead, and fetched again when it is lost.
    pub(crate) desired: bool,
    /// Only namespaces with a grant for its repository may use it.
    pub(crate) private: bool,
    /// Every manifest that is known, asked about or not; an index first.
    pub(crate) manifests: Vec<ManifestExplained>,
    /// Names of nodes that did not answer.
    pub(crate) unreachable: Vec<String>,
}

/// A manifest or index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ManifestExplained {
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) platform: Option<String>,
    pub(crate) is_index: bool,
    /// Whether it belongs to what was asked about.
    pub(crate) asked: bool,
    /// It and all its blobs are held by nodes that answer.
    pub(crate) cached: bool,
    /// Names of nodes that can serve its bytes.
    pub(crate) held_by: Vec<String>,
    pub(crate) blobs: Vec<BlobExplained>,
}

/// A configuration or a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BlobExplained {
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
    /// Names of nodes that have the file.
    pub(crate) held_by: Vec<String>,
    /// What each node that answers says of it.
    pub(crate) nodes: Vec<BlobOnNode>,
}

/// A blob as one node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BlobOnNode {
    pub(crate) node: String,
    pub(crate) here: bool,
    /// `upstream`, or the node it was copied from.
    pub(crate) source: Option<String>,
    /// In milliseconds since 1970.
    pub(crate) fetched_at_ms: Option<u64>,
    pub(crate) reason: Option<String>,
}

pub(crate) async fn run(arguments: ExplainArguments) -> Result<Ended, Failure> {
    let asked = match &arguments.platform {
        Some(text) => text.parse().map_err(Failure::bad_start)?,
        None => AskedPlatform::of_this_machine(),
    };
    let cluster = ask::cluster(&arguments.ask).map_err(Failure::failed)?;
    let image = asked::behind_proxy(arguments.image, &cluster.proxy).to_string();
    let path = format!("/explain?image={}", utf8_percent_encode(&image, NON_ALPHANUMERIC));
    let answers = ask::every_node(&arguments.ask, &path).await.map_err(Failure::failed)?;
    ask::print(&merge::merge(&image, &asked, &answers), arguments.ask.output)
}
