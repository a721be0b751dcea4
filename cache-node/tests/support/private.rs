//! A tier with certificates that enforces access, and what the webhook, the controller and proxies ask of it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
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
use proto::access::{NODE_HEADER, Role};
use proto::v1 as pb;
use proto::v1::control_client::ControlClient;
use proto::v1::{Admission, GrantOutcome};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use testkit::{Auth, FakeRegistry, Image, image};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use upstream::{NodeCall, NodeClient, NodeTransport, NodeUrl, UpstreamError};

use super::SOON;

pub const USER: &str = "robot";
pub const PASSWORD: &str = "c4n4ry-Pa55word-0123456789";
pub const REPOSITORY: &str = "source.example/team/secret";

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Writes the files of a part into `dir`.
    pub fn issue(&self, dir: &Path, role: Role) -> TlsFiles {
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

pub struct Node {
    pub registry: String,
    pub grpc: String,
    pub admin: String,
    pub shutdown: Shutdown,
}

pub struct Cluster {
    pub authority: Authority,
    pub nodes: Vec<Node>,
    pub data: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let nodes: Vec<&Shutdown> = self.nodes.iter().map(|node| &node.shutdown).collect();
        super::end(&nodes);
    }
}

impl Cluster {
    pub async fn start(source: &FakeRegistry) -> Self {
        Self::of(3, source).await
    }

    pub async fn of(n_nodes: usize, source: &FakeRegistry) -> Self {
        let (authority, data) = (Authority::new(), tempfile::tempdir().unwrap());
        let keys = data.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        std::fs::write(keys.join("k1"), STANDARD.encode([7; 32])).unwrap();
        std::fs::write(keys.join("active"), "k1").unwrap();
        let held: Vec<TcpListener> = (0..3 * n_nodes)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let address = |n: usize| held[n].local_addr().unwrap().to_string();
        let addresses: Vec<[String; 3]> = (0..n_nodes)
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

    pub fn dir(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    pub async fn control(&self, node: usize, role: Role) -> ControlClient<Channel> {
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
    pub fn proxy(&self, worker: &str) -> NodeClient {
        self.client(Role::Proxy, Some(worker))
    }

    pub fn client(&self, role: Role, worker: Option<&str>) -> NodeClient {
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

    pub fn url(&self, node: usize) -> NodeUrl {
        format!("https://{}", self.nodes[node].registry).parse().unwrap()
    }

    /// Asks a node for the tag as a proxy does; says whether the answer was stale.
    pub async fn pull(&self, client: &NodeClient, node: usize) -> Result<bool, UpstreamError> {
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

/// A registry that wants the login for everything.
pub async fn private_source() -> FakeRegistry {
    let auth = Auth::Token {
        account: Some((USER.into(), PASSWORD.into())),
        lifetime: Duration::from_secs(300),
    };
    let source = FakeRegistry::builder().auth(auth).start().await.unwrap();
    source.push(&secret_image());
    source
}

pub fn secret_image() -> Image {
    image("team/secret")
        .tag("1")
        .platform("linux/amd64")
        .random_layer(400_000, 5)
        .index()
        .build()
}

pub async fn admit(control: &mut ControlClient<Channel>, namespace: &str) -> Result<Admission, tonic::Status> {
    let request = pb::AdmitRequest {
        namespace: namespace.into(),
        references: vec![format!("{REPOSITORY}:1")],
    };
    let reply = control.admit(request).await?.into_inner();
    Ok(reply.admissions[0].try_into().unwrap())
}

pub async fn grant(control: &mut ControlClient<Channel>) -> Result<GrantOutcome, tonic::Status> {
    Ok(grant_with(control, "team", PASSWORD).await?.outcome())
}

pub async fn grant_with(
    control: &mut ControlClient<Channel>,
    namespace: &str,
    password: &str,
) -> Result<pb::GrantReply, tonic::Status> {
    let request = pb::GrantRequest {
        namespace: namespace.into(),
        reference: format!("{REPOSITORY}:1"),
        credentials: vec![pb::Credential {
            username: USER.into(),
            password: password.into(),
            origin: format!("{namespace}/pull-secret"),
        }],
    };
    Ok(control.grant(request).await?.into_inner())
}

/// Says that there is a controller.
pub async fn live(control: &mut ControlClient<Channel>) {
    control.place(pb::PlaceRequest::default()).await.unwrap();
}

pub async fn place(control: &mut ControlClient<Channel>, worker: &str) {
    let request = pb::PlaceRequest {
        placements: vec![pb::Placement {
            node: worker.into(),
            repositories: vec![REPOSITORY.into()],
        }],
        replace: true,
        add: false,
    };
    control.place(request).await.unwrap();
}

pub async fn desire(control: &mut ControlClient<Channel>) {
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
pub async fn watch_until(
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

pub fn is_denied(answer: &Result<bool, UpstreamError>) -> bool {
    matches!(answer, Err(UpstreamError::Denied { status: 403, .. }))
}
