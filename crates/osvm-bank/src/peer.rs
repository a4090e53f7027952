//! The other end of the replication stream, seen from the writer's thread: serving it, handing over to it, taking over from it.
//!
//! Who may write is decided by the token alone. A leader stops to lead before the token leaves, and the other end leads once it has
//! it; if nothing comes back, this end does not lead, for the other may. Only [`Writer::lead`], whose caller knows that the other
//! is gone, makes a leader without a token.

use std::{
    io::{BufReader, Write},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use osvm_model::handover::{HandedOver, Role};

use crate::{
    Error, Link,
    feed::feed,
    message::Message,
    outbox::{Acks, Outbox},
    segments::Cursor,
    writer::{Command, Writer},
};

/// A standby in sync that does not acknowledge a batch for so long counts as lost, and the leader goes on alone (`fence.rs`).
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// The other end.
pub(crate) struct Peer {
    id: u64,
    outbox: Arc<Outbox>,
    acks: Arc<Acks>,
    close: Arc<dyn Fn() + Send + Sync>,
    /// Whether batches go to it as they are made.
    live: bool,
}

/// What the stream's threads tell the writer's.
pub(crate) enum PeerEvent {
    /// A message that is not an acknowledgement.
    Message(u64, Message),
    /// The standby has all but the last few entries, which begin at the cursor.
    CaughtUp(u64, Cursor),
    /// The stream is at its end.
    Lost(u64, Option<String>),
}

impl Peer {
    pub(crate) fn close(&self) {
        self.outbox.close();
        self.acks.lost();
        (self.close)();
    }

    pub(crate) fn send(&self, message: &Message) -> bool {
        self.outbox.push(message.encode(), ACK_TIMEOUT)
    }
}

impl Writer {
    /// Goes on without a standby, which nobody tells to lead any more.
    pub(crate) fn alone(&mut self) -> Result<(), Error> {
        let leads = self.role == Role::Leader;
        if leads {
            self.drop_peer("this node was told to go on alone");
        }
        self.shared.fence.settle();
        if leads { Ok(()) } else { Err(Error::NotLeader) }
    }

    /// Takes a new stream; it replaces the one before.
    pub(crate) fn attach(&mut self, link: Link) {
        self.drop_peer("another stream replaces it");
        self.next_peer += 1;
        let id = self.next_peer;
        let Link { reader, mut writer, close } = link;
        let close: Arc<dyn Fn() + Send + Sync> = close.into();
        let peer = Peer { id, outbox: Arc::default(), acks: Arc::default(), close, live: false };
        let (outbox, acks, queue) = (peer.outbox.clone(), peer.acks.clone(), self.sender.clone());
        let read = move || {
            let mut reader = BufReader::with_capacity(1 << 16, reader);
            let why = loop {
                match Message::read(&mut reader) {
                    // The writer's thread may be waiting for these two: they do not go through its queue.
                    Ok(Some(Message::Ack(seq))) => acks.entry(seq),
                    Ok(Some(Message::TokenAck(seq))) => acks.token(seq),
                    Ok(Some(message)) => {
                        if queue.send(Command::Peer(PeerEvent::Message(id, message))).is_err() {
                            break None;
                        }
                    }
                    Ok(None) => break None,
                    Err(err) => break Some(err.to_string()),
                }
            };
            acks.lost();
            drop(queue.send(Command::Peer(PeerEvent::Lost(id, why))));
        };
        let closer = peer.close.clone();
        let write = move || {
            while let Some(message) = outbox.pop() {
                if writer.write_all(&message).and_then(|()| writer.flush()).is_err() {
                    break;
                }
            }
            outbox.close();
            closer();
        };
        let (shared, outbox, acks, queue) =
            (self.shared.clone(), peer.outbox.clone(), peer.acks.clone(), self.sender.clone());
        let feed = move || {
            let event = match feed(&shared, &outbox, &acks) {
                Ok(cursor) => PeerEvent::CaughtUp(id, cursor),
                Err(err) => PeerEvent::Lost(id, Some(err.to_string())),
            };
            drop(queue.send(Command::Peer(event)));
        };
        let mut spawned = vec![thread::Builder::new().name("bank-peer-read".into()).spawn(read)];
        spawned.push(thread::Builder::new().name("bank-peer-write".into()).spawn(write));
        if self.role == Role::Leader {
            spawned.push(thread::Builder::new().name("bank-peer-feed".into()).spawn(feed));
        }
        self.peer = Some(peer);
        if let Some(err) = spawned.into_iter().find_map(Result::err) {
            self.drop_peer(&format!("no thread for it: {err}"));
        }
    }

    pub(crate) fn drop_peer(&mut self, why: &str) {
        self.receiving = None;
        self.shared.in_sync.store(false, Ordering::SeqCst);
        if let Some(peer) = self.peer.take() {
            if peer.live && self.role == Role::Leader {
                self.shared.fence.raise();
            }
            tracing::info!("the replication stream is closed: {why}");
            peer.close();
        }
    }

    pub(crate) fn peer_event(&mut self, event: PeerEvent) {
        let current = self.peer.as_ref().map(|peer| peer.id);
        match event {
            PeerEvent::Message(id, message) if current == Some(id) => {
                if let Err(why) = self.follow(message) {
                    self.drop_peer(&why);
                }
            }
            PeerEvent::CaughtUp(id, cursor) if current == Some(id) => self.join(cursor),
            PeerEvent::Lost(id, why) if current == Some(id) => {
                self.drop_peer(&why.unwrap_or_else(|| "the other end closed it".into()));
            }
            _ => {}
        }
    }

    /// Sends the last entries and keeps the standby in sync from now on.
    fn join(&mut self, mut cursor: Cursor) {
        if self.role != Role::Leader {
            return;
        }
        let (files, end) = {
            let state = self.shared.state.read();
            (state.files.clone(), state.seq)
        };
        let Some(peer) = &mut self.peer else { return };
        let mut rest = || -> std::io::Result<bool> {
            while let Some(frames) = cursor.read(&files, end)? {
                if !peer.send(&Message::Entries(frames)) {
                    return Ok(false);
                }
            }
            Ok(peer.acks.wait_entry(end, ACK_TIMEOUT))
        };
        match rest() {
            Ok(true) => {
                peer.live = true;
                self.shared.in_sync.store(true, Ordering::SeqCst);
                tracing::info!("a standby is in sync at entry {end}");
            }
            Ok(false) => self.drop_peer("the standby did not keep up"),
            Err(err) => self.drop_peer(&err.to_string()),
        }
    }

    /// Sends frames, the last of which is entry `seq`, to the standby and waits for its acknowledgement.
    pub(crate) fn ship(&mut self, frames: Vec<u8>, seq: u64) {
        let Some(peer) = self.peer.as_ref().filter(|peer| peer.live) else { return };
        if !(peer.send(&Message::Entries(frames)) && peer.acks.wait_entry(seq, ACK_TIMEOUT)) {
            self.drop_peer("the standby did not acknowledge in time, or is gone");
        }
    }

    pub(crate) fn hand_over(&mut self, asked: Instant, waiting: u64, timeout: Duration) -> Result<HandedOver, Error> {
        if self.role != Role::Leader {
            return Err(Error::NotLeader);
        }
        let in_sync = |writer: &Self| writer.peer.as_ref().is_some_and(|peer| peer.live);
        let prepared = if !in_sync(self) {
            Err(Error::NotInSync)
        } else if asked.elapsed() >= timeout {
            Err(Error::Timeout(timeout))
        } else {
            match self.seal() {
                None => {
                    let why = self.shared.disk_error.lock().clone().unwrap_or_default();
                    Err(Error::Io { what: "write", path: self.dir.clone(), source: std::io::Error::other(why) })
                }
                Some(_) if !in_sync(self) => Err(Error::NotInSync),
                Some(slot) => Ok(slot),
            }
        };
        let slot = match prepared {
            Ok(slot) => slot,
            Err(err) => {
                self.unmark();
                self.shared.taking.store(true, Ordering::SeqCst);
                return Err(err);
            }
        };
        let (seq, accounts) = {
            let state = self.shared.state.read();
            (state.seq, state.store.len() as u64)
        };
        // From here on this bank does not lead, whatever comes back.
        self.stop_leading();
        let Some(peer) = &mut self.peer else { return Err(Error::Uncertain) };
        peer.live = false;
        if !(peer.send(&Message::Token(seq)) && peer.acks.wait_token(seq, timeout.saturating_sub(asked.elapsed()))) {
            self.shared.in_sync.store(false, Ordering::SeqCst);
            return Err(Error::Uncertain);
        }
        Ok(HandedOver { slot, accounts, pending: waiting, pause_us: asked.elapsed().as_micros() as u64 })
    }

    /// Leads because the token came.
    pub(crate) fn take_token(&mut self, seq: u64) -> Result<(), String> {
        let state = self.shared.state.read();
        if self.role == Role::Leader || !state.complete || state.seq != seq {
            return Err("the token is for another state".into());
        }
        drop(state);
        if let Some(peer) = &mut self.peer {
            peer.live = true;
            // It has what it sent.
            peer.acks.entry(seq);
            self.shared.in_sync.store(true, Ordering::SeqCst);
        }
        self.begin_leading();
        if let Some(peer) = &self.peer {
            peer.send(&Message::TokenAck(seq));
        }
        Ok(())
    }

    /// Leads without a token.
    pub(crate) fn lead(&mut self) -> Result<(), Error> {
        if self.role == Role::Leader {
            return Ok(());
        }
        if !self.shared.state.read().complete {
            return Err(Error::Incomplete);
        }
        self.drop_peer("this node was told to lead");
        self.begin_leading();
        Ok(())
    }
}
