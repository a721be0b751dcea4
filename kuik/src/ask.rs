//! What the commands that ask a running cluster have in common: every node is asked at once, one that does not
//! answer is part of the answer, and the answer is printed as a table or as JSON.

use std::fmt::Display;

use daemon::runtime::Failure;
use daemon::shutdown::{Cause, Ended};
use futures::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin_client::{self, AskError};
use crate::args::{AskArguments, Output};
use crate::cluster::{Cluster, ClusterError};
use crate::console;
use crate::data_dir::{DataDir, DataDirError};

/// Why a cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterAskError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("no node of the cluster in {dir} answers ({reason}): is kuik up running?")]
    NoAnswer { dir: String, reason: AskError },
}

/// What one node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer<T> {
    /// The node's name.
    pub(crate) node: String,
    pub(crate) result: Result<T, AskError>,
}

impl<T> Answer<T> {
    /// Whether the node said anything at all.
    pub(crate) fn is_reachable(&self) -> bool {
        !matches!(self.result, Err(AskError::Unreachable(_)))
    }
}

/// The cluster asked about, as its directory remembers it.
pub(crate) fn cluster(arguments: &AskArguments) -> Result<Cluster, ClusterAskError> {
    let data = DataDir::find(arguments.data.clone())?;
    Ok(Cluster::load_existing(&data)?)
}

/// Asks every node of the cluster for `path`. Answers are in the order of ordinals.
///
/// # Errors
/// If no node can be reached; one that can is enough.
pub(crate) async fn every_node<T: DeserializeOwned>(
    arguments: &AskArguments,
    path: &str,
) -> Result<Vec<Answer<T>>, ClusterAskError> {
    let cluster = cluster(arguments)?;
    let asking = cluster.nodes.iter().map(async |node| Answer {
        node: node.name(),
        result: admin_client::ask(node.listen.admin, path).await,
    });
    let answers = join_all(asking).await;
    if answers.iter().any(Answer::is_reachable) {
        return Ok(answers);
    }
    let dir = DataDir::find(arguments.data.clone())?.root().display().to_string();
    let reason = answers.into_iter().find_map(|answer| answer.result.err());
    let reason = reason.unwrap_or(AskError::NotFound);
    Err(ClusterAskError::NoAnswer { dir, reason })
}

/// Prints `document` as it was asked for; its `Display` is what people read.
pub(crate) fn print<T: Serialize + Display>(document: &T, output: Output) -> Result<Ended, Failure> {
    let text = match output {
        Output::Text => document.to_string(),
        Output::Json => serde_json::to_string_pretty(document).map_err(Failure::failed)? + "\n",
    };
    console::print(&text).map_err(Failure::failed)?;
    Ok(Ended {
        cause: Cause::Requested("done"),
        still_running: Vec::new(),
    })
}
