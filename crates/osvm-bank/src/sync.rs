//! fsync in the background: a sealed block is asked to be on the disk, and nobody waits for it.

use std::{
    fs::File,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
};

/// Syncs files on a thread of its own, which ends when this is dropped.
pub(crate) struct Syncer {
    sender: Option<SyncSender<Arc<File>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Syncer {
    pub(crate) fn start() -> std::io::Result<Self> {
        // One is being synced, one waits: a file that waits is synced as it is then, with all that came meanwhile.
        let (sender, receiver) = sync_channel::<Arc<File>>(1);
        let thread = thread::Builder::new().name("bank-sync".into()).spawn(move || {
            for file in receiver {
                if let Err(err) = file.sync_data() {
                    tracing::error!("cannot sync the ledger: {err}");
                }
            }
        })?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    pub(crate) fn sync(&self, file: Arc<File>) {
        if let Some(sender) = &self.sender
            && let Err(TrySendError::Disconnected(_)) = sender.try_send(file)
        {
            tracing::error!("the thread that syncs the ledger has ended");
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
