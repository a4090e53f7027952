//! The data plane of osvm: listeners, routes, pools, hold, replay, drain, and Solana subscriptions that survive a swap.
//!
//! It knows nothing of instances but the address to dial. What it serves comes whole from the control plane over the admin
//! socket (see [`osvm_model::gateway`]) and changes in one step.
//!
//! Clients are served by `workers`, one thread a core; one more thread accepts, and serves the admin interface.
//!
//! A request's way: `listener` accepts, `connection` finds out what the client speaks, `http` (or `tcp`, `pubsub`)
//! finds the `pool`, takes a lease on a `backend`, sends, and sends again where that is allowed.
#![forbid(unsafe_code)]

mod admin;
mod args;
mod backend;
mod connection;
mod gateway;
mod http;
mod limits;
mod listener;
mod pool;
mod pubsub;
mod signal;
mod stats;
mod table;
mod tcp;
mod tls;
mod upstream;
mod workers;

use std::{io, net::TcpListener, path::PathBuf, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};

pub use args::Args;

/// Why the gateway did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The async runtime could not be built, or signals not be taken.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// A socket that the parent passed is none to listen on.
    #[error("an inherited descriptor is not a listening TCP socket")]
    Inherited(#[source] io::Error),
    /// The admin socket could not be made.
    #[error("cannot open the admin socket {}", path.display())]
    Admin {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file could not be read.
    #[error("cannot read the route table {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds no route table.
    #[error("{} is not a route table", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The route table in the file cannot be served.
    #[error("the route table cannot be put into force")]
    Table(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Serves until SIGTERM or SIGINT, then drains and returns. Takes the listening sockets that the parent passed (`LISTEN_FDS`).
pub fn run(args: Args) -> Result<(), Error> {
    let inherited = inherited()?;
    // For the admin interface and for accepting, so that these get their turn however busy the workers are.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
        serve(args, inherited, async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
    })
}

/// Serves until `end` is ready, then drains and returns. For callers that bring their own runtime and sockets; clients are served
/// on threads that are started here.
pub async fn serve(args: Args, inherited: Vec<TcpListener>, end: impl Future<Output = ()>) -> Result<(), Error> {
    let workers = workers::Workers::start(args.workers).map_err(Error::Runtime)?;
    let gateway = Arc::new(gateway::Gateway::new(limits::Limits::from(&args), inherited, workers));
    if let Some(path) = args.config {
        let text = std::fs::read(&path).map_err(|source| Error::Config { path: path.clone(), source })?;
        let table = serde_json::from_slice(&text).map_err(|source| Error::Parse { path, source })?;
        gateway.apply(table).await.map_err(|error| Error::Table(Box::new(error)))?;
    }
    let admin = match args.admin {
        Some(path) => {
            let failed = |source| Error::Admin { path: path.clone(), source };
            let admin = admin::Admin::bind(&path).await.map_err(failed)?;
            let (serving, gateway) = (admin.serve(Arc::clone(&gateway)), Arc::clone(&gateway));
            Some(tokio::spawn(async move {
                tokio::select! {
                    Err(error) = serving => tracing::error!(%error, "the admin interface ended"),
                    // It answers while the gateway drains.
                    () = async { gateway.tasks.wait().await } => {}
                }
            }))
        }
        None => None,
    };
    end.await;
    gateway.end().await;
    if let Some(admin) = admin {
        admin.abort();
        // Only now are the sockets removed. That it was aborted is no news.
        let _ = admin.await;
    }
    Ok(())
}

fn inherited() -> Result<Vec<TcpListener>, Error> {
    let mut passed = listenfd::ListenFd::from_env();
    (0..passed.len())
        .filter_map(|index| passed.take_tcp_listener(index).transpose())
        .collect::<Result<_, _>>()
        .map_err(Error::Inherited)
}
