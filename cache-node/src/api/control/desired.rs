//! The desired half: what the controller wants kept, and how it goes with it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::one_line;
use futures::{Stream, StreamExt, stream};
use meta::{ChangeDesired, Command, DESIRED_AT_ONCE_MAX, DesiredImage, Outcome};
use oci::ImageReference;
use proto::v1 as pb;
use raft::MetaHandle;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tonic::Status;

use super::wire::{parse_reference, parse_references, write};
use crate::desired::board::{Board, Watching};
use crate::desired::platforms;
use crate::tags::Tags;

/// How often a watcher hears something, so that a dead connection is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Changes that come within this time are told together.
const GATHER: Duration = Duration::from_millis(50);
/// Sources asked at once for one refresh.
const REFRESHED_AT_ONCE: usize = 16;
/// How long a refresh may take; what takes longer goes on.
const REFRESH_DEADLINE: Duration = Duration::from_secs(30);
/// Ends of a whole list proposed in a row: each drops a bounded number.
const ENDS_MAX: usize = 200;

/// A watcher's stream.
pub(super) type Changes = Pin<Box<dyn Stream<Item = Result<pb::ImageChanges, Status>> + Send>>;

/// Commits a change of what is desired.
pub(super) async fn change_all(ledger: &MetaHandle, request: pb::ChangeDesiredRequest) -> Result<(), Status> {
    for command in change_commands(request)? {
        change(ledger, command).await?;
    }
    Ok(())
}

/// Asks the sources of images what they are now.
pub(super) async fn refresh(tags: &Arc<Tags>, references: &[String]) -> Result<(), Status> {
    let references = parse_references(references)?;
    let refreshed = stream::iter(references).for_each_concurrent(REFRESHED_AT_ONCE, |reference| {
        let tags = Arc::clone(tags);
        async move {
            let Some(tag) = reference.manifest().tag().cloned() else {
                return;
            };
            if let Err(error) = tags.refresh(&reference.repository, &tag).await {
                tracing::debug!(%reference, error = one_line(&error), "a tag was not refreshed");
            }
        }
    });
    timeout(REFRESH_DEADLINE, refreshed).await.ok();
    Ok(())
}

/// A watcher's stream: what it does not know yet, then every change, and a sign of life in between.
pub(super) fn changes(board: Arc<Board>, watching: Watching, permit: OwnedSemaphorePermit) -> Changes {
    struct Watcher {
        news: watch::Receiver<u64>,
        board: Arc<Board>,
        watching: Watching,
        greeted: bool,
        _permit: OwnedSemaphorePermit,
    }
    let watcher = Watcher {
        news: board.changes(),
        board,
        watching,
        greeted: false,
        _permit: permit,
    };
    let told = stream::unfold(watcher, |mut watcher| async move {
        loop {
            watcher.news.borrow_and_update();
            if let Some(changes) = watcher.board.next(&mut watcher.watching) {
                watcher.greeted = true;
                return Some((Ok(changes), watcher));
            }
            if !watcher.greeted {
                watcher.greeted = true;
                return Some((Ok(watcher.board.keepalive(&watcher.watching)), watcher));
            }
            match timeout(KEEPALIVE, watcher.news.changed()).await {
                Ok(Ok(())) => tokio::time::sleep(GATHER).await,
                Ok(Err(_)) => return None,
                Err(_) => return Some((Ok(watcher.board.keepalive(&watcher.watching)), watcher)),
            }
        }
    });
    told.boxed()
}

/// One request as commands of bounded size: the first begins a list, the last ends it.
fn change_commands(request: pb::ChangeDesiredRequest) -> Result<Vec<ChangeDesired>, Status> {
    let platforms = request.platforms.iter().map(|text| platforms::parse(text));
    let platforms = platforms
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let put = request
        .put
        .into_iter()
        .map(|image| {
            Ok(DesiredImage {
                reference: canonical(parse_reference(&image.reference)?),
                retain: image.retain,
            })
        })
        .collect::<Result<Vec<_>, Status>>()?;
    let drop = request.drop.iter().map(|text| parse_reference(text).map(canonical));
    let drop = drop.collect::<Result<Vec<_>, _>>()?;
    let mut commands = vec![ChangeDesired {
        begin: request.replace,
        platforms,
        ..ChangeDesired::default()
    }];
    commands.extend(put.chunks(DESIRED_AT_ONCE_MAX).map(|put| ChangeDesired {
        put: put.to_vec(),
        ..ChangeDesired::default()
    }));
    commands.extend(drop.chunks(DESIRED_AT_ONCE_MAX).map(|drop| ChangeDesired {
        drop: drop.to_vec(),
        ..ChangeDesired::default()
    }));
    commands.push(ChangeDesired {
        end: request.last,
        ..ChangeDesired::default()
    });
    commands.retain(|command| *command != ChangeDesired::default());
    Ok(commands)
}

async fn change(ledger: &MetaHandle, command: ChangeDesired) -> Result<(), Status> {
    for _ in 0..ENDS_MAX {
        match write(ledger, Command::ChangeDesired(command.clone())).await? {
            Outcome::DesiredChanged { pending: true } if command.end => {}
            _ => return Ok(()),
        }
    }
    Err(Status::unavailable("the list is not ended yet"))
}

/// By digest where there is one, since that decides; by tag otherwise.
fn canonical(reference: ImageReference) -> ImageReference {
    match reference.digest {
        Some(_) => ImageReference { tag: None, ..reference },
        None => {
            let tag = reference.manifest().tag().cloned();
            ImageReference { tag, ..reference }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(count: usize, replace: bool, last: bool) -> pb::ChangeDesiredRequest {
        let image = |number| pb::DesiredImage {
            reference: format!("a.example/b:{number}"),
            retain: false,
        };
        pb::ChangeDesiredRequest {
            put: (0..count).map(image).collect(),
            replace,
            last,
            ..pb::ChangeDesiredRequest::default()
        }
    }

    #[test]
    fn a_long_list_is_begun_once_and_ended_once() {
        let commands = change_commands(request(DESIRED_AT_ONCE_MAX + 1, true, true)).unwrap();
        let shape: Vec<_> = commands
            .iter()
            .map(|command| (command.begin, command.put.len(), command.end))
            .collect();
        assert_eq!(
            shape,
            [
                (true, 0, false),
                (false, DESIRED_AT_ONCE_MAX, false),
                (false, 1, false),
                (false, 0, true)
            ]
        );
        assert_eq!(change_commands(request(0, false, false)).unwrap(), []);
    }

    #[test]
    fn references_are_stored_by_digest_or_by_tag() {
        let digest = oci::Digest::sha256(b"x");
        let table = [
            (format!("a.example/b:1@{digest}"), format!("a.example/b@{digest}")),
            ("nginx".to_owned(), "docker.io/library/nginx:latest".to_owned()),
        ];
        for (text, expected) in table {
            assert_eq!(canonical(parse_reference(&text).unwrap()).to_string(), expected);
        }
    }
}
