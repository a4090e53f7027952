//! MCP servers in jails of their own, and one gateway in front of them.
//!
//! # Design
//!
//! Four parts, each of which can be read by itself:
//!
//! - **Configuration** ([`config`], [`import`]): `mcp.toml` declares each server: its command, and what it may read, write, reach and use
//!   up. What is not declared is not there. Commands are taken over from the configuration of an MCP client, permissions are not.
//! - **A server's process** ([`launch`], [`client`], [`wire`]): `osvm-mcp` starts itself again as the jail's monitor, which must have
//!   a single thread. The monitor reads one specification from its stdin, byte for byte as long as it was told, and the rest of
//!   stdin is the server's. JSON-RPC goes over stdin and stdout, a message a line. stderr is the server's log.
//! - **Packages** ([`packages`]): `npx` and `uvx` are not run; what they stand for is installed in one jail and run in another.
//! - **The gateway** ([`gateway`], [`pins`], [`audit`]), over stdio ([`serve`]) or HTTP ([`endpoint`]): clients of 2026-07-28, 2025-11-25 and 2025-06-18 on one side, servers of any of them
//!   on the other. A server's version is found out once a process: `server/discover` first, `initialize` if that is refused or not
//!   answered. Inside there is one form, a method with parameters and a result; what differs between the versions is added and
//!   taken away at the edges ([`version`]).
//!
//! # Names
//!
//! A tool `read` of the server `files` is `files__read` outside, a prompt likewise. A server's name has no `__`, so the first `__`
//! always ends it, and no server can take another's name. With `--only NAME` names stay as they are.
//!
//! # What a client may rely on when something fails
//!
//! | what happens | what the client gets |
//! |---|---|
//! | a server does not start, or cannot be jailed | an error for each call to it; other servers are unharmed |
//! | a server ends during a call | an error for each open call; the next call starts it again. No call is sent twice |
//! | no answer within the call's time | an error; the server is told by `notifications/cancelled` |
//! | a line that is too long, or nested too deeply | the server is ended: its stream cannot be trusted to be in step any more |
//! | a line that is no JSON-RPC message | it is skipped and counted; after too many the server is not listened to |
//! | an answer to a call that is not open | it is thrown away |
//! | a tool's description is not the approved one | the tool is not listed and not called, until it is approved |
//! | a tool that is not on the allow-list | it is not listed, and a call is refused without asking the server |
//! | a server asks its client | the client of the one open call is asked, if it is of the older versions and can do it; else the server is refused |
//!
//! # What it does not do
//!
//! Only level `process`. No remote servers, no secrets but plain environment variables. What a modern server asks for goes to a modern client
//! only, what an older one asks for to an older one; between the two it is refused. No `subscriptions/listen`.

#![forbid(unsafe_code)]

mod access;
pub mod audit;
pub mod caller;
pub mod client;
pub mod config;
pub mod endpoint;
pub mod gateway;
mod headers;
pub mod import;
mod incoming;
pub mod launch;
mod message;
pub mod packages;
pub mod pins;
pub mod serve;
mod sessions;
mod slots;
pub mod version;
pub mod watch;
pub mod wire;

pub use sessions::random_hex;
