//! What a person reads when the cluster is up: where it is, and what to try.

use std::fmt::Write;

use crate::data_dir::DataDir;
use crate::demo::{self, RunningDemo};
use crate::ready_file::Ready;

/// What to pull where nobody said.
const IMAGE_EXAMPLE: &str = "docker.io/library/alpine:latest";

/// The banner, with a line feed at the end.
///
/// `program` is how this one was called, so that the commands work where it is not in the path.
pub(crate) fn text(ready: &Ready, data: &DataDir, demo: Option<&RunningDemo>, program: &str) -> String {
    let proxy = ready.proxy.url.trim_start_matches("http://");
    let image = demo.map_or(IMAGE_EXAMPLE.to_owned(), |_| {
        format!("{}/{}", demo::HOST, demo::IMAGES[0])
    });
    let of = format!("--data {}", data.root().display());
    let n_nodes = ready.nodes.len();
    let mut text = format!(
        "\nkuik is up: {n_nodes} cache nodes behind a proxy at {url} (cluster {id})\n\n\
         Pull through it:\n\
         \x20 docker pull {proxy}/{image}\n\
         \x20 podman pull --tls-verify=false {proxy}/{image}\n\
         \x20 skopeo copy --src-tls-verify=false docker://{proxy}/{image} oci:sample\n\
         \x20 crane manifest {proxy}/{image}\n\
         \x20 ctr images pull --plain-http {proxy}/{image}\n",
        url = ready.proxy.url,
        id = ready.cluster_id,
    );
    if let Some(demo) = demo {
        text += &demo_text(ready, demo);
    }
    let _infallible = write!(
        text,
        "\nAsk it:\n  {program} status {of}\n  {program} images {of}\n  {program} explain {of} {image}\n\n\
         Ctrl-C stops it; its data stays in {dir}.\n",
        dir = data.root().display(),
    );
    text
}

fn demo_text(ready: &Ready, demo: &RunningDemo) -> String {
    let (name, tag) = demo::IMAGES[0].split_once(':').unwrap_or((demo::IMAGES[0], "latest"));
    format!(
        "\x20 curl {url}/v2/{host}/{name}/manifests/{tag}\n\n\
         The sample images {images} come from a small registry at http://{address}.\n\
         Stop that registry, and pull again:\n\
         \x20 kill {pid}\n",
        url = ready.proxy.url,
        host = demo::HOST,
        images = demo::IMAGES.join(" and "),
        address = demo.address,
        pid = demo.pid,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::cluster_of;
    use crate::ready_file::Members;

    fn ready_in(data: &DataDir) -> Ready {
        let members = Members {
            cluster_id: "c1".to_owned(),
            node_ids: vec![Some(1), Some(2), Some(3)],
        };
        Ready::new(&cluster_of(3), data, &members)
    }

    #[test]
    fn commands_can_be_copied_as_they_are() {
        let data = DataDir::find(Some("/d".into())).unwrap();
        let text = text(&ready_in(&data), &data, None, "./bin/kuik");
        assert!(
            text.contains("docker pull 127.0.0.1:7439/docker.io/library/alpine:latest\n"),
            "{text}"
        );
        assert!(text.contains("  ./bin/kuik status --data /d\n"), "{text}");
    }

    #[test]
    fn demo_says_how_to_stop_its_source() {
        let data = DataDir::find(Some("/d".into())).unwrap();
        let demo = RunningDemo {
            pid: 42,
            address: "127.0.0.1:5000".parse().unwrap(),
        };
        let text = text(&ready_in(&data), &data, Some(&demo), "kuik");
        assert!(text.contains("/demo.kuik.local/demo/hello:1\n"), "{text}");
        assert!(text.contains("kill 42\n"), "{text}");
    }
}
