//! What a log entry holds: a command with who asked and when.

use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::command::{Command, NewerCommand};
use crate::feature_level::FeatureLevel;
use crate::id::RequestId;

/// First byte of every envelope; another one is another format.
const FORMAT_VERSION: u8 = 1;

/// A command on its way through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who asked; a retry has the same id.
    pub request: RequestId,
    /// The leader's time, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// What to do.
    pub command: Command,
}

#[derive(Encode, Decode)]
struct Wire {
    #[n(0)]
    request: RequestId,
    #[n(1)]
    now_ms: u64,
    #[n(2)]
    feature_level: FeatureLevel,
    #[cbor(n(3), with = "minicbor::bytes")]
    command: Vec<u8>,
}

impl Envelope {
    /// Its bytes in the log.
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            request: self.request,
            now_ms: self.now_ms,
            feature_level: self.command.feature_level(),
            command: self.command.encode(),
        };
        [&[FORMAT_VERSION], codec::to_vec(&wire).as_slice()].concat()
    }

    /// Reads what [`Envelope::encode`] wrote. A command of a feature level above this binary's becomes
    /// [`Command::Newer`], so that a replica too old to read it still rejects it as the others do.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else. A replica that meets one in its log must stop.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let body = match bytes.split_first() {
            Some((&FORMAT_VERSION, body)) => body,
            _ => return Err(DecodeError::new("envelope", "unknown format version")),
        };
        let wire: Wire = codec::from_slice("envelope", body)?;
        Ok(Self {
            request: wire.request,
            now_ms: wire.now_ms,
            command: command_of(wire.feature_level, wire.command)?,
        })
    }
}

fn command_of(feature_level: FeatureLevel, bytes: Vec<u8>) -> Result<Command, DecodeError> {
    if feature_level > FeatureLevel::SUPPORTED {
        return Ok(Command::Newer(NewerCommand { feature_level, bytes }));
    }
    let command = Command::decode(&bytes)?;
    if command.feature_level() != feature_level {
        return Err(DecodeError::new("envelope", "feature level is not that of its command"));
    }
    Ok(command)
}
