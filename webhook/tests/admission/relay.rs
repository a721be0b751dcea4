//! A way to a cache node that can go dead: connections stay open, and nothing comes through them any more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Relay {
    pub url: String,
    n_accepted: Arc<AtomicUsize>,
    n_deaths: watch::Sender<u32>,
}

impl Relay {
    pub async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            n_accepted: Arc::default(),
            n_deaths: watch::Sender::new(0),
        };
        let (n_accepted, deaths) = (Arc::clone(&relay.n_accepted), relay.n_deaths.subscribe());
        tokio::spawn(async move {
            while let Ok((near, _client)) = listener.accept().await {
                n_accepted.fetch_add(1, Ordering::Relaxed);
                let mut deaths = deaths.clone();
                deaths.mark_unchanged();
                tokio::spawn(pass(near, node, deaths));
            }
        });
        relay
    }

    /// As after a power cut: nobody hears of it.
    pub fn go_dead(&self) {
        self.n_deaths.send_modify(|n_deaths| *n_deaths += 1);
    }

    pub fn accepted(&self) -> usize {
        self.n_accepted.load(Ordering::Relaxed)
    }
}

async fn pass(mut near: TcpStream, node: SocketAddr, mut deaths: watch::Receiver<u32>) {
    let mut far = TcpStream::connect(node).await.unwrap();
    tokio::select! {
        _ended = copy_bidirectional(&mut near, &mut far) => {}
        _died = deaths.changed() => std::future::pending().await,
    }
}
