//! Which image is asked about: a person may name it as the source does, or as it is pulled through the proxy.

use oci::{ImageReference, Repository, SourceHost};

use crate::cluster::ProxyAddresses;

/// Names of this machine's loopback addresses, as image references write them.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The image of a source that `image` means: what stands behind the proxy's address, else `image` itself.
pub(super) fn behind_proxy(image: ImageReference, proxy: &ProxyAddresses) -> ImageReference {
    if !is_proxy(&image.repository.host, proxy) {
        return image;
    }
    // Which hosts have a port is known to the nodes; few hosts with a dot end like that by themselves.
    let with_port = |host: &SourceHost| host.host().contains('.') || host.host() == "localhost";
    match Repository::from_path(&image.repository.name, None, with_port) {
        Ok(repository) => ImageReference { repository, ..image },
        Err(_not_a_path) => image,
    }
}

fn is_proxy(host: &SourceHost, proxy: &ProxyAddresses) -> bool {
    let port = |port| proxy.listen.iter().any(|address| address.port() == port);
    LOOPBACK_NAMES.contains(&host.host()) && host.port().is_some_and(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::cluster_of;

    #[test]
    fn image_may_be_named_as_it_is_pulled() {
        let table = [
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("localhost:7439/quay.io/a/b:1", "quay.io/a/b:1"),
            (
                "127.0.0.1:7439/docker.io/library/nginx",
                "docker.io/library/nginx:latest",
            ),
            ("localhost:7439/nginx", "docker.io/library/nginx:latest"),
            ("localhost:7439/reg.io-5000/a:1", "reg.io:5000/a:1"),
            ("localhost:7439/team-5000/a:1", "docker.io/team-5000/a:1"),
            ("localhost:5000/a:1", "localhost:5000/a:1"),
            ("reg.io:7439/a:1", "reg.io:7439/a:1"),
        ];
        for (asked, meant) in table {
            let image = behind_proxy(asked.parse().unwrap(), &cluster_of(3).proxy);
            assert_eq!(image.canonical(), meant, "{asked}");
        }
    }
}
