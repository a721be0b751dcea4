//! The ready file: what a script needs to use a cluster that has just come up. Its form is a promise.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, NodeAddresses};
use crate::data_dir::{DataDir, DataDirError, write_whole};

/// The document in the ready file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) cluster_id: String,
    pub(crate) proxy: ReadyProxy,
    pub(crate) nodes: Vec<ReadyNode>,
}

/// The proxy's process. URLs are plain HTTP on loopback, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadyProxy {
    pub(crate) pid: Option<u32>,
    pub(crate) url: String,
    pub(crate) admin: String,
}

/// A node's process; in the order of ordinals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadyNode {
    /// Its Raft node id.
    pub(crate) id: Option<u64>,
    /// Null while it is being started again.
    pub(crate) pid: Option<u32>,
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) data: PathBuf,
}

/// What a ready file says besides the addresses, which the cluster knows.
pub(crate) struct Members {
    pub(crate) cluster_id: String,
    /// Raft node ids in the order of ordinals; unknown for a node that did not come up.
    pub(crate) node_ids: Vec<Option<u64>>,
}

impl Ready {
    pub(crate) fn new(cluster: &Cluster, data: &DataDir, members: &Members) -> Self {
        let url = |address: SocketAddr| format!("http://{address}");
        let node = |(node, id): (&NodeAddresses, &Option<u64>)| ReadyNode {
            id: *id,
            pid: None,
            url: url(node.listen.client),
            admin: url(node.listen.admin),
            data: data.node_data(&node.name()),
        };
        Self {
            cluster_id: members.cluster_id.clone(),
            proxy: ReadyProxy {
                pid: None,
                url: url(cluster.proxy.listen[0]),
                admin: url(cluster.proxy.admin),
            },
            nodes: cluster.nodes.iter().zip(&members.node_ids).map(node).collect(),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists always serialize")
    }

    /// Puts the document at `path`, all at once.
    pub(crate) fn write(&self, path: &Path) -> Result<(), DataDirError> {
        write_whole(path, &format!("{}\n", self.to_json()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::tests::cluster_of;

    #[test]
    fn form_is_as_promised() {
        let cluster = cluster_of(1);
        let data = DataDir::find(Some("/d".into())).unwrap();
        let members = Members {
            cluster_id: "c1".to_owned(),
            node_ids: vec![Some(7)],
        };
        let mut ready = Ready::new(&cluster, &data, &members);
        ready.proxy.pid = Some(10);
        ready.nodes[0].pid = Some(11);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.json");
        ready.write(&path).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let promised = json!({
            "cluster_id": "c1",
            "proxy": {"pid": 10, "url": "http://127.0.0.1:7439", "admin": "http://127.0.0.1:19999"},
            "nodes": [{
                "id": 7, "pid": 11, "url": "http://127.0.0.1:20000", "admin": "http://127.0.0.1:20003",
                "data": "/d/node-0",
            }],
        });
        assert_eq!(written, promised);
    }
}
