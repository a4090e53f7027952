//! The gateway by itself: `gateway --admin PATH`, or `gateway --config routes.json`.
#![forbid(unsafe_code)]

use clap::Parser;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: osvm_gateway::Args,
}

fn main() -> Result<(), osvm_gateway::Error> {
    osvm_gateway::run(Command::parse().args)
}
