//! Between openraft's types and the protobuf messages of `proto`, for the wire and for the disk.
//!
//! On disk a log entry is `CRC32C (4 bytes, little-endian) | format version (1 byte) | protobuf`; the checksum
//! covers the entry's index, the version and the message, so that an entry under a wrong key is noticed too.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::v1 as pb;

use crate::types::{
    CommittedLeaderId, Entry, LeaderId, LogId, Membership, NodeInfo, Payload, Proposal, StoredMembership, Vote,
};

/// Version of the entry format on disk.
const ENTRY_FORMAT: u8 = 1;
const ENTRY_HEADER_BYTES: usize = 5;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("log entry {index} does not match its checksum")]
    Checksum { index: u64 },
    #[error("log entry {index} has format version {version}, this program reads version {ENTRY_FORMAT}")]
    Version { index: u64, version: u8 },
    #[error("log entry stored at {expected} says it is {found}")]
    Misplaced { expected: u64, found: u64 },
    #[error("decode {what}")]
    Protobuf {
        what: &'static str,
        source: prost::DecodeError,
    },
    #[error("{what} is missing")]
    Missing { what: &'static str },
    #[error("membership is not valid: {reason}")]
    Membership { reason: String },
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

fn checksum(index: u64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&index.to_be_bytes()), body)
}

pub(crate) fn entry_to_disk(entry: &Entry) -> Bytes {
    let message = entry_to_wire(entry);
    let mut buffer = BytesMut::with_capacity(ENTRY_HEADER_BYTES + message.encoded_len());
    buffer.put_u32_le(0);
    buffer.put_u8(ENTRY_FORMAT);
    message.encode(&mut buffer).expect("a BytesMut grows as needed");
    let sum = checksum(entry.log_id.index, &buffer[4..]);
    buffer[..4].copy_from_slice(&sum.to_le_bytes());
    buffer.freeze()
}

pub(crate) fn entry_from_disk(index: u64, mut value: Bytes) -> Result<Entry, CodecError> {
    let Some((sum, body)) = value.split_first_chunk::<4>() else {
        return Err(CodecError::Checksum { index });
    };
    if body.is_empty() || checksum(index, body) != u32::from_le_bytes(*sum) {
        return Err(CodecError::Checksum { index });
    }
    if body[0] != ENTRY_FORMAT {
        return Err(CodecError::Version {
            index,
            version: body[0],
        });
    }
    let message = decode::<pb::Entry>(value.split_off(ENTRY_HEADER_BYTES), "log entry")?;
    let entry = entry_from_wire(message)?;
    if entry.log_id.index != index {
        return Err(CodecError::Misplaced {
            expected: index,
            found: entry.log_id.index,
        });
    }
    Ok(entry)
}

/// Decodes a message, saying `what` it was meant to be when it is not.
pub(crate) fn decode<M: Message + Default>(bytes: Bytes, what: &'static str) -> Result<M, CodecError> {
    M::decode(bytes).map_err(|source| CodecError::Protobuf { what, source })
}

/// Unwraps a field protobuf cannot make mandatory.
pub(crate) fn required<T>(field: Option<T>, what: &'static str) -> Result<T, CodecError> {
    field.ok_or(CodecError::Missing { what })
}

pub(crate) fn entry_to_wire(entry: &Entry) -> pb::Entry {
    let payload = match &entry.payload {
        Payload::Blank => pb::entry::Payload::Blank(pb::Blank {}),
        Payload::Normal(proposal) => pb::entry::Payload::Command(proposal.0.clone()),
        Payload::Membership(membership) => pb::entry::Payload::Membership(membership_to_wire(membership)),
    };
    pb::Entry {
        log_id: Some(log_id_to_wire(&entry.log_id)),
        payload: Some(payload),
    }
}

pub(crate) fn entry_from_wire(entry: pb::Entry) -> Result<Entry, CodecError> {
    let log_id = log_id_from_wire(required(entry.log_id, "log id of an entry")?);
    let payload = match required(entry.payload, "payload of an entry")? {
        pb::entry::Payload::Blank(_) => Payload::Blank,
        pb::entry::Payload::Command(bytes) => Payload::Normal(Proposal(bytes)),
        pb::entry::Payload::Membership(membership) => Payload::Membership(membership_from_wire(membership)?),
    };
    Ok(Entry { log_id, payload })
}

pub(crate) fn log_id_to_wire(log_id: &LogId) -> pb::LogId {
    pb::LogId {
        term: log_id.leader_id.term,
        index: log_id.index,
    }
}

pub(crate) fn log_id_from_wire(log_id: pb::LogId) -> LogId {
    LogId {
        leader_id: CommittedLeaderId { term: log_id.term },
        index: log_id.index,
    }
}

pub(crate) fn vote_to_wire(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_wire(vote: pb::Vote) -> Vote {
    Vote {
        leader_id: LeaderId {
            term: vote.term,
            voted_for: vote.node_id,
        },
        committed: vote.committed,
    }
}

pub(crate) fn node_to_wire(info: &NodeInfo) -> pb::NodeInfo {
    pb::NodeInfo {
        address: info.address.clone(),
        zone: info.zone.clone(),
    }
}

pub(crate) fn node_from_wire(info: pb::NodeInfo) -> NodeInfo {
    NodeInfo {
        address: info.address,
        zone: info.zone,
    }
}

pub(crate) fn membership_to_wire(membership: &Membership) -> pb::Membership {
    pb::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| pb::VoterSet {
                node_ids: voters.iter().copied().collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(&node_id, info)| pb::Member {
                node_id,
                info: Some(node_to_wire(info)),
            })
            .collect(),
    }
}

pub(crate) fn membership_from_wire(membership: pb::Membership) -> Result<Membership, CodecError> {
    let configs: Vec<BTreeSet<u64>> = membership
        .configs
        .into_iter()
        .map(|set| set.node_ids.into_iter().collect())
        .collect();
    let mut nodes = BTreeMap::new();
    for member in membership.members {
        nodes.insert(member.node_id, node_from_wire(member.info.unwrap_or_default()));
    }
    if configs.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|error| CodecError::Membership {
        reason: error.to_string(),
    })
}

pub(crate) fn stored_membership_to_wire(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_wire(stored: pb::StoredMembership) -> Result<StoredMembership, CodecError> {
    let membership = membership_from_wire(stored.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(stored.log_id.map(log_id_from_wire), membership))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command(index: u64, bytes: Vec<u8>) -> Entry {
        Entry {
            log_id: LogId {
                leader_id: CommittedLeaderId { term: 7 },
                index,
            },
            payload: Payload::Normal(Proposal(bytes.into())),
        }
    }

    proptest! {
        #[test]
        fn an_entry_survives_the_disk(index: u64, bytes: Vec<u8>) {
            let entry = command(index, bytes);
            prop_assert_eq!(entry_from_disk(index, entry_to_disk(&entry)).unwrap(), entry);
        }

        #[test]
        fn a_flipped_bit_is_noticed(bytes: Vec<u8>, at: proptest::sample::Index, bit in 0u8..8) {
            let mut value = entry_to_disk(&command(5, bytes)).to_vec();
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            let is_checksum_error = matches!(entry_from_disk(5, value.into()), Err(CodecError::Checksum { index: 5 }));
            prop_assert!(is_checksum_error);
        }
    }

    #[test]
    fn an_entry_under_another_key_is_noticed() {
        let value = entry_to_disk(&command(5, vec![1]));
        assert!(matches!(
            entry_from_disk(6, value),
            Err(CodecError::Checksum { index: 6 })
        ));
    }

    #[test]
    fn a_membership_survives_the_wire() {
        let info = |n: u64| NodeInfo {
            address: format!("node-{n}:5001"),
            zone: "a".into(),
        };
        let nodes: BTreeMap<u64, NodeInfo> = (1..=4).map(|n| (n, info(n))).collect();
        let membership =
            Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2, 3])], nodes).expect("voters are nodes");
        assert_eq!(
            membership_from_wire(membership_to_wire(&membership)).unwrap(),
            membership
        );
    }
}
