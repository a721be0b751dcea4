//! Domain failure kinds to gRPC codes, in one place.

use tonic::{Code, Status};

/// Why a request between our own parts failed, in terms of what its caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The message cannot be understood. Sending it again is no use.
    Malformed,
    /// It was meant for another cluster or another node.
    Misrouted,
    /// What it asks for does not exist here.
    NotFound,
    /// This node cannot answer now; another node, or a later try, may.
    Unavailable,
    /// A queue is full. Try again after a pause.
    Overloaded,
    /// The answer did not come in time; whether it took effect is not known.
    TimedOut,
    /// Bytes did not match their digest or checksum.
    Corrupt,
    /// A failure of this node itself.
    Internal,
}

impl Failure {
    /// The gRPC code that stands for this failure on the wire.
    pub fn code(self) -> Code {
        match self {
            Failure::Malformed => Code::InvalidArgument,
            Failure::Misrouted => Code::FailedPrecondition,
            Failure::NotFound => Code::NotFound,
            Failure::Unavailable => Code::Unavailable,
            Failure::Overloaded => Code::ResourceExhausted,
            Failure::TimedOut => Code::DeadlineExceeded,
            Failure::Corrupt => Code::DataLoss,
            Failure::Internal => Code::Internal,
        }
    }

    /// What a received code stands for; codes of other programs count as [`Failure::Internal`].
    pub fn from_code(code: Code) -> Failure {
        match code {
            Code::InvalidArgument => Failure::Malformed,
            Code::FailedPrecondition => Failure::Misrouted,
            Code::NotFound => Failure::NotFound,
            Code::Unavailable => Failure::Unavailable,
            Code::ResourceExhausted => Failure::Overloaded,
            Code::DeadlineExceeded | Code::Cancelled => Failure::TimedOut,
            Code::DataLoss => Failure::Corrupt,
            _ => Failure::Internal,
        }
    }

    /// A status with this failure's code and `message`.
    pub fn status(self, message: impl Into<String>) -> Status {
        Status::new(self.code(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_survives_the_wire() {
        for failure in [
            Failure::Malformed,
            Failure::Misrouted,
            Failure::NotFound,
            Failure::Unavailable,
            Failure::Overloaded,
            Failure::TimedOut,
            Failure::Corrupt,
            Failure::Internal,
        ] {
            assert_eq!(Failure::from_code(failure.code()), failure);
        }
    }
}
