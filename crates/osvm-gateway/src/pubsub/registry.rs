//! Who has subscriptions in a pool, and how far each client's session is with the table in force.

use std::{collections::HashMap, sync::Arc, time::Duration};

use osvm_model::gateway::Prepared;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The sessions of one pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    sessions: Mutex<Sessions>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Sessions {
    next: u64,
    progress: HashMap<u64, Progress>,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The table that it has carried out, with all that is to be opened in advance.
    pub(crate) version: u64,
    /// Its subscriptions.
    pub(crate) subscriptions: u64,
    /// Those that are open on the instance that is being prepared.
    pub(crate) prepared: u64,
}

/// A session's entry; dropping it strikes it out.
#[derive(Debug)]
pub(crate) struct Member {
    id: u64,
    registry: Registry,
    last: Progress,
}

impl Registry {
    pub(crate) fn enroll(&self) -> Member {
        let mut sessions = self.shared.sessions.lock();
        let id = sessions.next;
        sessions.next += 1;
        sessions.progress.insert(id, Progress::default());
        Member { id, registry: self.clone(), last: Progress::default() }
    }

    /// Clients and their subscriptions.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let sessions = self.shared.sessions.lock();
        (sessions.progress.len() as u64, sessions.progress.values().map(|one| one.subscriptions).sum())
    }

    /// Waits until every session has carried out the table `version`, within `limit`.
    pub(crate) async fn prepared(&self, version: u64, limit: Duration) -> Prepared {
        let all = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.reading(version).complete {
                    return;
                }
                changed.await;
            }
        };
        // What is done by then is the answer.
        let _ = tokio::time::timeout(limit, all).await;
        self.reading(version)
    }

    fn reading(&self, version: u64) -> Prepared {
        let sessions = self.shared.sessions.lock();
        Prepared {
            clients: sessions.progress.len() as u64,
            subscriptions: sessions.progress.values().map(|one| one.prepared).sum(),
            complete: sessions.progress.values().all(|one| one.version >= version),
        }
    }
}

impl Member {
    pub(crate) fn report(&mut self, progress: Progress) {
        if progress != self.last {
            self.last = progress;
            self.registry.shared.sessions.lock().progress.insert(self.id, progress);
            self.registry.shared.changed.notify_waiters();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.registry.shared.sessions.lock().progress.remove(&self.id);
        self.registry.shared.changed.notify_waiters();
    }
}
