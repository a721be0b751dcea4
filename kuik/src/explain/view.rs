//! `kuik explain` as people read it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{BlobExplained, BlobOnNode, Explanation, ManifestExplained};
use crate::text::{Table, age, list, short_digest, size};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.cached { "is cached" } else { "is NOT cached" };
        writeln!(f, "{} {verdict} for {}: {}", self.image, self.platform, self.reason)?;
        if let Some(digest) = &self.digest {
            writeln!(f, "digest   {digest}")?;
        }
        if let Some(checked) = self.checked_at_ms {
            let stale = if self.stale {
                "; it could not be asked since"
            } else {
                ""
            };
            writeln!(f, "checked  with its source {} ago{stale}", since(checked))?;
        }
        if self.desired {
            writeln!(
                f,
                "desired  it is kept: filled ahead, and fetched again when it is lost"
            )?;
        }
        if self.private {
            writeln!(f, "private  only namespaces with a grant for its repository may use it")?;
        }
        for manifest in &self.manifests {
            write!(f, "{manifest}")?;
        }
        match self.unreachable.as_slice() {
            [] => Ok(()),
            silent => writeln!(f, "\nnot asked, because they do not answer: {}", list(silent)),
        }
    }
}

impl fmt::Display for ManifestExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (&self.platform, self.is_index) {
            (_, true) => "index",
            (Some(platform), false) => platform,
            (None, false) => "image",
        };
        let state = if self.cached { "cached" } else { "not cached" };
        let (digest, held_by) = (short_digest(&self.digest), list(&self.held_by));
        writeln!(f, "\n{kind}  {digest}  {state}, manifest on {held_by}")?;
        if self.blobs.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(["  BLOB", "SIZE", "HELD BY", "FROM", "WHY"]);
        self.blobs.iter().for_each(|blob| blob.add_to(&mut table));
        write!(f, "{table}")
    }
}

impl BlobExplained {
    fn add_to(&self, table: &mut Table) {
        table.row([
            format!("  {}", short_digest(&self.digest)),
            size(self.size_bytes),
            list(&self.held_by),
            self.of_each_node(BlobOnNode::origin),
            self.of_each_node(|blob| blob.reason.as_ref().map(|reason| format!("{}: {reason}", blob.node))),
        ]);
    }

    fn of_each_node(&self, of: impl Fn(&BlobOnNode) -> Option<String>) -> String {
        let texts: Vec<_> = self.nodes.iter().filter_map(of).collect();
        if texts.is_empty() {
            "-".to_owned()
        } else {
            texts.join("; ")
        }
    }
}

impl BlobOnNode {
    fn origin(&self) -> Option<String> {
        let source = self.source.as_ref().filter(|_source| self.here)?;
        let fetched = self.fetched_at_ms.map(|at| format!(" {} ago", since(at)));
        Some(format!("{}: {source}{}", self.node, fetched.unwrap_or_default()))
    }
}

fn since(ms_since_1970: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    age(now.saturating_sub(Duration::from_millis(ms_since_1970)))
}
