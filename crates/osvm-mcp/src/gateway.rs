//! All servers as one: names, who may be called, and what is written down of it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::interval;

use crate::{
    audit::Audit,
    caller::Caller,
    client::Error,
    config::{Config, SEPARATOR},
    launch::{self, words},
    pins::Pins,
    slots::{Common, Slot},
    version::Version,
    watch::{Mailbox, SCHEME, Watchers},
    wire::{INTERNAL, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError},
};

/// The largest result that is passed on, bytes.
pub const LARGEST_RESULT: usize = 4 << 20;
/// How often idle servers are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// The servers of one configuration.
pub struct Gateway {
    common: Common,
    slots: BTreeMap<String, Slot>,
    audit: Option<Audit>,
    /// Whether names are prefixed.
    prefixed: bool,
}

impl Gateway {
    /// Starts nothing. With `only`, there is that server and no other, and names stay as they are. `packages` is the folder of
    /// installed packages, `monitor` the file of this program.
    ///
    /// # Errors
    /// When there is no server of that name.
    pub fn new(
        config: Config,
        only: Option<&str>,
        pins: Pins,
        audit: Option<Audit>,
        packages: PathBuf,
        monitor: PathBuf,
    ) -> Result<Self, crate::config::Error> {
        if let Some(name) = only {
            config.server(name)?;
        }
        let servers = config.servers.into_iter().filter(|(name, _)| only.is_none_or(|only| only == name));
        let slots = servers.map(|(name, server)| (name.clone(), Slot::new(name, server))).collect();
        let prefixed = only.is_none();
        let common = Common { monitor, pins, packages, watchers: Arc::new(Watchers::new(prefixed)) };
        Ok(Self { common, slots, audit, prefixed })
    }

    /// What clients of this version are told that there is.
    pub fn capabilities(version: Version) -> Value {
        let resources = if version == Version::Legacy { json!({ "subscribe": true }) } else { json!({}) };
        json!({ "tools": {}, "prompts": {}, "resources": resources, "logging": {}, "completions": {} })
    }

    /// The audit log, if one is kept.
    pub fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    /// Answers a request, whose parameters have no trace of the protocol's version.
    ///
    /// # Errors
    /// As the client is to get it.
    pub async fn handle(&self, method: &str, params: Value, caller: &Caller) -> Result<Value, RpcError> {
        let audit = self.audit.as_ref().filter(|_| matches!(method, "tools/call" | "prompts/get" | "resources/read"));
        let entry = audit.map(|audit| {
            let name = if method == "resources/read" { &params["uri"] } else { &params["name"] };
            let name = name.as_str().unwrap_or_default();
            let server = self.find(name, if method == "resources/read" { "/" } else { SEPARATOR }, caller);
            let shown = server.is_some_and(|(_, slot, _)| slot.server.audit_arguments);
            audit.begin(&caller.client, method, name, &params["arguments"], shown)
        });
        let mut result = self.dispatch(method, params, caller).await;
        if result.as_ref().is_ok_and(|result| result.to_string().len() > LARGEST_RESULT) {
            result = Err(RpcError::new(INTERNAL, format!("the result is larger than {LARGEST_RESULT} bytes")));
        }
        if let Some(entry) = entry {
            entry.end(&result);
        }
        result
    }

    async fn dispatch(&self, method: &str, params: Value, caller: &Caller) -> Result<Value, RpcError> {
        match (method, caller.version) {
            ("tools/list", _) => Ok(json!({ "tools": self.tools(caller).await })),
            ("prompts/list", _) => Ok(json!({ "prompts": self.lists(method, "prompts", "name", caller).await })),
            ("resources/list", _) => Ok(json!({ "resources": self.lists(method, "resources", "uri", caller).await })),
            ("resources/templates/list", _) => {
                let found = self.lists(method, "resourceTemplates", "uriTemplate", caller).await;
                Ok(json!({ "resourceTemplates": found }))
            }
            ("tools/call" | "prompts/get", _) => self.named(method, params, caller).await,
            ("completion/complete", _) => self.completion(params, caller).await,
            ("resources/read" | "resources/subscribe" | "resources/unsubscribe", Version::Legacy)
            | ("resources/read", Version::Modern) => self.resource(method, params, caller).await,
            _ => Err(RpcError::new(METHOD_NOT_FOUND, format!("there is no method {method:?}"))),
        }
    }

    /// Stops servers that nobody has called for long, each by itself, until it is dropped.
    pub async fn tidy(&self) {
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            futures_util::future::join_all(self.slots.values().map(Slot::stop_if_idle)).await;
        }
    }

    /// Ends all servers, at the same time.
    pub async fn stop(&self) {
        futures_util::future::join_all(self.slots.values().map(Slot::stop)).await;
    }

    /// Forgets what a session watches.
    pub fn leave(&self, mailbox: &Arc<Mailbox>) {
        self.common.watchers.leave(mailbox);
    }

    /// Servers that a client may use.
    fn visible<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = (&'a String, &'a Slot)> {
        self.slots.iter().filter(|(name, _)| caller.may_use(name))
    }

    async fn tools(&self, caller: &Caller) -> Vec<Value> {
        let mut all = Vec::new();
        for (name, slot) in self.visible(caller) {
            match slot.tools(&self.common).await {
                Ok(tools) => all.extend(tools.iter().cloned().map(|tool| self.outside(name, "name", tool))),
                Err(error) => eprintln!("note: the tools of {name} are left out: {}", launch::plain(&words(&error))),
            }
        }
        all
    }

    async fn lists(&self, method: &str, field: &str, key: &str, caller: &Caller) -> Vec<Value> {
        let mut all = Vec::new();
        for (name, slot) in self.visible(caller) {
            let list = async { slot.running(&self.common).await?.connection.list(method, field, slot.limit()).await };
            match list.await {
                Ok(found) => all.extend(found.into_iter().map(|entry| self.outside(name, key, entry))),
                // A server that has none of this kind.
                Err(Error::Refused(error)) if error.code == METHOD_NOT_FOUND => {}
                Err(error) => eprintln!("note: {field} of {name} are left out: {}", launch::plain(&words(&error))),
            }
        }
        all
    }

    /// `tools/call` and `prompts/get`.
    async fn named(&self, method: &str, mut params: Value, caller: &Caller) -> Result<Value, RpcError> {
        let asked = params["name"].as_str().unwrap_or_default().to_owned();
        let unknown = || RpcError::new(INVALID_PARAMS, format!("there is no {asked:?}"));
        let (server, slot, inner) = self.find(&asked, SEPARATOR, caller).ok_or_else(unknown)?;
        let is_tool = method == "tools/call";
        // Before the server is started for it.
        if is_tool && !slot.server.offers(inner) {
            return Err(unknown());
        }
        let running = slot.running(&self.common).await.map_err(|error| refusal(server, &error))?;
        if is_tool && !running.tools.iter().any(|tool| tool["name"] == inner) {
            return Err(unknown());
        }
        params["name"] = json!(inner);
        let called = running.connection.request(method, params, slot.limit(), caller).await;
        called.map_err(|error| refusal(server, &error))
    }

    async fn completion(&self, mut params: Value, caller: &Caller) -> Result<Value, RpcError> {
        let (key, separator) = if params["ref"]["type"] == "ref/resource" { ("uri", "/") } else { ("name", SEPARATOR) };
        let asked = params["ref"][key].as_str().unwrap_or_default().to_owned();
        let unknown = || RpcError::new(INVALID_PARAMS, format!("there is no {asked:?}"));
        let (server, slot, inner) = self.find(&asked, separator, caller).ok_or_else(unknown)?;
        params["ref"][key] = json!(inner);
        let running = slot.running(&self.common).await.map_err(|error| refusal(server, &error))?;
        let called = running.connection.request("completion/complete", params, slot.limit(), caller).await;
        called.map_err(|error| refusal(server, &error))
    }

    /// `resources/read`, and of older clients `resources/subscribe` and `resources/unsubscribe`.
    async fn resource(&self, method: &str, mut params: Value, caller: &Caller) -> Result<Value, RpcError> {
        let asked = params["uri"].as_str().unwrap_or_default().to_owned();
        let unknown = || RpcError {
            code: INVALID_PARAMS,
            message: "Resource not found".to_owned(),
            data: Some(json!({ "uri": asked })),
        };
        let (server, slot, inner) = self.find(&asked, "/", caller).ok_or_else(unknown)?;
        params["uri"] = json!(inner);
        let running = slot.running(&self.common).await.map_err(|error| refusal(server, &error))?;
        let (watchers, mailbox) = (&self.common.watchers, &caller.mailbox);
        if method == "resources/unsubscribe" && !watchers.remove(server, inner, mailbox) {
            // Others watch it still.
            return Ok(json!({}));
        }
        let called = running.connection.request(method, params, slot.limit(), caller).await;
        let mut result = called.map_err(|error| refusal(server, &error))?;
        if method == "resources/subscribe" && !watchers.add(server, inner, mailbox) {
            return Err(RpcError::new(INTERNAL, "too many resources are watched"));
        }
        if let Some(contents) = result.get_mut("contents").and_then(Value::as_array_mut) {
            for content in contents {
                *content = self.outside(server, "uri", content.take());
            }
        }
        Ok(result)
    }

    /// An entry of a list as clients see it.
    fn outside(&self, server: &str, key: &str, mut entry: Value) -> Value {
        if let (true, Some(name)) = (self.prefixed, entry[key].as_str()) {
            entry[key] = json!(if key == "name" {
                format!("{server}{SEPARATOR}{name}")
            } else {
                self.common.watchers.outside(server, name)
            });
        }
        entry
    }

    /// The server and its own name for what a client asks for.
    fn find<'a>(&'a self, asked: &'a str, separator: &str, caller: &Caller) -> Option<(&'a str, &'a Slot, &'a str)> {
        let (server, inner) = if self.prefixed {
            let asked = if separator == "/" { asked.strip_prefix(SCHEME)? } else { asked };
            asked.split_once(separator)?
        } else {
            (self.slots.keys().next()?.as_str(), asked)
        };
        self.slots.get(server).filter(|_| caller.may_use(server)).map(|slot| (server, slot, inner))
    }
}

/// A server's own error goes through as it is; what failed here is told by the server's name.
fn refusal(server: &str, error: &Error) -> RpcError {
    match error {
        Error::Refused(error) => error.clone(),
        error => RpcError::new(INTERNAL, format!("{server}: {}", words(error))),
    }
}
