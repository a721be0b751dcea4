//! `kuik up --demo`: a small source registry with two sample images, for machines without internet.
//!
//! It is a process of its own, so that a person can stop it and see the cluster serve on. It is never started again.

mod executable;
mod image;
mod registry;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::runtime::Failure;
use daemon::shutdown::{Ended, Phase, Shutdown};
use distribution::Server;
use oci::SourceHost;
use tokio::net::{TcpListener, TcpStream};

use crate::args::DemoSourceArguments;
use crate::cluster::Cluster;
use crate::console::Console;
use crate::data_dir::DataDir;
use crate::ports::{self, PortError};
use crate::programs::Programs;
use crate::settings::{Settings, UpstreamRule};
use crate::supervisor::{self, ChildProgram, Restart};
use registry::DemoRegistry;

/// The host part of the sample images' names. It is in no DNS: only the upstream rule makes it mean something.
pub(crate) const HOST: &str = "demo.kuik.local";
/// The sample images, without the host.
pub(crate) const IMAGES: [&str; 2] = ["demo/hello:1", "demo/files:1"];

const NAME: &str = "demo-source";
/// It only has to make two small images.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const START_POLL_INTERVAL: Duration = Duration::from_millis(50);
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error(transparent)]
    Ports(#[from] PortError),
    #[error("the demo's source registry did not start in {START_TIMEOUT:?}; its log is {log}")]
    NotStarted { log: String },
}

/// A demo whose address is chosen, and which the children are configured for.
pub(crate) struct Demo {
    address: SocketAddr,
}

/// A demo that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunningDemo {
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
}

impl Demo {
    /// Chooses an address and adds the rule that makes the demo's host mean it.
    pub(crate) fn plan(cluster: &Cluster, settings: &mut Settings) -> Result<Self, DemoError> {
        let address = ports::choose_beside(cluster)?;
        let host: SourceHost = HOST.parse().expect("a constant that a test parses");
        let url = format!("http://{address}");
        settings.add_rule(&UpstreamRule { host, url });
        Ok(Self { address })
    }

    /// Starts the source and waits until it serves.
    pub(crate) async fn run(
        &self,
        programs: &Programs,
        data: &DataDir,
        shutdown: &Shutdown,
        console: &Console,
    ) -> Result<RunningDemo, DemoError> {
        let program = ChildProgram {
            name: NAME.to_owned(),
            path: programs.kuik.clone(),
            arguments: vec![
                NAME.into(),
                "--listen".into(),
                self.address.to_string().into(),
                "--exit-with-stdin".into(),
            ],
            log: data.log_file(NAME),
        };
        let child = supervisor::start(program, Restart::Never, shutdown.tasks(Phase::Flush), console);
        let serving = async {
            loop {
                if let (Some(pid), Ok(_)) = (child.pid(), TcpStream::connect(self.address).await) {
                    return pid;
                }
                tokio::time::sleep(START_POLL_INTERVAL).await;
            }
        };
        let started = tokio::time::timeout(START_TIMEOUT, serving).await;
        let log = child.log.display().to_string();
        let pid = started.map_err(|_elapsed| DemoError::NotStarted { log })?;
        Ok(RunningDemo {
            pid,
            address: self.address,
        })
    }
}

/// `kuik demo-source`: serves the sample images until it is told to stop.
pub(crate) async fn serve(arguments: DemoSourceArguments) -> Result<Ended, Failure> {
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().map_err(Failure::failed)?;
    if arguments.exit_with_stdin {
        shutdown.begin_when_stdin_ends().map_err(Failure::failed)?;
    }
    let registry = DemoRegistry::new().map_err(Failure::failed)?;
    let listener = TcpListener::bind(arguments.listen).await.map_err(Failure::failed)?;
    let tasks = shutdown.tasks(Phase::Serve);
    tasks.spawn_critical(NAME, Server::new(Arc::new(registry)).run(listener, tasks.stop_token()));
    Ok(shutdown.run(STOP_GRACE).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::cluster_of;

    #[test]
    fn demo_host_means_the_demo_source() {
        let mut settings = Settings::default();
        let demo = Demo::plan(&cluster_of(3), &mut settings).unwrap();
        let url = settings.upstream.hosts[HOST].url.as_deref();
        assert_eq!(url, Some(format!("http://{}", demo.address).as_str()));
    }
}
