//! What goes over a replication stream: `length u32, crc32 u32, kind u8, payload`. The length counts kind and payload, the CRC covers
//! them. Nothing here knows what a message does; [`crate::peer`] and [`crate::follow`] do.

use std::io::{self, Read};

use crate::{
    codec::{Dec, Enc, Malformed},
    entry::MAX_PAYLOAD,
    snapshot::Head,
};

/// Both ends must speak the same. It changes with this format, with that of entries and with that of snapshots.
pub(crate) const VERSION: u32 = 1;
/// No message is longer: the largest batch is one entry of the largest kind after others.
pub(crate) const MAX_MESSAGE: usize = MAX_PAYLOAD + (32 << 20);
/// How much is read at once; memory is taken only for what has come.
const READ_STEP: u64 = 1 << 20;

/// A message.
#[derive(Debug)]
pub(crate) enum Message {
    /// Leader: here is my ledger, at the end of a finalized block.
    Hello { version: u32, head: Box<Head> },
    /// Leader: whole log frames from before the end of that block.
    History(Vec<u8>),
    /// Leader: accounts as they were then.
    Accounts(Vec<u8>),
    /// Leader: these were all; so many.
    SnapshotEnd(u64),
    /// Leader: whole log frames that come next.
    Entries(Vec<u8>),
    /// Leader: you lead after this entry.
    Token(u64),
    /// Standby: I have everything up to this entry.
    Ack(u64),
    /// Standby: I lead from after this entry.
    TokenAck(u64),
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Enc(vec![0; 8]);
        match self {
            Self::Hello { version, head } => {
                e.u8(1);
                e.u32(*version);
                e.raw(&head.encode());
            }
            Self::History(bytes) | Self::Accounts(bytes) | Self::Entries(bytes) => {
                e.0.reserve(bytes.len() + 1);
                e.u8(match self {
                    Self::History(_) => 2,
                    Self::Accounts(_) => 3,
                    _ => 5,
                });
                e.raw(bytes);
            }
            Self::SnapshotEnd(number) | Self::Token(number) | Self::Ack(number) | Self::TokenAck(number) => {
                e.u8(match self {
                    Self::SnapshotEnd(_) => 4,
                    Self::Token(_) => 6,
                    Self::Ack(_) => 7,
                    _ => 8,
                });
                e.u64(*number);
            }
        }
        let mut bytes = e.0;
        let (len, crc) = ((bytes.len() - 8) as u32, crc32fast::hash(&bytes[8..]));
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut d = Dec(body);
        Ok(match d.u8()? {
            1 => {
                let version = d.u32()?;
                if version != VERSION {
                    return Err(Malformed("the other node's replication format is of another version"));
                }
                Self::Hello { version, head: Box::new(Head::decode(d.0)?) }
            }
            2 => Self::History(d.0.to_vec()),
            3 => Self::Accounts(d.0.to_vec()),
            5 => Self::Entries(d.0.to_vec()),
            kind @ (4 | 6 | 7 | 8) => {
                let number = d.u64()?;
                d.end()?;
                match kind {
                    4 => Self::SnapshotEnd(number),
                    6 => Self::Token(number),
                    7 => Self::Ack(number),
                    _ => Self::TokenAck(number),
                }
            }
            _ => return Err(Malformed("an unknown kind of message")),
        })
    }

    /// The next message; None at the end of the stream.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 8];
        let mut have = 0;
        while have < head.len() {
            match stream.read(&mut head[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => have += n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        let mut d = Dec(&head);
        let malformed = |why: Malformed| io::Error::new(io::ErrorKind::InvalidData, why);
        let (len, crc) = (d.u32().map_err(malformed)? as usize, d.u32().map_err(malformed)?);
        if len == 0 || len > MAX_MESSAGE {
            return Err(malformed(Malformed("a message's length is impossible")));
        }
        let mut body = Vec::new();
        while body.len() < len {
            let step = READ_STEP.min((len - body.len()) as u64);
            if stream.take(step).read_to_end(&mut body)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if crc32fast::hash(&body) != crc {
            return Err(malformed(Malformed("a message's checksum is wrong")));
        }
        Self::decode(&body).map(Some).map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut stream = bytes.as_slice();
            while let Ok(Some(_)) = Message::read(&mut stream) {}
        }

        #[test]
        fn a_body_of_garbage_is_an_error_and_never_a_panic(body in proptest::collection::vec(any::<u8>(), 1..200)) {
            drop(Message::decode(&body));
        }

        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), number: u64, cut in 0usize..1000) {
            let all = [
                Message::History(bytes.clone()), Message::Accounts(bytes.clone()), Message::Entries(bytes),
                Message::SnapshotEnd(number), Message::Token(number), Message::Ack(number), Message::TokenAck(number),
            ];
            let wire: Vec<u8> = all.iter().flat_map(Message::encode).collect();
            let mut stream = wire.as_slice();
            for message in &all {
                let read = Message::read(&mut stream).unwrap().unwrap();
                prop_assert_eq!(format!("{read:?}"), format!("{message:?}"));
            }
            prop_assert!(Message::read(&mut stream).unwrap().is_none());
            // A stream that ends inside a message is an error, not an end.
            let mut short = &wire[..wire.len() - 1 - cut % 8];
            while let Ok(Some(_)) = Message::read(&mut short) {}
            prop_assert!(Message::read(&mut &wire[..7]).is_err());
        }

        #[test]
        fn a_length_takes_no_memory_before_its_bytes_come(len in 1u32..=MAX_MESSAGE as u32) {
            let head = [len.to_le_bytes(), [0; 4]].concat();
            prop_assert!(Message::read(&mut head.as_slice()).is_err());
        }
    }
}
