//! The daemon: opening a state folder, adopting what runs, serving until it is told to end.

use std::{
    fs::{self, Permissions},
    future::IntoFuture,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use osvm_model::EventKind;
use osvm_runtime::Process;
use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};

use crate::{
    Checker, Error,
    context::Context,
    error::{At, chain},
    events::{Events, Note},
    gateway::Gateway,
    http, lock,
    manager::Manager,
    paths::Paths,
    store::Store,
};

/// For open connections to end once the daemon was told to.
const END_GRACE: Duration = Duration::from_secs(2);
/// Pause between two looks at how long the logs are.
const LOG_LOOK: Duration = Duration::from_secs(10);
/// As long as the number of any instance gets, to see whether its socket's path fits.
const LONGEST_ID: u64 = 9_999_999_999;

/// How the gateway is started: `program args… --admin PATH …`, with the listening sockets by `LISTEN_FDS`.
#[derive(Clone, Debug)]
pub struct GatewayCommand {
    /// The program, usually this one.
    pub program: PathBuf,
    /// What comes before `--admin PATH`, usually `gateway`.
    pub args: Vec<String>,
}

/// What a daemon needs to know.
pub struct Options {
    /// The state folder; made if missing.
    pub state_dir: PathBuf,
    /// How to start the gateway.
    pub gateway: GatewayCommand,
    /// Who decides whether an instance may take traffic.
    pub checker: Arc<dyn Checker>,
}

/// A control plane whose socket answers.
pub struct Daemon {
    _lock: lock::Lock,
    manager: Arc<Manager>,
    listener: UnixListener,
    signals: [Signal; 2],
    housekeeping: JoinHandle<()>,
}

impl Daemon {
    /// Takes the state folder, adopts what runs of it, and binds the socket.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let paths = Paths::new(&options.state_dir);
        for socket in [paths.instance_socket(LONGEST_ID), paths.gateway_socket().with_extension("sock.fds")] {
            if socket.as_os_str().len() > osvm_vsock::MAX_PATH {
                return Err(Error::PathTooLong { state_dir: options.state_dir });
            }
        }
        for folder in [paths.root().to_owned(), paths.instance_sockets()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).at("make the folder", &folder)?;
        }
        let lock = lock::take(&paths)?;
        let signals = [SignalKind::terminate(), SignalKind::interrupt()];
        let signals = [signal(signals[0]).map_err(Error::Signals)?, signal(signals[1]).map_err(Error::Signals)?];
        let store = Store::open(&paths.database())?;
        forget_an_earlier_boot(&store)?;
        end_unknown_instances(&paths, &store).await?;
        let events = Events::new(store.clone());
        events.note(
            Note::new(EventKind::Daemon, format!("the daemon runs (process {})", std::process::id()))
                .pid(std::process::id()),
        );
        let gateway = Gateway::open(options.gateway, paths.clone(), store.clone(), events.clone()).await?;
        let ctx = Context { paths: paths.clone(), store, events, gateway, checker: options.checker };
        let manager = Arc::new(Manager::open(ctx)?);
        let socket = paths.daemon_socket();
        // The lock is held: whoever left the socket is gone.
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).at("listen on", &socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).at("protect", &socket)?;
        let housekeeping = tokio::spawn(bound_logs(Arc::clone(&manager)));
        Ok(Self { _lock: lock, manager, listener, signals, housekeeping })
    }

    /// Serves until `POST /v1/down`, SIGTERM or SIGINT. A signal ends only the daemon: instances and gateway go on, and the next
    /// daemon adopts them.
    pub async fn serve(self) -> Result<(), Error> {
        let Self { _lock, manager, listener, signals: [mut terminate, mut interrupt], housekeeping } = self;
        let end = manager.end.clone();
        let router = http::router(Arc::clone(&manager));
        let server = axum::serve(listener, router).with_graceful_shutdown(end.clone().cancelled_owned());
        let mut server = tokio::spawn(server.into_future());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = end.cancelled() => {}
            // It ends only when it is told to.
            _ = &mut server => {}
        }
        if !end.is_cancelled() {
            let left = "the daemon was told to end; instances and gateway go on";
            manager.ctx.events.note(Note::new(EventKind::Daemon, left));
        }
        end.cancel();
        if tokio::time::timeout(END_GRACE, &mut server).await.is_err() {
            server.abort();
        }
        housekeeping.abort();
        let _ = fs::remove_file(manager.ctx.paths.daemon_socket());
        Ok(())
    }
}

/// Process ids mean nothing after the machine was started again.
fn forget_an_earlier_boot(store: &Store) -> Result<(), Error> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    let boot = fs::read_to_string(&path).at("read", &path)?.trim().to_owned();
    if store.meta::<String>("boot")?.is_some_and(|earlier| earlier != boot) {
        store.forget_processes()?;
    }
    store.set_meta("boot", &boot)?;
    Ok(())
}

/// Ends instances that the store does not know: a daemon died between starting one and noting it.
async fn end_unknown_instances(paths: &Paths, store: &Store) -> Result<(), Error> {
    let known: Vec<_> = store.live_instances(None)?.into_iter().filter_map(|record| record.process).collect();
    for (pid, start_time) in osvm_runtime::instances_under(&paths.instance_sockets()) {
        if known.contains(&(pid, start_time)) {
            continue;
        }
        match Process::adopt(pid, start_time) {
            Ok(Some(process)) => {
                tracing::warn!(pid, "ending an instance that no daemon knows");
                process.kill().await;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(pid, error = chain(&error), "cannot end an instance that no daemon knows"),
        }
    }
    Ok(())
}

/// Keeps logs from growing without bound.
async fn bound_logs(manager: Arc<Manager>) {
    loop {
        tokio::time::sleep(LOG_LOOK).await;
        let paths = &manager.ctx.paths;
        let live = manager.ctx.store.live_instances(None).unwrap_or_default();
        let logs = live.iter().map(|record| paths.log(&record.service, record.generation));
        for log in logs.chain([paths.gateway_log()]) {
            if let Err(error) = osvm_runtime::log::bound(&log, osvm_runtime::log::LIMIT) {
                tracing::warn!(path = %log.display(), %error, "cannot bound the log");
            }
        }
    }
}
