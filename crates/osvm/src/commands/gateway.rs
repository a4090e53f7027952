//! `osvm gateway`: the data plane, in the foreground. The daemon starts it; with `--config` it also runs alone.

use std::error::Error;

use crate::{failure::Failure, logging};

pub(crate) type GatewayArgs = osvm_gateway::Args;

pub(crate) fn run(args: GatewayArgs) -> Result<(), Failure> {
    logging::start();
    osvm_gateway::run(args).map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error.source() {
            Some(source) => failure.because(source),
            None => failure,
        }
    })
}
