//! A cache node in this process, over a source registry that misbehaves on demand.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

pub mod private;

use std::net::TcpListener;
use std::time::Duration;

use cache_node::{Config, start};
use daemon::readiness::Readiness;
use daemon::shutdown::{Cause, Shutdown};
use daemon::telemetry::Metrics;
use testkit::{FakeRegistry, Image, Pull, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const SOON: Duration = Duration::from_secs(20);
/// What still waits for a source that hangs then is dropped.
const END_MAX: Duration = Duration::from_secs(4);
/// A node of a cluster of its own.
pub struct Node {
    pub url: String,
    pub grpc: String,
    pub data: tempfile::TempDir,
    registry: String,
    admin: String,
    shutdown: Shutdown,
}

impl Node {
    pub async fn start(source: &FakeRegistry, settings: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let ports: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |n: usize| ports[n].local_addr().unwrap().to_string();
        let (client, registry, grpc, admin) = (port(0), port(1), port(2), port(3));
        let text = format!(
            r#"
            ordinal = 0
            data_dir = "{data}"
            copies = 1
            allow_genesis = true
            listen = {{ client = "{client}", registry = "{registry}", grpc = "{grpc}", admin = "{admin}" }}
            peers = [{{ ordinal = 0, grpc = "http://{grpc}", registry = "http://{registry}" }}]
            upstream.hosts."source.example" = {{ url = "{url}" }}
            {settings}
            "#,
            data = data.path().join("node").display(),
            url = source.url(),
        );
        drop(ports);
        let file = data.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(&shutdown);
        let config = Config::load(&file).unwrap();
        start(config, Metrics::install().unwrap(), &shutdown, &readiness)
            .await
            .unwrap();
        tokio::time::timeout(SOON, readiness.ready())
            .await
            .expect("the node is ready soon");
        Self {
            url: format!("http://{client}"),
            grpc: format!("http://{grpc}"),
            data,
            registry,
            admin,
            shutdown,
        }
    }

    pub fn pull(&self, image: &Image, reference: impl ToString) -> Pull {
        Pull::new(&self.url, &format!("source.example/{}", image.repository()), reference).within(SOON)
    }

    pub async fn cache(&self, image: &Image) {
        self.pull(image, image.tag())
            .run()
            .await
            .expect("a pull from a source that is well");
        let name = format!("source.example/{}:{}", image.repository(), image.tag());
        eventually(SOON, "the image is complete", || async {
            let images: serde_json::Value = self.report("/images").await;
            let listed = images["images"].as_array()?.iter();
            let named = |entry: &serde_json::Value| {
                format!(
                    "{}:{}",
                    entry["repository"].as_str().unwrap(),
                    entry["tag"].as_str().unwrap()
                ) == name
            };
            let mut found = listed.filter(|entry| named(entry));
            found
                .any(|entry| entry["complete"] == true && entry["digest"] == image.root().as_str())
                .then_some(())
        })
        .await;
    }

    pub async fn report(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.admin(path).await).unwrap()
    }

    pub async fn admin(&self, path: &str) -> String {
        get(&self.admin, path).await
    }

    /// What the ports for clients and for other parts answer to a request without a body: `POST /path`.
    pub async fn statuses(&self, head: &str) -> [u16; 2] {
        let client = self.url.trim_start_matches("http://");
        [status(client, head).await, status(&self.registry, head).await]
    }

    /// The body of an answer of the registry port.
    pub async fn get(&self, path: &str) -> String {
        get(&self.registry, path).await
    }
}

pub async fn get(address: &str, path: &str) -> String {
    let answer = ask(address, &format!("GET {path}")).await;
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn status(address: &str, head: &str) -> u16 {
    let answer = ask(address, head).await;
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn ask(address: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{head} HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

impl Drop for Node {
    fn drop(&mut self) {
        end(&[&self.shutdown]);
    }
}

/// Ends nodes as their program would, so that their databases are closed before the test's process ends.
pub fn end(nodes: &[&Shutdown]) {
    tokio::task::block_in_place(|| {
        for node in nodes {
            node.begin(Cause::Requested("the test is over"));
        }
        let ending = nodes.iter().map(|node| node.run(END_MAX));
        tokio::runtime::Handle::current().block_on(futures::future::join_all(ending));
    });
}
