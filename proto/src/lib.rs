//! The wire contract between the parts: generated protobuf messages and gRPC services, by version.

pub mod access;
pub mod pod;
pub mod report;
#[cfg(feature = "grpc")]
pub mod status;

/// Version 1 of the contract.
#[cfg(feature = "grpc")]
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::unwrap_used,
        clippy::clone_on_ref_ptr
    )]

    tonic::include_proto!("kuik.v1");
}
