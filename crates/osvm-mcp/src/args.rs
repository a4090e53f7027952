//! The command line of `osvm mcp`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

/// MCP servers, each in a jail of its own, and one gateway in front of them.
#[derive(Debug, Parser)]
#[command(name = "osvm mcp", version, max_term_width = 100)]
pub(crate) struct Args {
    /// The file that declares the servers; osvm/mcp.toml in the XDG configuration folder without it
    #[arg(long, global = true, value_name = "FILE", env = "OSVM_MCP_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Declares a server; it may do what is said here and nothing else
    Add(Add),
    /// Lists the servers
    Ls,
    /// Removes a server
    Rm { name: String },
    /// Adds the servers of a client's configuration (JSON with mcpServers), without any permission
    Import { file: PathBuf },
    /// Writes a client's configuration so that it goes through osvm, and keeps a backup beside it
    Export { file: PathBuf },
    /// Makes a token for a client of the HTTP endpoint and prints it, once; an old one of that client ends
    Token {
        name: String,
        /// A server that it may use; all without it
        #[arg(long, value_name = "NAME")]
        server: Vec<String>,
    },
    /// Prints the JSON schema of the configuration
    Schema,
    /// Installs the package of a server that is declared as npx or uvx, in a jail that reaches the registry alone
    Install {
        name: String,
        /// A further destination, such as a mirror's address that is not public
        #[arg(long, value_name = "HOST:PORT")]
        allow: Vec<String>,
        /// Take the newest versions that fit, and not those of the lock
        #[arg(long)]
        update: bool,
    },
    /// Lists a server's tools
    Tools {
        name: String,
        /// Those that are held: new, or changed since they were approved
        #[arg(long)]
        held: bool,
    },
    /// Approves a server's tools as they are now
    Approve { name: String },
    /// Calls a tool
    Call {
        name: String,
        tool: String,
        /// Its arguments, an object
        #[arg(long, value_name = "JSON", default_value = "{}")]
        json: String,
    },
    /// Lists a server's resources
    Resources { name: String },
    /// Lists a server's prompts
    Prompts { name: String },
    /// Serves all servers: to one client over stdin and stdout, or with --listen over HTTP
    Serve {
        /// Serve over HTTP here, at /mcp
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<SocketAddr>,
        /// A further host name under which the HTTP endpoint is reached
        #[arg(long, value_name = "NAME", requires = "listen")]
        host: Vec<String>,
        /// This server alone, with its own names
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    pub(crate) name: String,
    /// A file or folder that it may read
    #[arg(long, value_name = "PATH")]
    pub(crate) read: Vec<PathBuf>,
    /// A file or folder that it may read and write
    #[arg(long, value_name = "PATH")]
    pub(crate) write: Vec<PathBuf>,
    /// A destination that it may reach
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) allow: Vec<String>,
    /// A variable of its environment
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The most memory
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// A tool that may be listed and called; all without it
    #[arg(long, value_name = "TOOL")]
    pub(crate) tool: Vec<String>,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<String>,
}
