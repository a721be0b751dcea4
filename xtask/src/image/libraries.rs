//! The layer below the programs: the loader, the libraries they need, authorities, a user, licences.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::packages::Packages;
use super::platform::Architecture;
use super::tree::{Entry, Tree};
use super::{certificates, elf};

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";
/// Without it, glibc would ask DNS before `/etc/hosts`.
const NSSWITCH: &str = "hosts: files dns\n";

/// Makes the layer for programs.
///
/// # Errors
/// Names a library that none of the packages has, and who needs it.
pub(crate) fn collect(packages: &Packages, programs: &[&Path], architecture: Architecture) -> Result<Tree> {
    let mut tree = base();
    let triplet = architecture.triplet();
    for (name, file) in closure(&packages.root, programs, triplet)? {
        let entry = Entry::Copy {
            from: file,
            executable: true,
        };
        tree.add(&format!("usr/lib/{triplet}/{name}"), entry);
    }
    let loader = architecture.loader();
    let name = loader.rsplit('/').next().unwrap_or(loader);
    tree.add(loader, Entry::Link(format!("/usr/lib/{triplet}/{name}")));
    let bundle = certificates::bundle(&packages.root)?;
    tree.add("etc/ssl/certs/ca-certificates.crt", Entry::Text(bundle));
    for package in packages.names() {
        let path = format!("usr/share/doc/{package}/copyright");
        let file = std::fs::canonicalize(packages.root.join(&path));
        let from = file.with_context(|| format!("find the licence of {package}"))?;
        tree.add(
            &path,
            Entry::Copy {
                from,
                executable: false,
            },
        );
    }
    Ok(tree)
}

/// What is the same for every program.
fn base() -> Tree {
    let mut tree = Tree::default();
    tree.add_text("etc/passwd", PASSWD);
    tree.add_text("etc/group", GROUP);
    tree.add_text("etc/nsswitch.conf", NSSWITCH);
    tree.add("tmp", Entry::Directory { mode: 0o1777 });
    tree.add("run/kuik", Entry::Owned);
    tree.add("var/lib/kuik", Entry::Owned);
    for (path, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        tree.add(path, Entry::Link(target.to_owned()));
        tree.add(target, Entry::Directory { mode: 0o755 });
    }
    tree
}

/// Every library that the programs need, and those these need.
fn closure(root: &Path, programs: &[&Path], triplet: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut queue: Vec<PathBuf> = programs.iter().map(|program| program.to_path_buf()).collect();
    while let Some(file) = queue.pop() {
        for name in elf::needed(&file)? {
            if found.contains_key(&name) {
                continue;
            }
            let library = find(root, triplet, &name).with_context(|| {
                let needs = file.file_name().unwrap_or_default().to_string_lossy();
                format!("{needs} needs {name}, which no package has: add its package in xtask/src/image/packages.rs")
            })?;
            queue.push(library.clone());
            found.insert(name, library);
        }
    }
    Ok(found)
}

/// Debian 12 keeps some libraries under `/lib`, later ones all under `/usr/lib`.
fn find(root: &Path, triplet: &str, name: &str) -> Option<PathBuf> {
    let directories = ["lib", "usr/lib"].map(|directory| root.join(directory).join(triplet));
    directories
        .iter()
        .find_map(|directory| std::fs::canonicalize(directory.join(name)).ok())
}
