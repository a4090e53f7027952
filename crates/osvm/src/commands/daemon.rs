//! `osvm daemon`: the control plane, in the foreground, for systemd or for the command that started it.

use std::sync::Arc;

use osvm_control::{Daemon, GatewayCommand, Options};
use tokio::signal::unix::{SignalKind, signal};

use crate::{checker::AllChecks, cli::Context, daemon_process, failure::Failure, logging, notify};

pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    logging::start();
    let gateway = GatewayCommand { program: daemon_process::own_program()?, args: vec!["gateway".to_owned()] };
    let options = Options { state_dir: context.state_dir.clone(), gateway, checker: Arc::new(AllChecks) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("cannot start the async runtime").because(&error))?;
    runtime.block_on(async {
        let daemon = Daemon::open(options).await?;
        notify::tell(notify::READY);
        tokio::spawn(announce_end());
        daemon.serve().await?;
        Ok(())
    })
}

/// Tells the service manager as soon as the end is asked for. The daemon itself waits for the same signals.
async fn announce_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify::tell(notify::STOPPING);
}
