//! What the nodes of a cluster say of themselves, and what lies on their disks.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use proto::report::{Image, ImagesReport, NodeStatus};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use serde::de::DeserializeOwned;

use crate::cluster::Cluster;
use crate::{http, wait};

/// Copies are made in the background; generous, for debug builds on a busy machine.
const BACKGROUND_DEADLINE: Duration = Duration::from_secs(90);

impl Cluster {
    /// What a node says of itself and of the cluster.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn node_status(&self, node: usize) -> Result<NodeStatus> {
        self.ask(node, "status")
    }

    /// Which node leads, by its place in [`Cluster::nodes`].
    ///
    /// # Errors
    /// If no living node knows one in time.
    pub fn leader(&self) -> Result<usize> {
        wait::until(BACKGROUND_DEADLINE, "a leader", || {
            let known = (0..self.nodes().len()).find_map(|node| self.node_status(node).ok()?.leader);
            Ok(self
                .nodes()
                .iter()
                .position(|node| node.id.is_some() && node.id == known))
        })
    }

    /// Waits until every blob has all its copies and no fill is under way, on every node.
    ///
    /// # Errors
    /// If a node does not answer, or it takes too long.
    pub fn wait_copies_made(&self) -> Result<()> {
        wait::until(BACKGROUND_DEADLINE, "every copy to be made", || {
            let mut expected = 0;
            for node in 0..self.nodes().len() {
                let status = self.node_status(node)?;
                if status.copies.missing > 0 || !status.fills.is_empty() {
                    bail!(
                        "node {node}: {} copies missing, {} fills",
                        status.copies.missing,
                        status.fills.len()
                    );
                }
                expected += status.copies.expected;
            }
            let images = self.images()?;
            let complete = !images.is_empty() && images.iter().all(|image| image.complete);
            Ok((expected > 0 && complete).then_some(()))
        })
    }

    /// Waits until an image (`registry.test/library/app:1`) is said to be complete.
    ///
    /// # Errors
    /// If it takes too long.
    pub fn wait_complete(&self, image: &str) -> Result<()> {
        wait::until(BACKGROUND_DEADLINE, image, || {
            Ok(self.is_complete(image)?.then_some(()))
        })
    }

    /// Whether an image is said to be complete.
    ///
    /// # Errors
    /// If no node answers.
    pub fn is_complete(&self, image: &str) -> Result<bool> {
        let images = self.images()?;
        Ok(images
            .iter()
            .any(|known| known.complete && format!("{}:{}", known.repository, known.tag) == image))
    }

    /// The images as the most current node knows them.
    fn images(&self) -> Result<Vec<Image>> {
        let reports = (0..self.nodes().len()).filter_map(|node| self.ask::<ImagesReport>(node, "images").ok());
        let report = reports
            .max_by_key(|report| report.applied_index)
            .context("no node answers")?;
        Ok(report.images)
    }

    fn ask<T: DeserializeOwned>(&self, node: usize, what: &str) -> Result<T> {
        let bytes = http::get_bytes(&format!("{}/{what}", self.nodes()[node].admin))?;
        serde_json::from_slice(&bytes).with_context(|| format!("parse a node's {what}"))
    }

    /// Takes a node's volume until only so many bytes are left. For a node with a small disk of its own.
    ///
    /// # Errors
    /// If the volume is smaller than that, or cannot be written.
    pub fn fill_disk(&self, node: usize, leave_bytes: u64) -> Result<()> {
        let data = &self.nodes()[node].data;
        // What filled it before is gone first.
        let filler = File::create(data.join("filler")).context("create a filler")?;
        let volume = statvfs(data).context("measure a volume")?;
        let free = volume.f_bavail * volume.f_frsize;
        let bytes = free
            .checked_sub(leave_bytes)
            .with_context(|| format!("only {free} bytes are free"))?;
        fallocate(&filler, FallocateFlags::empty(), 0, bytes).context("fill a volume")
    }

    /// Gives back what [`Cluster::fill_disk`] took.
    ///
    /// # Errors
    /// If there is nothing to give back.
    pub fn empty_disk(&self, node: usize) -> Result<()> {
        std::fs::remove_file(self.nodes()[node].data.join("filler")).context("remove a filler")
    }

    /// Whether a node keeps a ballast file on its volume.
    pub fn has_ballast(&self, node: usize) -> bool {
        self.nodes()[node].data.join("ballast").exists()
    }

    /// Flips one bit in the middle of every stored copy of a blob on one node, and says in how many.
    ///
    /// # Errors
    /// If a file cannot be changed.
    pub fn flip_stored_bit(&self, node: usize, digest: &str) -> Result<usize> {
        let copies = self.stored_copies(node, digest)?;
        for path in &copies {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .context("open a stored blob")?;
            let middle = file.metadata().context("size a stored blob")?.len() / 2;
            let mut byte = [0];
            file.read_exact_at(&mut byte, middle).context("read a stored byte")?;
            byte[0] ^= 1;
            file.write_all_at(&byte, middle).context("write a stored byte")?;
        }
        Ok(copies.len())
    }

    /// The files in which a node keeps a blob.
    ///
    /// # Errors
    /// If its data cannot be listed.
    pub fn stored_copies(&self, node: usize, digest: &str) -> Result<Vec<PathBuf>> {
        let encoded = digest.strip_prefix("sha256:").context("a sha256 digest")?;
        let mut copies = Vec::new();
        find_files(&self.nodes()[node].data, &|name| is_copy(name, encoded), &mut copies)?;
        Ok(copies)
    }
}

/// A blob is stored as `HEX.GENERATION`; its checksums, which stay as they are, end in `.sums`.
fn is_copy(name: &str, encoded: &str) -> bool {
    name.starts_with(encoded) && !name.ends_with(".sums")
}

fn find_files(directory: &Path, wanted: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry.context("list a directory")?.path();
        if path.is_dir() {
            find_files(&path, wanted, found)?;
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(wanted) {
            found.push(path);
        }
    }
    Ok(())
}
