//! gRPC services this node answers: convert, call, convert.

mod control;
mod peer;

pub(crate) use control::{ControlApi, ControlParts};
pub(crate) use peer::PeerApi;
