//! Debian packages, downloaded and unpacked; nothing is installed.
//!
//! They are kept in the build's cache, one directory for each architecture. Remove it to have newer ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::platform::Architecture;

/// What any program may link, and the authorities it trusts.
const NAMES: [&str; 4] = ["libc6", "libgcc-s1", "libstdc++6", "ca-certificates"];

/// Unpacked packages of one architecture.
#[derive(Debug)]
pub(crate) struct Packages {
    /// All of them, one over the other.
    pub(crate) root: PathBuf,
    /// `name version` of each, sorted.
    versions: Vec<String>,
}

impl Packages {
    /// `name version` of each, sorted.
    pub(crate) fn versions(&self) -> &[String] {
        &self.versions
    }

    /// The names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().filter_map(|line| line.split(' ').next())
    }
}

/// Downloads what is not here yet.
///
/// # Errors
/// Without `apt-get`, or without its sources answering.
pub(crate) fn fetch(architecture: Architecture) -> Result<Packages> {
    let directory = cache()?.join(format!("image-packages-{architecture}"));
    if !directory.exists() {
        let part = directory.with_extension(format!("part-{}", std::process::id()));
        let work = tempfile::tempdir().context("create a directory for packages")?;
        std::fs::create_dir_all(part.join("root")).with_context(|| format!("create {}", part.display()))?;
        let fetched = download(work.path(), architecture).and_then(|()| unpack(work.path(), &part));
        let fetched = fetched.context("fetch Debian packages");
        let moved = fetched.and_then(|()| move_into_place(&part, &directory));
        let _ = std::fs::remove_dir_all(&part);
        moved?;
    }
    let versions = std::fs::read_to_string(directory.join("versions")).context("read what was fetched")?;
    Ok(Packages {
        root: directory.join("root"),
        versions: versions.lines().map(str::to_owned).collect(),
    })
}

/// Another build may have been faster; what it fetched is as good.
fn move_into_place(part: &Path, directory: &Path) -> Result<()> {
    match std::fs::rename(part, directory) {
        Err(_) if directory.exists() => Ok(()),
        result => result.with_context(|| format!("create {}", directory.display())),
    }
}

/// Where what is built outside the clone lies.
fn cache() -> Result<PathBuf> {
    let own = std::env::var_os("KUIK_CACHE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/kuik"));
    own.or_else(home).context("neither KUIK_CACHE nor HOME is set")
}

fn download(directory: &Path, architecture: Architecture) -> Result<()> {
    eprintln!("    fetching {} for {architecture}", NAMES.join(", "));
    std::fs::create_dir_all(directory.join("lists/partial")).context("create apt's lists")?;
    quiet(apt(directory, architecture).arg("update"))?;
    quiet(apt(directory, architecture).arg("download").args(NAMES))?;
    // The licence of GCC's libraries lies in a package that is named by its version.
    let gcc_base = dependency(directory, "libgcc-s1", "gcc-")?;
    quiet(apt(directory, architecture).arg("download").arg(gcc_base))
}

fn unpack(directory: &Path, to: &Path) -> Result<()> {
    let mut versions = Vec::new();
    for package in downloaded(directory)? {
        let name = field(&package, "Package")?;
        versions.push(format!("{name} {}", field(&package, "Version")?));
        quiet(Command::new("dpkg-deb").arg("-x").arg(&package).arg(to.join("root")))?;
    }
    versions.sort();
    std::fs::write(to.join("versions"), versions.join("\n")).context("write versions")
}

/// `apt-get` with lists of its own: it reads the machine's sources, but neither needs root nor what is installed.
fn apt(directory: &Path, architecture: Architecture) -> Command {
    let mut command = Command::new("apt-get");
    let state = directory.display();
    let options = [
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures={architecture}"),
        format!("Dir::State::lists={state}/lists"),
        "Dir::State::status=/dev/null".to_owned(),
        "Dir::Cache::pkgcache=".to_owned(),
        "Dir::Cache::srcpkgcache=".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
        "Debug::NoLocking=true".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Retries=3".to_owned(),
    ];
    for option in options {
        command.arg("-o").arg(option);
    }
    command.arg("-q").current_dir(directory);
    command
}

fn downloaded(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in std::fs::read_dir(directory).context("list packages")? {
        let path = entry.context("list packages")?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    packages.sort();
    Ok(packages)
}

/// The dependency of a downloaded package whose name begins so.
fn dependency(directory: &Path, package: &str, prefix: &str) -> Result<String> {
    let start = format!("{package}_");
    let is_it = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&start))
    };
    let file = downloaded(directory)?.into_iter().find(is_it);
    let depends = field(
        &file.with_context(|| format!("{package} was not downloaded"))?,
        "Depends",
    )?;
    let names = depends.split([',', ' ']).find(|name| name.starts_with(prefix));
    names
        .map(str::to_owned)
        .with_context(|| format!("{package} depends on no {prefix}*"))
}

fn field(package: &Path, name: &str) -> Result<String> {
    let output = Command::new("dpkg-deb").arg("-f").arg(package).arg(name).output();
    let output = output.context("start dpkg-deb")?;
    if !output.status.success() {
        bail!("dpkg-deb cannot read {}", package.display());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command whose output matters only if it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let output = command.output();
    let output = output.with_context(|| format!("start {:?}", command.get_program()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("{:?}: {}: {said}", command.get_program(), output.status);
    }
    Ok(())
}
