//! Sessions of older clients over HTTP: who began one, what they said, and what is open in it.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use osvm_model::hex;
use serde_json::Value;
use tokio::task::AbortHandle;

use crate::{caller::is_level, message::Asks, watch::Mailbox};

/// Sessions of one client; the one that was used least recently makes room for another.
const MOST_OF_A_CLIENT: usize = 64;
/// How long a session lives without a request.
const IDLE: Duration = Duration::from_secs(3600);
/// Requests of one session that may be open.
const MOST_OPEN: usize = 64;

/// One session.
pub(crate) struct Session {
    /// The client that began it. Nobody else may use it.
    pub(crate) client: String,
    /// The version that was agreed on.
    pub(crate) version: &'static str,
    pub(crate) capabilities: Value,
    pub(crate) asks: Arc<Asks>,
    pub(crate) mailbox: Arc<Mailbox>,
    log_level: Mutex<Option<String>>,
    open: Mutex<HashMap<String, AbortHandle>>,
    used: Mutex<Instant>,
}

impl Session {
    fn new(client: &str, version: &'static str, capabilities: Value) -> Self {
        let (asks, mailbox) = (Arc::default(), Arc::default());
        let (log_level, open, used) = (Mutex::default(), Mutex::default(), Mutex::new(Instant::now()));
        Self { client: client.to_owned(), version, capabilities, asks, mailbox, log_level, open, used }
    }

    pub(crate) fn log_level(&self) -> Option<String> {
        lock(&self.log_level).clone()
    }

    pub(crate) fn set_log_level(&self, level: &str) {
        if is_level(level) {
            *lock(&self.log_level) = Some(level.to_owned());
        }
    }

    /// Notes an open request. False if there are too many, or one of this id.
    pub(crate) fn begin(&self, id: &Value, task: AbortHandle) -> bool {
        let mut open = lock(&self.open);
        open.retain(|_, task| !task.is_finished());
        let room = open.len() < MOST_OPEN && !open.contains_key(&id.to_string());
        if room {
            open.insert(id.to_string(), task);
        }
        room
    }

    /// The client wants no answer any more.
    pub(crate) fn cancel(&self, id: &Value) {
        if let Some(task) = lock(&self.open).remove(&id.to_string()) {
            task.abort();
        }
    }

    fn end(&self) {
        lock(&self.open).drain().for_each(|(_, task)| task.abort());
    }
}

/// All sessions, by id.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// Begins a session and gives its id, and those that had to end for it.
    ///
    /// # Errors
    /// When the kernel gives no random number.
    pub(crate) fn begin(
        &self,
        client: &str,
        version: &'static str,
        capabilities: Value,
    ) -> io::Result<(String, Vec<Arc<Session>>)> {
        let id = random_hex()?;
        let mut sessions = lock(&self.0);
        let mut over: Vec<String> = Vec::new();
        over.extend(
            sessions.iter().filter(|(_, session)| lock(&session.used).elapsed() > IDLE).map(|(id, _)| id.clone()),
        );
        let own = sessions.iter().filter(|(_, session)| session.client == client);
        if own.clone().count() >= MOST_OF_A_CLIENT {
            over.extend(own.min_by_key(|(_, session)| *lock(&session.used)).map(|(id, _)| id.clone()));
        }
        let ended: Vec<_> = over.iter().filter_map(|id| sessions.remove(id)).collect();
        ended.iter().for_each(|session| session.end());
        sessions.insert(id.clone(), Arc::new(Session::new(client, version, capabilities)));
        Ok((id, ended))
    }

    /// A client's own session.
    pub(crate) fn get(&self, id: &str, client: &str) -> Option<Arc<Session>> {
        let session = lock(&self.0).get(id).filter(|session| session.client == client).cloned()?;
        *lock(&session.used) = Instant::now();
        Some(session)
    }

    /// Ends a client's own session.
    pub(crate) fn end(&self, id: &str, client: &str) -> Option<Arc<Session>> {
        let mut sessions = lock(&self.0);
        sessions.get(id).filter(|session| session.client == client)?;
        sessions.remove(id).inspect(|session| session.end())
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 128 random bits.
///
/// # Errors
/// When the kernel gives none.
pub fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_of_the_client_that_began_it_and_the_oldest_makes_room() {
        let sessions = Sessions::default();
        let (first, _) = sessions.begin("a", "2025-11-25", Value::Null).unwrap();
        assert!(sessions.get(&first, "a").is_some());
        assert!(sessions.get(&first, "b").is_none() && sessions.end(&first, "b").is_none());
        for _ in 1..MOST_OF_A_CLIENT {
            assert!(sessions.begin("a", "2025-11-25", Value::Null).unwrap().1.is_empty());
        }
        let (last, ended) = sessions.begin("a", "2025-11-25", Value::Null).unwrap();
        assert_eq!(ended.len(), 1);
        assert!(sessions.get(&first, "a").is_none());
        assert!(sessions.end(&last, "a").is_some() && sessions.get(&last, "a").is_none());
    }
}
