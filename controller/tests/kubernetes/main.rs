//! The controller against a real API server and a fake cache node. Without etcd and kube-apiserver every story says that
//! it was skipped.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod objects;
mod pods;
mod support;
