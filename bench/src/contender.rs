//! The servers that are compared, all with the same image.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sandbox::{Cluster, Process, Relay, SourceRegistry, cpu_seconds, free_port, http, resident_bytes, source, wait};
use serde::Serialize;
use tempfile::TempDir;

use crate::cold::{self, Cold};
use crate::image::{self, Image, REPOSITORY};

/// What kuik calls the registry it caches.
const SOURCE_HOST: &str = "bench.test";

const START_DEADLINE: Duration = Duration::from_secs(20);

/// What a contender is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// A cache node by itself.
    Node,
    /// A proxy and the nodes behind it, in the clear as everything else here; it hashes what it passes on.
    Proxy,
    /// The way a container runtime takes: the same over mutual TLS.
    ProxyTls,
    /// Another registry.
    Rival,
    /// A file server: what the machine can do.
    Limit,
}

/// One server under measurement.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// Up to and without the repository's own `/blobs/` and `/manifests/`.
    base: String,
    /// Every process whose work a request is.
    pids: Vec<u32>,
    /// The process a request meets first, whose memory counts.
    front: u32,
}

impl Contender {
    pub(crate) fn blob_url(&self, image: &Image) -> String {
        format!("{}/blobs/{}", self.base, image.layers[0].digest)
    }

    pub(crate) fn manifest_url(&self, image: &Image) -> String {
        format!("{}/manifests/{}", self.base, image.manifest)
    }

    /// Processor time used so far by all its processes.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let mut seconds = 0.0;
        for pid in self.pids.iter().flat_map(|pid| sandbox::with_children(*pid)) {
            seconds += cpu_seconds(pid)?;
        }
        Ok(seconds)
    }

    /// Physical memory held now by the process a request meets first.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.front)
    }
}

/// All contenders, running until this is dropped.
pub(crate) struct Field {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) image: Image,
    /// Where the cold measurements take place, if kuik takes part.
    pub(crate) cold: Option<Cold>,
    _source: SourceRegistry,
    _processes: Vec<Process>,
    _directory: TempDir,
}

impl Field {
    /// Starts every contender.
    pub(crate) fn start(blob_size_bytes: u64, with_kuik: bool) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory")?;
        let source = SourceRegistry::start_empty()?;
        let image = image::push("warm", &[blob_size_bytes], &source.authority())?;
        let mut contenders = Vec::new();
        let kuik = with_kuik.then(|| start_kuik(&source, directory.path(), &mut contenders));
        let kuik = kuik.transpose()?;
        let docker_registry = source.pid().context("docker-registry runs")?;
        contenders.push(rival("docker-registry", &source.url(), docker_registry));
        let mut processes = vec![
            start_distribution(&source, directory.path(), &mut contenders)?,
            start_nginx(&source, &image, directory.path(), &mut contenders)?,
        ];
        let cold = kuik.map(|kuik| {
            processes.push(kuik.plain_proxy);
            kuik.cold
        });
        Ok(Self {
            contenders,
            image,
            cold,
            _source: source,
            _processes: processes,
            _directory: directory,
        })
    }
}

/// Everything of kuik that runs.
struct Kuik {
    cold: Cold,
    plain_proxy: Process,
}

struct PlainProxy {
    process: Process,
    url: String,
}

fn start_kuik(source: &SourceRegistry, directory: &Path, contenders: &mut Vec<Contender>) -> Result<Kuik> {
    let relay = Relay::start(&source.authority())?;
    let images = cold::push(&source.authority())?;
    let upstreams = Cluster::builder()
        .upstream(SOURCE_HOST, &source.url())
        .upstream(cold::HOST, &relay.url());
    let cluster = upstreams.start()?;
    let nodes: Vec<u32> = cluster.nodes().iter().filter_map(|node| node.pid).collect();
    let node = cluster.nodes().first().context("a cluster has nodes")?;
    let node_pid = node.pid.context("a node runs")?;
    let proxy = cluster.proxy();
    let proxy_pid = proxy.pid.context("the proxy runs")?;
    contenders.push(Contender {
        name: "kuik node",
        role: Role::Node,
        base: format!("{}/v2/{SOURCE_HOST}/{REPOSITORY}", node.url),
        pids: nodes.clone(),
        front: node_pid,
    });
    let plain = start_plain_proxy(&cluster, directory)?;
    contenders.push(Contender {
        name: "kuik proxy",
        role: Role::Proxy,
        base: format!("{}/v2/{SOURCE_HOST}/{REPOSITORY}", plain.url),
        pids: nodes.iter().copied().chain([plain.process.pid()]).collect(),
        front: plain.process.pid(),
    });
    contenders.push(Contender {
        name: "kuik proxy, TLS",
        role: Role::ProxyTls,
        base: format!("{}/v2/{SOURCE_HOST}/{REPOSITORY}", proxy.url),
        pids: nodes.into_iter().chain([proxy_pid]).collect(),
        front: proxy_pid,
    });
    let cold = Cold { cluster, relay, images };
    Ok(Kuik {
        cold,
        plain_proxy: plain.process,
    })
}

/// A proxy beside the cluster's own, over the listeners that nodes have for plain clients.
fn start_plain_proxy(cluster: &Cluster, directory: &Path) -> Result<PlainProxy> {
    let authority = format!("127.0.0.1:{}", free_port()?);
    let mut config = format!("listen = [\"{authority}\"]\n");
    for (ordinal, node) in cluster.nodes().iter().enumerate() {
        config += &format!("[[nodes]]\nordinal = {ordinal}\nregistry = \"{}\"\n", node.url);
    }
    let path = directory.join("proxy.toml");
    std::fs::write(&path, config).context("write a configuration")?;
    let mut command = Command::new(sandbox::program("kuik-proxy")?);
    command.arg("--config").arg(&path);
    let process = start(&mut command, &authority, &directory.join("proxy.log"))?;
    Ok(PlainProxy {
        process,
        url: format!("http://{authority}"),
    })
}

fn rival(name: &'static str, url: &str, pid: u32) -> Contender {
    Contender {
        name,
        role: Role::Rival,
        base: format!("{url}/v2/{REPOSITORY}"),
        pids: vec![pid],
        front: pid,
    }
}

fn start_distribution(source: &SourceRegistry, directory: &Path, contenders: &mut Vec<Contender>) -> Result<Process> {
    let authority = format!("127.0.0.1:{}", free_port()?);
    let config = directory.join("distribution.yml");
    std::fs::write(&config, source::configuration(&source.storage(), &authority)).context("write a configuration")?;
    let mut command = Command::new("distribution");
    command.env("OTEL_TRACES_EXPORTER", "none").arg("serve").arg(&config);
    let process = start(&mut command, &authority, &directory.join("distribution.log"))?;
    contenders.push(rival("distribution", &format!("http://{authority}"), process.pid()));
    Ok(process)
}

fn start_nginx(
    source: &SourceRegistry,
    image: &Image,
    directory: &Path,
    contenders: &mut Vec<Contender>,
) -> Result<Process> {
    let root = directory.join("www");
    for (kind, digest) in [("blobs", &image.layers[0].digest), ("manifests", &image.manifest)] {
        let folder = root.join("v2").join(REPOSITORY).join(kind);
        std::fs::create_dir_all(&folder).context("make nginx's files")?;
        symlink(stored(&source.storage(), digest), folder.join(digest.to_string())).context("link nginx's files")?;
    }
    let authority = format!("127.0.0.1:{}", free_port()?);
    let config = directory.join("nginx.conf");
    std::fs::write(&config, nginx_configuration(directory, &root, &authority)).context("write a configuration")?;
    let mut command = Command::new("nginx");
    command
        .arg("-e")
        .arg(directory.join("nginx-error.log"))
        .arg("-c")
        .arg(&config);
    let process = start(&mut command, &authority, &directory.join("nginx.log"))?;
    contenders.push(Contender {
        role: Role::Limit,
        ..rival("nginx", &format!("http://{authority}"), process.pid())
    });
    Ok(process)
}

/// Where docker-registry keeps a blob.
fn stored(storage: &Path, digest: &oci::Digest) -> PathBuf {
    let encoded = digest.encoded();
    storage
        .join("docker/registry/v2/blobs/sha256")
        .join(&encoded[..2])
        .join(encoded)
        .join("data")
}

fn nginx_configuration(directory: &Path, root: &Path, authority: &str) -> String {
    let (directory, root) = (directory.display(), root.display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {directory}/nginx-{kind};\n"))
        .collect();
    format!(
        "user root;\ndaemon off;\npid {directory}/nginx.pid;\nerror_log {directory}/nginx-error.log;\n\
         worker_processes auto;\nevents {{ worker_connections 256; }}\n\
         http {{\naccess_log off;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000000;\n{temporary}\
         server {{ listen {authority}; root {root}; default_type application/octet-stream; }}\n}}\n"
    )
}

fn start(command: &mut Command, authority: &str, log: &Path) -> Result<Process> {
    let mut process = Process::start(command, log)?;
    let url = format!("http://{authority}/");
    wait::until(START_DEADLINE, "a server to answer", || {
        process.check()?;
        Ok(http::get(&url).ok())
    })?;
    Ok(process)
}
