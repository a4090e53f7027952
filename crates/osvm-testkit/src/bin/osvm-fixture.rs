//! `osvm-fixture service|daemon|gateway`: the processes of a test.
#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use osvm_control::{Basic, GatewayCommand, Options};
use osvm_testkit::service::{self, Misbehaviour};

#[derive(Parser)]
enum Command {
    /// The service, as an instance.
    Service {
        /// How it goes wrong.
        #[arg(long, value_enum)]
        misbehave: Option<Misbehaviour>,
    },
    /// The control plane, with this program as its gateway.
    Daemon {
        /// The state folder.
        state_dir: PathBuf,
    },
    /// The gateway.
    Gateway(osvm_gateway::Args),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Service { misbehave } => service::run(misbehave).map_err(|error| error.to_string()),
        Command::Daemon { state_dir } => daemon(state_dir).map_err(|error| error.to_string()),
        Command::Gateway(args) => osvm_gateway::run(args).map_err(|error| error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn daemon(state_dir: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    let gateway = GatewayCommand { program: std::env::current_exe()?, args: vec!["gateway".to_owned()] };
    // The line that tells the test that the socket answers.
    osvm_control::run(Options { state_dir, gateway, checker: Arc::new(Basic) }, || println!("ready"))?;
    Ok(())
}
