//! The machines below a cluster of our own: what a test breaks and mends.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::access::Access;
use crate::recording::Recording;
use crate::shell;

/// How long a command of `hack/cluster` may take; `up` itself takes seven seconds.
const DEADLINE: Duration = Duration::from_secs(180);

/// A source registry of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `source.kuik.test`: anyone may pull.
    Public,
    /// `private.kuik.test`: only the user `puller` with [`crate::PASSWORD`].
    Private,
}

/// Nodes, control plane and source registries.
#[derive(Debug)]
pub struct Machine {
    access: Access,
}

impl Machine {
    pub(crate) fn new(access: Access) -> Self {
        Self { access }
    }

    /// Starts whatever does not run. `arguments` choose what a new cluster is made of.
    pub(crate) fn up(&self, arguments: &[&str]) -> Result<()> {
        self.run(&[&["up"], arguments].concat())
    }

    /// Ends the cluster and removes all of it.
    pub(crate) fn down(&self) -> Result<()> {
        self.run(&["down"])
    }

    /// Cuts the power of a node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn cut_node(&self, node: &str) -> Result<()> {
        self.run(&["node", "cut", node])
    }

    /// Starts a node that was cut, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn start_node(&self, node: &str) -> Result<()> {
        self.run(&["node", "start", node])
    }

    /// Takes a node off the network.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn partition_node(&self, node: &str) -> Result<()> {
        self.run(&["node", "partition", node])
    }

    /// Puts a node back on the network.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn heal_node(&self, node: &str) -> Result<()> {
        self.run(&["node", "heal", node])
    }

    /// Adds a node, waits until it is ready, and returns its name.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn add_node(&self) -> Result<String> {
        Ok(self.output(&["node", "add"])?.trim().to_owned())
    }

    /// Cuts the power of every node and the control plane at once.
    ///
    /// # Errors
    /// If one survives.
    pub fn blackout(&self) -> Result<()> {
        self.run(&["blackout"])
    }

    /// Starts all of it again.
    ///
    /// # Errors
    /// If a node does not get ready.
    pub fn end_blackout(&self) -> Result<()> {
        self.up(&[])
    }

    /// Stops the API server alone.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop_apiserver(&self) -> Result<()> {
        self.run(&["apiserver", "stop"])
    }

    /// Starts the API server, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn start_apiserver(&self) -> Result<()> {
        self.run(&["apiserver", "start"])
    }

    /// Stops every source registry; kuik's own images stay available.
    ///
    /// # Errors
    /// If one does not end.
    pub fn stop_sources(&self) -> Result<()> {
        self.run(&["source", "stop"])
    }

    /// Starts every source registry.
    ///
    /// # Errors
    /// If one does not answer.
    pub fn start_sources(&self) -> Result<()> {
        self.run(&["source", "start"])
    }

    /// Lets the source registries send so many megabits a second together, or as many as they can.
    ///
    /// # Errors
    /// If the kernel shapes no traffic.
    pub fn limit_sources(&self, megabits: Option<u32>) -> Result<()> {
        let rate = megabits.map_or("none".to_owned(), |megabits| megabits.to_string());
        self.run(&["source", "limit", &rate])
    }

    /// Puts an image whose content nobody has seen yet into a source registry, and returns its whole name.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub fn publish(&self, source: Source, name: &str) -> Result<String> {
        self.publish_sized(source, name, 1)
    }

    /// As [`Machine::publish`], with a layer of that many megabytes.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub fn publish_sized(&self, source: Source, name: &str, megabytes: u32) -> Result<String> {
        let image = format!("{}/{name}", source.host());
        self.run(&["publish", &image, &megabytes.to_string()])?;
        Ok(image)
    }

    /// Pushes an OCI layout to a registry of the cluster.
    pub(crate) fn push(&self, layout: &Path, image: &str) -> Result<()> {
        self.run(&["push", &layout.to_string_lossy(), image])
    }

    /// The names of the images a node holds.
    ///
    /// # Errors
    /// If the node is down.
    pub fn images(&self, node: &str) -> Result<Vec<String>> {
        let output = self.output(&["ctr", node, "images", "ls", "--quiet"])?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// Removes an image from a node, whatever name it was pulled by, so that the next pod there must pull it.
    ///
    /// # Errors
    /// If the node is down.
    pub fn remove_image(&self, node: &str, image: &str) -> Result<()> {
        let digests = self.output(&["ctr", node, "images", "ls"])?;
        let digest = digests.lines().find(|line| names(line, image)).and_then(digest_of);
        let Some(digest) = digest.map(str::to_owned) else {
            return Ok(());
        };
        let same: Vec<&str> = digests
            .lines()
            .filter(|line| digest_of(line) == Some(&digest))
            .filter_map(name_of)
            .collect();
        self.run(&[&["ctr", node, "images", "rm", "--sync"], same.as_slice()].concat())
    }

    /// Pulls an image on a node past the kubelet, so without the API server.
    ///
    /// # Errors
    /// If the pull fails, with `ctr`'s message.
    pub fn pull(&self, node: &str, image: &str) -> Result<()> {
        self.run(&["ctr", node, "images", "pull", "--plain-http", image])
    }

    /// Fetches all of an image through a node's proxy every second, over a new connection each time: a line for each, its
    /// milliseconds and `ok` or what was wrong. The image is named as its pod did, with a tag.
    ///
    /// # Errors
    /// If the image has no tag, or the script cannot be started.
    pub fn keep_pulling(&self, node: &str, image: &str) -> Result<Recording> {
        let (name, tag) = image.rsplit_once(':').context("an image has a tag")?;
        let url = format!("http://localhost:7439/v2/{name}/manifests/{tag}");
        Recording::start(self.access.script(&["pulls", node, &url]))
    }

    /// Makes the volumes that nobody claims any more usable again, empty.
    ///
    /// # Errors
    /// If there is no API server.
    pub fn free_volumes(&self) -> Result<()> {
        self.run(&["volumes"])
    }

    /// Runs a command on a node, and returns what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn exec(&self, place: &str, command: &[&str]) -> Result<String> {
        self.output(&[&["exec", place], command].concat())
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        self.output(arguments).map(drop)
    }

    fn output(&self, arguments: &[&str]) -> Result<String> {
        shell::output(self.access.script(arguments), None, DEADLINE)
    }
}

impl Source {
    /// Its name.
    pub fn host(self) -> &'static str {
        match self {
            Self::Public => "source.kuik.test",
            Self::Private => "private.kuik.test",
        }
    }
}

/// Whether a line of `ctr images ls` names this image, rewritten or not.
fn names(line: &str, image: &str) -> bool {
    name_of(line).is_some_and(|name| name == image || name.ends_with(&format!("/{image}")))
}

fn name_of(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

/// The third column: the name may be a digest too, that of the image's configuration.
fn digest_of(line: &str) -> Option<&str> {
    line.split_whitespace()
        .nth(2)
        .filter(|word| word.starts_with("sha256:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_each_of_its_names() {
        let rewritten =
            "localhost:7439/source.kuik.test/a:1 application/vnd.oci.image.manifest.v1+json sha256:11 1.0 MiB";
        let by_id = "sha256:22 application/vnd.oci.image.manifest.v1+json sha256:11 1.0 MiB";
        assert!(names(rewritten, "source.kuik.test/a:1") && !names(rewritten, "a:2"));
        assert_eq!(
            (digest_of(rewritten), digest_of(by_id)),
            (Some("sha256:11"), Some("sha256:11"))
        );
        assert_eq!(digest_of("REF TYPE DIGEST SIZE"), None);
    }
}
