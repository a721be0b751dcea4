//! A real API server on this machine, shared by the tests of one program.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Mutex, MutexGuard};

const TOKEN: &str = "admin-token";
const START_DEADLINE: Duration = Duration::from_secs(30);

/// One story at a time: objects are the whole cluster's.
static SERVER: LazyLock<Mutex<Option<ApiServer>>> = LazyLock::new(|| Mutex::new(None));

/// etcd and kube-apiserver. They end with this process, as their shell waits for the other end of a pipe.
pub(crate) struct ApiServer {
    _processes: Child,
    folder: tempfile::TempDir,
    port: u16,
}

/// A turn at the server, with a client for it. Nothing where there is no server to start: said aloud, so that a run without
/// one is not taken for a run of these tests.
pub(crate) async fn turn() -> Option<(MutexGuard<'static, Option<ApiServer>>, Client)> {
    let mut server = SERVER.lock().await;
    if server.is_none() {
        let Some((etcd, api)) = binaries() else {
            eprintln!("SKIPPED: no etcd or kube-apiserver; hack/cluster builds them (see docs/development.md)");
            return None;
        };
        *server = Some(ApiServer::start(&etcd, &api));
    }
    let client = server.as_ref().expect("it was just started").client().await;
    Some((server, client))
}

fn binaries() -> Option<(PathBuf, PathBuf)> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let api = home.join(".cache/kuik-cluster/tools/kube-apiserver");
    let built = std::fs::read_dir(home.join(".cache/kuik"))
        .ok()
        .into_iter()
        .flatten()
        .flatten();
    let built = built.map(|entry| entry.path().join("etcd")).find(|path| path.is_file());
    let etcd = built.or_else(|| Some(PathBuf::from("/usr/bin/etcd")).filter(|path| path.is_file()))?;
    api.is_file().then_some((etcd, api))
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl ApiServer {
    fn start(etcd: &std::path::Path, api: &std::path::Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("tokens.csv"), format!("{TOKEN},admin,1,system:masters")).unwrap();

        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(path("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(path("sa.pub"), key.public_key_pem()).unwrap();
        let (clients, peers, port) = (free_port(), free_port(), free_port());
        let etcd = format!(
            "{} --data-dir {} --log-level error --listen-client-urls http://127.0.0.1:{clients} \
             --advertise-client-urls http://127.0.0.1:{clients} --listen-peer-urls http://127.0.0.1:{peers} \
             --initial-advertise-peer-urls http://127.0.0.1:{peers} --initial-cluster default=http://127.0.0.1:{peers}",
            etcd.display(),
            path("etcd"),
        );
        let api = format!(
            "{} --etcd-servers=http://127.0.0.1:{clients} --cert-dir={} --secure-port={port} --bind-address=127.0.0.1 \
             --advertise-address=127.0.0.1 --token-auth-file={} --authorization-mode=RBAC \
             --service-account-issuer=https://kubernetes.default.svc --service-account-key-file={} \
             --service-account-signing-key-file={} --service-cluster-ip-range=10.96.0.0/16 \
             --disable-admission-plugins=ServiceAccount",
            api.display(),
            path("certs"),
            path("tokens.csv"),
            path("sa.pub"),
            path("sa.key"),
        );
        let script = format!("{etcd} & a=$!; {api} & b=$!; read -r end; kill -9 $a $b");
        let log = std::fs::File::create(path("log")).unwrap();
        let processes = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            _processes: processes,
            folder,
            port,
        }
    }

    async fn client(&self) -> Client {
        self.connect(None).await
    }

    /// A client that the server takes for someone else.
    pub(super) async fn client_of(&self, user: &str) -> Client {
        self.connect(Some(user)).await
    }

    async fn connect(&self, user: Option<&str>) -> Client {
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: c}}}}], \
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: '{}'}}}}], \
             users: [{{name: c, user: {{token: {TOKEN}}}}}]}}",
            self.port,
            self.folder.path().join("certs/apiserver.crt").display(),
        );
        let deadline = tokio::time::Instant::now() + START_DEADLINE;
        loop {
            let config = Kubeconfig::from_yaml(&kubeconfig).unwrap();
            // The certificate is there only once the server has started.
            let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
            let config = config.ok().map(|mut config| {
                let user = user.map(|user| user.try_into().expect("a name"));
                config
                    .headers
                    .extend(user.map(|user| (http::HeaderName::from_static("impersonate-user"), user)));
                config
            });
            if let Some(client) = config.and_then(|config| Client::try_from(config).ok()) {
                let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
                if client.request_text(ready).await.is_ok() {
                    return client;
                }
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the API server did not start: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
