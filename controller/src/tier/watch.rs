//! Follows the states of images, from node to node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::v1::WatchImagesRequest;
use proto::v1::control_client::ControlClient;
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::Channels;
use crate::state::Change;

/// After a node that did not answer or was lost, before the next.
const PAUSE: Duration = Duration::from_millis(500);
/// After all nodes did not answer, one after the other.
const LONG_PAUSE: Duration = Duration::from_secs(3);
/// Longest wait for a node to begin; one that hangs is passed over.
const BEGIN_DEADLINE: Duration = Duration::from_secs(5);
/// Largest message of states: a thousand images with their history.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Passes on states for ever. After a node is lost another is asked, from where the last one broke off.
pub(crate) async fn follow_images(mut channels: watch::Receiver<Arc<Channels>>, changes: mpsc::Sender<Change>) {
    let mut resume = Bytes::new();
    loop {
        let known = Arc::clone(&channels.borrow_and_update());
        for (ordinal, channel) in known.in_turn() {
            match follow(channel, &mut resume, &changes).await {
                Ok(()) => return,
                Err(status) => tracing::info!(ordinal, error = status.message(), "watch of images broke off"),
            }
            if changes.send(Change::TierLost).await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        // New connections, as with a new certificate, are worth a try at once.
        let _either = tokio::time::timeout(LONG_PAUSE, channels.changed()).await;
    }
}

/// Follows one node until it is lost; returns `Ok` when nobody listens any more.
async fn follow(channel: Channel, resume: &mut Bytes, changes: &mpsc::Sender<Change>) -> Result<(), Status> {
    let mut client = ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let request = Request::new(WatchImagesRequest { resume: resume.clone() });
    let begun = tokio::time::timeout(BEGIN_DEADLINE, client.watch_images(request)).await;
    let begun = begun.map_err(|_elapsed| Status::deadline_exceeded("no answer"))??;
    let mut stream = begun.into_inner();
    while let Some(message) = stream.message().await? {
        if message.synced {
            resume.clone_from(&message.resume);
        }
        if changes.send(Change::Tier(message)).await.is_err() {
            return Ok(());
        }
    }
    Err(Status::unavailable("the node ended the watch"))
}
