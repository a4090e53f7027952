//! Where WebSocket frames end in a stream of bytes. Frames are passed on as they are; this only finds a place at which a close
//! frame of the gateway's own can be put in.

/// `1001 going away`, unmasked, as a server sends it.
pub(crate) const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// The longest head of a frame: two bytes, eight of length, four of mask.
const LONGEST_HEAD: usize = 14;
const CLOSE: u8 = 8;

/// Follows one direction of a WebSocket.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; LONGEST_HEAD],
    head_read: usize,
    payload_left: u64,
    closed: bool,
}

impl Frames {
    /// Whether the last byte seen was the last of a frame.
    pub(crate) fn at_boundary(&self) -> bool {
        self.head_read == 0 && self.payload_left == 0
    }

    /// Whether a close frame went by.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Follows all of `bytes`.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some(end) = self.first_end(bytes) {
            bytes = &bytes[end..];
        }
    }

    /// Follows `bytes` to the end of the first frame that ends in them, and answers how many bytes that took.
    pub(crate) fn first_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.payload_left > 0 {
                let step = self.payload_left.min((bytes.len() - at) as u64);
                self.payload_left -= step;
                at += step as usize;
            } else {
                self.head[self.head_read] = bytes[at];
                self.head_read += 1;
                at += 1;
                if self.head_read < self.head_length() {
                    continue;
                }
                self.closed |= self.head[0] & 0x0f == CLOSE;
                self.payload_left = self.payload_length();
                self.head_read = 0;
            }
            if self.at_boundary() {
                return Some(at);
            }
        }
        None
    }

    /// How long the head is, as far as it has been read.
    fn head_length(&self) -> usize {
        if self.head_read < 2 {
            return 2;
        }
        let mask = if self.head[1] & 0x80 != 0 { 4 } else { 0 };
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        let wide = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        match self.head[1] & 0x7f {
            126 => wide(&self.head[2..4]),
            127 => wide(&self.head[2..10]),
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(length: usize, masked: bool, wide: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match length {
            _ if wide => {
                bytes.push(127 | mask);
                bytes.extend((length as u64).to_be_bytes());
            }
            0..126 => bytes.push(length as u8 | mask),
            _ => {
                bytes.push(126 | mask);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat_n(0xaa, length + if masked { 4 } else { 0 }));
        bytes
    }

    proptest! {
        #[test]
        fn frames_end_where_they_end_however_they_are_cut(
            frames in proptest::collection::vec((0usize..70_000, any::<bool>(), any::<bool>()), 1..6),
            piece in 1usize..5000,
        ) {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for (length, masked, wide) in frames {
                bytes.extend(frame(length.min(65_535), masked, wide));
                ends.push(bytes.len());
            }
            let (mut tracker, mut found, mut offset) = (Frames::default(), Vec::new(), 0);
            for mut chunk in bytes.chunks(piece) {
                while let Some(end) = tracker.first_end(chunk) {
                    offset += end;
                    found.push(offset);
                    chunk = &chunk[end..];
                }
                offset += chunk.len();
            }
            prop_assert_eq!(found, ends);
            prop_assert!(tracker.at_boundary());
        }

        #[test]
        fn any_bytes_are_followed(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            Frames::default().follow(&bytes);
        }
    }

    #[test]
    fn a_close_frame_is_seen() {
        let mut frames = Frames::default();
        frames.follow(&frame(3, false, false));
        assert!(!frames.is_closed());
        frames.follow(&GOING_AWAY);
        assert!(frames.is_closed() && frames.at_boundary());
    }
}
