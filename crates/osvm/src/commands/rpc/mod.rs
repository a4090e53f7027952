//! `osvm rpc local`: a local Solana node behind the gateway.
//!
//! Starts the daemon if none runs, declares the service, waits until its checks passed, prints where it serves, and serves until
//! Ctrl-C.

mod serve;
mod spec;

use std::{
    cell::Cell,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use osvm_control::paths::Paths;
use osvm_model::{
    InstanceState, IsolationLevel, IsolationRequest, ListenerProtocol, PortSpec, ServiceName, ServiceSpec,
    ServiceStatus,
    api::{Ready, SCHEMA},
    defaults,
};

use crate::{
    cli::Context,
    daemon_process::{Found, find_or_start},
    failure::Failure,
    format,
};
use serve::Interrupts;

#[derive(Debug, Args)]
pub(crate) struct RpcArgs {
    #[command(subcommand)]
    command: RpcCommand,
}

#[derive(Debug, Subcommand)]
enum RpcCommand {
    /// Run a local Solana node: JSON-RPC and subscriptions, replaced by `osvm swap` without dropping a request
    Local(Box<LocalArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// Port of JSON-RPC on 127.0.0.1; subscriptions are on the next one
    #[arg(long, value_name = "PORT", default_value_t = defaults::RPC_PORT, value_parser = clap::value_parser!(u16).range(1..=65534))]
    pub(crate) port: u16,

    /// Return once the node serves
    #[arg(long)]
    pub(crate) detach: bool,

    /// What isolates the node from this host: auto, none, process, microvm or unikernel; never less than asked for
    #[arg(long, value_name = "LEVEL", default_value = "auto")]
    pub(crate) isolation: IsolationRequest,

    /// Lets an isolated node read this file or folder too, at the same path; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) read: Vec<PathBuf>,

    /// The most memory that an isolated node may use: bytes, or with K, M, G [default: half of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = osvm_model::parse_size)]
    pub(crate) memory: Option<u64>,

    /// The service's name
    #[arg(long, default_value = "rpc-local")]
    pub(crate) name: ServiceName,

    /// The node's program [default: osvm-localnet beside osvm, or in PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) artifact: Option<PathBuf>,

    /// Remove the state of an earlier run first
    #[arg(long)]
    pub(crate) reset: bool,

    /// Time of a slot, in milliseconds [default: 400]
    #[arg(long, value_name = "MS", help_heading = "Node")]
    pub(crate) slot_ms: Option<u64>,

    /// Slots until a block is final [default: the node's]
    #[arg(long, value_name = "N", help_heading = "Node")]
    pub(crate) finality_slots: Option<u64>,

    /// What the faucet holds at genesis, in SOL [default: the node's]
    #[arg(long, value_name = "SOL", help_heading = "Node")]
    pub(crate) faucet_sol: Option<u64>,

    /// Account that holds tokens at genesis, an address
    #[arg(long, value_name = "ADDR", help_heading = "Node")]
    pub(crate) mint: Option<String>,

    /// Account from a JSON file as `solana account --output json` writes it
    #[arg(long, num_args = 2, value_names = ["ADDR", "FILE"], action = clap::ArgAction::Append, help_heading = "Node")]
    pub(crate) account: Vec<String>,

    /// Folder of account files
    #[arg(long, value_name = "DIR", help_heading = "Node")]
    pub(crate) account_dir: Vec<PathBuf>,

    /// Program that cannot be upgraded, from an ELF file
    #[arg(long, num_args = 2, value_names = ["ADDR", "FILE"], action = clap::ArgAction::Append, help_heading = "Node")]
    pub(crate) bpf_program: Vec<String>,

    /// Program that AUTHORITY (an address, or none) may upgrade, from an ELF file
    #[arg(long, num_args = 3, value_names = ["ADDR", "FILE", "AUTHORITY"], action = clap::ArgAction::Append, help_heading = "Node")]
    pub(crate) upgradeable_program: Vec<String>,

    /// Further arguments of the node, behind `--`
    #[arg(last = true, value_name = "NODE_ARGS")]
    pub(crate) node_args: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: RpcArgs) -> Result<(), Failure> {
    let RpcCommand::Local(args) = args.command;
    local(context, &args).await
}

async fn local(context: &Context, args: &LocalArgs) -> Result<(), Failure> {
    let began = Instant::now();
    let spec = spec::of(args)?;
    // The interrupt is watched from here on, so that an early Ctrl-C leaves nothing behind either.
    let mut interrupts = Interrupts::new()?;
    let progress = context.printer.progress("starting");
    let found = find_or_start(&context.state_dir).await?;
    let declared = Cell::new(false);
    let outcome = tokio::select! {
        outcome = bring_up(&found, args, &spec, &declared) => outcome,
        () = interrupts.next() => Err(Failure::new(format!("interrupted while {} started", args.name))),
    };
    let ready = match outcome {
        Ok(status) => ready(context, args, &status, began),
        Err(failure) => Err(failure),
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(failure) => {
            progress.say("stopping");
            serve::clean_up(&found, declared.get().then_some(&args.name)).await;
            return Err(failure);
        }
    };
    drop(progress);
    tell(context, args, &ready)?;
    if args.detach { Ok(()) } else { serve::until_interrupted(context, found, &args.name, interrupts).await }
}

/// Declares the service and waits until its checks passed.
async fn bring_up(
    found: &Found,
    args: &LocalArgs,
    spec: &ServiceSpec,
    declared: &Cell<bool>,
) -> Result<ServiceStatus, Failure> {
    let client = &found.client;
    let services = client.services().await?.services;
    let known = services.into_iter().find(|service| service.name == args.name);
    if let Some(known) = &known {
        // A daemon that this command had to start found the node of one that died: to go on with it is what was asked for.
        let adopted = found.started && known.spec == *spec && !args.reset;
        if known.wanted && !adopted {
            return Err(serves_already(known));
        }
        if args.reset {
            client.remove(&args.name).await?;
        }
    }
    declared.set(true);
    client.declare(spec).await?;
    Ok(client.ready(&args.name, Duration::from_millis(spec.rollout.health_timeout_ms)).await?)
}

fn serves_already(known: &ServiceStatus) -> Failure {
    let urls: Vec<_> = known.spec.ports.iter().map(url_of).collect();
    let process = known.instances.iter().find_map(|instance| instance.pid);
    let process = process.map_or_else(String::new, |pid| format!(" (process {pid})"));
    Failure::new(format!("{} runs already: {}{process}", known.name, urls.join(" "))).help(format!(
        "use it; or osvm swap {0} to replace it, osvm stop {0} to stop it, --name and --port for a second one",
        known.name
    ))
}

/// What the node is reached at, once its checks passed.
fn ready(context: &Context, args: &LocalArgs, status: &ServiceStatus, began: Instant) -> Result<Ready, Failure> {
    let serving = status.instances.iter().find(|instance| instance.state == InstanceState::Ready);
    let (Some(serving), Some(pid)) = (serving, serving.and_then(|serving| serving.pid)) else {
        return Err(Failure::new(format!("{} passed its checks, but its instance is gone", args.name))
            .help(format!("osvm events {}", args.name)));
    };
    let url = |name: &str| status.spec.ports.iter().find(|port| port.name == name).map(url_of).unwrap_or_default();
    Ok(Ready {
        schema: SCHEMA.to_owned(),
        event: "ready".to_owned(),
        name: args.name.to_string(),
        rpc_url: url(spec::RPC),
        ws_url: url(spec::WS),
        isolation: serving.level,
        pid,
        revision: status.revision.0,
        ready_ms: began.elapsed().as_millis() as u64,
        state_dir: context.state_dir.clone(),
        stop: if args.detach { format!("osvm stop {}", args.name) } else { "Ctrl-C".to_owned() },
    })
}

fn tell(context: &Context, args: &LocalArgs, ready: &Ready) -> Result<(), Failure> {
    let printer = &context.printer;
    if printer.is_json() {
        return printer.json(ready);
    }
    let level = level_line(ready.isolation);
    printer.labelled("node", &format!("{}  revision {}  {level}", ready.name, ready.revision))?;
    printer.labelled("rpc", &format!("{}        {}", ready.rpc_url, ready.ws_url))?;
    let state = format::path(&Paths::new(&context.state_dir).service(&args.name));
    printer.labelled("ready", &format!("in {} ms   state {state}", osvm_model::number(ready.ready_ms)))?;
    let cluster = if args.port == defaults::RPC_PORT { "localhost" } else { &ready.rpc_url };
    let stop = if args.detach { format!("osvm stop {0}", ready.name) } else { "Ctrl-C stops".to_owned() };
    printer.labelled("try", &format!("solana -u {cluster} airdrop 2        osvm swap {}        {stop}", ready.name))
}

/// What a level means, in words that claim no more than it gives.
pub(crate) fn level_line(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::None => "none (an ordinary process: nothing isolates it from this host)",
        IsolationLevel::Process => "process (a jail: it shares this host's kernel)",
        IsolationLevel::Microvm => "microvm on /dev/kvm (hardware isolation)",
        IsolationLevel::Unikernel => "unikernel on /dev/kvm (hardware isolation)",
    }
}

/// The URL that clients use for a port.
pub(crate) fn url_of(port: &PortSpec) -> String {
    let scheme = match (port.protocol, &port.tls) {
        (ListenerProtocol::Http, None) => "http",
        (ListenerProtocol::Http, Some(_)) => "https",
        (ListenerProtocol::SolanaPubsub, None) => "ws",
        (ListenerProtocol::SolanaPubsub, Some(_)) => "wss",
        (ListenerProtocol::Tcp, _) => "tcp",
    };
    format!("{scheme}://{}", port.listen)
}
