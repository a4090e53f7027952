//! `osvm audit`: the command line of the auditor, and all that it writes.
//!
//! Exit codes: 0 clean, 1 findings at or over the bar, 2 the audit could not be made, 4 something was not analysed and `--strict`
//! was given. Findings go before what was not analysed.
#![forbid(unsafe_code)]

mod ai;
mod audit;
mod baseline;
mod chain;
mod cli;
mod commands;
mod config;
mod failure;
mod fingerprint;
mod host;
mod lsp;
mod output;
#[cfg(test)]
mod robust;
mod rules;
mod since;
mod sources;
mod suppress;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{BaselineCommand, Cli, Command, DbCommand},
    failure::{CLEAN, Failure, USAGE},
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { CLEAN });
        }
    };
    ExitCode::from(run(cli).unwrap_or_else(|failure| failure.tell()))
}

fn run(cli: Cli) -> Result<u8, Failure> {
    let Some(command) = cli.command else { return commands::audit::run(&cli.audit) };
    match command {
        Command::Rules { json } => commands::rules::list(json)?,
        Command::Explain { rule } => commands::rules::explain(&rule)?,
        Command::Fix(args) => return commands::fix::run(&args),
        Command::Baseline(BaselineCommand::Update { path, file, config, db }) => {
            commands::baseline::update(&path, file, config.as_deref(), db)?;
        }
        Command::Db(DbCommand::Update { from, db }) => commands::db::update(&from, db)?,
        Command::Db(DbCommand::Show { db }) => commands::db::show(db)?,
        Command::Lsp => lsp::serve()?,
        Command::Schema => output::print(&output::pretty(&schemars::schema_for!(audit::Audit))?)?,
    }
    Ok(CLEAN)
}
