//! `cluster.toml`: what a data directory remembers of its cluster, so that the next run is the same cluster at the
//! same addresses, and so that `kuik status` finds a running one.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::children::NodeListen;
use crate::data_dir::{DataDir, DataDirError, write_whole};

/// The version of the file's form; a file of another version is refused and never guessed at.
const FORMAT: u32 = 1;

/// A cluster as its directory remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    format: u32,
    /// Known once the cluster has formed for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster_id: Option<String>,
    pub(crate) proxy: ProxyAddresses,
    pub(crate) nodes: Vec<NodeAddresses>,
}

/// Where the proxy listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyAddresses {
    /// The first is the one shown.
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

/// Where a cache node listens. Its name and data directory follow from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeAddresses {
    pub(crate) ordinal: u32,
    pub(crate) listen: NodeListen,
}

/// Why what the directory remembers cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {reason}; restore it, or start anew with another --data directory", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{} is of format {found}, this kuik knows {FORMAT}: use the kuik that made it", path.display())]
    Format { path: PathBuf, found: u32 },
    #[error(
        "{} holds a cluster of {found} nodes, not {asked}: leave out --nodes, or give another directory with --data",
        path.display()
    )]
    OtherSize { path: PathBuf, found: usize, asked: usize },
    #[error(
        "{} holds {name} but no cluster.toml, so it is data of another cluster: give another directory with --data",
        path.display()
    )]
    Foreign { path: PathBuf, name: String },
    #[error(
        "{name} holds data of cluster {found}, but {} is cluster {expected}: put its own data back, or give another \
         directory with --data",
        path.display()
    )]
    OtherCluster {
        path: PathBuf,
        name: String,
        found: String,
        expected: String,
    },
    #[error("no cluster in {}: start one with kuik up, or say where it is with --data DIR", path.display())]
    Absent { path: PathBuf },
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

impl NodeAddresses {
    pub(crate) fn name(&self) -> String {
        node_name(self.ordinal)
    }
}

/// The name of a node among people, in paths and in logs.
pub(crate) fn node_name(ordinal: u32) -> String {
    format!("node-{ordinal}")
}

impl Cluster {
    pub(crate) fn new(proxy: ProxyAddresses, nodes: Vec<NodeAddresses>, cluster_id: Option<String>) -> Self {
        Self {
            format: FORMAT,
            cluster_id,
            proxy,
            nodes,
        }
    }

    /// What `data` remembers; `None` for a directory that never held a cluster.
    pub(crate) fn load(data: &DataDir) -> Result<Option<Self>, ClusterError> {
        let path = data.cluster_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return refuse_foreign(data),
            Err(source) => return Err(ClusterError::Read { path, source }),
        };
        Self::parse(&path, &text).map(Some)
    }

    /// What `data` remembers, for who asks a running cluster.
    pub(crate) fn load_existing(data: &DataDir) -> Result<Self, ClusterError> {
        let path = data.root().to_owned();
        Self::load(data)?.ok_or(ClusterError::Absent { path })
    }

    pub(crate) fn save(&self, data: &DataDir) -> Result<(), ClusterError> {
        let path = data.cluster_file();
        let text = toml::to_string(self).map_err(|error| damaged(&path, error.to_string()))?;
        Ok(write_whole(&path, &text)?)
    }

    /// Refuses another number of nodes than the cluster has.
    pub(crate) fn check_size(&self, data: &DataDir, asked: Option<u8>) -> Result<(), ClusterError> {
        let found = self.nodes.len();
        match asked.map(usize::from) {
            Some(asked) if asked != found => Err(ClusterError::OtherSize {
                path: data.root().to_owned(),
                found,
                asked,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses a node that says it belongs to another cluster than the one this directory remembers.
    pub(crate) fn check_member(&self, data: &DataDir, name: &str, found: &str) -> Result<(), ClusterError> {
        match &self.cluster_id {
            Some(expected) if expected != found => Err(ClusterError::OtherCluster {
                path: data.root().to_owned(),
                name: name.to_owned(),
                found: found.to_owned(),
                expected: expected.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ClusterError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = toml::from_str(text).map_err(|error| damaged(path, error.message()))?;
        if version.format != FORMAT {
            let path = path.to_owned();
            return Err(ClusterError::Format {
                path,
                found: version.format,
            });
        }
        let cluster: Self = toml::from_str(text).map_err(|error| damaged(path, error.message()))?;
        let in_order = cluster
            .nodes
            .iter()
            .zip(0..)
            .all(|(node, ordinal)| node.ordinal == ordinal);
        if cluster.nodes.is_empty() || cluster.proxy.listen.is_empty() || !in_order {
            return Err(damaged(path, "nodes or addresses are missing"));
        }
        Ok(cluster)
    }
}

/// Node data without a record of its cluster was put there by someone, and forming a new cluster over it would
/// hide it.
fn refuse_foreign(data: &DataDir) -> Result<Option<Cluster>, ClusterError> {
    let name = node_name(0);
    if !data.node_data(&name).exists() {
        return Ok(None);
    }
    let path = data.root().to_owned();
    Err(ClusterError::Foreign { path, name })
}

fn damaged(path: &Path, reason: impl Into<String>) -> ClusterError {
    ClusterError::Damaged {
        path: path.to_owned(),
        reason: reason.into().replace('\n', " "),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Addresses that nothing listens on; only their difference matters.
    pub(crate) fn cluster_of(n_nodes: u32) -> Cluster {
        let address = |port: u32| SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        let node = |ordinal| NodeAddresses {
            ordinal,
            listen: NodeListen {
                client: address(20_000 + ordinal * 4),
                registry: address(20_001 + ordinal * 4),
                grpc: address(20_002 + ordinal * 4),
                admin: address(20_003 + ordinal * 4),
            },
        };
        let proxy = ProxyAddresses {
            listen: vec![address(7439), "[::1]:7439".parse().unwrap()],
            admin: address(19_999),
        };
        Cluster::new(proxy, (0..n_nodes).map(node).collect(), None)
    }

    fn data_in(dir: &tempfile::TempDir) -> DataDir {
        DataDir::find(Some(dir.path().to_owned())).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let data = data_in(&dir);
        assert_eq!(Cluster::load(&data).unwrap(), None);
        let mut cluster = cluster_of(3);
        cluster.cluster_id = Some("c1".to_owned());
        cluster.save(&data).unwrap();
        assert_eq!(Cluster::load(&data).unwrap(), Some(cluster));
    }

    #[test]
    fn another_number_of_nodes_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let data = data_in(&dir);
        let cluster = cluster_of(3);
        cluster.check_size(&data, None).unwrap();
        cluster.check_size(&data, Some(3)).unwrap();
        let refused = cluster.check_size(&data, Some(5)).unwrap_err().to_string();
        assert!(
            refused.contains("a cluster of 3 nodes, not 5: leave out --nodes"),
            "{refused}"
        );
    }

    #[test]
    fn data_of_another_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = data_in(&dir);
        let mut cluster = cluster_of(1);
        cluster.check_member(&data, "node-0", "c1").unwrap();
        cluster.cluster_id = Some("c1".to_owned());
        let refused = cluster.check_member(&data, "node-0", "c2").unwrap_err().to_string();
        assert!(refused.starts_with("node-0 holds data of cluster c2"), "{refused}");
        std::fs::create_dir(data.node_data("node-0")).unwrap();
        assert!(matches!(Cluster::load(&data), Err(ClusterError::Foreign { .. })));
    }

    #[test]
    fn damaged_and_newer_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = data_in(&dir);
        std::fs::write(data.cluster_file(), "format = 2\nshape = 'new'\n").unwrap();
        assert!(matches!(
            Cluster::load(&data),
            Err(ClusterError::Format { found: 2, .. })
        ));
        std::fs::write(data.cluster_file(), "format = 1\n").unwrap();
        assert!(matches!(Cluster::load(&data), Err(ClusterError::Damaged { .. })));
    }

    #[test]
    fn asking_where_nothing_is_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let absent = Cluster::load_existing(&data_in(&dir)).unwrap_err().to_string();
        assert!(absent.contains("start one with kuik up"), "{absent}");
    }
}
