//! The configuration of an MCP client: JSON with `mcpServers`, as Claude Desktop and Cursor have it.
//!
//! Only the command, its arguments and its environment are taken. The client gave the server everything; here it gets no
//! permission until somebody writes one down.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{self, Config, Error, Server, check_name};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    mcp_servers: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// The servers of a file. Characters that a name may not have become `-`.
///
/// # Errors
/// When it is not understood, or has a server that cannot be taken (a remote one, two of one name): then none is taken.
pub fn read(path: &Path) -> Result<BTreeMap<String, Server>, Error> {
    let text = config::read(path)?.ok_or_else(|| Error::File {
        what: "read",
        path: path.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    let file: File =
        serde_json::from_str(&text).map_err(|error| Error::Syntax { path: path.to_owned(), why: error.to_string() })?;
    let mut servers = BTreeMap::new();
    for (given, entry) in file.mcp_servers {
        let failed = |why: String| Error::Server { name: given.clone(), why };
        let name = own_name(&given);
        check_name(&name).map_err(failed)?;
        let program =
            entry.command.ok_or_else(|| failed("it has no command: remote servers are not supported".to_owned()))?;
        let mut server = Server::new([vec![program], entry.args].concat());
        server.env = entry.env;
        if servers.insert(name, server).is_some() {
            return Err(failed("another server has the same name".to_owned()));
        }
    }
    Ok(servers)
}

fn own_name(given: &str) -> String {
    given.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

/// Writes a client's file so that it starts `osvm mcp serve` in place of its servers, and gives the name of the backup. What else is in
/// the file stays.
///
/// # Errors
/// When a server of the file is not declared here with the same command (it would be lost), or a file cannot be written: then the
/// client's file is as it was.
pub fn export(path: &Path, config: &Config, osvm: &Path) -> Result<PathBuf, Error> {
    for (name, server) in read(path)? {
        if config.server(&name)?.command != server.command {
            return Err(Error::Server {
                name,
                why: "another command is declared here than in the client's file".to_owned(),
            });
        }
    }
    let text = config::read(path)?.unwrap_or_default();
    let mut file: Value =
        serde_json::from_str(&text).map_err(|error| Error::Syntax { path: path.to_owned(), why: error.to_string() })?;
    let osvm = osvm.display().to_string();
    file["mcpServers"] = json!({ "osvm": { "command": osvm, "args": ["mcp", "serve"] } });
    let backup = back_up(path)?;
    config::replace(path, format!("{file:#}\n").as_bytes())?;
    Ok(backup)
}

/// Copies a file beside itself, under a name that nothing has yet.
fn back_up(path: &Path) -> Result<PathBuf, Error> {
    for number in 1..=999 {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".before-osvm-{number}"));
        let backup = PathBuf::from(name);
        if backup.exists() {
            continue;
        }
        // A copy has the file's mode: it may hold secrets.
        return match fs::copy(path, &backup) {
            Ok(_) => Ok(backup),
            Err(source) => Err(Error::File { what: "write", path: backup, source }),
        };
    }
    Err(Error::File {
        what: "back up",
        path: path.to_owned(),
        source: io::Error::other("there are 999 backups already"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imported_server_has_its_command_and_no_permission() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claude.json");
        let text =
            r#"{"theme":1,"mcpServers":{"my files":{"type":"stdio","command":"/x","args":["-a"],"env":{"K":"v"}}}}"#;
        std::fs::write(&path, text).unwrap();
        let servers = read(&path).unwrap();
        let mut expected = Server::new(vec!["/x".to_owned(), "-a".to_owned()]);
        expected.env.insert("K".to_owned(), "v".to_owned());
        assert_eq!(servers, BTreeMap::from([("my-files".to_owned(), expected)]));
        std::fs::write(&path, r#"{"mcpServers":{"far":{"url":"https://example.com/mcp"}}}"#).unwrap();
        assert!(read(&path).is_err());
    }
    #[test]
    fn an_export_loses_no_server_and_keeps_a_backup() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claude.json");
        let text = r#"{"theme":1,"mcpServers":{"a":{"command":"/x"}}}"#;
        fs::write(&path, text).unwrap();
        let mut config = Config::default();
        assert!(export(&path, &config, Path::new("/bin/osvm")).is_err(), "the server is not declared");
        config.servers.insert("a".to_owned(), Server::new(vec!["/y".to_owned()]));
        assert!(export(&path, &config, Path::new("/bin/osvm")).is_err(), "it is declared with another command");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        config.servers.insert("a".to_owned(), Server::new(vec!["/x".to_owned()]));
        let backup = export(&path, &config, Path::new("/bin/osvm")).unwrap();
        assert_eq!(fs::read_to_string(backup).unwrap(), text);
        let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let osvm = json!({ "command": "/bin/osvm", "args": ["mcp", "serve"] });
        assert_eq!(file, json!({ "theme": 1, "mcpServers": { "osvm": osvm } }));
    }
}
