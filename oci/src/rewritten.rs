//! Image references as pods carry them: rewritten to the proxy on the node, and back.
//!
//! `reg.io:5000/a/b:1` becomes `localhost:7439/reg.io-5000/a/b:1`: the image as it was written, behind the proxy's
//! address, with the `:` before the registry's port as `-`, since a path cannot hold it. kube-image-keeper v1 wrote them
//! so. `team-5000/a`, which is Docker Hub's, becomes `localhost:7439/docker.io/team-5000/a`, since a proxy that knows a
//! registry `team:5000` would take it for that one's. What would still be read as another image is refused.

use crate::name::{RepositoryName, SourceHost};
use crate::reference::{ImageReference, ReferenceError};
use crate::repository::Repository;

/// Longest name with its registry, without tag and digest, that every container runtime in use takes
/// (`distribution/reference` counted the registry in until 2023).
const NAME_BYTES_MAX: usize = 255;

/// The reference under which a runtime asks the proxy on `port` for `image`.
///
/// An image that goes to a proxy already, whatever its port, is sent to `port`. Doing it twice is doing it once.
///
/// # Errors
/// [`ReferenceError`] if `image` is malformed, and [`ReferenceError::NotRewritable`] if there is no path that means it:
/// an IPv6 registry, a registry without dot and port, a name that becomes too long.
pub fn rewrite(image: &str, port: u16) -> Result<String, ReferenceError> {
    let stripped = strip(image);
    let image = stripped.unwrap_or(image);
    let repository = image.parse::<ImageReference>()?.repository;
    let refused = |reason| ReferenceError::NotRewritable {
        text: image.into(),
        reason,
    };
    let name_ends = name_end(image);
    let mut path = path_of(&image[..name_ends], &repository.host);
    if stripped.is_none() && repository.host.is_docker_hub() && originals(&path).len() > 1 {
        path = format!("{}/{path}", repository.host);
    }
    if !means(&path, &repository) {
        return Err(refused("the path would mean another image"));
    }
    let name = format!("localhost:{port}/{path}");
    if name.len() > NAME_BYTES_MAX {
        return Err(refused("the name would be longer than 255 bytes"));
    }
    Ok(name + &image[name_ends..])
}

/// What stands behind `localhost:<port>/`, if that is how `image` begins.
///
/// A registry `host:port` is `host-port` there; [`originals`] says which ones it may mean.
pub fn strip(image: &str) -> Option<&str> {
    split(image).map(|(_port, rest)| rest)
}

/// The port of `localhost:<port>/` and what stands behind it, if that is how `image` begins.
pub fn split(image: &str) -> Option<(u16, &str)> {
    let (port, rest) = image.strip_prefix("localhost:")?.split_once('/')?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits)?;
    Some((port, rest))
}

/// Every image that a stripped one may have been: `reg.io-5000/a` stands for `reg.io:5000/a`, or for itself.
///
/// The likeliest first: few hosts end like that by themselves.
pub fn originals(stripped: &str) -> Vec<String> {
    let with_port = stripped.split_once('/').and_then(|(first, rest)| {
        let (host, port) = first.rsplit_once('-')?;
        let with_port = format!("{host}:{port}");
        with_port.parse::<SourceHost>().ok()?;
        Some(format!("{with_port}/{rest}"))
    });
    with_port.into_iter().chain([stripped.to_owned()]).collect()
}

/// Where the tag or digest of a well-formed reference begins.
fn name_end(image: &str) -> usize {
    let named = image.find('@').unwrap_or(image.len());
    let after_slash = image[..named].rfind('/').map_or(0, |slash| slash + 1);
    image[after_slash..named]
        .find(':')
        .map_or(named, |colon| after_slash + colon)
}

fn path_of(name: &str, host: &SourceHost) -> String {
    match name.split_once('/') {
        // Paths are lower case, and hosts mean the same in either.
        Some((first, rest)) if first.parse::<SourceHost>().is_ok_and(|written| written == *host) => {
            format!("{}/{rest}", first.to_ascii_lowercase().replace(':', "-"))
        }
        _ => name.to_owned(),
    }
}

fn means(path: &str, repository: &Repository) -> bool {
    let Ok(path) = path.parse::<RepositoryName>() else {
        return false;
    };
    let known = |host: &SourceHost| *host == repository.host;
    Repository::from_path(&path, None, known).is_ok_and(|meant| meant == *repository)
}

#[cfg(test)]
mod tests;
