//! A proxy that is told to stop serves what it has begun.

use std::time::Duration;

use daemon::shutdown::Cause;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client;
use crate::world::{Link, World};

const SLOW_BY: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_body_in_flight_is_finished_and_its_connection_closed() {
    let world = World::start(1, Link::MutualTls).await;
    world.nodes[0].set(|settings| settings.slow_by = SLOW_BY);
    let (address, path) = (world.address, world.blob_path());
    let pull = tokio::spawn(async move { client::get(address, &path).await });
    while world.n_asked("blob") == 0 {
        tokio::task::yield_now().await;
    }
    world.shutdown.begin(Cause::Requested("test"));
    let shutdown = world.shutdown.clone();
    let ended = tokio::spawn(async move { shutdown.run(GRACE).await });
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!pull.is_finished(), "the listener is closed before the body is out");
    let reply = pull.await.unwrap();
    world.assert_whole_blob(&reply);
    assert_eq!(reply.header("connection"), Some("close"));
    let ended = timeout(GRACE, ended).await.unwrap().unwrap();
    assert!(ended.still_running.is_empty());
}
