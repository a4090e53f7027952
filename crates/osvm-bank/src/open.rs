//! From a folder to a state: a new ledger, or the newest snapshot and what the log has after it.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use osvm_model::handover::Role;
use solana_account::ReadableAccount;

use crate::{
    Config, Error, MIN_HISTORY_SLOTS,
    codec::Malformed,
    entry::frame_block,
    genesis,
    info::LedgerInfo,
    marker,
    segments::{self, Log},
    snapshot,
    state::State,
    types::BlockRecord,
};

const LOCK: &str = "ledger.lock";

/// A ledger that was opened.
pub(crate) struct Opened {
    pub(crate) dir: PathBuf,
    /// None on a standby.
    pub(crate) log: Option<Log>,
    pub(crate) state: State,
    /// What replaying what the newest snapshot does not have took, as [`crate::writer::work`] counts.
    pub(crate) replayed: u64,
    pub(crate) holds: Holds,
}

/// What is to be held as long as the ledger is open.
pub(crate) struct Holds {
    _lock: File,
    _temporary: Option<tempfile::TempDir>,
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::Io { what, path: path.into(), source }
}

pub(crate) fn open(config: &Config) -> Result<Opened, Error> {
    if config.slot.is_zero() {
        return Err(Error::Config("a slot must last longer than nothing".into()));
    }
    if config.history_slots < MIN_HISTORY_SLOTS {
        return Err(Error::Config(format!("at least {MIN_HISTORY_SLOTS} slots of history must be kept")));
    }
    if config.finality_slots > MIN_HISTORY_SLOTS / 2 {
        return Err(Error::Config(format!("finality cannot be more than {} slots behind", MIN_HISTORY_SLOTS / 2)));
    }
    let (dir, temporary) = match &config.state_dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let temporary = tempfile::Builder::new().prefix("osvm-bank-").tempdir();
            let temporary = temporary.map_err(io("make a folder in", &std::env::temp_dir()))?;
            (temporary.path().to_path_buf(), Some(temporary))
        }
    };
    fs::create_dir_all(&dir).map_err(io("make the folder", &dir))?;
    let lock_path = dir.join(LOCK);
    let lock =
        File::options().write(true).create(true).truncate(false).open(&lock_path).map_err(io("open", &lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::InUse(dir)),
        Err(TryLockError::Error(source)) => return Err(io("lock", &lock_path)(source)),
    }
    if config.reset {
        delete(&dir)?;
        marker::remove(&dir)?;
    }
    if config.role == Role::Leader && !config.sole && marker::is_there(&dir)? {
        return Err(Error::HandedOver(dir));
    }
    snapshot::clean(&dir)?;
    let holds = Holds { _lock: lock, _temporary: temporary };
    if config.role == Role::Standby {
        return Ok(Opened { dir, log: None, state: State::empty(config.finality_slots), replayed: 0, holds });
    }
    let (log, state, replayed) =
        if snapshot::list(&dir)?.is_empty() { create(config, &dir)? } else { recover(config, &dir)? };
    Ok(Opened { dir, log: Some(log), state, replayed, holds })
}

/// Deletes a ledger, but not its keys.
pub(crate) fn delete(dir: &Path) -> Result<(), Error> {
    // Snapshots first: a log without one is no ledger, and is made anew.
    snapshot::delete_all(dir)?;
    segments::delete_all(dir)
}

/// A new ledger. What a crash in the middle of this leaves has no snapshot and is deleted by the next start.
fn create(config: &Config, dir: &Path) -> Result<(Log, State, u64), Error> {
    segments::delete_all(dir)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let info = LedgerInfo::new(dir, now)?;
    info.write_files(dir)?;
    let accounts = genesis::accounts(config, &info)?;
    let block = BlockRecord {
        blockhash: info.genesis_hash,
        time: now,
        capitalization: accounts.iter().map(|(_, account)| account.lamports()).sum(),
        leader: info.identity(),
        leader_post_balance: 0,
        ..BlockRecord::default()
    };
    let (mut log, files) = Log::create(dir, info.genesis_hash, 1, config.tuning.clone())?;
    let mut frames = Vec::new();
    frame_block(&mut frames, 1, &block, 0);
    log.append(&frames, 1, false).map_err(io("write the log in", dir))?;
    let head = snapshot::Head { info, block, seq: 1 };
    let mut writer = snapshot::Writer::begin(dir, &head)?;
    writer.accounts(&accounts)?;
    writer.finish()?;
    let mut state = State::empty(config.finality_slots);
    state.files = files;
    for (address, account) in accounts {
        state.store.put(address, account);
    }
    start_at(&mut state, head);
    Ok((log, state, 0))
}

/// The state whose accounts are those of a snapshot: the slot after it begins.
pub(crate) fn start_at(state: &mut State, head: snapshot::Head) {
    state.info = Some(Arc::new(head.info));
    state.capitalization = head.block.capitalization;
    if state.history.last_block().is_none_or(|block| block.slot != head.block.slot) {
        state.history.push_block(head.block.clone(), 0, head.seq);
    }
    state.seq = head.seq;
    state.complete = true;
    state.begin_slot(&head.block, head.block.slot);
}

fn recover(config: &Config, dir: &Path) -> Result<(Log, State, u64), Error> {
    let mut snapshots = snapshot::list(dir)?;
    let (mut state, head) = loop {
        let Some(seq) = snapshots.pop() else {
            return Err(Error::Corrupt { path: dir.into(), offset: 0, why: "there is no snapshot in it".into() });
        };
        let mut state = State::empty(config.finality_slots);
        match snapshot::load(dir, seq, |address, account| drop(state.store.put(address, account))) {
            Ok(head) => break (state, head),
            Err(err) if snapshots.is_empty() => return Err(err),
            Err(err) => tracing::warn!("{err}; the snapshot before it is taken"),
        }
    };
    let info = head.info.clone();
    let (snapshot_seq, mut head) = (head.seq, Some(head));
    let mut replayed = 0;
    let each = |at, frame: crate::entry::Frame<'_>| {
        if frame.seq < snapshot_seq {
            state.note(frame.seq, at, frame.entry_without_writes()?);
            return Ok(());
        }
        if let Some(head) = head.take() {
            if frame.seq != snapshot_seq {
                return Err(Malformed("the log begins after the snapshot"));
            }
            state.note(frame.seq, at, frame.entry_without_writes()?);
            start_at(&mut state, head);
            return Ok(());
        }
        replayed += crate::writer::work(1, frame.size);
        state.apply(frame.seq, at, frame.entry()?, None)
    };
    let (log, files, torn) = Log::open(dir, info.genesis_hash, config.tuning.clone(), each)?;
    if head.is_some() {
        return Err(Error::Corrupt { path: dir.into(), offset: 0, why: "the log ends before the snapshot".into() });
    }
    if torn > 0 {
        tracing::warn!(
            "cut {torn} bytes off the log in {}: a write that a crash interrupted; nothing acknowledged was in it",
            dir.display()
        );
    }
    state.files = files;
    info.write_files(dir)?;
    Ok((log, state, replayed))
}
