//! A webhook in this process, and an API server's way of asking it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use daemon::readiness::Readiness;
use daemon::shutdown::{Phase, Shutdown};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webhook::proxies::Proxies;
use webhook::{CertificateFiles, Config, Metrics, NodeAddress, ProxyDaemonSet};

use crate::certificates::{Authority, files_in};
use crate::fake_control::FakeControl;

pub struct Webhook {
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    pub readiness: Readiness,
    pub proxies: watch::Sender<Proxies>,
    pub authority: Authority,
    dir: TempDir,
}

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A webhook whose certificate and policy are there, in front of these nodes.
pub async fn webhook(nodes: &[&FakeControl]) -> Webhook {
    let urls: Vec<_> = nodes.iter().map(|node| format!("http://{}", node.address)).collect();
    let webhook = start_signed(&urls, false, Authority::new()).await;
    webhook.serves().await;
    webhook
}

/// A webhook that finds no certificate yet, with a node at this URL.
pub async fn start(node: &str) -> Webhook {
    start_signed(&[node.to_owned()], false, Authority::new()).await
}

/// A webhook that finds no certificate yet; with `tls` it shows one of `authority` to the nodes.
pub async fn start_signed(nodes: &[String], tls: bool, authority: Authority) -> Webhook {
    let (proxies, known) = watch::channel(Proxies::Everywhere);
    let webhook = start_with(nodes, tls, authority, |_shutdown, _readiness| known).await;
    Webhook { proxies, ..webhook }
}

/// A webhook that watches the proxies through this client, in front of this node.
pub async fn watching(client: &kube::Client, node: &FakeControl) -> Webhook {
    let url = format!("http://{}", node.address);
    let proxies = |shutdown: &Shutdown, readiness: &Readiness| {
        let (gate, tasks) = (readiness.gate("proxies"), shutdown.tasks(Phase::Work));
        webhook::proxies::start(client.clone(), &proxy_daemonset(), gate, Metrics::new(), tasks)
    };
    let webhook = start_with(&[url], false, Authority::new(), proxies).await;
    webhook.write_certificate();
    tokio::time::timeout(Duration::from_secs(10), webhook.readiness.ready())
        .await
        .unwrap();
    webhook
}

fn proxy_daemonset() -> ProxyDaemonSet {
    ProxyDaemonSet {
        namespace: "kuik-proxy".into(),
        daemonset: "kuik-proxy".into(),
    }
}

async fn start_with(
    nodes: &[String],
    tls: bool,
    authority: Authority,
    proxies: impl FnOnce(&Shutdown, &Readiness) -> watch::Receiver<Proxies>,
) -> Webhook {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    let node = |(ordinal, url): (usize, &String)| NodeAddress {
        ordinal: ordinal.try_into().unwrap(),
        grpc: url.parse().unwrap(),
    };
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin: "127.0.0.1:0".parse().unwrap(),
        namespace: "kuik".into(),
        proxy_port: 7439,
        policy_file: dir.path().join("policy.toml"),
        serving: CertificateFiles {
            cert: files.cert.clone(),
            key: files.key.clone(),
        },
        tls: tls.then_some(files),
        nodes: nodes.iter().enumerate().map(node).collect(),
        proxy: proxy_daemonset(),
    };
    std::fs::write(&config.policy_file, "").unwrap();
    let listener = TcpListener::bind(config.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let readiness = Readiness::new(&shutdown);
    let known = proxies(&shutdown, &readiness);
    webhook::start(&config, listener, known, Metrics::new(), &shutdown, &readiness);
    Webhook {
        address,
        shutdown,
        readiness,
        proxies: watch::Sender::new(Proxies::Unknown),
        authority,
        dir,
    }
}

impl Webhook {
    pub fn policy_file(&self) -> PathBuf {
        self.dir.path().join("policy.toml")
    }

    pub fn write_certificate(&self) {
        self.authority.write(self.dir.path(), "webhook.kuik.internal");
    }

    /// Gives it a certificate, and waits until nothing but the tier keeps it from being ready.
    pub async fn serves(&self) {
        self.write_certificate();
        eventually(Duration::from_secs(10), "a webhook that serves", async || {
            let reasons = self.readiness.unready_reasons();
            reasons.iter().all(|reason| reason.starts_with("tier: ")).then_some(())
        })
        .await;
    }

    pub async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    pub async fn request(&self, head: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = self.connect().await?;
        let length = body.len();
        let head = format!("{head} HTTP/1.1\r\nHost: webhook\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        // A server that has heard enough answers and closes.
        let _cut = stream.write_all(body).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else {
            return Err(read.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        };
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        let body = answer.split_off(end + 4);
        Ok(Answer { status, body })
    }

    /// The pod as it would enter the cluster, and how long the answer took.
    pub async fn create(&self, namespace: &str, pod: &Value) -> (Value, Duration) {
        self.create_within(5, namespace, pod).await
    }

    /// The same, by an API server that waits this long.
    pub async fn create_within(&self, seconds: u64, namespace: &str, pod: &Value) -> (Value, Duration) {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "0b4c9a6e", "namespace": namespace, "operation": "CREATE",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
                "object": pod, "oldObject": null, "dryRun": false,
            },
        });
        let began = Instant::now();
        let body = review.to_string();
        let head = format!("POST /mutate-core-v1-pod?timeout={seconds}s");
        let answer = self.request(&head, body.as_bytes()).await.unwrap();
        let took = began.elapsed();
        assert_eq!(answer.status, 200);
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let response = &answer["response"];
        assert_eq!(
            (&response["uid"], &response["allowed"]),
            (&json!("0b4c9a6e"), &json!(true))
        );
        (patched(pod, response), took)
    }
}

fn patched(pod: &Value, response: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(patch) = response["patch"].as_str() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    pod
}

pub fn pod(image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-", "labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "app", "image": image, "resources": {"limits": {"cpu": "1"}}}],
            "schedulerName": "default-scheduler",
        },
    })
}

pub fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
}

/// The first word of the reason why the container `app` was left.
pub fn reason(pod: &Value) -> Option<String> {
    let reasons = pod["metadata"]["annotations"]["kuik.enix.io/not-rewritten"].as_str()?;
    let reasons: Value = serde_json::from_str(reasons).unwrap();
    let reason = reasons["app"].as_str()?;
    Some(reason.split_once(':').unwrap().0.to_owned())
}
