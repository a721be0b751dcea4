//! Who listens on a TCP port, as far as Linux lets us see: a courtesy for error messages, never a decision.

use std::fmt;
use std::fs;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const STATE_LISTEN: &str = "0A";
/// Names of our programs, which fit into the 15 bytes that Linux keeps.
const OUR_NAMES: [&str; 2] = ["kuik-cache-node", "kuik-proxy"];

/// The process that holds a port; prints as ` by nginx (process 42)`, or as nothing if it cannot be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortOwner(Option<(String, u32)>);

impl PortOwner {
    /// Looks the owner of `port` up. Sockets of other users are not visible without privileges.
    pub(crate) fn of(port: u16) -> Self {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        let inodes = tables.iter().flat_map(|table| listening_inodes(table, port));
        let sockets: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
        Self(find_process(&sockets))
    }

    /// Whether it looks like a child of `kuik up`.
    pub(crate) fn is_ours(&self) -> bool {
        self.our_pid().is_some()
    }

    /// The process id, if it looks like a child of `kuik up`.
    pub(crate) fn our_pid(&self) -> Option<u32> {
        let ours = self
            .0
            .as_ref()
            .filter(|(name, _pid)| OUR_NAMES.contains(&name.as_str()));
        ours.map(|(_name, pid)| *pid)
    }
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((name, pid)) => write!(f, " by {name} (process {pid})"),
            None => Ok(()),
        }
    }
}

fn listening_inodes(table: &str, port: u16) -> Vec<&str> {
    let port = format!(":{port:04X}");
    let rows = table
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|row| {
        let local = row.get(1).is_some_and(|local| local.ends_with(&port));
        local && row.get(3) == Some(&STATE_LISTEN)
    });
    listening.filter_map(|row| row.get(9).copied()).collect()
}

fn find_process(sockets: &[String]) -> Option<(String, u32)> {
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut owners = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        holds_one(&entry.path(), sockets).then_some((entry.path(), pid))
    });
    let (path, pid) = owners.next()?;
    let name = fs::read_to_string(path.join("comm")).ok()?;
    Some((name.trim().to_owned(), pid))
}

fn holds_one(process: &Path, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    let mut targets = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| {
        target
            .to_str()
            .is_some_and(|target| sockets.iter().any(|socket| socket == target))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn listener_of_this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = PortOwner::of(listener.local_addr().unwrap().port());
        assert!(
            owner
                .to_string()
                .ends_with(&format!("(process {})", std::process::id()))
        );
    }

    #[test]
    fn unknown_owner_prints_as_nothing() {
        assert_eq!(PortOwner(None).to_string(), "");
        assert!(!PortOwner(None).is_ours());
    }

    #[test]
    fn our_own_programs_are_told_from_others() {
        let owner = |name: &str| PortOwner(Some((name.to_owned(), 42)));
        assert!(owner("kuik-cache-node").is_ours());
        assert_eq!(owner("kuik-cache-node").our_pid(), Some(42));
        assert!(!owner("nginx").is_ours());
        assert_eq!(owner("nginx").our_pid(), None);
        assert_eq!(owner("nginx").to_string(), " by nginx (process 42)");
    }
}
