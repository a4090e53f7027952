//! `osvm logs NAME`: what a service's instance wrote to stdout and stderr.

use clap::Args;
use osvm_control::Client;
use osvm_model::ServiceName;

use crate::{cli::Context, failure::Failure};

/// Lines shown unless the user says how many.
const LINES: u64 = 200;

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The service
    name: ServiceName,
    /// Go on and show each new line, of the instances that follow too
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = LINES)]
    lines: u64,
}

pub(crate) async fn run(context: &Context, args: &LogsArgs) -> Result<(), Failure> {
    let mut lines = Client::new(&context.state_dir).logs(&args.name, args.lines, args.follow).await?;
    loop {
        tokio::select! {
            next = lines.next() => match next {
                Some(line) => {
                    let line = line?;
                    if context.printer.is_json() {
                        context.printer.json(&line)?;
                    } else {
                        context.printer.line(&line.line)?;
                    }
                }
                None => return Ok(()),
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
