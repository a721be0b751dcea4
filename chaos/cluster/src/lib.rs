//! A real Kubernetes cluster, and kuik on it: what the end-to-end tests stand on.
//!
//! [`Stage::enter`] gives a test a cluster of its own (`hack/cluster`) with kuik installed, or the one that
//! `KUIK_E2E_KUBECONFIG` names. Everything is done as a person would, with `kubectl` and `helm`; what breaks machines
//! is in [`Machine`], which only a cluster of our own has. Every wait has a deadline, and a test that fails prints the
//! pods, the events and the logs of kuik's parts.

mod access;
mod cluster;
mod installer;
mod kuik;
mod machine;
mod object;
pub mod pods;
mod recording;
mod report;
mod shell;
mod stage;
pub mod wait;

pub use cluster::Cluster;
pub use installer::Installer;
pub use kuik::{Kuik, NAMESPACE, PROXY_NAMESPACE, RELEASE, wait_ready};
pub use machine::{Machine, Source};
pub use object::{Deployment, PASSWORD, Pod, pull_secret, pull_secret_of};
pub use recording::Recording;
pub use stage::Stage;
