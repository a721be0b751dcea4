//! A whole cluster as `kuik up` starts it: cache nodes and a proxy, each a process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, free_port, is_alive, program, signal, tail_of};
use crate::small_disk::{Kind, SmallDisk};
use crate::{http, wait};

/// Formation is a few elections and RocksDB opens; generous, for debug builds on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(120);

/// A killed process is gone at once; a paused one is killed with the cluster.
const GONE_DEADLINE: Duration = Duration::from_secs(10);

static TURN: Mutex<()> = Mutex::new(());

const READY_FILE: &str = "ready.json";

/// Where a small disk is mounted.
#[derive(Clone, Copy, Debug)]
enum Volume {
    OfNode(usize),
    Shared,
}

/// What `kuik up` is told.
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    nodes: u8,
    copies: Option<u8>,
    restart: bool,
    upstreams: Vec<(String, String)>,
    arguments: Vec<String>,
    settings: Option<String>,
    small_disks: Vec<(Volume, u64, Kind)>,
}

/// One process of the cluster, as the ready file names it.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    /// Its Raft node id.
    pub id: Option<u64>,
    /// Absent while it is being started again.
    pub pid: Option<u32>,
    /// Its plain client listener.
    pub url: String,
    /// Its `/livez`, `/readyz` and `/metrics`.
    pub admin: String,
    pub data: PathBuf,
}

/// The proxy, as the ready file names it.
#[derive(Clone, Debug, Deserialize)]
pub struct ProxyStatus {
    /// Absent while it is being started again.
    pub pid: Option<u32>,
    pub url: String,
    pub admin: String,
}

#[derive(Clone, Debug, Deserialize)]
struct ReadyFile {
    cluster_id: String,
    proxy: ProxyStatus,
    nodes: Vec<NodeStatus>,
}

/// A running cluster. Its data outlives a [`Cluster::restart`] and goes with the value.
#[derive(Debug)]
pub struct Cluster {
    builder: ClusterBuilder,
    listen: String,
    kuik: Process,
    ready: ReadyFile,
    /// Clusters of one test program run one after another: side by side they would measure each other's load.
    _turn: MutexGuard<'static, ()>,
    // Unmounted before the directory below it is removed.
    small_disks: Vec<SmallDisk>,
    directory: TempDir,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            nodes: 3,
            copies: None,
            restart: false,
            upstreams: Vec::new(),
            arguments: Vec::new(),
            settings: None,
            small_disks: Vec::new(),
        }
    }
}

impl ClusterBuilder {
    /// How many cache nodes (3 unless told).
    #[must_use]
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// How many nodes keep each blob.
    #[must_use]
    pub fn copies(mut self, copies: u8) -> Self {
        self.copies = Some(copies);
        self
    }

    /// Whether a node that dies is started again (not unless told).
    #[must_use]
    pub fn restart(mut self, restart: bool) -> Self {
        self.restart = restart;
        self
    }

    /// Where images of `host` come from.
    #[must_use]
    pub fn upstream(mut self, host: &str, url: &str) -> Self {
        self.upstreams.push((host.to_owned(), url.to_owned()));
        self
    }

    /// Another argument of `kuik up`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// What `kuik up --config` reads: TOML.
    #[must_use]
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings = Some(toml.to_owned());
        self
    }

    /// Gives a node a volume of its own of this size. Needs root.
    #[must_use]
    pub fn small_disk(mut self, node: usize, bytes: u64) -> Self {
        self.small_disks.push((Volume::OfNode(node), bytes, Kind::Memory));
        self
    }

    /// Puts all nodes on one volume of this size. Needs root.
    #[must_use]
    pub fn shared_disk(mut self, bytes: u64) -> Self {
        self.small_disks.push((Volume::Shared, bytes, Kind::Memory));
        self
    }

    /// Gives a node, but the first, a volume of its own that can be made to hang. Needs root.
    #[must_use]
    pub fn freezable_disk(mut self, node: usize, bytes: u64) -> Self {
        self.small_disks.push((Volume::OfNode(node), bytes, Kind::Freezable));
        self
    }

    /// Starts the cluster and waits until pulls work.
    ///
    /// # Errors
    /// If it is not ready in time, with the end of its output.
    pub fn start(self) -> Result<Cluster> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().context("make a data directory")?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let small_disks = self.mount_small_disks(directory.path())?;
        let (kuik, ready) = self.up(directory.path(), &listen)?;
        Ok(Cluster {
            builder: self,
            directory,
            listen,
            kuik,
            ready,
            _turn: turn,
            small_disks,
        })
    }

    fn mount_small_disks(&self, directory: &Path) -> Result<Vec<SmallDisk>> {
        let data = directory.join("data");
        let mount = |(volume, bytes, kind): &(Volume, u64, Kind)| match volume {
            Volume::Shared => SmallDisk::mount(&data, *bytes, *kind),
            Volume::OfNode(node) => SmallDisk::mount(&data.join(format!("node-{node}")), *bytes, *kind),
        };
        self.small_disks.iter().map(mount).collect()
    }

    fn up(&self, directory: &Path, listen: &str) -> Result<(Process, ReadyFile)> {
        let ready_file = directory.join(READY_FILE);
        if ready_file.exists() {
            std::fs::remove_file(&ready_file).context("remove the old ready file")?;
        }
        let mut command = Command::new(program("kuik")?);
        command.args(["up", "--listen", listen, "--nodes", &self.nodes.to_string()]);
        command
            .arg("--data")
            .arg(directory.join("data"))
            .arg("--ready-file")
            .arg(&ready_file);
        if let Some(copies) = self.copies {
            command.args(["--copies", &copies.to_string()]);
        }
        if !self.restart {
            command.arg("--no-restart");
        }
        for (host, url) in &self.upstreams {
            command.arg("--upstream").arg(format!("{host}={url}"));
        }
        if let Some(settings) = &self.settings {
            let file = directory.join("settings.toml");
            std::fs::write(&file, settings).context("write the settings")?;
            command.arg("--config").arg(file);
        }
        command.args(&self.arguments);
        let mut kuik = Process::start(&mut command, &directory.join("kuik.log"))?;
        let ready = wait::until(READY_DEADLINE, "kuik up to be ready", || {
            kuik.check()?;
            read_ready_file(&ready_file)
        });
        match ready {
            Ok(ready) => Ok((kuik, ready)),
            Err(error) => Err(error.context(kuik.log_tail())),
        }
    }
}

impl Cluster {
    /// Starts to describe a cluster.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The proxy's base URL.
    pub fn proxy_url(&self) -> &str {
        &self.ready.proxy.url
    }

    /// What a client puts before `HOST/IMAGE` to pull through the proxy: `127.0.0.1:PORT`.
    pub fn authority(&self) -> &str {
        &self.listen
    }

    /// The cluster's identity, which survives restarts.
    pub fn id(&self) -> &str {
        &self.ready.cluster_id
    }

    /// The proxy's process.
    pub fn proxy(&self) -> &ProxyStatus {
        &self.ready.proxy
    }

    /// The cache nodes, in a fixed order.
    pub fn nodes(&self) -> &[NodeStatus] {
        &self.ready.nodes
    }

    /// Kills a node as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&self, node: usize) -> Result<()> {
        kill(self.pid(node)?)
    }

    /// Kills the proxy as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill_proxy(&self) -> Result<()> {
        kill(self.ready.proxy.pid.context("the proxy runs")?)
    }

    /// Waits until a killed node has been started again and can serve. For clusters that restart what dies.
    ///
    /// # Errors
    /// If it is not back in time.
    pub fn wait_restarted(&mut self, node: usize) -> Result<()> {
        let before = self.ready.nodes[node].pid;
        let path = self.directory.path().join(READY_FILE);
        self.ready = wait::until(READY_DEADLINE, "a node to be started again", || {
            let ready = read_ready_file(&path)?;
            Ok(ready.filter(|ready| {
                ready.nodes[node]
                    .pid
                    .is_some_and(|pid| Some(pid) != before && is_alive(pid))
            }))
        })?;
        self.wait_ready(node)
    }

    fn pid(&self, node: usize) -> Result<u32> {
        self.ready.nodes[node].pid.with_context(|| format!("node {node} runs"))
    }

    /// Stops a node from doing anything, without closing its connections.
    ///
    /// # Errors
    /// If it is not there.
    pub fn pause(&self, node: usize) -> Result<()> {
        signal(self.pid(node)?, Signal::STOP)
    }

    /// Lets a paused node go on.
    ///
    /// # Errors
    /// If it is not there.
    pub fn resume(&self, node: usize) -> Result<()> {
        signal(self.pid(node)?, Signal::CONT)
    }

    /// Makes every write to a node's volume wait, or lets them go on. For nodes with a freezable disk.
    ///
    /// # Errors
    /// If the volume cannot be frozen.
    pub fn freeze_disk(&self, node: usize, frozen: bool) -> Result<()> {
        let data = &self.ready.nodes[node].data;
        let disk = self.small_disks.iter().find(|disk| disk.is_at(data));
        disk.context("the node has a volume of its own")?.freeze(frozen)
    }

    /// Ends what is left of the cluster and starts it again on the same data.
    ///
    /// # Errors
    /// If it is not ready in time.
    pub fn restart(&mut self) -> Result<()> {
        self.kuik.stop()?;
        self.make_sure_all_are_gone()?;
        (self.kuik, self.ready) = self.builder.up(self.directory.path(), &self.listen)?;
        Ok(())
    }

    /// Kills a node as a crash would, and goes on before it is gone.
    ///
    /// # Errors
    /// If it is not there.
    pub fn kill_without_waiting(&self, node: usize) -> Result<()> {
        signal(self.pid(node)?, Signal::KILL)
    }

    /// What a `kuik` command answers in JSON, for example `status`.
    ///
    /// # Errors
    /// If it fails, with what it says.
    pub fn kuik(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(program("kuik")?)
            .args(arguments)
            .args(["--output", "json", "--data"])
            .arg(self.directory.path().join("data"))
            .output()
            .context("start kuik")?;
        if !output.status.success() {
            bail!("kuik {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("parse kuik's answer")
    }

    /// Waits until a node says it can serve.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn wait_ready(&self, node: usize) -> Result<()> {
        let url = format!("{}/readyz", self.ready.nodes[node].admin);
        wait::until(READY_DEADLINE, "a node to be ready", || {
            Ok(http::get(&url).ok().filter(|answer| answer.status == 200).map(|_| ()))
        })
    }

    /// The end of what `kuik up` and each of its children wrote, for a failure's message.
    pub fn log_tail(&self) -> String {
        let mut text = self.kuik.log_tail();
        let entries = std::fs::read_dir(self.directory.path().join("data/log"));
        for path in entries.into_iter().flatten().flatten().map(|entry| entry.path()) {
            text.push_str(&format!("\n--- {}:\n{}", path.display(), tail_of(&path)));
        }
        text
    }

    fn make_sure_all_are_gone(&self) -> Result<()> {
        for pid in self.pids() {
            if is_alive(pid) {
                signal(pid, Signal::KILL)?;
            }
            wait::until(GONE_DEADLINE, "a process of the cluster to be gone", || {
                Ok((!is_alive(pid)).then_some(()))
            })?;
        }
        Ok(())
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        let nodes = self.ready.nodes.iter().map(|node| node.pid);
        nodes.chain([self.ready.proxy.pid]).flatten()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Neither a paused node nor one whose disk hangs could end.
        for disk in &self.small_disks {
            disk.freeze(false).ok();
        }
        for pid in self.pids().filter(|pid| is_alive(*pid)) {
            let _ = signal(pid, Signal::CONT);
        }
        if std::thread::panicking() {
            eprintln!("--- kuik up:\n{}", self.log_tail());
        }
        let _ = self.kuik.stop();
        let _ = self.make_sure_all_are_gone();
    }
}

fn kill(pid: u32) -> Result<()> {
    signal(pid, Signal::KILL)?;
    wait::until(GONE_DEADLINE, "a killed process to be gone", || {
        Ok((!is_alive(pid)).then_some(()))
    })
}

fn read_ready_file(path: &Path) -> Result<Option<ReadyFile>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).context("parse the ready file"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("read the ready file"),
    }
}
