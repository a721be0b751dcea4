//! A source registry: Debian's docker-registry, filled with the images of `tools/images`.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::{http, wait};

/// The registry starts in well under a second on an idle machine.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A docker-registry with its own tags over shared, immutable blobs. It can be stopped and started again.
#[derive(Debug)]
pub struct SourceRegistry {
    directory: TempDir,
    port: u16,
    process: Option<Process>,
}

impl SourceRegistry {
    /// Starts a registry that holds the test images.
    ///
    /// # Errors
    /// If the images cannot be built, or the registry does not start.
    pub fn start() -> Result<Self> {
        let images = build_images()?;
        let directory = tempfile::tempdir().context("make a directory")?;
        share_storage(&images.join("registry"), &directory.path().join("storage"))?;
        Self::start_in(directory)
    }

    /// Starts a registry that holds nothing.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_empty() -> Result<Self> {
        Self::start_in(tempfile::tempdir().context("make a directory")?)
    }

    fn start_in(directory: TempDir) -> Result<Self> {
        let mut registry = Self {
            directory,
            port: free_port()?,
            process: None,
        };
        registry.resume()?;
        Ok(registry)
    }

    /// The registry's storage directory.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.authority())
    }

    /// Stops it: from now on connections are refused.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, with the same tags.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub fn resume(&mut self) -> Result<()> {
        let config = self.directory.path().join("registry.yml");
        std::fs::write(&config, configuration(&self.storage(), &self.authority()))
            .context("write the registry's configuration")?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let mut process = Process::start(&mut command, &self.directory.path().join("registry.log"))?;
        let url = format!("{}/v2/", self.url());
        wait::until(START_DEADLINE, "docker-registry to answer", || {
            process.check()?;
            Ok(http::get(&url).ok().filter(|response| response.status == 200))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Points `to` (`library/app:latest`) at what `from` names, as a push of a new version does.
    ///
    /// # Errors
    /// If there is no `from`, or the registry refuses.
    pub fn tag(&self, from: &str, to: &str) -> Result<()> {
        let name = |image: &str| format!("docker://{}/{image}", self.authority());
        let output = Command::new("skopeo")
            .args([
                "copy",
                "--all",
                "--preserve-digests",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
            ])
            .args([name(from), name(to)])
            .output()
            .context("start skopeo")?;
        if !output.status.success() {
            bail!("skopeo copy {from} {to}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// A configuration for docker-registry, and for distribution, which it became.
pub fn configuration(storage: &Path, authority: &str) -> String {
    let storage = storage.display();
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {storage}}}, cache: {{blobdescriptor: inmemory}}}}\n\
         http: {{addr: \"{authority}\"}}\n"
    )
}

/// Builds the images unless they are there, and says where they are.
fn build_images() -> Result<PathBuf> {
    // Asked for when it runs: checkouts share what was built, so the one it was built in may be another or gone.
    let crate_dir = std::env::var_os("CARGO_MANIFEST_DIR").context("run this through cargo")?;
    let root = Path::new(&crate_dir)
        .ancestors()
        .find(|dir| dir.join("tools/images").is_file());
    let root = root.context("find tools/images above the crate")?;
    let output = Command::new(root.join("tools/images"))
        .output()
        .context("start tools/images")?;
    if !output.status.success() {
        bail!("tools/images: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(PathBuf::from(
        String::from_utf8(output.stdout).context("read a path")?.trim_end(),
    ))
}

/// Copies the tags, which tests move, and links the blobs, which nobody changes.
fn share_storage(from: &Path, to: &Path) -> Result<()> {
    let inside = Path::new("docker/registry/v2");
    let (from, to) = (from.join(inside), to.join(inside));
    std::fs::create_dir_all(&to).context("make the storage directory")?;
    symlink(from.join("blobs"), to.join("blobs")).context("link the blobs")?;
    let status = Command::new("cp")
        .arg("-r")
        .args([from.join("repositories"), to])
        .status()
        .context("start cp")?;
    if !status.success() {
        bail!("cp: {status}");
    }
    Ok(())
}
