//! Compiles the `.proto` files with protox, so that no protoc program is needed.

const PROTOS: &[&str] = &[
    "proto/kuik/v1/raft.proto",
    "proto/kuik/v1/peer.proto",
    "proto/kuik/v1/control.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    if std::env::var_os("CARGO_FEATURE_GRPC").is_none() {
        return Ok(());
    }
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
