//! `kuik status` as people read it.

use std::fmt;
use std::time::Duration;

use proto::report::{NodeStatus, Role};

use super::{ClusterStatus, FillStatus, MemberState, MemberStatus};
use crate::text::{Table, age, short_digest, size};

impl fmt::Display for ClusterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "not known".to_owned();
        let cluster = self.cluster_id.clone().unwrap_or_else(unknown);
        let leader = self.leader.map_or_else(unknown, |id| self.name_of(id));
        let quorum = if self.quorum {
            ""
        } else {
            "; no quorum: cached images are served, nothing new is recorded"
        };
        writeln!(f, "cluster {cluster}, leader {leader}{quorum}")?;
        let desired = self.desired_images;
        writeln!(f, "copies  {}, {desired} images desired", self.copies_text())?;
        let mut nodes = Table::new([
            "NODE",
            "PID",
            "RAFT ID",
            "STATE",
            "ROLE",
            "LAG",
            "BLOBS",
            "SIZE",
            "COPIES",
            "DISK FREE",
            "",
        ]);
        self.nodes.iter().for_each(|node| node.add_to(&mut nodes));
        write!(f, "\n{nodes}")?;
        if self.fills.is_empty() {
            return Ok(());
        }
        let mut fills = Table::new(["FILL", "REPOSITORY", "NODE", "FROM", "PROGRESS", "SINCE"]);
        self.fills.iter().for_each(|fill| fill.add_to(&mut fills));
        write!(f, "\n{fills}")
    }
}

impl ClusterStatus {
    fn name_of(&self, id: u64) -> String {
        let has_id = |node: &&MemberStatus| node.status.as_ref().is_some_and(|status| status.node_id == Some(id));
        self.nodes
            .iter()
            .find(has_id)
            .map_or_else(|| format!("node id {id}"), |node| node.name.clone())
    }

    fn copies_text(&self) -> String {
        let copies = self.copies;
        let made = copies.expected.saturating_sub(copies.missing);
        let unheard = self.nodes.iter().filter(|node| node.status.is_none()).count();
        let unheard = if unheard == 0 {
            String::new()
        } else {
            format!(" by those that answer, {unheard} not heard")
        };
        format!("{made} of {} made{unheard}", copies.expected)
    }
}

impl MemberStatus {
    fn add_to(&self, table: &mut Table) {
        let state = match self.state {
            MemberState::Ok => "ok",
            MemberState::Degraded => "degraded",
            MemberState::Failing => "failing",
            MemberState::Unreachable => "unreachable",
        };
        let cell = |of: &dyn Fn(&NodeStatus) -> String| self.status.as_ref().map_or_else(|| "-".to_owned(), of);
        let remarks = self.status.as_ref().map(|status| status.degraded.join("; "));
        table.row([
            self.name.clone(),
            self.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            cell(&|status| status.node_id.map_or_else(|| "-".to_owned(), |id| id.to_string())),
            state.to_owned(),
            cell(&|status| role(status.role).to_owned()),
            self.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
            cell(&|status| status.blobs.count.to_string()),
            cell(&|status| size(status.blobs.bytes)),
            cell(&|status| {
                let copies = status.copies;
                format!("{}/{}", copies.expected.saturating_sub(copies.missing), copies.expected)
            }),
            cell(&|status| size(status.disk.free_bytes)),
            remarks.or_else(|| self.error.clone()).unwrap_or_default(),
        ]);
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::None => "none",
    }
}

impl FillStatus {
    fn add_to(&self, table: &mut Table) {
        let fill = &self.progress;
        let progress = match fill.bytes_total {
            Some(total) => {
                let percent = fill.bytes_done.saturating_mul(100).checked_div(total).unwrap_or(100);
                format!("{} of {} ({percent} %)", size(fill.bytes_done), size(total))
            }
            None => size(fill.bytes_done),
        };
        table.row([
            short_digest(&fill.digest).to_owned(),
            fill.repository.clone(),
            self.node.clone(),
            fill.source.clone(),
            progress,
            age(Duration::from_millis(fill.started_ms_ago)),
        ]);
    }
}
