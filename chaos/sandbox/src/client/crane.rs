//! crane: pulls every platform of an image into an OCI layout.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Pulled, read_layout, run};

pub(super) fn pull(store: &Path, image: &str) -> Result<Pulled> {
    let layout = store.join("layout");
    run(Command::new("crane")
        .args(["pull", "--insecure", "--format=oci", image])
        .arg(&layout))?;
    read_layout(&layout)
}
