//! The dependency graph, as `cargo metadata` tells it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::step::cargo;

/// What is built; deny.toml has the same list.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// [`Package::source`] of a package of third_party/, which replaces the registry's.
pub(crate) const PATCHED: &str = "patched";

/// How one package depends on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

/// A package, its direct dependencies by id.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
    /// `None` for the workspace's own packages.
    pub(crate) source: Option<String>,
    pub(crate) dependencies: Vec<(Kind, String)>,
}

/// Every package of the build, by package id.
pub(crate) struct Graph {
    packages: BTreeMap<String, Package>,
}

impl Graph {
    /// Asks cargo for the resolved graph of the workspace with all features.
    ///
    /// # Errors
    /// If cargo fails, or says something this program does not understand.
    pub(crate) fn load() -> Result<Self> {
        let mut metadata = cargo(&["metadata", "--format-version", "1", "--locked", "--all-features"]);
        let output = metadata
            .args(PLATFORMS.iter().flat_map(|platform| ["--filter-platform", platform]))
            .output()
            .context("start cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let raw = serde_json::from_slice(&output.stdout).context("parse cargo metadata")?;
        Ok(Self::from_raw(raw))
    }

    fn from_raw(raw: RawMetadata) -> Self {
        let mut dependencies: BTreeMap<String, Vec<(Kind, String)>> = BTreeMap::new();
        for node in raw.resolve.nodes {
            let edges = node.deps.into_iter().flat_map(RawDep::into_edges).collect();
            dependencies.insert(node.id, edges);
        }
        let members = raw.workspace_members;
        let packages = raw.packages.into_iter().map(|package| {
            let patched = package.source.is_none() && !members.contains(&package.id);
            let dependencies = dependencies.remove(&package.id).unwrap_or_default();
            let RawPackage {
                id,
                name,
                version,
                license,
                source,
            } = package;
            (
                id,
                Package {
                    name,
                    version,
                    licence: license,
                    source: if patched { Some(PATCHED.to_owned()) } else { source },
                    dependencies,
                },
            )
        });
        Self {
            packages: packages.collect(),
        }
    }

    /// All packages.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// The workspace's own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages().filter(|package| package.source.is_none())
    }

    /// The direct dependencies of `package` within the workspace.
    pub(crate) fn member_dependencies<'a>(&'a self, package: &'a Package) -> impl Iterator<Item = (Kind, &'a str)> {
        package.dependencies.iter().filter_map(|(kind, id)| {
            let target = self.packages.get(id)?;
            target.source.is_none().then_some((*kind, target.name.as_str()))
        })
    }

    /// A shortest chain of normal dependencies from member `from` to a package named `to`, if there is one.
    pub(crate) fn normal_path(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let start = self
            .packages
            .iter()
            .find(|(_, package)| package.name == from && package.source.is_none())?;
        let mut seen = BTreeSet::from([start.0]);
        let mut queue = VecDeque::from([vec![start.0]]);
        while let Some(path) = queue.pop_front() {
            let package = path.last().and_then(|id| self.packages.get(*id))?;
            if package.name == to {
                return Some(path.iter().map(|id| self.packages[*id].name.clone()).collect());
            }
            for (kind, id) in &package.dependencies {
                if *kind == Kind::Normal && seen.insert(id) {
                    queue.push_back(path.iter().copied().chain([id]).collect());
                }
            }
        }
        None
    }
}

/// The directory of the workspace's `Cargo.toml`.
///
/// Asked for when it runs: checkouts share what was built, so the one it was built in may be another or gone.
pub(crate) fn workspace_root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let crate_dir = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let root = crate_dir.as_deref().and_then(Path::parent).map(Path::to_owned);
        root.unwrap_or_else(|| PathBuf::from("."))
    })
}

#[derive(Deserialize)]
struct RawMetadata {
    workspace_members: BTreeSet<String>,
    packages: Vec<RawPackage>,
    resolve: RawResolve,
}

#[derive(Deserialize)]
struct RawPackage {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct RawResolve {
    nodes: Vec<RawNode>,
}

#[derive(Deserialize)]
struct RawNode {
    id: String,
    deps: Vec<RawDep>,
}

#[derive(Deserialize)]
struct RawDep {
    pkg: String,
    dep_kinds: Vec<RawDepKind>,
}

#[derive(Deserialize)]
struct RawDepKind {
    kind: Option<String>,
}

impl RawDep {
    fn into_edges(self) -> impl Iterator<Item = (Kind, String)> {
        self.dep_kinds.into_iter().map(move |raw| {
            let kind = match raw.kind.as_deref() {
                Some("dev") => Kind::Dev,
                Some("build") => Kind::Build,
                _ => Kind::Normal,
            };
            (kind, self.pkg.clone())
        })
    }
}
