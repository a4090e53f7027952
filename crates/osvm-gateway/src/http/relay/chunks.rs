//! The chunked coding, read strictly: what two parsers could read in two ways is an error.
//!
//! Chunk extensions and trailers are passed over, up to a limit. Lines end with CR LF.

/// Bytes of extensions and trailers of one body, all together.
const SKIPPED_MAX: usize = 16 << 10;
/// Digits of a chunk's size: more would not fit into 64 bits with room to spare.
const SIZE_DIGITS: u8 = 15;

/// A chunked body that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunked coding is broken")]
pub(super) struct BadChunk;

/// Where in a chunked body the reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    state: State,
    skipped: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        digits: u8,
        value: u64,
    },
    Extension {
        value: u64,
    },
    SizeEnd {
        value: u64,
    },
    Data(u64),
    DataCr,
    DataLf,
    /// At the first byte of a line of the trailer.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// So many bytes of framing,
    pub(super) framing: usize,
    /// then so many of the body. If none, the body has ended or more input is needed.
    pub(super) data: usize,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { state: State::Size { digits: 0, value: 0 }, skipped: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads up to the end of the next run of data.
    pub(super) fn next(&mut self, input: &[u8]) -> Result<Piece, BadChunk> {
        let mut at = 0;
        loop {
            if let State::Data(left) = self.state {
                let data = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                let left = left - data as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                return Ok(Piece { framing: at, data });
            }
            match input.get(at) {
                Some(&byte) if self.state != State::Done => self.step(byte)?,
                _ => return Ok(Piece { framing: at, data: 0 }),
            }
            at += 1;
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.state = match (self.state, byte) {
            (State::Size { digits, value }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS => {
                State::Size { digits: digits + 1, value: value << 4 | u64::from(hex(byte)) }
            }
            (State::Size { digits: 1.., value } | State::Extension { value }, b'\r') => State::SizeEnd { value },
            (State::Size { digits: 1.., value }, b';' | b' ' | b'\t') => State::Extension { value },
            (State::Extension { .. } | State::Trailer, _) if is_text(byte) => self.skip(self.state)?,
            (State::SizeEnd { value: 0 }, b'\n') => State::Line,
            (State::SizeEnd { value }, b'\n') => State::Data(value),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0, value: 0 },
            (State::Line, b'\r') => State::EndLf,
            (State::Line, _) if is_text(byte) => self.skip(State::Trailer)?,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Line,
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(BadChunk),
        };
        Ok(())
    }

    fn skip(&mut self, next: State) -> Result<State, BadChunk> {
        self.skipped += 1;
        if self.skipped <= SKIPPED_MAX { Ok(next) } else { Err(BadChunk) }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// What may stand in an extension or a trailer.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body, and how many bytes it took; none if it has not ended.
    fn read(mut input: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, BadChunk> {
        let (mut chunks, mut body, mut taken) = (Chunks::new(), Vec::new(), 0);
        while !chunks.is_done() && !input.is_empty() {
            let window = &input[..step.min(input.len())];
            let piece = chunks.next(window)?;
            let end = piece.framing + piece.data;
            body.extend_from_slice(&window[piece.framing..end]);
            input = &input[end..];
            taken += end;
        }
        Ok(chunks.is_done().then_some((body, taken)))
    }

    #[test]
    fn a_body_ends_where_it_says_and_not_a_byte_later() {
        for (input, body) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("A\r\n0123456789\r\n0001\r\n!\r\n000\r\n\r\n", "0123456789!"),
            ("1;name=\"value\"\r\nx\r\n0;last\r\nTrailer: y\r\nOther:\r\n\r\n", "x"),
            ("1 \r\nx\r\n0\r\n\r\n", "x"),
        ] {
            let more = format!("{input}GET / HTTP/1.1\r\n");
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(read(more.as_bytes(), step), Ok(Some((body.into(), input.len()))), "{input:?} by {step}");
            }
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for input in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\nx",
            "0x1\r\n",
            " 1\r\nx",
            "1\nx\r\n0\r\n\r\n",
            "1\rx",
            "1\r\nxy\r\n0\r\n\r\n",
            "1\r\nx\n0\r\n\r\n",
            "1\r\nx0\r\n\r\n",
            "1\r\nxy\n0\r\n\r\n",
            "1\r\nx\ry0\r\n\r\n",
            ";a\r\n",
            "1;a\nx",
            "1;\x00\r\n",
            "0\n\r\n",
            "0\r\n\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\rC",
            "FFFFFFFFFFFFFFFF\r\n",
            "00000000000000001\r\nx",
            "1_0\r\n",
            "5 5\r\nhello",
        ] {
            let outcome = read(input.as_bytes(), 1000);
            let told = if input == "5 5\r\nhello" { outcome == Ok(None) } else { outcome == Err(BadChunk) };
            assert!(told, "{input:?} was read as {outcome:?}");
        }
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(SKIPPED_MAX + 1));
        assert_eq!(read(long.as_bytes(), 1000), Err(BadChunk));
        let many = format!("0\r\n{}\r\n", "A: b\r\n".repeat(SKIPPED_MAX));
        assert_eq!(read(many.as_bytes(), 1000), Err(BadChunk));
    }

    fn encode(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }

    proptest! {
        #[test]
        fn what_was_coded_is_read_whatever_the_pieces(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..8),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
            step in 1usize..60,
        ) {
            let coded = encode(&pieces);
            let input = [&coded[..], &rest].concat();
            prop_assert_eq!(read(&input, step), Ok(Some((pieces.concat(), coded.len()))));
        }

        #[test]
        fn how_the_bytes_arrive_does_not_change_what_they_say(
            input in "[0-9a-fA-F;\r\n x]{0,40}",
            step in 1usize..8,
        ) {
            prop_assert_eq!(read(input.as_bytes(), step), read(input.as_bytes(), 1000));
        }
    }
}
