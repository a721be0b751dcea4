//! What every process of the cache needs to live and die well: named tasks, an ordered end, logs and
//! metrics, an admin endpoint, TLS from files that may change, and one way to start the async runtime.
//!
//! It knows nothing of registries, Raft or Kubernetes. A program uses it in this order: [`runtime::run`] from
//! `main`, then [`telemetry::init`], [`shutdown::Shutdown::new`], its own subsystems on the shutdown's task
//! sets, [`admin::Admin::start`], and last [`shutdown::Shutdown::run`], which waits for the end.

pub mod admin;
pub mod readiness;
pub mod runtime;
pub mod shutdown;
pub mod task;
pub mod telemetry;
pub mod tls;
