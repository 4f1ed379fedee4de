//! Generates the protocol's types from `proto/`, without protoc: protox is a compiler in Rust.

use std::path::Path;

const PROTOS: &[&str] =
    &["client.proto", "peer.proto", "log.proto", "gossip.proto", "snapshot.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    for name in PROTOS {
        println!("cargo:rerun-if-changed={}", root.join(name).display());
    }
    let descriptors = protox::compile(PROTOS, [root])?;
    prost_build::Config::new()
        // Payloads are slices of the frame that they arrived in, not copies of it.
        .bytes(["."])
        // Rare and large: no other response shall have its size.
        .boxed(".phalanx.client.Response.result.status")
        .compile_fds(descriptors)?;
    Ok(())
}
