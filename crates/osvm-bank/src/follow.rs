//! What a standby does with its leader's messages: first all that there is, into a ledger made anew, then entry after entry.

use std::sync::atomic::Ordering;

use osvm_model::handover::Role;

use crate::{
    entry::parse_frame,
    history::Location,
    message::Message,
    open::{delete, start_at},
    segments::Log,
    snapshot::{self, Head},
    state::State,
    writer::Writer,
};

/// A ledger that is on its way.
pub(crate) struct Receiving {
    head: Head,
    file: snapshot::Writer,
    count: u64,
}

impl Writer {
    /// Does what a leader says. An error ends the stream.
    pub(crate) fn follow(&mut self, message: Message) -> Result<(), String> {
        if self.role == Role::Leader {
            return Err("the other end leads too".into());
        }
        match message {
            Message::Hello { head, .. } => self.begin_receiving(*head),
            Message::History(frames) => self.receive_history(&frames),
            Message::Accounts(bytes) => self.receive_accounts(&bytes),
            Message::SnapshotEnd(count) => self.end_receiving(count),
            Message::Entries(frames) => self.receive_entries(&frames),
            Message::Token(seq) => self.take_token(seq),
            Message::Ack(_) | Message::TokenAck(_) => Ok(()),
        }
    }

    fn begin_receiving(&mut self, head: Head) -> Result<(), String> {
        self.shared.in_sync.store(false, Ordering::SeqCst);
        let mut state = State::empty(self.config.finality_slots);
        state.info = Some(std::sync::Arc::new(head.info.clone()));
        *self.shared.state.write() = state;
        self.log = None;
        self.engine.forget();
        let begin = || {
            delete(&self.dir)?;
            head.info.write_files(&self.dir)?;
            snapshot::Writer::begin(&self.dir, &head)
        };
        let file = begin().map_err(|err| err.to_string())?;
        self.receiving = Some(Receiving { head, file, count: 0 });
        Ok(())
    }

    /// Entries up to the snapshot's: they go to the log and to the history, not to the accounts.
    fn receive_history(&mut self, frames: &[u8]) -> Result<(), String> {
        let receiving = self.receiving.as_ref().ok_or("history came without a hello")?;
        let (genesis, last) = (receiving.head.info.genesis_hash, receiving.head.seq);
        if self.log.is_none() {
            let first = parse_frame(frames).map_err(|err| err.to_string())?.seq;
            let created = Log::create(&self.dir, genesis, first, self.config.tuning.clone());
            let (log, files) = created.map_err(|err| err.to_string())?;
            self.log = Some(log);
            let mut state = self.shared.state.write();
            state.files = files;
            state.seq = first.saturating_sub(1);
        }
        let count = count_frames(frames, self.shared.state.read().seq, last)?;
        let (segment, base) = self.append(frames, count).ok_or("the disk is full")?;
        let mut at = 0;
        while at < frames.len() {
            let frame = parse_frame(&frames[at..]).map_err(|err| err.to_string())?;
            let entry = frame.entry_without_writes().map_err(|err| err.to_string())?;
            if let (Some(log), Some(slot)) = (&mut self.log, frame.block_slot()) {
                log.sealed(slot);
            }
            let place = Location { segment, offset: (base + at as u64) as u32 };
            self.shared.state.write().note(frame.seq, place, entry);
            at += frame.size;
        }
        Ok(())
    }

    fn receive_accounts(&mut self, bytes: &[u8]) -> Result<(), String> {
        let receiving = self.receiving.as_mut().ok_or("accounts came without a hello")?;
        let accounts = snapshot::decode_accounts(bytes).map_err(|err| err.to_string())?;
        receiving.count += accounts.len() as u64;
        receiving.file.accounts(&accounts).map_err(|err| err.to_string())?;
        let mut state = self.shared.state.write();
        for (address, account) in accounts {
            state.store.put(address, account);
        }
        Ok(())
    }

    fn end_receiving(&mut self, count: u64) -> Result<(), String> {
        let Receiving { head, file, count: received } = self.receiving.take().ok_or("an end came without a hello")?;
        let seq = head.seq;
        if received != count {
            return Err("accounts are missing".into());
        }
        if self.shared.state.read().seq != seq || self.log.is_none() {
            return Err("history is missing".into());
        }
        file.finish().map_err(|err| err.to_string())?;
        self.work_since_snapshot = 0;
        start_at(&mut self.shared.state.write(), head);
        self.shared.in_sync.store(true, Ordering::SeqCst);
        self.acknowledge(seq)
    }

    fn receive_entries(&mut self, frames: &[u8]) -> Result<(), String> {
        let seq = self.shared.state.read().seq;
        if !self.shared.state.read().complete {
            return Err("entries came before the state".into());
        }
        // All is decoded before anything is kept: a batch is taken whole or not at all.
        let count = count_frames(frames, seq, u64::MAX)?;
        let mut entries = Vec::new();
        let mut at = 0;
        while at < frames.len() {
            let frame = parse_frame(&frames[at..]).map_err(|err| err.to_string())?;
            entries.push((at, frame.seq, frame.block_slot(), frame.entry().map_err(|err| err.to_string())?));
            at += frame.size;
        }
        let (segment, base) = self.append(frames, count).ok_or("the disk is full")?;
        let mut sealed = false;
        {
            let mut state = self.shared.state.write();
            // Under the lock: a reader pins under it too.
            let pinned = self.shared.pinned();
            for (at, seq, slot, entry) in entries {
                let place = Location { segment, offset: (base + at as u64) as u32 };
                if let Err(err) = state.apply(seq, place, entry, pinned) {
                    // What is here no longer follows from the log: it cannot lead.
                    state.complete = false;
                    return Err(format!("entry {seq} cannot be applied: {err}"));
                }
                if let (Some(log), Some(slot)) = (&mut self.log, slot) {
                    log.sealed(slot);
                    sealed = true;
                }
            }
        }
        if let Some(log) = self.log.as_ref().filter(|_| sealed) {
            self.syncer.sync(log.file());
            self.maybe_snapshot();
        }
        self.acknowledge(seq + count)
    }

    fn acknowledge(&self, seq: u64) -> Result<(), String> {
        let sent = self.peer.as_ref().is_some_and(|peer| peer.send(&Message::Ack(seq)));
        if sent { Ok(()) } else { Err("the leader does not read".into()) }
    }
}

/// How many frames there are; they must be whole, follow `seq` and not go beyond `last`.
fn count_frames(frames: &[u8], seq: u64, last: u64) -> Result<u64, String> {
    let (mut at, mut count) = (0, 0);
    while at < frames.len() {
        let frame = parse_frame(&frames[at..]).map_err(|err| err.to_string())?;
        if frame.seq != seq + count + 1 || frame.seq > last {
            return Err("an entry is out of order".into());
        }
        count += 1;
        at += frame.size;
    }
    Ok(count)
}
