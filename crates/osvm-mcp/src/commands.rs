//! What each command does.

use std::{env, error::Error, path::PathBuf, sync::Arc, time::Duration};

use osvm_mcp::{
    client::Connection,
    config::{self, Config, Server},
    gateway::Gateway,
    import, launch,
    pins::Pins,
    serve,
};
use serde_json::{Value, json};
use tokio::io::BufReader;

use crate::args::{Add, Args, Command};

/// Why a command failed.
pub(crate) struct Failure {
    pub(crate) line: String,
    pub(crate) exit: u8,
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut line = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            line.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self { line, exit: 1 }
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
            if config.servers.insert(name.clone(), server).is_some() {
                return Err(usage(format!("there is a server {name:?} already: osvm mcp rm {name}")));
            }
            config.save(&path)?;
            eprintln!("added {name}; look at its tools: osvm mcp tools {name}");
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
            let connection = connect(config.server(&name)?).await?;
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
            let connection = connect(config.server(&name)?).await?;
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
        Command::Serve { only } => {
            let gateway = Arc::new(Gateway::new(config, only.as_deref(), pins, env::current_exe()?)?);
            let served = serve::serve(gateway.clone(), BufReader::new(tokio::io::stdin()), tokio::io::stdout()).await;
            gateway.stop().await;
            served?;
        }
    }
    Ok(())
}

async fn connect(server: &Server) -> Result<Connection, Failure> {
    Ok(Connection::start(&env::current_exe()?, &launch::spec(server)?).await?)
}

async fn ask(config: Config, name: &str, pins: Pins, method: &str, params: Value) -> Result<(), Failure> {
    let gateway = Gateway::new(config, Some(name), pins, env::current_exe()?)?;
    let answer = gateway.handle(method, params).await;
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
