//! The files of a layer, by their path.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// User that the programs run as; named `nonroot`.
pub(crate) const NONROOT: u64 = 65532;

/// Files by path without the leading slash; what lies deeper comes later.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// One file. All but [`Entry::Owned`] directories belong to root.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A directory.
    Directory { mode: u32 },
    /// A directory of [`NONROOT`].
    Owned,
    /// A link to a path.
    Link(String),
    /// A file with these bytes.
    Text(Vec<u8>),
    /// A copy of a file, with the execute bit or without.
    Copy { from: PathBuf, executable: bool },
}

impl Tree {
    /// Adds a file, and the directories it lies in.
    pub(crate) fn add(&mut self, path: &str, entry: Entry) {
        for (end, _) in path.match_indices('/') {
            let parent = path[..end].to_owned();
            self.entries.entry(parent).or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds a file by its text.
    pub(crate) fn add_text(&mut self, path: &str, text: &str) {
        self.add(path, Entry::Text(text.into()));
    }

    /// Everything, parents first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_lies_in_them() {
        let mut tree = Tree::default();
        tree.add_text("usr/share/doc/a", "");
        tree.add("usr", Entry::Directory { mode: 0o755 });
        let paths: Vec<_> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr", "usr/share", "usr/share/doc", "usr/share/doc/a"]);
    }
}
