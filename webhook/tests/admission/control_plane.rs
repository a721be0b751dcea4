//! etcd and kube-apiserver as processes of this test, on free ports, in a directory that goes with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kube::Client;
use rcgen::KeyPair;
use tempfile::TempDir;
use testkit::eventually;

const TOKEN: &str = "test";

pub struct ControlPlane {
    pub client: Client,
    programs: Programs,
    ports: Ports,
    etcd: Child,
    apiserver: Child,
    dir: TempDir,
}

#[derive(Clone, Copy)]
struct Ports {
    etcd: u16,
    peers: u16,
    apiserver: u16,
}

struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
}

impl ControlPlane {
    /// One that answers; none where there are no programs.
    pub async fn start() -> Option<Self> {
        let Some(programs) = Programs::find() else {
            eprintln!("skipped: no kube-apiserver; `tools/setup cluster` builds one");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let [etcd, peers, apiserver] = [(); 3].map(|()| free_port());
        let ports = Ports { etcd, peers, apiserver };
        let etcd = programs.start_etcd(dir.path(), ports);
        let apiserver = programs.start_apiserver(dir.path(), ports);
        let address = format!("https://127.0.0.1:{}", ports.apiserver);
        let mut config = kube::Config::new(address.parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(TOKEN.to_owned().into());
        let control_plane = Self {
            client: Client::try_from(config).unwrap(),
            programs,
            ports,
            etcd,
            apiserver,
            dir,
        };
        control_plane.ready().await;
        Some(control_plane)
    }

    /// Ends the API server without a word.
    pub fn kill_apiserver(&mut self) {
        self.apiserver.kill().unwrap();
        self.apiserver.wait().unwrap();
    }

    /// Starts it again.
    pub async fn restart_apiserver(&mut self) {
        self.apiserver = self.programs.start_apiserver(self.dir.path(), self.ports);
        self.ready().await;
    }

    async fn ready(&self) {
        eventually(Duration::from_secs(60), "an API server", async || {
            let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
            self.client.request_text(ready).await.ok()
        })
        .await;
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in [&mut self.apiserver, &mut self.etcd] {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

impl Programs {
    fn find() -> Option<Self> {
        let cache = std::env::var_os("KUIK_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/kuik")))?;
        let mut dirs: Vec<_> = std::fs::read_dir(cache).ok()?.filter_map(Result::ok).collect();
        dirs.sort_by_key(std::fs::DirEntry::file_name);
        let newest = |program: &str| {
            let paths = dirs.iter().rev().map(|dir| dir.path().join(program));
            paths.into_iter().find(|path| path.is_file())
        };
        Some(Self {
            etcd: newest("etcd")?,
            apiserver: newest("kube-apiserver")?,
        })
    }

    fn start_etcd(&self, dir: &Path, ports: Ports) -> Child {
        let mut command = Command::new(&self.etcd);
        let (clients, peers) = (
            format!("http://127.0.0.1:{}", ports.etcd),
            format!("http://127.0.0.1:{}", ports.peers),
        );
        command.arg("--data-dir").arg(dir.join("etcd")).arg("--unsafe-no-fsync");
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        spawn(command)
    }

    fn start_apiserver(&self, dir: &Path, ports: Ports) -> Child {
        let file = |name: &str| dir.join(name);
        let (key, public_key, tokens) = (file("accounts.key"), file("accounts.pub"), file("tokens.csv"));
        let pair = KeyPair::generate().unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        std::fs::write(&public_key, pair.public_key_pem()).unwrap();
        std::fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n")).unwrap();
        let mut command = Command::new(&self.apiserver);
        command.arg(format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd));
        command
            .arg(format!("--secure-port={}", ports.apiserver))
            .arg("--bind-address=127.0.0.1");
        command.arg(format!("--cert-dir={}", dir.join("certificates").display()));
        command.arg(format!("--token-auth-file={}", tokens.display()));
        command.arg(format!("--service-account-key-file={}", public_key.display()));
        command.arg(format!("--service-account-signing-key-file={}", key.display()));
        command.args([
            "--service-account-issuer=https://test",
            "--service-cluster-ip-range=10.96.0.0/16",
        ]);
        command.args([
            "--disable-admission-plugins=ServiceAccount",
            "--feature-gates=ImageVolume=true",
        ]);
        spawn(command)
    }
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
