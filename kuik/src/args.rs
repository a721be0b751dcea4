//! The arguments of the `kuik` program.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::settings::UpstreamRule;

/// Where container runtimes look for the proxy, as in kube-image-keeper v1.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:7439";
/// The fewest nodes that survive the loss of one.
pub(crate) const NODES_DEFAULT: u8 = 3;
/// More nodes than this on one machine only compete for it.
const NODES_MAX: i64 = 9;

/// A container image cache that keeps serving when registries, nodes or disks are gone.
#[derive(Debug, Parser)]
#[command(name = "kuik", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a cluster of cache nodes and a proxy on this machine
    Up(UpArguments),
    /// Show members, leader, lag, copies and fills in flight of a running cluster
    Status(AskArguments),
    /// List the images a running cluster knows
    Images(AskArguments),
    /// Tell what the living nodes hold of an image, where each blob came from, and why
    Explain(ExplainArguments),
    /// Serve the sample images of `kuik up --demo`
    #[command(hide = true)]
    DemoSource(DemoSourceArguments),
}

#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    /// Cache nodes to run [default: 3, or what the data directory was made with]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=NODES_MAX))]
    pub(crate) nodes: Option<u8>,
    /// Directory that keeps the cluster between runs [default: kuik in the XDG data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Loopback address of the proxy; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN_DEFAULT, value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Copies of each blob [default: 3, or the number of nodes if that is less]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=NODES_MAX))]
    pub(crate) copies: Option<u8>,
    /// Fetch what is asked of HOST from URL (repeatable), also where URL is on this machine
    #[arg(long, value_name = "HOST=URL")]
    pub(crate) upstream: Vec<UpstreamRule>,
    /// TOML file with the sections upstream, freshness and fill
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write process ids and addresses here, as JSON, once pulls work
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Add a small source registry with two sample images
    #[arg(long)]
    pub(crate) demo: bool,
    /// Leave a process that ends as it is instead of starting it again
    #[arg(long)]
    pub(crate) no_restart: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// What the commands that ask a running cluster have in common.
#[derive(Debug, Args)]
pub(crate) struct AskArguments {
    /// Data directory of the cluster [default: kuik in the XDG data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// Image as a pod would name it, or as it is pulled through the proxy
    #[arg(value_parser = image)]
    pub(crate) image: oci::ImageReference,
    /// Platform asked about, such as linux/arm64, or `all` [default: this machine's]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) ask: AskArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DemoSourceArguments {
    /// Loopback address to serve on
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// End when standard input ends
    #[arg(long)]
    pub(crate) exit_with_stdin: bool,
}

/// Parses an address with a port. `localhost` is the one of IPv4, as in the default.
fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric
        .parse()
        .map_err(|_| format!("not an address and a port, such as {LISTEN_DEFAULT}"))
}

/// Parses an image; clap prints an error without its causes, so they are put into it.
fn image(text: &str) -> Result<oci::ImageReference, String> {
    text.parse()
        .map_err(|error: oci::ReferenceError| daemon::runtime::one_line(&error))
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables for people
    #[default]
    Text,
    /// JSON for programs
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn error_of(arguments: &[&str]) -> String {
        let parsed = Arguments::try_parse_from([&["kuik"], arguments].concat());
        parsed.unwrap_err().to_string()
    }

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn localhost_is_an_address() {
        assert_eq!(address("localhost:7440"), Ok("127.0.0.1:7440".parse().unwrap()));
        assert_eq!(address("[::1]:7440"), Ok("[::1]:7440".parse().unwrap()));
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert!(error_of(&["up", "--nodes", "0"]).contains("0 is not in 1..=9"));
        assert!(error_of(&["up", "--upstream", "quay.io"]).contains("HOST=URL"));
        assert!(error_of(&["up", "--listen", "7439"]).contains("such as 127.0.0.1:7439"));
        assert!(error_of(&["up", "--listen", "localhost:port"]).contains("such as 127.0.0.1:7439"));
        assert!(error_of(&["up", "--replicas", "3"]).contains("--replicas"));
        assert!(error_of(&["explain", "No Image"]).contains("<IMAGE>"));
        assert!(error_of(&["explain", "NGINX"]).contains("lower-case"));
        assert!(error_of(&["status", "--output", "yaml"]).contains("possible values: text, json"));
    }

    #[test]
    fn upstream_can_be_repeated() {
        let up = [
            "kuik",
            "up",
            "--upstream",
            "a.example=http://127.0.0.1:1",
            "--upstream",
            "b.example=https://b",
        ];
        let Command::Up(up) = Arguments::try_parse_from(up).unwrap().command else {
            panic!("not up")
        };
        assert_eq!(up.upstream.len(), 2);
        assert_eq!(up.listen, LISTEN_DEFAULT.parse().unwrap());
    }
}
