//! Nodes and the layout.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::Refusal;
use super::transaction::Transaction;
use crate::command::{BootNode, LAYOUT_SLOTS_MAX, RegisterNode, SetLayout};
use crate::id::NodeId;
use crate::outcome::{Outcome, Rejected};
use crate::read::Read;
use crate::record::{Addresses, LayoutRecord, NodeRecord, nonce_key};
use crate::view;

/// Longest address or zone kept: a DNS name of 253 bytes, a port, and room.
const NAME_BYTES_MAX: usize = 512;

pub(super) fn register<R: Read>(tx: &mut Transaction<R>, command: &RegisterNode) -> Result<Outcome, Refusal> {
    check_addresses(&command.addresses)?;
    check_length("zone", &command.zone)?;
    let level = tx.cluster()?.feature_level;
    if command.feature_level < level {
        return Err(Rejected::NodeTooOld { node: None, level }.into());
    }
    let known = view::node_of_nonce(tx, command.nonce)?;
    let id = match known {
        Some(id) => id,
        None => allocate(tx)?,
    };
    let before = view::node(tx, id)?;
    let node = NodeRecord {
        nonce: command.nonce,
        addresses: command.addresses.clone(),
        zone: command.zone.clone(),
        feature_level: command.feature_level,
        boot_count: before.as_ref().map_or(0, |node| node.boot_count),
        last_log: before.as_ref().and_then(|node| node.last_log),
        abandoned_below: before.as_ref().map_or(0, |node| node.abandoned_below),
    };
    tx.put(&id.to_key(), &node);
    tx.put(&nonce_key(command.nonce), &id);
    Ok(Outcome::NodeRegistered { id })
}

pub(super) fn boot<R: Read>(tx: &mut Transaction<R>, command: &BootNode) -> Result<Outcome, Refusal> {
    let id = command.node;
    let mut node = existing(tx, id)?;
    let level = tx.cluster()?.feature_level;
    if command.feature_level < level {
        return Err(Rejected::NodeTooOld { node: Some(id), level }.into());
    }
    if !is_next_boot(&node, command) {
        return Err(Rejected::NodeWentBackwards {
            node: id,
            boot_count: node.boot_count,
            last_log: node.last_log,
        }
        .into());
    }
    if let Some(addresses) = &command.addresses {
        check_addresses(addresses)?;
        node.addresses = addresses.clone();
    }
    node.boot_count = command.boot_count;
    node.last_log = command.last_log;
    node.feature_level = command.feature_level;
    tx.put(&id.to_key(), &node);
    Ok(Outcome::NodeBooted)
}

/// True for a later boot with no less of a log, and for the recorded boot told again. Two disks that claim the same
/// boot with different logs are a disk and an older copy of it.
fn is_next_boot(node: &NodeRecord, command: &BootNode) -> bool {
    match command.boot_count.cmp(&node.boot_count) {
        Ordering::Less => false,
        Ordering::Equal => command.last_log == node.last_log,
        Ordering::Greater => command.last_log >= node.last_log,
    }
}

pub(super) fn set_layout<R: Read>(tx: &mut Transaction<R>, command: &SetLayout) -> Result<Outcome, Refusal> {
    let version = view::layout(tx)?.version;
    if version != command.expected_version {
        return Err(Rejected::LayoutChanged { version }.into());
    }
    let distinct: BTreeSet<NodeId> = command.slots.values().copied().collect();
    if distinct.len() != command.slots.len() || command.slots.len() > LAYOUT_SLOTS_MAX {
        return Err(Rejected::LayoutInvalid.into());
    }
    for id in distinct {
        existing(tx, id)?;
    }
    let layout = LayoutRecord {
        version: version.saturating_add(1),
        slots: command.slots.clone(),
    };
    tx.put(LayoutRecord::KEY, &layout);
    Ok(Outcome::LayoutSet {
        version: layout.version,
    })
}

/// The record of a node that must be registered.
pub(super) fn existing<R: Read>(tx: &Transaction<R>, node: NodeId) -> Result<NodeRecord, Refusal> {
    Ok(view::node(tx, node)?.ok_or(Rejected::UnknownNode { node })?)
}

fn allocate<R: Read>(tx: &mut Transaction<R>) -> Result<NodeId, Rejected> {
    let cluster = tx.cluster_mut()?;
    let id = cluster.next_node_id;
    cluster.next_node_id = id.next();
    Ok(id)
}

fn check_addresses(addresses: &Addresses) -> Result<(), Rejected> {
    check_length("registry address", &addresses.registry)?;
    check_length("grpc address", &addresses.grpc)?;
    check_length("admin address", &addresses.admin)
}

fn check_length(field: &str, text: &str) -> Result<(), Rejected> {
    if text.len() > NAME_BYTES_MAX {
        return Err(Rejected::FieldTooLong {
            field: field.to_owned(),
        });
    }
    Ok(())
}
