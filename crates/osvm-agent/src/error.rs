//! Why a conversation with the other side ended early.

use std::io;

use crate::{BadRequest, Failure, wire::Kind};

/// What either side may meet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke, or a file or pipe of this side did.
    #[error("the connection with the agent broke")]
    Io(#[from] io::Error),
    /// The other side does not speak this protocol at all.
    #[error("the other side is no osvm agent: it began with {0:02x?}")]
    NotAnAgent([u8; 8]),
    /// The other side speaks another version.
    #[error("the other side speaks version {theirs} of the agent protocol, this side version {ours}")]
    Version {
        /// The other side's.
        theirs: u16,
        /// This side's.
        ours: u16,
    },
    /// A kind of frame that is none.
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    /// A kind of frame that may not come now, or not from that side.
    #[error("a frame of kind {0:?} is out of place")]
    OutOfPlace(Kind),
    /// A frame that is longer than any may be.
    #[error("a frame of {0} bytes is too long")]
    TooLong(u32),
    /// The connection ended within a frame or before one that was due.
    #[error("the connection ended early")]
    Ended,
    /// The text of a frame is not what its kind says.
    #[error("a frame could not be read")]
    Json(#[from] serde_json::Error),
    /// A request that breaks a rule.
    #[error("the request makes no sense")]
    Request(#[from] BadRequest),
    /// The answer belongs to another request.
    #[error("the agent answered with something else than was asked for")]
    WrongReply,
    /// The guest said no.
    #[error("the agent refused")]
    Refused(#[source] Failure),
    /// A file came with more or fewer bytes than were announced.
    #[error("{got} bytes came where {due} were announced")]
    Size {
        /// Announced.
        due: u64,
        /// Seen.
        got: u64,
    },
}

impl Error {
    /// The other side said nothing for as long as the connection's time limit.
    pub fn is_timeout(&self) -> bool {
        // The kernel's word for that is the one of a socket that does not wait at all.
        matches!(self, Self::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, time::Duration};

    #[test]
    fn silence_is_told_apart_from_a_connection_that_broke() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert!(crate::wire::read_preamble(&mut ours).unwrap_err().is_timeout());
        drop(theirs);
        assert!(!crate::wire::read_preamble(&mut ours).unwrap_err().is_timeout());
    }
}
