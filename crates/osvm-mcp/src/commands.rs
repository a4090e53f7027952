//! What each command does.

use std::{env, error::Error, fs::File, net::SocketAddr, os::fd::AsFd, path::PathBuf, sync::Arc, time::Duration};

use osvm_mcp::{
    audit::Audit,
    caller::Caller,
    client::Connection,
    config::{self, Client, Config, DEFAULT_REQUESTS, Server},
    endpoint::Endpoint,
    gateway::Gateway,
    import, launch,
    packages::{self, Package},
    pins::{Pins, sha256},
    random_hex, serve,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufRead, BufReader},
    net::{TcpListener, unix::pipe::Receiver},
    signal::unix::{SignalKind, signal},
};

use crate::args::{Add, Args, Command};

/// Why a command failed.
pub(crate) struct Failure {
    pub(crate) line: String,
    pub(crate) exit: u8,
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { line: launch::words(&error), exit: 1 }
    }
}

fn usage(line: impl Into<String>) -> Failure {
    Failure { line: line.into(), exit: 2 }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let path = args.config.or_else(config::default_path);
    let path =
        path.ok_or_else(|| usage("no configuration: neither XDG_CONFIG_HOME nor HOME is set; give --config FILE"))?;
    if let Command::Schema = args.command {
        return print(&serde_json::to_value(schemars::schema_for!(Config))?);
    }
    let mut config = Config::load(&path).map_err(|error| Failure { exit: 2, ..error.into() })?;
    let pins = Pins::new(&state()?.join("mcp/pins"));
    match args.command {
        Command::Schema => {}
        Command::Add(add) => {
            let (name, server) = declared(add)?;
            let package = Package::of(&server.command).map_err(|error| usage(error.to_string()))?;
            if config.servers.insert(name.clone(), server).is_some() {
                return Err(usage(format!("there is a server {name:?} already: osvm mcp rm {name}")));
            }
            config.save(&path)?;
            match package {
                Some(_) => eprintln!("added {name}; install it: osvm mcp install {name}"),
                None => eprintln!("added {name}; look at its tools: osvm mcp tools {name}"),
            }
        }
        Command::Ls => {
            for (name, server) in &config.servers {
                println!("{name}\t{}", server.command.join(" "));
            }
        }
        Command::Rm { name } => {
            config.server(&name)?;
            config.servers.remove(&name);
            config.save(&path)?;
            // After the server, so that there is never one whose tools nobody approved.
            pins.forget(&name)?;
            match std::fs::remove_dir_all(folder()?.join(&name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Command::Import { file } => {
            for (name, server) in import::read(&file)? {
                if config.servers.contains_key(&name) {
                    eprintln!("note: {name} is there already and stays as it is");
                    continue;
                }
                eprintln!("added {name}, without any permission: {}", server.command.join(" "));
                config.servers.insert(name, server);
            }
            config.save(&path)?;
        }
        Command::Export { file } => {
            // `osvm` stands beside this program, or is found by the client.
            let beside = env::current_exe()?.with_file_name("osvm");
            let osvm = if beside.is_file() { beside } else { PathBuf::from("osvm") };
            let backup = import::export(&file, &config, &osvm)?;
            eprintln!("{} goes through osvm; as it was: {}", file.display(), backup.display());
        }
        Command::Tools { name, held } => {
            let connection = connect(&name, config.server(&name)?).await?;
            let listed = connection.list("tools/list", "tools", limit(config.server(&name)?)).await;
            connection.stop().await;
            let listed = listed?;
            let sorted = pins.sort(&name, listed.clone())?;
            let is_held = |tool: &Value| sorted.held.iter().any(|name| tool["name"] == name.as_str());
            print(&listed.into_iter().filter(|tool| is_held(tool) == held).collect::<Value>())?;
            if !held && !sorted.held.is_empty() {
                eprintln!("note: held until they are approved: {}", launch::plain(&sorted.held.join(", ")));
            }
        }
        Command::Approve { name } => {
            let connection = connect(&name, config.server(&name)?).await?;
            let listed = connection.list("tools/list", "tools", limit(config.server(&name)?)).await;
            connection.stop().await;
            pins.approve(&name, &listed?)?;
        }
        Command::Call { name, tool, json } => {
            let arguments: Value = serde_json::from_str(&json).map_err(|error| usage(format!("--json: {error}")))?;
            if !arguments.is_object() {
                return Err(usage("--json is an object, as in '{\"path\":\"/data\"}'"));
            }
            // Through the gateway, so that its rules hold here too.
            ask(config, &name, pins, "tools/call", json!({ "name": tool, "arguments": arguments })).await?;
        }
        Command::Resources { name } => ask(config, &name, pins, "resources/list", json!({})).await?,
        Command::Prompts { name } => ask(config, &name, pins, "prompts/list", json!({})).await?,
        Command::Token { name, server } => {
            for server in &server {
                config.server(server)?;
            }
            let token = random_hex()?;
            let servers = Some(server).filter(|servers| !servers.is_empty());
            let token_sha256 = sha256(token.as_bytes());
            let client = Client { token_sha256, servers, requests_a_minute: DEFAULT_REQUESTS };
            config.clients.insert(name, client);
            config.save(&path)?;
            println!("{token}");
        }
        Command::Install { name, allow, update } => {
            let package = Package::of(&config.server(&name)?.command)?;
            let package = package.ok_or_else(|| usage(format!("{name} is neither npx nor uvx: nothing to install")))?;
            let folder = folder()?.join(&name);
            packages::install(&env::current_exe()?, &folder, &package, &allow, update).await?;
            eprintln!("installed {name}; versions and hashes are locked in {}", folder.display());
        }
        Command::Serve { only, listen: None, .. } => {
            let gateway = Arc::new(gateway(config, only.as_deref(), pins)?);
            let served = tokio::select! {
                served = serve::serve(gateway.clone(), stdin(), tokio::io::stdout()) => served,
                () = gateway.tidy() => Ok(()),
            };
            gateway.stop().await;
            served?;
        }
        Command::Serve { only, listen: Some(at), host } => listen(config, only.as_deref(), pins, at, &host).await?,
    }
    Ok(())
}

fn gateway(config: Config, only: Option<&str>, pins: Pins) -> Result<Gateway, Failure> {
    let audit = Audit::open(&state()?.join("mcp/audit.jsonl"))?;
    Ok(Gateway::new(config, only, pins, Some(audit), folder()?, env::current_exe()?)?)
}

/// stdin, waited for as a pipe where it is one: without the thread that other files need. Nobody else reads from that end of it.
fn stdin() -> Box<dyn AsyncBufRead + Unpin + Send> {
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().and_then(|fd| Receiver::from_file(File::from(fd)));
    match pipe {
        Ok(pipe) => Box::new(BufReader::new(pipe)),
        Err(_) => Box::new(BufReader::new(tokio::io::stdin())),
    }
}

/// Serves over HTTP until it is told to end.
async fn listen(
    config: Config,
    only: Option<&str>,
    pins: Pins,
    at: SocketAddr,
    hosts: &[String],
) -> Result<(), Failure> {
    let listener = TcpListener::bind(at)
        .await
        .map_err(|error| Failure { line: format!("cannot listen at {at}: {error}"), exit: 1 })?;
    let at = listener.local_addr()?;
    let gateway = Arc::new(gateway(config.clone(), only, pins)?);
    let endpoint = Arc::new(Endpoint::new(gateway.clone(), &config, at, hosts).map_err(usage)?);
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    eprintln!("serving http://{at}/mcp");
    let served = tokio::select! {
        served = endpoint.serve(listener) => served,
        () = gateway.tidy() => Ok(()),
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    };
    gateway.stop().await;
    Ok(served?)
}

/// Where packages are installed.
fn folder() -> Result<PathBuf, Failure> {
    Ok(state()?.join("mcp/packages"))
}

async fn connect(name: &str, server: &Server) -> Result<Connection, Failure> {
    let older = server.protocol.is_some_and(config::Protocol::is_older);
    Ok(Connection::start(
        &env::current_exe()?,
        &launch::spec(name, server, &folder()?)?,
        older,
        Connection::updates().0,
    )
    .await?)
}

async fn ask(config: Config, name: &str, pins: Pins, method: &str, params: Value) -> Result<(), Failure> {
    let gateway = gateway(config, Some(name), pins)?;
    let answer = gateway.handle(method, params, &Caller::plain("cli")).await;
    gateway.stop().await;
    let answer = answer?;
    print(&answer)?;
    match answer["isError"] {
        Value::Bool(true) => Err(Failure { line: "the tool reports an error".to_owned(), exit: 1 }),
        _ => Ok(()),
    }
}

fn declared(add: Add) -> Result<(String, Server), Failure> {
    let mut server = Server::new(add.command);
    for variable in add.env {
        let (name, value) = variable.split_once('=').ok_or_else(|| usage("a variable is NAME=VALUE"))?;
        server.env.insert(name.to_owned(), value.to_owned());
    }
    let absolute = |paths: Vec<PathBuf>| paths.into_iter().map(std::path::absolute).collect::<Result<Vec<_>, _>>();
    server.read = absolute(add.read)?;
    server.write = absolute(add.write)?;
    server.allow = add.allow;
    server.memory = add.memory;
    server.tools = Some(add.tool).filter(|tools| !tools.is_empty());
    Ok((add.name, server))
}

fn limit(server: &Server) -> Duration {
    Duration::from_secs(server.call_seconds)
}

/// The state folder, as `osvm` has it.
fn state() -> Result<PathBuf, Failure> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let found = set("OSVM_HOME").or_else(|| set("XDG_STATE_HOME").map(|state| state.join("osvm")));
    let found = found.or_else(|| set("HOME").map(|home| home.join(".local/state/osvm")));
    found.ok_or_else(|| usage("no state folder: neither XDG_STATE_HOME nor HOME is set; set OSVM_HOME"))
}

fn print(document: &Value) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(document)?);
    Ok(())
}
