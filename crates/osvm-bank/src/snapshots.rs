//! When snapshots are taken, on a thread of their own, and what may be deleted afterwards.

use std::{path::Path, thread};

use crate::{
    Commitment, Error, MIN_HISTORY_SLOTS,
    shared::{Pin, Shared},
    snapshot::{self, Head},
    store::SHARDS,
    writer::Writer,
};

/// Work after which a new snapshot is worth its cost: replaying so many small entries takes about a second.
const WORK: u64 = 300_000;
/// A clean end writes a snapshot only if a start would replay at least so much.
const WORK_AT_END: u64 = 20_000;

/// Writes the finalized state of the ledger to a file. False: there is one of it already.
fn take(shared: &Shared, dir: &Path) -> Result<bool, Error> {
    let pin: Pin<'_> = shared.pin(Commitment::Finalized);
    let head = {
        let state = shared.state.read();
        let (Some(info), Some(block), Some(seq)) =
            (state.info.as_ref(), state.history.block(pin.slot), state.history.block_seq(pin.slot))
        else {
            return Ok(false);
        };
        Head { info: info.as_ref().clone(), block: block.clone(), seq }
    };
    if snapshot::list(dir)?.contains(&head.seq) {
        return Ok(false);
    }
    let mut writer = snapshot::Writer::begin(dir, &head)?;
    for part in 0..SHARDS {
        let accounts = shared.state.read().store.shard_at(part, pin.slot);
        writer.accounts(&accounts)?;
    }
    writer.finish()?;
    Ok(true)
}

impl Writer {
    /// Takes a snapshot in the background if enough has happened since the last one. Called when a slot has ended.
    pub(crate) fn maybe_snapshot(&mut self) {
        if self.snapshot.as_ref().is_some_and(thread::JoinHandle::is_finished)
            && let Some(Ok(oldest_kept)) = self.snapshot.take().map(thread::JoinHandle::join)
        {
            self.drop_history(oldest_kept);
        }
        let due = self.config.tuning.snapshot_work.unwrap_or(WORK);
        if self.snapshot.is_some() || self.work_since_snapshot < due {
            return;
        }
        self.work_since_snapshot = 0;
        let (shared, dir) = (self.shared.clone(), self.dir.clone());
        let spawned = thread::Builder::new().name("bank-snapshot".into()).spawn(move || {
            if let Err(err) = take(&shared, &dir) {
                tracing::error!("no snapshot was written: {err}");
            }
            let oldest = snapshot::list(&dir).ok().and_then(|all| all.first().copied());
            oldest.and_then(|seq| snapshot::read_head(&dir, seq).ok()).map_or(0, |head| head.block.slot)
        });
        match spawned {
            Ok(thread) => self.snapshot = Some(thread),
            Err(err) => tracing::error!("no snapshot was written: {err}"),
        }
    }

    /// Drops history that is neither asked for nor needed by the oldest snapshot.
    fn drop_history(&mut self, oldest_kept: u64) {
        let slot = self.shared.state.read().slot;
        let needed = oldest_kept.saturating_sub(MIN_HISTORY_SLOTS);
        let limit = slot.saturating_sub(self.config.history_slots.max(MIN_HISTORY_SLOTS)).min(needed);
        let Some((segment, last_slot)) = self.log.as_mut().and_then(|log| log.drop_below(limit)) else { return };
        let mut state = self.shared.state.write();
        state.files.drop_before(segment);
        state.history.drop_before(segment, last_slot);
    }

    /// At a clean end, when everything is sealed: the next start replays nothing.
    pub(crate) fn final_snapshot(&mut self) -> Result<(), Error> {
        if self.work_since_snapshot < WORK_AT_END || !self.shared.state.read().complete {
            return Ok(());
        }
        take(&self.shared, &self.dir).map(drop)
    }
}
