//! Servers from the configuration of an MCP client: JSON with `mcpServers`, as Claude Desktop and Cursor have it.
//!
//! Only the command, its arguments and its environment are taken. The client gave the server everything; here it gets no
//! permission until somebody writes one down.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::config::{self, Error, Server, check_name};

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
        let name: String = given.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
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
}
