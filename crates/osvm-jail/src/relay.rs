//! Copies bytes between two connected sockets, both ways at once in one thread, and looks at none of them.
//!
//! Each direction ends by itself: the end of one is passed on as the end of the other's, and the other direction goes on. A direction
//! has one buffer: a reader that does not read stops its writer, and nothing else.

use std::{os::fd::BorrowedFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};

/// Bytes of a direction that are on their way.
const BUFFER: usize = 16 << 10;

/// What the first socket sends to the second.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Bytes that were read of it already, and what goes before them.
    pub(crate) ready: Vec<u8>,
    /// How many more are read of it; none for all. What comes after them is not read, and its end is not passed on.
    pub(crate) left: Option<u64>,
}

struct Direction<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    buffer: Vec<u8>,
    /// Which part of the buffer is still to be sent.
    pending: std::ops::Range<usize>,
    left: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more comes; what is pending has to be sent.
    Ended,
    Over,
}

/// Copies until both directions have ended, or one of the sockets is broken, or both are silent for longer than `idle`.
///
/// Once `end` is let go by whoever holds its other end, nothing more is brought back, and what the first socket has sent still goes there.
pub(crate) fn join(
    first: BorrowedFd<'_>,
    second: BorrowedFd<'_>,
    flow: Flow,
    idle: Option<Duration>,
    mut end: Option<BorrowedFd<'_>>,
) {
    let mut there = Direction::new(first, second, flow);
    let mut back = Direction::new(second, first, Flow::default());
    let idle = idle.and_then(|idle| Timespec::try_from(idle).ok());
    while there.state != State::Over || back.state != State::Over {
        if there.go().is_err() || back.go().is_err() {
            return;
        }
        let waits = [there.waits(), back.waits()];
        let mut files: Vec<_> =
            waits.iter().flatten().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        if files.is_empty() {
            continue;
        }
        // A reader that is gone, while nothing is there for it.
        let readers = [(first, &back), (second, &there)].map(|(fd, to)| (to.state == State::Open).then_some(fd));
        let count = files.len();
        files
            .extend(readers.iter().chain([&end]).flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::empty())));
        match poll(&mut files, idle.as_ref()) {
            Ok(0) => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let mut gone = files[count..].iter().map(|file| !file.revents().is_empty());
        let mut is_gone = |watched: bool| watched && gone.next() == Some(true);
        let [first_gone, second_gone] = readers.map(|reader| is_gone(reader.is_some()));
        let ended = is_gone(end.is_some());
        if second_gone {
            there.state = State::Over;
        }
        if first_gone || ended {
            back.state = State::Over;
        }
        if ended {
            end = None;
        }
    }
}

impl<'a> Direction<'a> {
    fn new(from: BorrowedFd<'a>, to: BorrowedFd<'a>, flow: Flow) -> Self {
        let pending = 0..flow.ready.len();
        let mut buffer = flow.ready;
        buffer.resize(buffer.len().max(BUFFER), 0);
        let mut new = Self { from, to, buffer, pending, left: flow.left, state: State::Open };
        if new.left == Some(0) {
            new.state = State::Ended;
        }
        new
    }

    /// What it waits for.
    fn waits(&self) -> Option<(BorrowedFd<'a>, PollFlags)> {
        match self.state {
            State::Over => None,
            _ if !self.pending.is_empty() => Some((self.to, PollFlags::OUT)),
            State::Open => Some((self.from, PollFlags::IN)),
            State::Ended => None,
        }
    }

    /// One turn, so that neither direction starves the other. An error means that a socket is broken, and with it the connection.
    fn go(&mut self) -> Result<(), Errno> {
        if self.pending.is_empty() && self.state == State::Open {
            let room = self.left.map_or(BUFFER, |left| usize::try_from(left).unwrap_or(BUFFER).min(BUFFER));
            match recv(self.from, &mut self.buffer[..room], RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.state = State::Ended,
                Ok((n, _)) => {
                    self.pending = 0..n;
                    if let Some(left) = &mut self.left {
                        *left -= n as u64;
                        if *left == 0 {
                            self.state = State::Ended;
                        }
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        if !self.pending.is_empty() {
            match send(self.to, &self.buffer[self.pending.clone()], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => self.pending.start += n,
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Its reader is gone. It may still have something to say.
                Err(_) => {
                    self.pending = 0..0;
                    self.state = State::Over;
                }
            }
        }
        if self.pending.is_empty() && self.state == State::Ended {
            // A flow that was cut off at its length has not ended for its reader.
            if self.left.is_none_or(|left| left > 0) {
                let _ = shutdown(self.to, Shutdown::Write);
            }
            self.state = State::Over;
        }
        Ok(())
    }
}
