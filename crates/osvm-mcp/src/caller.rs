//! Who makes a call, and what of the call's own messages goes back to them while it is open.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{
    version::{META_CAPABILITIES, META_LOG_LEVEL, Version},
    watch::Mailbox,
    wire::RpcError,
};

/// Levels of log messages, the least important first.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// What a server says while a call is open.
#[derive(Debug)]
pub enum Event {
    /// A whole notification, for the client.
    Note(Value),
    /// A request to the client.
    Ask {
        /// What is asked.
        method: String,
        /// Its parameters.
        params: Value,
        /// Where the answer goes. Dropped, the server gets an error.
        reply: oneshot::Sender<Result<Value, RpcError>>,
    },
}

/// The client of one call.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its name in the audit log.
    pub client: String,
    /// What it speaks.
    pub version: Version,
    /// What it says it can do.
    pub capabilities: Value,
    /// The token under which it wants progress.
    pub progress: Option<Value>,
    /// The least level of log messages that it wants.
    pub log_level: Option<String>,
    /// Where the call's messages go; None if nobody reads them.
    pub events: Option<mpsc::Sender<Event>>,
    /// Where messages that belong to no call go.
    pub mailbox: Arc<Mailbox>,
    /// The servers that it may use; all without it.
    pub servers: Option<Arc<Vec<String>>>,
}

impl Caller {
    /// A client that wants results only.
    pub fn plain(client: &str) -> Self {
        Self {
            client: client.to_owned(),
            version: Version::Modern,
            capabilities: json!({}),
            progress: None,
            log_level: None,
            events: None,
            mailbox: Arc::default(),
            servers: None,
        }
    }

    /// Whether it may use a server.
    pub fn may_use(&self, server: &str) -> bool {
        self.servers.as_ref().is_none_or(|servers| servers.iter().any(|name| name == server))
    }

    /// Takes what a request says in `_meta`, and removes it: it is of this connection only.
    pub fn take_meta(&mut self, params: &mut Value) {
        let Some(mut meta) = params.as_object_mut().and_then(|fields| fields.remove("_meta")) else { return };
        if let token @ (Value::String(_) | Value::Number(_)) = meta["progressToken"].take() {
            self.progress = Some(token);
        }
        if self.version == Version::Modern {
            if let capabilities @ Value::Object(_) = meta[META_CAPABILITIES].take() {
                self.capabilities = capabilities;
            }
            self.log_level = meta[META_LOG_LEVEL].as_str().filter(|level| is_level(level)).map(str::to_owned);
        }
    }

    /// `_meta` of the call to a server. What the client said of itself stays here, but for what it can do.
    pub(crate) fn meta(&self, server: Version, id: u64) -> Map<String, Value> {
        let mut meta = Map::new();
        if self.progress.is_some() {
            meta.insert("progressToken".to_owned(), json!(id));
        }
        if server == Version::Modern {
            // A client of an older version could not answer what a modern server asks for.
            let can = if self.version == Version::Modern { self.capabilities.clone() } else { json!({}) };
            meta.insert(META_CAPABILITIES.to_owned(), can);
            if let Some(level) = &self.log_level {
                meta.insert(META_LOG_LEVEL.to_owned(), json!(level));
            }
        }
        meta
    }

    /// Whether a server may put this request to the client.
    pub(crate) fn answers(&self, method: &str) -> bool {
        let capability = match method {
            "sampling/createMessage" => "sampling",
            "elicitation/create" => "elicitation",
            "roots/list" => "roots",
            _ => return false,
        };
        self.version == Version::Legacy && self.events.is_some() && self.capabilities[capability].is_object()
    }

    /// Whether the client wants log messages of this level.
    pub(crate) fn wants(&self, level: &str) -> bool {
        let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
        self.log_level.as_deref().and_then(rank).is_some_and(|least| rank(level) >= Some(least))
    }
}

/// Whether there is such a level.
pub fn is_level(level: &str) -> bool {
    LEVELS.contains(&level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_learns_what_a_client_can_do_and_nothing_else_of_it() {
        let mut caller = Caller::plain("c");
        let mut params = json!({ "name": "t", "_meta": {
            "progressToken": "mine",
            META_CAPABILITIES: { "sampling": {} },
            "io.modelcontextprotocol/clientInfo": { "name": "secret" },
        } });
        caller.take_meta(&mut params);
        assert_eq!(params, json!({ "name": "t" }));
        let meta = Value::Object(caller.meta(Version::Modern, 7));
        assert_eq!(meta, json!({ "progressToken": 7, META_CAPABILITIES: { "sampling": {} } }));
        caller.version = Version::Legacy;
        assert_eq!(Value::Object(caller.meta(Version::Modern, 7))[META_CAPABILITIES], json!({}));
    }

    #[test]
    fn log_messages_below_the_wanted_level_and_unknown_ones_are_not_wanted() {
        let mut caller = Caller::plain("c");
        assert!(!caller.wants("emergency"));
        caller.log_level = Some("warning".to_owned());
        assert!(caller.wants("error") && caller.wants("warning"));
        assert!(!caller.wants("info") && !caller.wants("loud"));
    }
}
