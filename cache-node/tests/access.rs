//! Three nodes with certificates that enforce access: private images are filled, served to whom they are placed with, and
//! refused to others; and the password that reads them is nowhere to be found.

#![expect(clippy::unwrap_used, reason = "a test that meets an error is to stop there")]

mod support;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cache_node::{Config, start};
use daemon::readiness::Readiness;
use daemon::shutdown::Shutdown;
use daemon::telemetry::Metrics;
use daemon::tls::{Protocol, Tls, TlsFiles};
use http::{HeaderMap, HeaderValue, Method};
use oci::{ManifestReference, Repository};
use proto::access::{AUTHORIZATION_PATH, NODE_HEADER, Role, SourceAuthorization};
use proto::v1 as pb;
use proto::v1::control_client::ControlClient;
use proto::v1::{Admission, GrantOutcome, ImagePhase};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{SOON, get};
use testkit::{Auth, FakeRegistry, Image, eventually, image};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use upstream::{NodeCall, NodeClient, NodeTransport, NodeUrl, UpstreamError};

const USER: &str = "robot";
const PASSWORD: &str = "c4n4ry-Pa55word-0123456789";
const REPOSITORY: &str = "source.example/team/secret";

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Writes the files of a part into `dir`.
    fn issue(&self, dir: &Path, role: Role) -> TlsFiles {
        std::fs::create_dir_all(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), role.dns_name().to_owned()];
        let leaf = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let files = TlsFiles {
            ca: dir.join("ca.crt"),
            cert: dir.join("tls.crt"),
            key: dir.join("tls.key"),
        };
        std::fs::write(&files.ca, self.issuer.pem()).unwrap();
        std::fs::write(&files.cert, leaf.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

struct Node {
    registry: String,
    grpc: String,
    admin: String,
    shutdown: Shutdown,
}

struct Cluster {
    authority: Authority,
    nodes: Vec<Node>,
    data: tempfile::TempDir,
}

impl Cluster {
    async fn start(source: &FakeRegistry) -> Self {
        let (authority, data) = (Authority::new(), tempfile::tempdir().unwrap());
        let keys = data.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        std::fs::write(keys.join("k1"), STANDARD.encode([7; 32])).unwrap();
        std::fs::write(keys.join("active"), "k1").unwrap();
        let held: Vec<TcpListener> = (0..9).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = |n: usize| held[n].local_addr().unwrap().to_string();
        let addresses: Vec<[String; 3]> = (0..3)
            .map(|n| [address(3 * n), address(3 * n + 1), address(3 * n + 2)])
            .collect();
        drop(held);
        let peers: Vec<String> = (0..)
            .zip(&addresses)
            .map(|(n, [registry, grpc, _])| {
                format!("{{ ordinal = {n}, grpc = \"https://{grpc}\", registry = \"https://{registry}\" }}")
            })
            .collect();
        let mut cluster = Self {
            authority,
            nodes: Vec::new(),
            data,
        };
        let mut starting = Vec::new();
        for (ordinal, [registry, grpc, admin]) in addresses.into_iter().enumerate() {
            let dir = cluster.data.path().join(format!("node-{ordinal}"));
            let tls = cluster.authority.issue(&dir.join("tls"), Role::CacheNode);
            let text = format!(
                r#"
                ordinal = {ordinal}
                data_dir = "{data}"
                allow_genesis = true
                listen = {{ registry = "{registry}", grpc = "{grpc}", admin = "{admin}" }}
                peers = [{peers}]
                tls = {{ ca = "{ca}", cert = "{cert}", key = "{key}" }}
                access = {{ enforce = true, keys_dir = "{keys}" }}
                upstream.hosts."source.example" = {{ url = "{url}" }}
                "#,
                data = dir.join("data").display(),
                peers = peers.join(", "),
                ca = tls.ca.display(),
                cert = tls.cert.display(),
                key = tls.key.display(),
                keys = keys.display(),
                url = source.url(),
            );
            let file = dir.join("node.toml");
            std::fs::write(&file, text).unwrap();
            let shutdown = Shutdown::new();
            let readiness = Readiness::new(&shutdown);
            let config = Config::load(&file).unwrap();
            start(config, Metrics::install().unwrap(), &shutdown, &readiness)
                .await
                .unwrap();
            starting.push(readiness);
            cluster.nodes.push(Node {
                registry,
                grpc,
                admin,
                shutdown,
            });
        }
        for readiness in starting {
            tokio::time::timeout(SOON * 3, readiness.ready())
                .await
                .expect("the node is ready");
        }
        cluster
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    async fn control(&self, node: usize, role: Role) -> ControlClient<Channel> {
        let files = self.authority.issue(&self.dir(&format!("{role:?}")), role);
        let read = |path: &Path| std::fs::read(path).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&files.ca)))
            .identity(Identity::from_pem(read(&files.cert), read(&files.key)));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.nodes[node].grpc)).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
        ControlClient::new(channel)
    }

    /// What the proxy of a Kubernetes node asks with.
    fn proxy(&self, worker: &str) -> NodeClient {
        self.client(Role::Proxy, Some(worker))
    }

    fn client(&self, role: Role, worker: Option<&str>) -> NodeClient {
        let files = self.authority.issue(&self.dir(&format!("{role:?}")), role);
        let mut headers = HeaderMap::new();
        if let Some(worker) = worker {
            headers.insert(NODE_HEADER, HeaderValue::from_str(worker).unwrap());
        }
        NodeClient::new(NodeTransport {
            tls: Some(Tls::load(files).unwrap().client_config(Protocol::Http1)),
            headers,
            ..NodeTransport::default()
        })
    }

    fn url(&self, node: usize) -> NodeUrl {
        format!("https://{}", self.nodes[node].registry).parse().unwrap()
    }

    /// Asks a node for the tag as a proxy does; says whether the answer was stale.
    async fn pull(&self, client: &NodeClient, node: usize) -> Result<bool, UpstreamError> {
        let repository: Repository = REPOSITORY.parse().unwrap();
        let reference = ManifestReference::Tag("1".parse().unwrap());
        let call = NodeCall {
            hop: 1,
            cache_index: None,
        };
        let found = client
            .manifest(&self.url(node), Method::GET, &repository, &reference, &call)
            .await?;
        Ok(found.notes.stale)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter().for_each(|node| node.shutdown.abort());
    }
}

fn secret_image() -> Image {
    image("team/secret")
        .tag("1")
        .platform("linux/amd64")
        .random_layer(400_000, 5)
        .index()
        .build()
}

async fn admit(control: &mut ControlClient<Channel>, namespace: &str) -> Result<Admission, tonic::Status> {
    let request = pb::AdmitRequest {
        namespace: namespace.into(),
        references: vec![format!("{REPOSITORY}:1")],
    };
    let reply = control.admit(request).await?.into_inner();
    Ok(reply.admissions[0].try_into().unwrap())
}

async fn grant(control: &mut ControlClient<Channel>) -> Result<GrantOutcome, tonic::Status> {
    let request = pb::GrantRequest {
        namespace: "team".into(),
        reference: format!("{REPOSITORY}:1"),
        credentials: vec![pb::Credential {
            username: USER.into(),
            password: PASSWORD.into(),
            origin: "team/pull-secret".into(),
        }],
    };
    Ok(control.grant(request).await?.into_inner().outcome())
}

async fn place(control: &mut ControlClient<Channel>, worker: &str) {
    let request = pb::PlaceRequest {
        placements: vec![pb::Placement {
            node: worker.into(),
            repositories: vec![REPOSITORY.into()],
        }],
        replace: true,
    };
    control.place(request).await.unwrap();
}

async fn desire(control: &mut ControlClient<Channel>) {
    let request = pb::ChangeDesiredRequest {
        put: vec![pb::DesiredImage {
            reference: format!("{REPOSITORY}:1"),
            retain: true,
        }],
        replace: true,
        last: true,
        platforms: vec!["linux/amd64".into()],
        ..pb::ChangeDesiredRequest::default()
    };
    control.change_desired(request).await.unwrap();
}

/// Watches from `resume` on until an image is as it should be; answers whether it was told anew, and where it is.
async fn watch_until(
    control: &mut ControlClient<Channel>,
    resume: Vec<u8>,
    fits: impl Fn(&pb::ImageState) -> bool,
) -> (bool, Vec<u8>) {
    let request = pb::WatchImagesRequest { resume: resume.into() };
    let mut stream = control.watch_images(request).await.unwrap().into_inner();
    let watched = tokio::time::timeout(SOON * 3, async {
        let mut anew = false;
        loop {
            let changes = stream.message().await.unwrap().expect("an open stream");
            anew |= changes.from_beginning;
            if changes.changed.iter().any(&fits) {
                return (anew, changes.resume.to_vec());
            }
        }
    });
    watched.await.expect("the image becomes so")
}

fn is_denied(answer: &Result<bool, UpstreamError>) -> bool {
    matches!(answer, Err(UpstreamError::Denied { status: 403, .. }))
}

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The password as it may stand somewhere.
fn spellings() -> [String; 3] {
    let login = format!("{USER}:{PASSWORD}");
    [PASSWORD.to_owned(), STANDARD.encode(&login), STANDARD.encode(PASSWORD)]
}

fn assert_hidden(place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for needle in spellings() {
        assert!(!text.contains(&needle), "the password stands in {place}");
    }
}

fn assert_files_hide(dir: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += assert_files_hide(&path);
        } else if let Ok(bytes) = std::fs::read(&path) {
            assert_hidden(&path.display().to_string(), &bytes);
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_private_image_reaches_whom_it_is_placed_with_and_its_password_nobody() {
    let logs = Logs::default();
    let writer = logs.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let auth = Auth::Token {
        account: Some((USER.into(), PASSWORD.into())),
        lifetime: Duration::from_secs(300),
    };
    let mut source = FakeRegistry::builder().auth(auth).start().await.unwrap();
    source.push(&secret_image());
    let cluster = Cluster::start(&source).await;
    let mut controller = cluster.control(0, Role::Controller).await;

    // Who may ask what.
    let mut webhook = cluster.control(1, Role::Webhook).await;
    assert_eq!(
        grant(&mut webhook).await.unwrap_err().code(),
        tonic::Code::PermissionDenied
    );
    let mut proxy = cluster.control(1, Role::Proxy).await;
    assert_eq!(
        admit(&mut proxy, "team").await.unwrap_err().code(),
        tonic::Code::PermissionDenied
    );
    assert_eq!(admit(&mut webhook, "team").await.unwrap(), Admission::NeedsCredentials);

    // Granted at one node, admitted at another, filled on all.
    assert_eq!(grant(&mut controller).await.unwrap(), GrantOutcome::Granted);
    let mut webhook_at_another = cluster.control(2, Role::Webhook).await;
    eventually(SOON, "the grant is known everywhere", || {
        let mut webhook = webhook_at_another.clone();
        async move { (admit(&mut webhook, "team").await.unwrap() == Admission::Admitted).then_some(()) }
    })
    .await;
    assert_eq!(
        admit(&mut webhook_at_another, "other").await.unwrap(),
        Admission::NoGrant
    );
    desire(&mut controller).await;
    let is_ready = |state: &pb::ImageState| state.phase() == ImagePhase::Ready && state.copies == 3 && state.private;
    let (_, resume) = watch_until(&mut controller, Vec::new(), is_ready).await;

    // Served to the proxy of the node the pod is on, also when it asks a moment too early.
    let (placed, other) = (cluster.proxy("worker-1"), cluster.proxy("worker-2"));
    let (early, ()) = tokio::join!(cluster.pull(&placed, 1), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        place(&mut controller, "worker-1").await;
    });
    early.expect("the placement came in time");
    assert!(is_denied(&cluster.pull(&other, 1).await));
    assert!(is_denied(&cluster.pull(&cluster.client(Role::Proxy, None), 1).await));
    assert!(is_denied(
        &cluster.pull(&cluster.client(Role::Webhook, Some("worker-1")), 1).await
    ));

    // A short-lived way to ask the source itself, for the same proxies.
    let path = format!("{AUTHORIZATION_PATH}?repository={REPOSITORY}");
    let told = placed.get_document(&cluster.url(1), &path, 65_536, SOON).await.unwrap();
    let told: SourceAuthorization = serde_json::from_slice(&told).unwrap();
    let header = told.authorization.expect("the registry wants one");
    assert!(header.starts_with("Bearer ") && told.seconds > 0 && told.seconds <= 300);
    let refused = other.get_document(&cluster.url(1), &path, 65_536, SOON).await;
    assert!(matches!(refused, Err(UpstreamError::Denied { .. })));

    // The source goes away: stale for the same, nothing for others.
    source.stop().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(cluster.pull(&placed, 1).await.unwrap(), "the answer is marked stale");
    assert!(is_denied(&cluster.pull(&other, 1).await));

    // A node dies: the watch goes on at another.
    cluster.nodes[0].shutdown.abort();
    let mut elsewhere = cluster.control(2, Role::Controller).await;
    let is_here = |state: &pb::ImageState| matches!(state.phase(), ImagePhase::Complete | ImagePhase::Ready);
    let (anew, _) = watch_until(&mut elsewhere, resume, is_here).await;
    assert!(anew, "another node knows nothing of that place");
    place(&mut elsewhere, "worker-2").await;
    cluster.pull(&other, 2).await.expect("placed by now");

    // The canary is nowhere.
    for node in &cluster.nodes[1..] {
        for path in [
            "/metrics",
            "/status",
            "/images",
            "/explain?image=source.example/team/secret:1",
        ] {
            assert_hidden(path, get(&node.admin, path).await.as_bytes());
        }
    }
    let logged = logs.0.lock().unwrap().clone();
    assert!(logged.len() > 10_000, "everything is logged");
    assert_hidden("the logs", &logged);
    assert!(assert_files_hide(cluster.data.path()) > 20);
}
