//! `mcp.toml`: which servers there are and what each may do. Everything is denied that is not here.
//!
//! The file is written whole, beside the old one, and put in its place; comments in it are lost by `add` and `rm`.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use osvm_jail::HostPort;
use osvm_model::parse_size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Between a server's name and that of its tool.
pub const SEPARATOR: &str = "__";
/// Servers that one file may declare.
pub const MOST_SERVERS: usize = 512;
/// The longest name of a server: with a tool's name it has to fit into the 128 characters that clients take.
pub const LONGEST_NAME: usize = 48;
/// The largest configuration that is read, bytes.
pub const LARGEST_FILE: u64 = 4 << 20;
/// Seconds that a call may take when nobody says.
pub const DEFAULT_CALL_SECONDS: u64 = 60;
/// Seconds that a server runs on without a call when nobody says.
pub const DEFAULT_IDLE_SECONDS: u64 = 600;
/// Requests of a client a minute when nobody says.
pub const DEFAULT_REQUESTS: u32 = 600;

/// All servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// By name: letters, digits, `-` and single `_`.
    #[serde(default)]
    pub servers: BTreeMap<String, Server>,
    /// Who may use the HTTP endpoint, by name. Without any, everybody may who reaches it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clients: BTreeMap<String, Client>,
}

/// A client of the HTTP endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Client {
    /// SHA-256 of its token, hexadecimal. The token itself is nowhere.
    pub token_sha256: String,
    /// The servers that it may use; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<String>>,
    /// Requests a minute.
    #[serde(default = "default_requests")]
    pub requests_a_minute: u32,
}

/// The protocol that a server is spoken to in, where it is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// The one without a handshake; it is asked all the same.
    #[serde(rename = "2026-07-28")]
    Modern,
    /// One with a handshake: the server says which.
    #[serde(rename = "2025-11-25")]
    Older,
}

impl Protocol {
    /// Whether there is a handshake.
    pub fn is_older(self) -> bool {
        self == Self::Older
    }
}

/// One server and its permission profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Server {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment. Values are in this file as they are: no place for secrets that others may not read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its working directory, as it sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Files and folders that it may read, at the same path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<PathBuf>,
    /// Files and folders that it may read and write, at the same path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<PathBuf>,
    /// Destinations that it may reach: HOST:PORT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// The most memory: bytes, or with K, M, G. 512M without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// CPUs' time, 0.5 for half of one; no limit without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// How long a call may take, seconds.
    #[serde(default = "default_call_seconds")]
    pub call_seconds: u64,
    /// Tools that may be listed and called, by the server's own names; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// How long it runs on after the last call, seconds.
    #[serde(default = "default_idle_seconds")]
    pub idle_seconds: u64,
    /// What it speaks; it is asked without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Whether the audit log has arguments as they are, and not as a hash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audit_arguments: bool,
}

fn default_call_seconds() -> u64 {
    DEFAULT_CALL_SECONDS
}

fn default_idle_seconds() -> u64 {
    DEFAULT_IDLE_SECONDS
}

fn default_requests() -> u32 {
    DEFAULT_REQUESTS
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// read or write.
        what: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no TOML or JSON of the expected shape.
    #[error("{} is not understood: {why}", path.display())]
    Syntax {
        /// Which one.
        path: PathBuf,
        /// What the parser says.
        why: String,
    },
    /// A server that makes no sense.
    #[error("server {name:?}: {why}")]
    Server {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// A client that makes no sense.
    #[error("client {name:?}: {why}")]
    Client {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// There is no server of this name.
    #[error("there is no server {0:?}")]
    Unknown(String),
}

impl Client {
    fn check(&self) -> Result<(), String> {
        let hash = &self.token_sha256;
        if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("token-sha256 is 64 hexadecimal digits; `osvm mcp token NAME` makes one".to_owned());
        }
        if self.requests_a_minute == 0 {
            return Err("requests-a-minute is at least 1".to_owned());
        }
        Ok(())
    }
}

impl Server {
    /// A server with nothing but its command.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            env: BTreeMap::new(),
            cwd: None,
            read: Vec::new(),
            write: Vec::new(),
            allow: Vec::new(),
            memory: None,
            cpus: None,
            pids: None,
            call_seconds: DEFAULT_CALL_SECONDS,
            tools: None,
            idle_seconds: DEFAULT_IDLE_SECONDS,
            protocol: None,
            audit_arguments: false,
        }
    }

    /// Whether a tool of this name may be listed and called.
    pub fn offers(&self, tool: &str) -> bool {
        self.tools.as_ref().is_none_or(|tools| tools.iter().any(|name| name == tool))
    }

    /// Whether it makes sense by itself. What the host has is looked at when it is started.
    fn check(&self) -> Result<(), String> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err("command names no program".to_owned());
        }
        for path in self.read.iter().chain(&self.write).chain(&self.cwd) {
            if !path.is_absolute() {
                return Err(format!("{} is not an absolute path", path.display()));
            }
        }
        for destination in &self.allow {
            HostPort::parse(destination).map_err(|error| format!("allow {destination:?}: {}", error.why))?;
        }
        if let Some(memory) = &self.memory {
            parse_size(memory).map_err(|error| format!("memory {memory:?}: {error}"))?;
        }
        if self.call_seconds == 0 || self.call_seconds > 86_400 {
            return Err("call-seconds is a number from 1 to 86400".to_owned());
        }
        Ok(())
    }
}

/// Whether a server may have this name.
///
/// # Errors
/// The reason, in words.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name.is_empty() || name.len() > LONGEST_NAME || !plain {
        return Err(format!("a name is 1 to {LONGEST_NAME} letters, digits, - and _"));
    }
    // So that the first separator in a prefixed name always ends the server's.
    if name.contains(SEPARATOR) || name.starts_with('_') || name.ends_with('_') {
        return Err(format!("a name has no {SEPARATOR} in it, and no _ at its ends"));
    }
    Ok(())
}

impl Config {
    /// Reads TOML. A file that is not there is a configuration without servers.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let Some(text) = read(path)? else { return Ok(Self::default()) };
        let config: Self =
            toml::from_str(&text).map_err(|error| Error::Syntax { path: path.to_owned(), why: error.to_string() })?;
        config.check()?;
        Ok(config)
    }

    /// Whether each server makes sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Error> {
        if self.servers.len() > MOST_SERVERS {
            let name = self.servers.keys().next_back().cloned().unwrap_or_default();
            return Err(Error::Server { name, why: format!("there may be {MOST_SERVERS} servers at most") });
        }
        for (name, server) in &self.servers {
            let checked = check_name(name).and_then(|()| server.check());
            checked.map_err(|why| Error::Server { name: name.clone(), why })?;
        }
        for (name, client) in &self.clients {
            client.check().map_err(|why| Error::Client { name: name.clone(), why })?;
        }
        Ok(())
    }

    /// Writes it, if it makes sense. Only the owner may read the file: it may hold secrets.
    ///
    /// # Errors
    /// When it makes no sense or cannot be written; the old file is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        self.check()?;
        let text = toml::to_string_pretty(self)
            .map_err(|error| Error::Syntax { path: path.to_owned(), why: error.to_string() })?;
        replace(path, text.as_bytes())
    }

    /// A server by name.
    ///
    /// # Errors
    /// When there is none.
    pub fn server(&self, name: &str) -> Result<&Server, Error> {
        self.servers.get(name).ok_or_else(|| Error::Unknown(name.to_owned()))
    }
}

/// A file's text; None if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    let failed = |source| Error::File { what: "read", path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(meta) if meta.len() > LARGEST_FILE => {
            return Err(failed(io::Error::other("it is larger than a configuration may be")));
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}

/// Writes a file beside the old one (mode 0600) and puts it in its place. A link is followed, so that it stays one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::File { what: "write", path: path.to_owned(), source };
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}

/// Where the file is when nobody says: `osvm/mcp.toml` in the XDG configuration folder.
pub fn default_path() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("osvm/mcp.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/mcp.toml");
        let mut config = Config::default();
        let mut server = Server::new(vec!["/bin/true".to_owned(), "a b".to_owned()]);
        server.read.push("/data".into());
        server.allow.push("example.com:443".to_owned());
        server.tools = Some(Vec::new());
        config.servers.insert("files".to_owned(), server);
        config.save(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), config);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Config::load(&folder.path().join("none")).unwrap(), Config::default());
    }

    #[test]
    fn a_mistake_is_told_and_nothing_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcp.toml");
        for line in [
            "command = []",
            "command = ['']",
            "command = ['/x']\nraed = ['/data']",
            "command = ['/x']\nread = ['data']",
            "command = ['/x']\nallow = ['0.0.0.0:80']",
            "command = ['/x']\nallow = ['*.example.com:443']",
            "command = ['/x']\nmemory = 'much'",
            "command = ['/x']\ncall-seconds = 0",
        ] {
            fs::write(&path, format!("[servers.a]\n{line}\n")).unwrap();
            assert!(Config::load(&path).is_err(), "{line}");
        }
    }

    #[test]
    fn no_name_of_a_server_can_be_taken_for_another_ones_tool() {
        for name in ["", "a__b", "_a", "a_", "a/b", "a b", "ä", &"a".repeat(49)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        check_name("a_b-c1").unwrap();
    }
}
