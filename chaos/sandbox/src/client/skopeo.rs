//! skopeo: copies every platform of an image into an OCI layout.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Pulled, read_layout, run};

pub(super) fn pull(store: &Path, image: &str) -> Result<Pulled> {
    let layout = store.join("layout");
    run(Command::new("skopeo")
        .args([
            "copy",
            "--quiet",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
        ])
        .arg(format!("docker://{image}"))
        .arg(format!("oci:{}:image", layout.display())))?;
    read_layout(&layout)
}
