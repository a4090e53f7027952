//! Connections: bytes between sockets of the host and rings in memory that the guest shares.
//!
//! What the guest writes into a ring's counters is read once a use and checked against the ring's size before it means anything; the
//! monitor's own counters are its own, and only shown to the guest.

use std::{
    io::{self, ErrorKind},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
};

use crate::{
    abi::{CONNS, Conn as Shared, RING, RINGS_AT, host_flags},
    error::Error,
    sys::{self, Region},
};

/// A connection that the guest has been told of.
#[derive(Debug)]
struct Conn {
    stream: UnixStream,
    generation: u32,
    /// Bytes that came in, and bytes that went out, since its start.
    in_head: u32,
    out_tail: u32,
    flags: u32,
    shut: bool,
    /// What epoll was last asked for: reading, writing.
    wants: (bool, bool),
}

/// What a connection waits for on the host's side, if that has changed.
pub(crate) type Wants = Option<(bool, bool)>;

/// Generations begin anew after this one; the bit above marks other events.
const LAST_GENERATION: u32 = i32::MAX as u32;

/// All connections of a VM.
#[derive(Debug)]
pub(crate) struct Conns {
    places: Vec<Option<Conn>>,
    next_generation: u32,
}

macro_rules! field {
    ($place:expr, $field:ident) => {
        u64::from($place) * size_of::<Shared>() as u64 + core::mem::offset_of!(Shared, $field) as u64
    };
}

/// `len` bytes of a ring from a counter on, around its end: offsets and lengths.
fn pieces(ring: u64, from: u32, len: u32) -> [(u64, u64); 2] {
    let start = from % RING;
    let first = len.min(RING - start);
    [(ring + u64::from(start), u64::from(first)), (ring, u64::from(len - first))]
}

fn ring(place: u32, outward: bool) -> u64 {
    RINGS_AT + (u64::from(place) * 2 + u64::from(outward)) * u64::from(RING)
}

/// Bytes that a ring holds, by the two counters.
fn held(head: u32, tail: u32) -> Result<u32, Error> {
    let held = head.wrapping_sub(tail);
    if held > RING { Err(Error::Guest("a ring's counter ran past its end")) } else { Ok(held) }
}

impl Default for Conns {
    fn default() -> Self {
        Self { places: (0..CONNS).map(|_| None).collect(), next_generation: 1 }
    }
}

impl Conns {
    /// The number of the next connection: no clone of a VM may use one that its guest has seen.
    pub(crate) fn next_generation(&self) -> u32 {
        self.next_generation
    }

    /// Goes on with that number.
    pub(crate) fn go_on(&mut self, next_generation: u32) {
        self.next_generation = next_generation.clamp(1, LAST_GENERATION);
    }

    /// The socket of a place.
    pub(crate) fn stream(&self, place: u32) -> Option<&UnixStream> {
        self.places.get(place as usize)?.as_ref().map(|conn| &conn.stream)
    }

    /// Which use of its place a connection is: a late event of an earlier one is told apart by it.
    pub(crate) fn generation(&self, place: u32) -> Option<u32> {
        self.places.get(place as usize)?.as_ref().map(|conn| conn.generation)
    }

    /// Shows the guest a new connection; its place. None: all places are taken.
    pub(crate) fn open(&mut self, rings: &Region, stream: UnixStream, port: u32) -> Option<u32> {
        let place = self.places.iter().position(Option::is_none)? as u32;
        let generation = self.next_generation;
        self.next_generation = if generation == LAST_GENERATION { 1 } else { generation + 1 };
        for (at, value) in [
            (field!(place, port), port),
            (field!(place, in_head), 0),
            (field!(place, out_tail), 0),
            (field!(place, host_flags), 0),
            (field!(place, in_tail), 0),
            (field!(place, out_head), 0),
            (field!(place, shut), 0),
            (field!(place, closed), 0),
        ] {
            rings.write(at, value)?;
        }
        sys::release();
        rings.write(field!(place, generation), generation)?;
        let conn = Conn { stream, generation, in_head: 0, out_tail: 0, flags: 0, shut: false, wants: (true, false) };
        *self.places.get_mut(place as usize)? = Some(conn);
        Some(place)
    }

    /// Moves what can be moved at a place; whether the guest has something new to see, and what to wait for. The place is free after
    /// both sides are done with it.
    /// Without `readable`, the socket is only read if that had to stop for want of room.
    pub(crate) fn turn(&mut self, rings: &Region, place: u32, readable: bool) -> Result<(bool, Wants), Error> {
        let Some(slot) = self.places.get_mut(place as usize) else { return Ok((false, None)) };
        let Some(conn) = slot else { return Ok((false, None)) };
        let (changed, wants, done) = conn.turn(rings, place, readable)?;
        if done {
            rings.write(field!(place, generation), 0u32);
            *slot = None;
            return Ok((true, None));
        }
        let new = (wants != conn.wants).then_some(wants);
        conn.wants = wants;
        Ok((changed, new))
    }

    /// Whether bytes of the guest wait for a peer to read.
    pub(crate) fn is_blocked(&self) -> bool {
        self.places.iter().flatten().any(|conn| conn.wants.1)
    }

    /// The places in use.
    pub(crate) fn places(&self) -> Vec<u32> {
        (0..CONNS).filter(|place| self.places[*place as usize].is_some()).collect()
    }
}

impl Conn {
    fn turn(&mut self, rings: &Region, place: u32, readable: bool) -> Result<(bool, (bool, bool), bool), Error> {
        let word = |at: u64| rings.read::<u32>(at).unwrap_or(0);
        let before = (self.in_head, self.out_tail, self.flags);
        let closed = word(field!(place, closed)) == self.generation;
        let blocked = self.send(rings, place, word(field!(place, out_head)))?;
        let unsent = held(word(field!(place, out_head)), self.out_tail)?;
        if !self.shut && unsent == 0 && (closed || word(field!(place, shut)) == self.generation) {
            self.shut = true;
            // The peer may be gone already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        let room = match closed {
            true => 0,
            false if readable || !self.wants.0 => self.receive(rings, place, word(field!(place, in_tail)))?,
            false => 1,
        };
        let (head, tail, flags) = before;
        let new = self.in_head != head || self.out_tail != tail || self.flags != flags;
        if new {
            sys::release();
            rings.write(field!(place, in_head), self.in_head);
            rings.write(field!(place, out_tail), self.out_tail);
            rings.write(field!(place, host_flags), self.flags);
        }
        let gone = self.flags & host_flags::GONE != 0;
        let reads = room > 0 && self.flags == 0;
        Ok((new, (reads, blocked && !gone), closed && (gone || unsent == 0)))
    }

    /// Writes what the guest put into its ring; whether the socket is full.
    fn send(&mut self, rings: &Region, place: u32, head: u32) -> Result<bool, Error> {
        loop {
            let len = held(head, self.out_tail)?;
            if len == 0 || self.flags & host_flags::GONE != 0 {
                return Ok(false);
            }
            sys::acquire();
            match rings.write_to(self.stream.as_fd(), pieces(ring(place, true), self.out_tail, len)) {
                Ok(put) => self.out_tail = self.out_tail.wrapping_add(put as u32),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.flags |= host_flags::GONE,
            }
        }
    }

    /// Reads what the peer sent into the guest's ring; the room that is left.
    fn receive(&mut self, rings: &Region, place: u32, tail: u32) -> Result<u32, Error> {
        loop {
            let room = RING - held(self.in_head, tail)?;
            if room == 0 || self.flags != 0 {
                return Ok(room);
            }
            match rings.read_from(self.stream.as_fd(), pieces(ring(place, false), self.in_head, room)) {
                Ok(0) => self.flags |= host_flags::EOF,
                Ok(got) => {
                    self.in_head = self.in_head.wrapping_add(got as u32);
                    if (got as u32) < room {
                        return Ok(room - got as u32);
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(room),
                    ErrorKind::Interrupted => {}
                    _ => self.flags |= host_flags::GONE,
                },
            }
        }
    }
}

/// Reads a hybrid vsock request without taking what follows it. None: not all of it is there yet.
pub(crate) fn request(stream: &UnixStream) -> io::Result<Option<u32>> {
    /// `CONNECT 4294967295\n`
    const LONGEST: usize = 19;
    let mut line = [0; LONGEST];
    let got = match sys::peek(stream.as_fd(), &mut line) {
        Ok(got) => got,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    let bad = || io::Error::from(ErrorKind::InvalidData);
    let Some(end) = line[..got].iter().position(|&byte| byte == b'\n') else {
        return if got == 0 || got == LONGEST { Err(bad()) } else { Ok(None) };
    };
    let text = std::str::from_utf8(&line[..end]).map_err(|_| bad())?;
    let port = text.strip_prefix("CONNECT ").and_then(|port| port.parse().ok()).ok_or_else(bad)?;
    // The line is in the socket's buffer, so it comes whole.
    io::Read::read_exact(&mut &*stream, &mut line[..=end])?;
    Ok(Some(port))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use proptest::prelude::*;

    use super::*;
    use crate::abi::RINGS_SPAN;

    fn pair() -> (Conns, Region, u32, UnixStream) {
        let (mut conns, rings) = (Conns::default(), Region::anonymous(RINGS_SPAN).unwrap());
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        let place = conns.open(&rings, ours, 80).unwrap();
        (conns, rings, place, peer)
    }

    #[test]
    fn bytes_pass_in_both_directions_around_the_rings_end() {
        let (mut conns, rings, place, mut peer) = pair();
        let (mut sent, mut got) = (0u32, 0u32);
        let mut buffer = vec![0; RING as usize];
        for round in 0..50u32 {
            let chunk: Vec<u8> = (0..40_000u32).map(|n| (n + round) as u8).collect();
            // What the guest would do: into its outward ring, and its counter after it.
            for (at, len) in pieces(ring(place, true), sent, chunk.len() as u32) {
                let from = if at == ring(place, true) { chunk.len() - len as usize } else { 0 };
                rings.fill(at, &chunk[from..from + len as usize]).unwrap();
            }
            sent += chunk.len() as u32;
            rings.write(field!(place, out_head), sent).unwrap();
            let mut back = Vec::new();
            while back.len() < chunk.len() {
                conns.turn(&rings, place, true).unwrap();
                match peer.read(&mut buffer) {
                    Ok(n) => back.extend_from_slice(&buffer[..n]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            assert!(back == chunk, "round {round}");
            peer.write_all(&chunk[..30_000]).unwrap();
            conns.turn(&rings, place, true).unwrap();
            got += 30_000;
            assert_eq!(rings.read::<u32>(field!(place, in_head)), Some(got));
            rings.write(field!(place, in_tail), got).unwrap();
        }
    }

    #[test]
    fn a_peer_that_sends_too_much_waits_until_there_is_room() {
        let (mut conns, rings, place, mut peer) = pair();
        let mut sent = 0;
        while let Ok(n) = peer.write(&[5; 4096]) {
            sent += n as u32;
            let (_, wants) = conns.turn(&rings, place, true).unwrap();
            if wants == Some((false, false)) {
                break;
            }
        }
        assert!(sent >= RING);
        assert_eq!(rings.read::<u32>(field!(place, in_head)), Some(RING));
        rings.write(field!(place, in_tail), RING / 2).unwrap();
        peer.write_all(&[6; 10]).unwrap();
        let (changed, _) = conns.turn(&rings, place, false).unwrap();
        assert!(changed, "room is used without an event of the socket, as reading had stopped");
    }

    #[test]
    fn a_place_is_free_after_both_sides_are_done() {
        let (mut conns, rings, place, mut peer) = pair();
        rings.fill(ring(place, true), b"last words").unwrap();
        rings.write(field!(place, out_head), 10u32).unwrap();
        rings.write(field!(place, closed), 1u32).unwrap();
        conns.turn(&rings, place, true).unwrap();
        assert!(conns.stream(place).is_none());
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
        assert_eq!(rings.read::<u32>(field!(place, generation)), Some(0));
    }

    #[test]
    fn a_request_is_read_up_to_its_line_and_no_further() {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"CONNECT 80").unwrap();
        assert!(request(&ours).unwrap().is_none());
        peer.write_all(b"99\nGET /").unwrap();
        assert_eq!(request(&ours).unwrap(), Some(8099));
        let mut rest = [0; 5];
        (&ours).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"GET /");
        for bad in
            ["CONNECT \n", "CONNECT -1\n", "CONNECT 4294967296\n", "connect 1\n", "\n", "GET / HTTP/1.1\r\nhost: x\r\n"]
        {
            let (ours, mut peer) = UnixStream::pair().unwrap();
            peer.write_all(bad.as_bytes()).unwrap();
            assert!(request(&ours).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Whatever a guest writes over the counters and flags: a turn either works or says that the guest broke the interface, and the
        /// bytes that the peer gets are at most a ring's.
        #[test]
        fn garbage_in_shared_words_never_harms_the_monitor(
            writes in prop::collection::vec((0u64..16, prop_oneof![any::<u32>(), 0u32..70_000, Just(RING), Just(RING + 1)]), 1..200),
            sends in prop::collection::vec(0usize..5000, 200),
        ) {
            let (mut conns, rings, place, mut peer) = pair();
            let mut buffer = vec![0; 1 << 17];
            for ((word, value), send) in writes.into_iter().zip(sends) {
                rings.write(u64::from(place) * 64 + word * 4, value).unwrap();
                let _ = peer.write(&vec![1; send]);
                if let Err(error) = conns.turn(&rings, place, true) {
                    prop_assert!(matches!(error, Error::Guest(_)));
                    break;
                }
                if let Ok(got) = peer.read(&mut buffer) {
                    prop_assert!(got <= RING as usize);
                }
            }
        }
    }
}
