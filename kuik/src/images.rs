//! `kuik images`: the images a cluster knows by tag.
//!
//! The metadata is the same on every node, so the node that is furthest ahead is believed. What "complete" says is
//! what the metadata says; `kuik explain` looks whether the bytes are there.

use std::fmt;

use daemon::runtime::Failure;
use daemon::shutdown::Ended;
use proto::report::{Image, ImagesReport};
use serde::Serialize;

use crate::args::AskArguments;
use crate::ask::{self, Answer};
use crate::text::{Table, list, short_digest, size};

/// The images, and which nodes could not be asked. This is also the JSON form, which is a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Images {
    pub(crate) images: Vec<Image>,
    /// There are more than were listed.
    pub(crate) truncated: bool,
    /// Names of nodes that did not answer.
    pub(crate) unreachable: Vec<String>,
}

pub(crate) async fn run(arguments: AskArguments) -> Result<Ended, Failure> {
    let answers = ask::every_node(&arguments, "/images").await.map_err(Failure::failed)?;
    ask::print(&merge(answers), arguments.output)
}

fn merge(answers: Vec<Answer<ImagesReport>>) -> Images {
    let silent = answers.iter().filter(|answer| answer.result.is_err());
    let unreachable = silent.map(|answer| answer.node.clone()).collect();
    let reports = answers.into_iter().filter_map(|answer| answer.result.ok());
    let newest = reports.max_by_key(|report| report.applied_index).unwrap_or_default();
    Images {
        images: newest.images,
        truncated: newest.truncated,
        unreachable,
    }
}

impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["REPOSITORY", "TAG", "DIGEST", "SIZE", "PLATFORMS", "STATE"]);
        for image in &self.images {
            table.row([
                image.repository.clone(),
                image.tag.clone(),
                short_digest(&image.digest).to_owned(),
                size(image.size_bytes),
                list(&image.platforms),
                state(image),
            ]);
        }
        write!(f, "{table}")?;
        if self.truncated {
            writeln!(f, "and more")?;
        }
        match self.unreachable.as_slice() {
            [] => Ok(()),
            silent => writeln!(f, "not asked, because they do not answer: {}", list(silent)),
        }
    }
}

fn state(image: &Image) -> String {
    let whole = if image.complete { "complete" } else { "partial" };
    let remarks = [
        (image.stale, "stale"),
        (image.desired, "desired"),
        (image.private, "private"),
    ];
    let remarks = remarks
        .into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, remark)| remark);
    std::iter::once(whole).chain(remarks).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin_client::AskError;

    fn report(applied_index: u64, digest: &str) -> ImagesReport {
        let image = Image {
            repository: "docker.io/library/nginx".to_owned(),
            tag: "1".to_owned(),
            digest: digest.to_owned(),
            complete: true,
            size_bytes: 1 << 20,
            platforms: vec!["linux/amd64".to_owned()],
            stale: false,
            desired: false,
            private: false,
        };
        ImagesReport {
            applied_index,
            images: vec![image],
            truncated: false,
        }
    }

    fn answer(node: &str, result: Result<ImagesReport, AskError>) -> Answer<ImagesReport> {
        Answer {
            node: node.to_owned(),
            result,
        }
    }

    #[test]
    fn node_that_is_ahead_is_believed() {
        let images = merge(vec![
            answer("node-0", Ok(report(5, "sha256:old"))),
            answer("node-1", Ok(report(9, "sha256:new"))),
            answer("node-2", Err(AskError::Unreachable("gone".to_owned()))),
        ]);
        assert_eq!(images.images[0].digest, "sha256:new");
        assert_eq!(images.unreachable, ["node-2"]);
        assert!(
            images.to_string().contains("1.0 MiB  linux/amd64  complete"),
            "{images}"
        );
    }

    #[test]
    fn what_is_kept_and_what_is_private_is_said() {
        let mut report = report(5, "sha256:new");
        (report.images[0].desired, report.images[0].private) = (true, true);
        let images = merge(vec![answer("node-0", Ok(report))]);
        assert!(images.to_string().contains("complete, desired, private"), "{images}");
        let json = serde_json::to_value(&images).unwrap();
        assert_eq!(
            (&json["images"][0]["desired"], &json["images"][0]["private"]),
            (&true.into(), &true.into())
        );
    }
}
