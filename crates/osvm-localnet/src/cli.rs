//! The command line of `osvm-localnet`.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{ArgAction, Parser, ValueEnum};
use osvm_bank::ProgramLoader;
use osvm_model::{defaults, handover};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    fixtures::{self, FixtureError},
    limits::{self, Limits},
    logging::{self, Format},
    methods::{METHODS, feature_set},
    node::{SOLANA_VERSION, VERSION},
    pubsub,
    server::{Bind, Options, Server, StartError},
};

const LAMPORTS_PER_SOL: f64 = 1_000_000_000.0;
/// Threads for scans, disk reads and the bank's blocking calls.
const BLOCKING_THREADS: usize = 64;

/// A Solana node on this machine: JSON-RPC, subscriptions, a ledger that survives, state that can be handed over.
#[derive(Debug, Parser)]
#[command(name = "osvm-localnet", version, about, max_term_width = 110)]
pub struct Args {
    /// Address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "IP")]
    bind: IpAddr,
    /// Port of JSON-RPC. Subscriptions are on the next one. 0 takes any two.
    #[arg(long, default_value_t = defaults::RPC_PORT, value_name = "PORT")]
    rpc_port: u16,
    /// Port of the hand-over contract, on the loopback interface.
    #[arg(long, env = handover::ENV_CONTROL_PORT, value_name = "PORT")]
    control_port: Option<u16>,
    /// Port of replication streams, on the loopback interface.
    #[arg(long, env = handover::ENV_REPLICATION_PORT, value_name = "PORT")]
    replication_port: Option<u16>,
    /// Unix socket to serve on instead of TCP, as the guest side of hybrid vsock.
    #[arg(long, env = handover::ENV_VSOCK, value_name = "SOCKET")]
    vsock: Option<PathBuf>,

    /// Folder of the ledger; made if it is not there.
    #[arg(long, short, env = handover::ENV_STATE, default_value = "test-ledger", value_name = "DIR")]
    ledger: PathBuf,
    /// Delete the ledger first.
    #[arg(long, short)]
    reset: bool,
    /// Whether to lead at once, or to follow a leader until it hands over.
    #[arg(long, env = handover::ENV_ROLE, default_value = "leader", value_name = "ROLE")]
    role: RoleArg,
    /// Lead even if the ledger was handed over to another node: that one cannot lead any more.
    #[arg(long, env = handover::ENV_SOLE, value_parser = clap::builder::FalseyValueParser::new())]
    sole: bool,

    /// Length of a slot in milliseconds.
    #[arg(long, default_value_t = defaults::SLOT.as_millis() as u64, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    slot_ms: u64,
    /// Slots between confirmed and finalized.
    #[arg(long, default_value_t = osvm_bank::DEFAULT_FINALITY_SLOTS, value_name = "SLOTS", value_parser = clap::value_parser!(u64).range(0..=100_000))]
    finality_slots: u64,
    /// Slots of history to keep at least.
    #[arg(long, default_value_t = osvm_bank::DEFAULT_HISTORY_SLOTS, value_name = "SLOTS", value_parser = clap::value_parser!(u64).range(osvm_bank::MIN_HISTORY_SLOTS..))]
    limit_ledger_slots: u64,
    /// SOL in the faucet of a new ledger.
    #[arg(long, value_name = "SOL", value_parser = sol)]
    faucet_sol: Option<u64>,
    /// Who gets as many SOL as the faucet in a new ledger: an address or a keypair file.
    #[arg(long, value_name = "ADDRESS")]
    mint: Option<String>,

    /// Load an account from a file as `solana account --output json` writes it; `-` takes the file's own address.
    #[arg(long, num_args = 2, value_names = ["ADDRESS", "FILE"], action = ArgAction::Append)]
    account: Vec<String>,
    /// Load every account file of a folder.
    #[arg(long, value_name = "DIR", action = ArgAction::Append)]
    account_dir: Vec<PathBuf>,
    /// Load a program that cannot be changed.
    #[arg(long, num_args = 2, value_names = ["ADDRESS", "ELF"], action = ArgAction::Append)]
    bpf_program: Vec<String>,
    /// Load a program that AUTHORITY (or `none`) may upgrade.
    #[arg(long, num_args = 3, value_names = ["ADDRESS", "ELF", "AUTHORITY"], action = ArgAction::Append)]
    upgradeable_program: Vec<String>,

    /// Bytes of a request's body.
    #[arg(long, default_value_t = limits::BODY_BYTES, value_name = "BYTES")]
    limit_body: usize,
    /// Calls in a batch.
    #[arg(long, default_value_t = limits::BATCH, value_name = "CALLS")]
    limit_batch: usize,
    /// Bytes of an answer.
    #[arg(long, default_value_t = limits::RESPONSE_BYTES, value_name = "BYTES")]
    limit_response: usize,
    /// HTTP connections at once.
    #[arg(long, default_value_t = limits::HTTP_CONNECTIONS, value_name = "N")]
    limit_connections: usize,
    /// Scans (getProgramAccounts and its kin) running at once.
    #[arg(long, default_value_t = limits::SCANS, value_name = "N", value_parser = positive)]
    limit_scans: usize,
    /// WebSocket connections at once.
    #[arg(long, default_value_t = limits::WS_CONNECTIONS, value_name = "N")]
    limit_ws_connections: usize,
    /// Subscriptions of all connections.
    #[arg(long, default_value_t = limits::SUBSCRIPTIONS, value_name = "N")]
    limit_subscriptions: usize,
    /// Subscriptions of one connection.
    #[arg(long, default_value_t = limits::SUBSCRIPTIONS_PER_CONNECTION, value_name = "N")]
    limit_connection_subscriptions: usize,
    /// Notifications that may wait for one connection.
    #[arg(long, default_value_t = limits::WS_QUEUE, value_name = "N", value_parser = positive)]
    limit_ws_queue: usize,

    /// How log lines are written on standard error.
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    log_format: Format,
    /// Only warnings and errors on standard error, and no line on standard output.
    #[arg(long, short)]
    quiet: bool,
    /// Taken for scripts that pass it to solana-test-validator; vote subscriptions are always open.
    #[arg(long, hide = true)]
    rpc_pubsub_enable_vote_subscription: bool,
    /// Print every method and subscription, and end.
    #[arg(long)]
    list_methods: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    Leader,
    Standby,
}

fn sol(text: &str) -> Result<u64, String> {
    let sol: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let lamports = sol * LAMPORTS_PER_SOL;
    // Half of what fits, so that sums of balances fit too.
    if lamports >= 0.0 && lamports <= (u64::MAX / 2) as f64 {
        Ok(lamports as u64)
    } else {
        Err("out of range".to_owned())
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("use 1 or more".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// Why the node did not run.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot use the ledger folder {}; choose another with --ledger", path.display())]
    Ledger {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
}

impl Args {
    fn options(&self) -> Result<Options, Failure> {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let ws_port = if self.rpc_port == 0 { 0 } else { self.rpc_port.wrapping_add(1) };
        let bind = match &self.vsock {
            Some(path) => Bind::Vsock(path.clone()),
            None => Bind::Tcp {
                rpc: SocketAddr::new(self.bind, self.rpc_port),
                ws: SocketAddr::new(self.bind, ws_port),
                control: self.control_port.map(loopback),
                replication: self.replication_port.map(loopback),
            },
        };
        let mut accounts = Vec::new();
        for folder in &self.account_dir {
            accounts.extend(fixtures::accounts_in(folder)?);
        }
        for pair in self.account.chunks_exact(2) {
            accounts.push(fixtures::account(&pair[0], Path::new(&pair[1]))?);
        }
        let mut programs = Vec::new();
        for pair in self.bpf_program.chunks_exact(2) {
            programs.push(fixtures::program(&pair[0], Path::new(&pair[1]), ProgramLoader::V2)?);
        }
        for three in self.upgradeable_program.chunks_exact(3) {
            let authority = if three[2] == "none" { None } else { Some(fixtures::address(&three[2])?) };
            programs.push(fixtures::program(
                &three[0],
                Path::new(&three[1]),
                ProgramLoader::Upgradeable { authority },
            )?);
        }
        let bank = osvm_bank::Config {
            state_dir: Some(self.ledger.clone()),
            slot: Duration::from_millis(self.slot_ms),
            finality_slots: self.finality_slots,
            role: match self.role {
                RoleArg::Leader => handover::Role::Leader,
                RoleArg::Standby => handover::Role::Standby,
            },
            sole: self.sole,
            faucet_lamports: self.faucet_sol.unwrap_or(osvm_bank::DEFAULT_FAUCET_LAMPORTS),
            mint: self.mint.as_deref().map(fixtures::address).transpose()?,
            accounts,
            programs,
            history_slots: self.limit_ledger_slots,
            reset: self.reset,
            ..osvm_bank::Config::default()
        };
        let limits = Limits {
            body_bytes: self.limit_body,
            batch: self.limit_batch,
            response_bytes: self.limit_response,
            http_connections: self.limit_connections,
            scans: self.limit_scans,
            ws_connections: self.limit_ws_connections,
            subscriptions_per_connection: self.limit_connection_subscriptions,
            subscriptions: self.limit_subscriptions,
            ws_queue: self.limit_ws_queue,
        };
        Ok(Options { bind, bank, limits })
    }
}

/// Runs the node until it is told to stop.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if args.list_methods {
        print!("{}", list());
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("osvm-localnet: {}", line(&failure));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line.
fn line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(line, ": {error}");
        cause = error.source();
    }
    line
}

fn run(args: &Args) -> Result<(), Failure> {
    let options = args.options()?;
    let ledger = |source| Failure::Ledger { path: args.ledger.clone(), source };
    fs::create_dir_all(&args.ledger).map_err(ledger)?;
    logging::start(args.log_format, args.quiet, &args.ledger).map_err(ledger)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(Failure::Runtime)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;
        let server = Server::start(options).await?;
        announce(args, &server);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        server.stop().await?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Says where it serves, once it does.
fn announce(args: &Args, server: &Server) {
    let status = server.bank().status();
    let place = match (server.rpc_address(), server.ws_address()) {
        (Some(rpc), Some(ws)) => format!("JSON-RPC at http://{rpc}, subscriptions at ws://{ws}"),
        _ => format!("vsock at {}", args.vsock.as_deref().unwrap_or(Path::new("?")).display()),
    };
    let mut more = String::new();
    for (name, address) in [("control", server.control_address()), ("replication", server.replication_address())] {
        if let Some(address) = address {
            let _ = write!(more, ", {name} at {address}");
        }
    }
    let role = match status.role {
        handover::Role::Leader => "leads",
        handover::Role::Standby => "follows",
    };
    // Tools look for these in validator.log, in these words.
    tracing::info!(
        "osvm-localnet {VERSION} on the crates of agave-validator {SOLANA_VERSION} (feat:{:08x})",
        feature_set()
    );
    tracing::info!("genesis hash: {}", status.genesis_hash);
    tracing::info!("identity pubkey: {}", server.bank().view().identity());
    tracing::info!(slot = status.slot, "{role}: {place}{more}");
    if !args.quiet {
        println!("osvm-localnet {VERSION} {role}: {place}{more}, ledger in {}", args.ledger.display());
    }
}

fn list() -> String {
    let mut text = String::new();
    for method in METHODS {
        let _ = writeln!(text, "{}\t{}", method.name, method.summary);
    }
    for name in pubsub::names() {
        let _ = writeln!(text, "{name}\tWebSocket");
    }
    text
}
