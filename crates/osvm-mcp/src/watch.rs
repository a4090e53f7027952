//! Which sessions are to be told when a resource changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What stands before a server's name in the URI of a resource.
pub(crate) const SCHEME: &str = "osvm-mcp://";
/// Resources that may be watched.
const MOST_WATCHED: usize = 1024;

/// Where messages for a session go that belong to no request.
#[derive(Debug, Default)]
pub struct Mailbox(Mutex<Option<mpsc::Sender<Value>>>);

impl Mailbox {
    /// From now on, messages go there.
    pub fn open(&self, to: mpsc::Sender<Value>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
    }

    fn put(&self, message: Value) {
        let to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A session that does not read is not waited for.
        let _ = to.as_ref().map(|to| to.try_send(message));
    }
}

/// By server and its own URI.
type Watched = BTreeMap<(String, String), Vec<Arc<Mailbox>>>;

/// All that is watched.
#[derive(Debug)]
pub(crate) struct Watchers {
    watched: Mutex<Watched>,
    prefixed: bool,
}

impl Watchers {
    pub(crate) fn new(prefixed: bool) -> Self {
        Self { watched: Mutex::default(), prefixed }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A resource's URI as clients see it.
    pub(crate) fn outside(&self, server: &str, uri: &str) -> String {
        if self.prefixed { format!("{SCHEME}{server}/{uri}") } else { uri.to_owned() }
    }

    /// False if too much is watched already.
    pub(crate) fn add(&self, server: &str, uri: &str, mailbox: &Arc<Mailbox>) -> bool {
        let mut watched = self.lock();
        if watched.values().map(Vec::len).sum::<usize>() >= MOST_WATCHED {
            return false;
        }
        let sessions = watched.entry((server.to_owned(), uri.to_owned())).or_default();
        if !sessions.iter().any(|known| Arc::ptr_eq(known, mailbox)) {
            sessions.push(mailbox.clone());
        }
        true
    }

    /// Whether nobody watches it any more.
    pub(crate) fn remove(&self, server: &str, uri: &str, mailbox: &Arc<Mailbox>) -> bool {
        let mut watched = self.lock();
        let key = (server.to_owned(), uri.to_owned());
        let Some(sessions) = watched.get_mut(&key) else { return false };
        sessions.retain(|known| !Arc::ptr_eq(known, mailbox));
        sessions.is_empty() && watched.remove(&key).is_some()
    }

    /// Forgets a session.
    pub(crate) fn leave(&self, mailbox: &Arc<Mailbox>) {
        self.lock().retain(|_, sessions| {
            sessions.retain(|known| !Arc::ptr_eq(known, mailbox));
            !sessions.is_empty()
        });
    }

    /// Passes a server's notification on to those who watch that resource.
    pub(crate) fn tell(&self, server: &str, mut note: Value) {
        let Some(uri) = note["params"]["uri"].as_str().map(str::to_owned) else { return };
        note["params"] = json!({ "uri": self.outside(server, &uri) });
        for mailbox in self.lock().get(&(server.to_owned(), uri)).into_iter().flatten() {
            mailbox.put(note.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_to_those_who_watch_it_and_to_nobody_else() {
        let watchers = Watchers::new(true);
        let boxes = [(); 2].map(|()| (Arc::<Mailbox>::default(), mpsc::channel(4)));
        let [(one, (to_one, mut first)), (two, (to_two, mut second))] = boxes;
        one.open(to_one);
        two.open(to_two);
        assert!(watchers.add("a", "file:///x", &one) && watchers.add("a", "file:///x", &one));
        assert!(watchers.add("b", "file:///x", &two));
        let note = json!({ "method": "m", "params": { "uri": "file:///x", "more": 1 } });
        watchers.tell("a", note.clone());
        assert_eq!(first.try_recv().unwrap()["params"], json!({ "uri": "osvm-mcp://a/file:///x" }));
        assert!(first.try_recv().is_err() && second.try_recv().is_err());
        assert!(watchers.remove("a", "file:///x", &one) && !watchers.remove("a", "file:///x", &one));
        watchers.leave(&two);
        watchers.tell("a", note.clone());
        watchers.tell("b", note);
        assert!(first.try_recv().is_err() && second.try_recv().is_err());
    }
}
