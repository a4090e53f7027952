//! All servers as one: names, who may be called, and a server's start at its first call.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    client::{Connection, Error},
    config::{Config, SEPARATOR, Server},
    launch::{self, words},
    pins::Pins,
    wire::{INTERNAL, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError},
};

/// The largest result that is passed on, bytes.
pub const LARGEST_RESULT: usize = 4 << 20;
/// What stands before a server's name in the URI of a resource.
const SCHEME: &str = "osvm-mcp://";

/// What of a server is known while it runs.
#[derive(Clone)]
struct Running {
    connection: Arc<Connection>,
    /// Tools that may be listed and called.
    tools: Arc<Vec<Value>>,
}

struct Slot {
    server: Server,
    running: Mutex<Option<Running>>,
}

/// The servers of one configuration.
pub struct Gateway {
    monitor: PathBuf,
    pins: Pins,
    slots: BTreeMap<String, Slot>,
    /// Whether names are prefixed.
    prefixed: bool,
}

impl Gateway {
    /// Starts nothing. With `only`, there is that server and no other, and names stay as they are.
    ///
    /// # Errors
    /// When there is no server of that name.
    pub fn new(config: Config, only: Option<&str>, pins: Pins, monitor: PathBuf) -> Result<Self, crate::config::Error> {
        if let Some(name) = only {
            config.server(name)?;
        }
        let servers = config.servers.into_iter().filter(|(name, _)| only.is_none_or(|only| only == name));
        let slots = servers.map(|(name, server)| (name, Slot { server, running: Mutex::new(None) })).collect();
        Ok(Self { monitor, pins, slots, prefixed: only.is_none() })
    }

    /// Answers a request, whose parameters have no trace of the protocol's version.
    ///
    /// # Errors
    /// As the client is to get it.
    pub async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let result = match method {
            "tools/list" => json!({ "tools": self.tools().await }),
            "prompts/list" => json!({ "prompts": self.lists(method, "prompts", "name").await }),
            "resources/list" => json!({ "resources": self.lists(method, "resources", "uri").await }),
            "resources/templates/list" => {
                json!({ "resourceTemplates": self.lists(method, "resourceTemplates", "uriTemplate").await })
            }
            "tools/call" | "prompts/get" => self.named(method, params).await?,
            "resources/read" => self.resource(params).await?,
            _ => return Err(RpcError::new(METHOD_NOT_FOUND, format!("there is no method {method:?}"))),
        };
        if result.to_string().len() > LARGEST_RESULT {
            return Err(RpcError::new(INTERNAL, format!("the result is larger than {LARGEST_RESULT} bytes")));
        }
        Ok(result)
    }

    /// Ends all servers.
    pub async fn stop(&self) {
        let mut ends = Vec::new();
        for slot in self.slots.values() {
            if let Some(connection) =
                slot.running.lock().await.take().and_then(|running| Arc::into_inner(running.connection))
            {
                ends.push(tokio::spawn(connection.stop()));
            }
        }
        for end in ends {
            let _ = end.await;
        }
    }

    async fn tools(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for (name, slot) in &self.slots {
            match self.running(name, slot).await {
                Ok(running) => all.extend(running.tools.iter().cloned().map(|tool| self.outside(name, "name", tool))),
                Err(error) => eprintln!("note: the tools of {name} are left out: {}", launch::plain(&words(&error))),
            }
        }
        all
    }

    async fn lists(&self, method: &str, field: &str, key: &str) -> Vec<Value> {
        let mut all = Vec::new();
        for (name, slot) in &self.slots {
            let list =
                async { self.running(name, slot).await?.connection.list(method, field, limit(&slot.server)).await };
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
    async fn named(&self, method: &str, mut params: Value) -> Result<Value, RpcError> {
        let asked = params["name"].as_str().unwrap_or_default().to_owned();
        let unknown = || RpcError::new(INVALID_PARAMS, format!("there is no {asked:?}"));
        let (server, inner) = self.inside(&asked, SEPARATOR).ok_or_else(unknown)?;
        let slot = self.slots.get(server).ok_or_else(unknown)?;
        let is_tool = method == "tools/call";
        // Before the server is started for it.
        if is_tool && !slot.server.offers(inner) {
            return Err(unknown());
        }
        let running = self.running(server, slot).await.map_err(|error| refusal(server, &error))?;
        if is_tool && !running.tools.iter().any(|tool| tool["name"] == inner) {
            return Err(unknown());
        }
        params["name"] = json!(inner);
        let called = running.connection.request(method, params, limit(&slot.server)).await;
        called.map_err(|error| refusal(server, &error))
    }

    async fn resource(&self, mut params: Value) -> Result<Value, RpcError> {
        let asked = params["uri"].as_str().unwrap_or_default().to_owned();
        let unknown = || RpcError::new(INVALID_PARAMS, format!("there is no resource {asked:?}"));
        let plain = if self.prefixed { asked.strip_prefix(SCHEME).ok_or_else(unknown)? } else { asked.as_str() };
        let (server, inner) = self.inside(plain, "/").ok_or_else(unknown)?;
        let slot = self.slots.get(server).ok_or_else(unknown)?;
        params["uri"] = json!(inner);
        let running = self.running(server, slot).await.map_err(|error| refusal(server, &error))?;
        let called = running.connection.request("resources/read", params, limit(&slot.server)).await;
        let mut result = called.map_err(|error| refusal(server, &error))?;
        if let Some(contents) = result["contents"].as_array_mut() {
            for content in contents {
                *content = self.outside(server, "uri", content.take());
            }
        }
        Ok(result)
    }

    /// The running server, started if need be. Only one start of a server goes on at a time; others are not held up by it.
    async fn running(&self, name: &str, slot: &Slot) -> Result<Running, Error> {
        let mut running = slot.running.lock().await;
        if let Some(running) = running.as_ref().filter(|running| running.connection.alive()) {
            return Ok(running.clone());
        }
        *running = None;
        let connection = Connection::start(&self.monitor, &launch::spec(&slot.server)?).await?;
        let tools = match connection.list("tools/list", "tools", limit(&slot.server)).await {
            Err(Error::Refused(error)) if error.code == METHOD_NOT_FOUND => Vec::new(),
            tools => tools?,
        };
        let sorted = self.pins.sort(name, tools).map_err(|error| launch::Error::Declared(words(&error)))?;
        if !sorted.held.is_empty() {
            let held = launch::plain(&sorted.held.join(", "));
            eprintln!("note: {name}: new or changed since they were approved, and held: {held}");
            eprintln!("  help: look at them with `osvm mcp tools {name} --held`, then `osvm mcp approve {name}`");
        }
        let tools = sorted.approved.into_iter();
        let tools = tools.filter(|tool| tool["name"].as_str().is_some_and(|tool| slot.server.offers(tool))).collect();
        Ok(running.insert(Running { connection: Arc::new(connection), tools: Arc::new(tools) }).clone())
    }

    /// An entry of a list as clients see it.
    fn outside(&self, server: &str, key: &str, mut entry: Value) -> Value {
        if let (true, Some(name)) = (self.prefixed, entry[key].as_str()) {
            entry[key] = json!(if key == "name" {
                format!("{server}{SEPARATOR}{name}")
            } else {
                format!("{SCHEME}{server}/{name}")
            });
        }
        entry
    }

    /// The server and its own name for what a client asks for.
    fn inside<'a>(&'a self, asked: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
        if self.prefixed {
            return asked.split_once(separator);
        }
        self.slots.keys().next().map(|only| (only.as_str(), asked))
    }
}

fn limit(server: &Server) -> Duration {
    Duration::from_secs(server.call_seconds)
}

/// A server's own error goes through as it is; what failed here is told by the server's name.
fn refusal(server: &str, error: &Error) -> RpcError {
    match error {
        Error::Refused(error) => error.clone(),
        error => RpcError::new(INTERNAL, format!("{server}: {}", words(error))),
    }
}
