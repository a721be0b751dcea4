//! Invariants of nodes, repositories and requests: identities are handed out once.

use std::collections::BTreeSet;

use super::{Violation, ensure};
use crate::apply::REQUESTS_REMEMBERED_MAX;
use crate::family::Family;
use crate::id::{NodeId, RepositoryId, RequestId};
use crate::read::{Read, for_each_entry};
use crate::record::{RequestRecord, request_key, ring_key};
use crate::view;

/// I5: every node has an id below the next one, and every nonce leads to the one node that joined with it.
///
/// # Errors
/// [`Violation`].
pub fn node_ids_are_unique(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "node ids are unique";
    let next = view::cluster(state)?.map_or(NodeId::FIRST, |cluster| cluster.next_node_id);
    let nodes = view::nodes(state)?;
    for (id, node) in &nodes {
        let leads_back = view::node_of_nonce(state, node.nonce)? == Some(*id);
        ensure(*id < next && leads_back, NAME, format_args!("node {id}"))?;
    }
    let nonces = count(state, Family::NodeNonces)?;
    ensure(nonces == nodes.len() as u64, NAME, "a nonce without a node")
}

/// The layout gives no node two slots and names registered ones.
///
/// # Errors
/// [`Violation`].
pub fn layout_names_registered_nodes(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "layout names registered nodes";
    let layout = view::layout(state)?;
    let nodes = layout.nodes();
    ensure(nodes.len() == layout.slots.len(), NAME, "a node has two slots")?;
    for id in nodes {
        let registered = view::node(state, id)?.is_some();
        ensure(registered, NAME, format_args!("node {id}"))?;
    }
    Ok(())
}

/// Every repository has an id below the next one, and its name leads to it.
///
/// # Errors
/// [`Violation`].
pub fn repositories_have_one_id(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "repositories have one id";
    let next = view::cluster(state)?.map_or(RepositoryId::FIRST, |cluster| cluster.next_repository_id);
    let repositories = view::list_repositories(state, None, usize::MAX)?;
    for (id, repository) in &repositories {
        let leads_back = view::repository_id(state, repository)? == Some(*id);
        ensure(*id < next && leads_back, NAME, format_args!("repository {id}"))?;
    }
    let names = count(state, Family::RepositoryNames)?;
    ensure(names == repositories.len() as u64, NAME, "a name without a repository")
}

/// As many requests are remembered as were answered, up to the bound, and each is in the ring once.
///
/// # Errors
/// [`Violation`].
pub fn requests_are_bounded(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "requests are bounded";
    let answered = view::cluster(state)?.map_or(0, |cluster| cluster.requests_remembered);
    let expected = answered.min(REQUESTS_REMEMBERED_MAX);
    ensure(
        count(state, Family::RequestRing)? == expected,
        NAME,
        "length of the ring",
    )?;
    ensure(count(state, Family::Requests)? == expected, NAME, "number of requests")?;
    let mut seen = BTreeSet::new();
    for place in 0..expected {
        let request: Option<RequestId> = crate::record::get(state, &ring_key(place))?;
        let known = match request {
            Some(id) => {
                let record: Option<RequestRecord> = crate::record::get(state, &request_key(id))?;
                record.is_some() && seen.insert(id)
            }
            None => false,
        };
        ensure(known, NAME, format_args!("place {place} of the ring"))?;
    }
    Ok(())
}

fn count(state: &impl Read, family: Family) -> Result<u64, Violation> {
    let mut count = 0;
    for_each_entry(state, family, |_, _| {
        count += 1;
        Ok::<_, Violation>(())
    })?;
    Ok(count)
}
