//! The command line: global options, the list of commands, and the way from one to its code.

use std::{ffi::OsString, future::Future, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    commands::{
        completions, daemon, doctor, down, events, gateway, lifecycle, logs, ps, rpc, schema, stats, status, swap,
        version,
    },
    external,
    failure::Failure,
    output::{Format, Printer},
    reference, state_dir,
};

/// Runs services in sandboxes and replaces them without dropping a request
#[derive(Debug, Parser)]
#[command(
    name = "osvm",
    version,
    disable_help_subcommand = true,
    infer_long_args = false,
    after_help = "osvm NAME runs osvm-NAME, from beside osvm or from PATH: `osvm program deploy FILE`.\n\
                  Exit codes: 0 done, 1 failed, 2 usage, 3 refused for isolation."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// State folder; one has one daemon and one gateway [default: $XDG_STATE_HOME/osvm or ~/.local/state/osvm]
    #[arg(long, global = true, env = "OSVM_HOME", hide_env_values = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Form of the output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Solana RPC nodes
    #[command(visible_alias = "rpc-manager")]
    Rpc(rpc::RpcArgs),
    /// List what runs
    Ps,
    /// Show what instances use of the machine
    Stats(stats::StatsArgs),
    /// Show a service, its instances and its last rollout
    Status(status::StatusArgs),
    /// Replace a service's instance by a new one without dropping a request
    Swap(swap::SwapArgs),
    /// Go back to the revision that served before
    Rollback(swap::RollbackArgs),
    /// Show what happened
    Events(events::EventsArgs),
    /// Show what a service's instance wrote
    Logs(logs::LogsArgs),
    /// Stop a service; it keeps its state
    Stop(lifecycle::NameArgs),
    /// Start a stopped service on its state
    Start(lifecycle::NameArgs),
    /// End a service's instance and start another on its state
    Restart(lifecycle::NameArgs),
    /// Stop a service and remove it with its state
    Rm(lifecycle::NameArgs),
    /// Stop all services, the gateway and the daemon
    Down,
    /// Say what this host can do
    Doctor(doctor::DoctorArgs),
    /// Run the control plane (started by itself when needed)
    Daemon,
    /// Run the data plane (started by the daemon)
    Gateway(gateway::GatewayArgs),
    /// Print the completion script of a shell
    Completions(completions::CompletionsArgs),
    /// Print the JSON schemas of service specs and outputs
    Schema(schema::SchemaArgs),
    /// Print the version
    Version,
    /// Print the reference of the command line, docs/cli.md
    #[command(hide = true)]
    Reference,
    /// Any other name: a program beside osvm or in PATH
    #[command(external_subcommand)]
    External(Vec<OsString>),
}

/// What a command needs beside its own arguments.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) printer: Printer,
    pub(crate) state_dir: PathBuf,
}

/// Runs the command and says how it ended.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let printer = Printer::new(cli.global.output);
    match dispatch(cli, printer.clone()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}

fn dispatch(cli: Cli, printer: Printer) -> Result<(), Failure> {
    // These need no state folder.
    match &cli.command {
        Command::Completions(args) => return completions::run(args),
        Command::Schema(args) => return schema::run(args, &printer),
        Command::Version => return version::run(&printer),
        Command::Reference => return reference::run(&printer),
        Command::Gateway(args) => return gateway::run(args.clone()),
        Command::External(words) => return Err(external::run(words, cli.global.state_dir.as_deref(), &printer)),
        _ => {}
    }
    let context = Context { printer, state_dir: state_dir::resolve(cli.global.state_dir.as_deref())? };
    match cli.command {
        Command::Daemon => daemon::run(&context),
        Command::Rpc(args) => wait(rpc::run(&context, args)),
        Command::Ps => wait(ps::run(&context)),
        Command::Stats(args) => wait(stats::run(&context, &args)),
        Command::Status(args) => wait(status::run(&context, &args)),
        Command::Swap(args) => wait(swap::swap(&context, args)),
        Command::Rollback(args) => wait(swap::rollback(&context, &args)),
        Command::Events(args) => wait(events::run(&context, &args)),
        Command::Logs(args) => wait(logs::run(&context, &args)),
        Command::Stop(args) => wait(lifecycle::stop(&context, &args)),
        Command::Start(args) => wait(lifecycle::start(&context, &args)),
        Command::Restart(args) => wait(lifecycle::restart(&context, &args)),
        Command::Rm(args) => wait(lifecycle::remove(&context, &args)),
        Command::Down => wait(down::run(&context)),
        Command::Doctor(args) => wait(doctor::run(&context, &args)),
        Command::Completions(_)
        | Command::Schema(_)
        | Command::Version
        | Command::Reference
        | Command::Gateway(_)
        | Command::External(_) => Ok(()),
    }
}

/// A command talks to one daemon: one thread is enough.
fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new("cannot start the async runtime").because(&error))?.block_on(command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
