//! Load generators and benches, at full length by `cargo xtask bench NAME` and short in the tests.
//!
//! A bench starts the real product in a temporary state folder, puts load on it from a process of its own, checks what it
//! claims, prints a table, and writes JSON. It fails (exit 1) when a claim does not hold. Nothing here ships.
#![forbid(unsafe_code)]

mod benches;
mod broken;
mod error;
mod load;
mod plot;
mod process;
mod product;
mod rpc;
mod stats;
mod verify;
mod wallet;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::Error;

#[derive(Parser)]
#[command(about = "Benches and load generators of osvm")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Swaps the node under load, then swaps it for five broken ones
    Swap(benches::swap::Args),
    /// Kills daemon, gateway and node at random under load
    Fault(benches::fault::Args),
    /// Compares the gateway with HAProxy and nginx as the same reverse proxy
    Gateway(benches::gateway::Args),
    /// Measures the node alone
    Localnet(benches::localnet::Args),
    /// Compares the jail of level process with bubblewrap, and work inside with work outside
    Jail(benches::jail::Args),
    /// Measures VMs of level unikernel beside bubblewrap and the bare program
    Unikernel(benches::unikernel::Args),
    /// Compares an MCP server in a jail behind the gateway with the same as a bare child process
    Mcp(benches::mcp::Args),
    /// Measures the auditor beside a peer on the same code, and how soon it tells after an edit
    Audit(benches::audit::Args),
    /// Works and says how long it took (the jail's bench runs it inside)
    Work(benches::jail::Work),
    /// The load generator (the benches start it as a process of its own)
    Load(load::Args),
}

fn main() -> ExitCode {
    // A copy of this program with a note at its end is a broken node: see broken.rs.
    if let Some(note) = broken::note_in_this_program() {
        return broken::run(note);
    }
    let done = match Cli::parse().command {
        Command::Swap(args) => with_runtime(2, benches::swap::run(args)),
        Command::Fault(args) => with_runtime(2, benches::fault::run(args)),
        Command::Gateway(args) => benches::gateway::run(&args),
        Command::Localnet(args) => with_runtime(2, benches::localnet::run(args)),
        Command::Jail(args) => benches::jail::run(&args),
        Command::Unikernel(args) => benches::unikernel::run(&args),
        Command::Mcp(args) => benches::mcp::run(&args),
        Command::Audit(args) => benches::audit::run(&args),
        Command::Work(work) => benches::jail::work(&work),
        Command::Load(args) => with_runtime(args.threads, load::run(args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn with_runtime(threads: usize, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
        .map_err(|source| Error::io("start the runtime", source))?
        .block_on(work)
}
