//! A body's framing: where it ends on the way in, how its end is told on the way out.

use bytes::{Buf, BytesMut};

use crate::http::relay::chunks::{BadChunk, Chunks};

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// An answer only: the body ends with the connection.
    UntilClose,
}

impl Framing {
    pub(super) const NONE: Self = Self::Length(0);

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// How a body is written on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As it is: its length was told, or the connection's end tells it.
    Plain,
    Chunked,
}

/// A body on its way through.
#[derive(Clone, Debug)]
pub(super) struct Body {
    left: Left,
    /// Bytes of it that came.
    pub(super) length: u64,
}

#[derive(Clone, Debug)]
enum Left {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    Ended,
}

impl Body {
    pub(super) fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunks::new()),
            Framing::UntilClose => Left::UntilClose,
        };
        Self { left, length: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        match &self.left {
            Left::Length(left) => *left == 0,
            Left::Chunked(chunks) => chunks.is_done(),
            Left::UntilClose => false,
            Left::Ended => true,
        }
    }

    /// Moves what there is of the body from `input` to `out`, with the end's mark if this is the end.
    pub(super) fn pass(&mut self, input: &mut BytesMut, out: &mut Vec<u8>, coding: Coding) -> Result<(), BadChunk> {
        if matches!(self.left, Left::Ended) {
            return Ok(());
        }
        loop {
            let (framing, data) = match &mut self.left {
                Left::Length(left) => {
                    let data = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= data as u64;
                    (0, data)
                }
                Left::Chunked(chunks) => {
                    let piece = chunks.next(input)?;
                    (piece.framing, piece.data)
                }
                Left::UntilClose => (0, input.len()),
                Left::Ended => (0, 0),
            };
            if data > 0 {
                let piece = &input[framing..framing + data];
                match coding {
                    Coding::Plain => out.extend_from_slice(piece),
                    Coding::Chunked => write_chunk(out, piece),
                }
            }
            self.length += data as u64;
            input.advance(framing + data);
            if self.is_done() {
                self.end(out, coding);
                return Ok(());
            }
            if data == 0 || input.is_empty() {
                return Ok(());
            }
        }
    }

    /// The connection ended. Answers whether that is an end of the body.
    pub(super) fn close(&mut self, out: &mut Vec<u8>, coding: Coding) -> bool {
        let ends = matches!(self.left, Left::UntilClose);
        if ends {
            self.end(out, coding);
        }
        ends
    }

    fn end(&mut self, out: &mut Vec<u8>, coding: Coding) {
        self.left = Left::Ended;
        if coding == Coding::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// One chunk of `piece`, which is not empty.
pub(super) fn write_chunk(out: &mut Vec<u8>, piece: &[u8]) {
    write_chunk_size(out, piece.len());
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(framing: Framing, coding: Coding, input: &[u8], step: usize) -> (Vec<u8>, BytesMut, Body) {
        let (mut body, mut out, mut held) = (Body::new(framing), Vec::new(), BytesMut::new());
        for piece in input.chunks(step) {
            held.extend_from_slice(piece);
            body.pass(&mut held, &mut out, coding).unwrap();
        }
        (out, held, body)
    }

    proptest! {
        #[test]
        fn a_body_comes_out_as_it_went_in_and_takes_nothing_behind_it(
            data in proptest::collection::vec(any::<u8>(), 1..300),
            rest in proptest::collection::vec(any::<u8>(), 0..30),
            step in 1usize..100,
        ) {
            let input = [&data[..], &rest].concat();
            let length = Framing::Length(data.len() as u64);
            let (plain, behind, body) = through(length, Coding::Plain, &input, step);
            prop_assert!(body.is_done() && body.length == data.len() as u64);
            prop_assert_eq!(&plain, &data);
            prop_assert_eq!(&behind[..], &rest[..]);
            // Into chunks and out of them again.
            let (chunked, _, _) = through(length, Coding::Chunked, &input, step);
            let input = [&chunked[..], &rest].concat();
            let (plain, behind, body) = through(Framing::Chunked, Coding::Plain, &input, step);
            prop_assert!(body.is_done());
            prop_assert_eq!(&plain, &data);
            prop_assert_eq!(&behind[..], &rest[..]);
        }
    }

    #[test]
    fn only_a_body_without_length_ends_with_its_connection() {
        for (framing, ends) in [(Framing::UntilClose, true), (Framing::Chunked, false), (Framing::Length(9), false)] {
            let (mut out, _, mut body) = through(framing, Coding::Chunked, b"1\r\n", 10);
            assert_eq!(body.close(&mut out, Coding::Chunked), ends, "{framing:?}");
            assert_eq!(body.is_done(), ends);
        }
    }

    #[test]
    fn an_empty_body_has_one_end() {
        let (mut out, mut input) = (Vec::new(), BytesMut::new());
        let mut body = Body::new(Framing::NONE);
        body.pass(&mut input, &mut out, Coding::Plain).unwrap();
        assert!(out.is_empty() && body.is_done());
        let mut body = Body::new(Framing::Chunked);
        input.extend_from_slice(b"0\r\n\r\n");
        body.pass(&mut input, &mut out, Coding::Chunked).unwrap();
        body.pass(&mut input, &mut out, Coding::Chunked).unwrap();
        assert_eq!(out, b"0\r\n\r\n");
    }
}
