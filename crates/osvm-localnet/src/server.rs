//! Puts a node together and takes it apart: listeners, bank, tasks, in the order that loses nothing.

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc};

use osvm_bank::Bank;
use osvm_model::{defaults::RPC_PORT, handover};
use osvm_vsock::Guest;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    control, http,
    limits::Limits,
    listen::Listener,
    node::Node,
    pubsub::{self, Hub},
    replication,
    scans::Scans,
};

/// Where the node listens.
#[derive(Clone, Debug)]
pub enum Bind {
    /// On TCP; port 0 takes any free one.
    Tcp {
        /// JSON-RPC.
        rpc: SocketAddr,
        /// Subscriptions.
        ws: SocketAddr,
        /// The hand-over contract's HTTP interface.
        control: Option<SocketAddr>,
        /// Replication streams.
        replication: Option<SocketAddr>,
    },
    /// As the guest side of hybrid vsock on this unix socket, at the contract's ports.
    Vsock(PathBuf),
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub bind: Bind,
    /// The bank.
    pub bank: osvm_bank::Config,
    /// The network side's limits.
    pub limits: Limits,
}

/// Why a node did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A TCP port is not to be had.
    #[error("cannot listen on {address} ({purpose}); stop what uses it, or choose another with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// The flag that changes it.
        flag: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The unix socket is not to be had.
    #[error("cannot serve over vsock")]
    Vsock(#[source] osvm_vsock::Error),
    /// The ledger.
    #[error(transparent)]
    Bank(osvm_bank::Error),
    /// No thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A task of the node panicked.
    #[error("a task of the node broke off")]
    Broken,
}

/// A node that serves.
pub struct Server {
    node: Arc<Node>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    control_address: Option<SocketAddr>,
    replication_address: Option<SocketAddr>,
    _guest: Option<Guest>,
}

struct Listeners {
    rpc: Listener,
    ws: Listener,
    control: Option<Listener>,
    replication: Option<Listener>,
    guest: Option<Guest>,
}

async fn tcp(address: SocketAddr, purpose: &'static str, flag: &'static str) -> Result<Listener, StartError> {
    Listener::tcp(address).await.map_err(|source| StartError::Listen { address, purpose, flag, source })
}

async fn listeners(bind: &Bind) -> Result<Listeners, StartError> {
    match bind {
        Bind::Tcp { rpc, ws, control, replication } => {
            let optional = |address: Option<SocketAddr>, purpose, flag| async move {
                match address {
                    Some(address) => tcp(address, purpose, flag).await.map(Some),
                    None => Ok(None),
                }
            };
            Ok(Listeners {
                rpc: tcp(*rpc, "JSON-RPC", "--rpc-port").await?,
                ws: tcp(*ws, "subscriptions, always the port after JSON-RPC's", "--rpc-port").await?,
                control: optional(*control, "control", "--control-port").await?,
                replication: optional(*replication, "replication", "--replication-port").await?,
                guest: None,
            })
        }
        Bind::Vsock(path) => {
            let guest = Guest::bind(path).await.map_err(StartError::Vsock)?;
            let listen = |port| guest.listen(port).map(Listener::Vsock).map_err(StartError::Vsock);
            Ok(Listeners {
                rpc: listen(u32::from(RPC_PORT))?,
                ws: listen(u32::from(RPC_PORT) + 1)?,
                control: Some(listen(handover::CONTROL_PORT)?),
                replication: Some(listen(handover::REPLICATION_PORT)?),
                guest: Some(guest),
            })
        }
    }
}

impl Server {
    /// Takes the ports, opens the ledger, serves.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Listeners { rpc, ws, control, replication, guest } = listeners(&options.bind).await?;
        let config = options.bank;
        let bank = tokio::task::spawn_blocking(move || Bank::open(config)).await.map_err(|_| StartError::Broken)?;
        let bank = bank.map_err(StartError::Bank)?;
        let hub = Hub::start(bank.clone(), options.limits.subscriptions).map_err(StartError::Thread)?;
        let node = Arc::new(Node {
            bank,
            scans: Scans::new(options.limits.scans),
            limits: options.limits,
            hub,
            rpc_address: rpc.address(),
            ws_address: ws.address(),
            fees: Mutex::new(BTreeMap::new()),
        });
        let stop = CancellationToken::new();
        let control_address = control.as_ref().and_then(Listener::address);
        let replication_address = replication.as_ref().and_then(Listener::address);
        let mut tasks = vec![
            tokio::spawn(http::serve_rpc(Arc::clone(&node), rpc, stop.clone())),
            tokio::spawn(pubsub::serve(Arc::clone(&node), ws, stop.clone())),
        ];
        if let Some(listener) = control {
            tasks.push(tokio::spawn(control::serve(Arc::clone(&node), listener, stop.clone())));
        }
        if let Some(listener) = replication {
            tasks.push(tokio::spawn(replication::serve(node.bank.clone(), listener, stop.clone())));
        }
        Ok(Self { node, stop, tasks, control_address, replication_address, _guest: guest })
    }

    /// Where JSON-RPC is served, if over TCP.
    pub fn rpc_address(&self) -> Option<SocketAddr> {
        self.node.rpc_address
    }

    /// Where subscriptions are served, if over TCP.
    pub fn ws_address(&self) -> Option<SocketAddr> {
        self.node.ws_address
    }

    /// Where the hand-over contract is served, if over TCP.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control_address
    }

    /// Where replication streams are taken, if over TCP.
    pub fn replication_address(&self) -> Option<SocketAddr> {
        self.replication_address
    }

    /// The bank behind it.
    pub fn bank(&self) -> &Bank {
        &self.node.bank
    }

    /// Stops taking connections, lets what is in flight end, closes the ledger.
    pub async fn stop(self) -> Result<(), StartError> {
        self.stop.cancel();
        let mut broken = false;
        for task in self.tasks {
            broken |= task.await.is_err();
        }
        let bank = self.node.bank.clone();
        let closed = tokio::task::spawn_blocking(move || bank.shutdown()).await.map_err(|_| StartError::Broken)?;
        self.node.hub.stop();
        closed.map_err(StartError::Bank)?;
        if broken { Err(StartError::Broken) } else { Ok(()) }
    }
}
