//! Preamble and frames: bytes to values and back, with every limit checked before memory is taken.
//!
//! Nothing here knows what a request means.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

use crate::Error;

/// The vsock port of the agent.
pub const PORT: u32 = 1024;
/// The vsock port of the host on which the agent reports that it is ready.
pub const READY_PORT: u32 = 1025;
/// The version of the protocol. Both sides have to have the same.
pub const VERSION: u16 = 1;
/// The most bytes of a frame's content.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// The most bytes of output or of a file that are put into one frame by this side.
pub const CHUNK: usize = 32 << 10;

const MAGIC: [u8; 6] = *b"osvmag";
const HEADER: usize = 5;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Host: one request, JSON.
    Request = 1,
    /// Guest: the answer, JSON.
    Reply = 2,
    /// Guest: why not, JSON. The last frame.
    Failure = 3,
    /// Host: bytes for the program's standard input; none at all ends it.
    Stdin = 16,
    /// Guest: bytes that the program wrote.
    Stdout = 17,
    /// Guest: bytes that the program wrote on its standard error.
    Stderr = 18,
    /// Guest: how the program ended, JSON. The last frame.
    Exit = 19,
    /// Either: bytes of a file; none at all ends it.
    Data = 20,
}

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The host.
    Host,
    /// The agent in the guest.
    Guest,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::{Data, Exit, Failure, Reply, Request, Stderr, Stdin, Stdout};
        [Request, Reply, Failure, Stdin, Stdout, Stderr, Exit, Data].into_iter().find(|kind| *kind as u8 == byte)
    }

    fn may_come_from(self, sender: Sender) -> bool {
        match self {
            Self::Data => true,
            Self::Request | Self::Stdin => sender == Sender::Host,
            Self::Reply | Self::Failure | Self::Stdout | Self::Stderr | Self::Exit => sender == Sender::Guest,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// Its content.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The content as a value.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_slice(&self.payload)?)
    }
}

/// Says which protocol and version this side speaks.
pub fn write_preamble(to: &mut impl Write) -> Result<(), Error> {
    let [low, high] = VERSION.to_le_bytes();
    let [a, b, c, d, e, f] = MAGIC;
    Ok(to.write_all(&[a, b, c, d, e, f, low, high])?)
}

/// Reads what the other side speaks, and refuses all but this side's version.
pub fn read_preamble(from: &mut impl Read) -> Result<(), Error> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes).map_err(early)?;
    let [magic @ .., low, high] = bytes;
    if magic != MAGIC {
        return Err(Error::NotAnAgent(bytes));
    }
    match u16::from_le_bytes([low, high]) {
        VERSION => Ok(()),
        theirs => Err(Error::Version { theirs, ours: VERSION }),
    }
}

/// Writes a frame in one piece, so that two writers behind one lock never mix.
pub fn write_frame(to: &mut impl Write, kind: Kind, payload: &[u8]) -> Result<(), Error> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if payload.len() > MAX_PAYLOAD {
        return Err(Error::TooLong(length));
    }
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(to.write_all(&bytes)?)
}

/// Writes a value as a frame.
pub fn write_json(to: &mut impl Write, kind: Kind, value: &impl Serialize) -> Result<(), Error> {
    write_frame(to, kind, &serde_json::to_vec(value)?)
}

/// The next frame of `sender`; none if the connection ended between two frames.
pub fn read_frame(from: &mut impl Read, sender: Sender) -> Result<Option<Frame>, Error> {
    let mut first = [0];
    loop {
        match from.read(&mut first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let [byte] = first;
    let kind = Kind::from_byte(byte).ok_or(Error::Kind(byte))?;
    if !kind.may_come_from(sender) {
        return Err(Error::OutOfPlace(kind));
    }
    let mut length = [0; HEADER - 1];
    from.read_exact(&mut length).map_err(early)?;
    let length = u32::from_le_bytes(length);
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if size > MAX_PAYLOAD {
        return Err(Error::TooLong(length));
    }
    let mut payload = vec![0; size];
    from.read_exact(&mut payload).map_err(early)?;
    Ok(Some(Frame { kind, payload }))
}

fn early(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { Error::Ended } else { Error::Io(error) }
}
