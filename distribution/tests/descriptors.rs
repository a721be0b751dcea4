//! Running out of file descriptors stops nothing for good. Alone in its process, whose limit it lowers.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use distribution::{BlobAnswer, BlobQuery, ManifestAnswer, ManifestQuery, Registry, RegistryError, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

struct Empty;

impl Registry for Empty {
    async fn manifest(&self, _query: ManifestQuery) -> Result<ManifestAnswer, RegistryError> {
        Err(RegistryError::ManifestUnknown)
    }

    async fn blob(&self, _query: BlobQuery) -> Result<BlobAnswer, RegistryError> {
        Err(RegistryError::BlobUnknown)
    }
}

#[tokio::test]
async fn accepting_goes_on_once_descriptors_are_free_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::new(Arc::new(Empty)).start(listener).unwrap();
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(64),
            ..getrlimit(Resource::Nofile)
        },
    )
    .unwrap();

    let mut held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    held.pop();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    assert!(
        timeout(Duration::from_millis(200), stream.read_exact(&mut answer))
            .await
            .is_err()
    );

    drop(held);
    timeout(Duration::from_secs(10), stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}
