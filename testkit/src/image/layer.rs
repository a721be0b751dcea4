//! Layers: opaque bytes, or archives that runtimes can unpack.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use oci::Digest;

const GZIPPED: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) media_type: &'static str,
    pub(super) bytes: Bytes,
    /// Digest of the layer when unpacked, as the config names it.
    pub(super) diff_id: Digest,
}

impl Layer {
    pub(super) fn opaque(bytes: Bytes) -> Self {
        Self {
            media_type: GZIPPED,
            diff_id: Digest::sha256(&bytes),
            bytes,
        }
    }

    pub(super) fn archive(files: &[(&str, &[u8])]) -> Self {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, path, *content)
                .expect("writing to memory cannot fail");
        }
        let archive = archive.into_inner().expect("writing to memory cannot fail");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        std::io::Write::write_all(&mut gzip, &archive).expect("writing to memory cannot fail");
        let bytes = gzip.finish().expect("writing to memory cannot fail").into();
        Self {
            media_type: GZIPPED,
            bytes,
            diff_id: Digest::sha256(&archive),
        }
    }
}

/// So many incompressible bytes, the same for the same seed.
pub fn random_bytes(size_bytes: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; size_bytes];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}
