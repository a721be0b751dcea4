//! `kuik up`: a cluster of cache nodes and a proxy on this machine, each a process of its own.
//!
//! In order: take the directory, check everything a person may have got wrong, choose addresses, write the
//! children's files, start them, wait until pulls work, say so, and stop them in order at the end.

use std::path::Path;
use std::time::Duration;

use daemon::runtime::Failure;
use daemon::shutdown::{Cause, Ended, Phase, Shutdown};

use crate::args::{NODES_DEFAULT, Output, UpArguments};
use crate::banner;
use crate::certificates::{Authority, CertificateError};
use crate::children::{NodeOptions, TlsSection, cache_node_config, proxy_config};
use crate::cluster::{Cluster, ClusterError, NodeAddresses};
use crate::console::{self, Console};
use crate::data_dir::{DataDir, DataDirError, remove_if_there, write_secret};
use crate::demo::{Demo, DemoError};
use crate::formation::{self, Children, Formed};
use crate::ports::{self, PortError};
use crate::programs::{ProgramError, Programs};
use crate::ready_file::Ready;
use crate::settings::{Settings, SettingsError};
use crate::supervisor::{self, ChildProgram, Restart, Supervised};

/// Two phases of children, each with the grace children have, and a moment for the rest.
const STOP_GRACE: Duration = Duration::from_secs(60);
/// Copies of each blob where nothing is said: any two nodes may be lost.
const COPIES_DEFAULT: u8 = 3;
/// Children of a run that was killed end by themselves, after they finished what they were sending.
const ORPHANS_TIMEOUT: Duration = Duration::from_secs(10);
const ORPHANS_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What a person, or this machine, got wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error("--copies {copies} needs as many nodes, and there are {nodes}")]
    Copies { copies: u8, nodes: u8 },
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Programs(#[from] ProgramError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Ports(#[from] PortError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    #[error("write configuration of {name}")]
    Configuration { name: String, source: toml::ser::Error },
}

/// Everything that was checked and chosen before the first process starts.
struct Prepared {
    data: DataDir,
    programs: Programs,
    cluster: Cluster,
    demo: Option<Demo>,
}

/// Runs the cluster until a signal ends it.
pub(crate) async fn run(arguments: UpArguments) -> Result<Ended, Failure> {
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().map_err(Failure::failed)?;
    let data = DataDir::find(arguments.data.clone()).map_err(Failure::bad_start)?;
    let _lock = data.open().map_err(Failure::bad_start)?;
    let prepared = prepare(&arguments, data).await.map_err(Failure::bad_start)?;
    let console = Console::new();
    let children = start(&prepared, &arguments, &shutdown, &console);
    let forming = formation::wait(&prepared.cluster, &prepared.data, &children, &console);
    let formed = shutdown.begun_token().run_until_cancelled_owned(forming).await;
    console.settled();
    let served = match formed {
        Some(Ok(formed)) => serve(prepared, &arguments, formed, children, &shutdown, &console).await,
        Some(Err(error)) => Err(Failure::failed(error)),
        // Ended before it had come up.
        None => Ok(()),
    };
    shutdown.begin(Cause::Requested("stopped"));
    console.note("stopping");
    let ended = shutdown.run(STOP_GRACE).await;
    served.map(|()| ended)
}

async fn prepare(arguments: &UpArguments, data: DataDir) -> Result<Prepared, UpError> {
    if let Some(stale) = &arguments.ready_file {
        remove_if_there(stale)?;
    }
    let programs = Programs::find()?;
    let mut settings = Settings::load(arguments.config.as_deref(), &arguments.upstream)?;
    let before = Cluster::load(&data)?;
    if let Some(before) = &before {
        before.check_size(&data, arguments.nodes)?;
        wait_for_orphans(before).await;
    }
    let kept = before.as_ref().and_then(|before| u8::try_from(before.nodes.len()).ok());
    let nodes = arguments.nodes.or(kept).unwrap_or(NODES_DEFAULT);
    let copies = copies(arguments.copies, nodes)?;
    let mut cluster = ports::plan(arguments.listen, nodes.into(), before.as_ref())?;
    let demo = arguments
        .demo
        .then(|| Demo::plan(&cluster, &mut settings))
        .transpose()?;
    if cluster.nodes.iter().all(|node| !data.node_data(&node.name()).exists()) {
        // Nothing is left of the cluster that was here, so a new one may be founded.
        cluster.cluster_id = None;
    }
    cluster.save(&data)?;
    let options = NodeOptions {
        copies,
        settings: &settings,
    };
    write_configurations(&cluster, &data, &options)?;
    Ok(Prepared {
        data,
        programs,
        cluster,
        demo,
    })
}

fn copies(asked: Option<u8>, nodes: u8) -> Result<u8, UpError> {
    match asked {
        Some(copies) if copies > nodes => Err(UpError::Copies { copies, nodes }),
        Some(copies) => Ok(copies),
        None => Ok(COPIES_DEFAULT.min(nodes)),
    }
}

async fn wait_for_orphans(before: &Cluster) {
    let gone = async {
        while ports::held_by_our_own(before) {
            tokio::time::sleep(ORPHANS_POLL_INTERVAL).await;
        }
    };
    // If they do not end, the addresses they hold are reported or replaced like anyone's.
    let _elapsed = tokio::time::timeout(ORPHANS_TIMEOUT, gone).await;
}

fn write_configurations(cluster: &Cluster, data: &DataDir, options: &NodeOptions<'_>) -> Result<(), UpError> {
    let tls_dir = data.tls_dir();
    let authority = Authority::open(&tls_dir)?;
    for node in &cluster.nodes {
        let tls = authority.issue(&node.name())?;
        write_node_configuration(cluster, node, data, options, tls)?;
    }
    let proxy = proxy_config(cluster, options.settings, authority.issue(PROXY_NAME)?);
    write_configuration(data, PROXY_NAME, toml::to_string(&proxy))
}

fn write_node_configuration(
    cluster: &Cluster,
    node: &NodeAddresses,
    data: &DataDir,
    options: &NodeOptions<'_>,
    tls: TlsSection,
) -> Result<(), UpError> {
    let config = cache_node_config(cluster, node, data, options, tls);
    write_configuration(data, &node.name(), toml::to_string(&config))
}

/// Configurations may name credentials, so they are for the owner only.
fn write_configuration(data: &DataDir, name: &str, text: Result<String, toml::ser::Error>) -> Result<(), UpError> {
    let text = text.map_err(|source| UpError::Configuration {
        name: name.to_owned(),
        source,
    })?;
    Ok(write_secret(&data.config_file(name), &text)?)
}

const PROXY_NAME: &str = "proxy";

/// Starts all processes: they stop in the opposite order of who needs whom, the proxy first.
fn start(prepared: &Prepared, arguments: &UpArguments, shutdown: &Shutdown, console: &Console) -> Children {
    let restart = if arguments.no_restart {
        Restart::Never
    } else {
        Restart::Always
    };
    let program = |name: &str, path: &Path| ChildProgram {
        name: name.to_owned(),
        path: path.to_owned(),
        arguments: vec![
            "--config".into(),
            prepared.data.config_file(name).into(),
            "--exit-with-stdin".into(),
        ],
        log: prepared.data.log_file(name),
    };
    let node = |node: &NodeAddresses| {
        let program = program(&node.name(), &prepared.programs.cache_node);
        supervisor::start(program, restart, shutdown.tasks(Phase::Work), console)
    };
    let nodes = prepared.cluster.nodes.iter().map(node).collect();
    let proxy = program(PROXY_NAME, &prepared.programs.proxy);
    let proxy = supervisor::start(proxy, restart, shutdown.tasks(Phase::Serve), console);
    Children { nodes, proxy }
}

/// Says that pulls work, and keeps the ready file true until the end.
async fn serve(
    mut prepared: Prepared,
    arguments: &UpArguments,
    formed: Formed,
    children: Children,
    shutdown: &Shutdown,
    console: &Console,
) -> Result<(), Failure> {
    prepared.cluster.cluster_id = Some(formed.members.cluster_id.clone());
    prepared.cluster.save(&prepared.data).map_err(Failure::failed)?;
    let demo = match &prepared.demo {
        Some(demo) => Some(
            demo.run(&prepared.programs, &prepared.data, shutdown, console)
                .await
                .map_err(Failure::failed)?,
        ),
        None => None,
    };
    let mut ready = Ready::new(&prepared.cluster, &prepared.data, &formed.members);
    update_pids(&mut ready, &children);
    let file = arguments.ready_file.as_deref();
    write_ready(&ready, file)?;
    for missing in &formed.missing {
        console.note(&format!("pulls work, but not all of the cluster does: {missing}"));
    }
    let text = match arguments.output {
        Output::Json => format!("{}\n", ready.to_json()),
        Output::Text => banner::text(&ready, &prepared.data, demo.as_ref(), &called_as()),
    };
    console::print(&text).map_err(Failure::failed)?;
    let stopping = shutdown.begun_token();
    let kept = stopping
        .run_until_cancelled(keep_ready_file(ready, file, children))
        .await;
    if let Some(file) = file {
        // Pulls are about to stop working.
        remove_if_there(file).map_err(Failure::failed)?;
    }
    kept.unwrap_or(Ok(()))
}

/// How this program was called: what a person types to call it again.
fn called_as() -> String {
    std::env::args().next().unwrap_or_else(|| "kuik".to_owned())
}

/// Rewrites the ready file whenever a process id changes. Runs until it is dropped, or the file cannot be written.
async fn keep_ready_file(mut ready: Ready, file: Option<&Path>, mut children: Children) -> Result<(), Failure> {
    loop {
        children.changed().await;
        let before = ready.clone();
        update_pids(&mut ready, &children);
        if ready != before {
            write_ready(&ready, file)?;
        }
    }
}

/// A process that is gone keeps its id until another takes its place.
fn update_pids(ready: &mut Ready, children: &Children) {
    ready.proxy.pid = children.proxy.pid().or(ready.proxy.pid);
    for (node, child) in ready.nodes.iter_mut().zip(&children.nodes) {
        node.pid = child.pid().or(node.pid);
    }
}

fn write_ready(ready: &Ready, file: Option<&Path>) -> Result<(), Failure> {
    file.map_or(Ok(()), |file| ready.write(file)).map_err(Failure::failed)
}

impl Children {
    /// Waits until any child's state changes. Cancel safe.
    async fn changed(&mut self) {
        let children = self.nodes.iter_mut().chain([&mut self.proxy]);
        let changes = children.map(|child| Box::pin(Supervised::changed(child)));
        futures::future::select_all(changes).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_fit_the_nodes() {
        assert_eq!(copies(None, 3).unwrap(), 3);
        assert_eq!(copies(None, 1).unwrap(), 1);
        assert_eq!(copies(None, 5).unwrap(), 3);
        assert_eq!(copies(Some(2), 3).unwrap(), 2);
        let error = copies(Some(4), 3).unwrap_err();
        assert_eq!(error.to_string(), "--copies 4 needs as many nodes, and there are 3");
    }
}
