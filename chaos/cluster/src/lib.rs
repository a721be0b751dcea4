//! A real Kubernetes cluster on one machine, and kuik on it.
