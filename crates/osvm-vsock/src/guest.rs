//! The guest's side, for an instance that is an ordinary process.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{Error, HANDSHAKE_TIMEOUT, check_path, handshake};

/// Connections that wait to be accepted on one port before further ones wait in the socket's own backlog.
const BACKLOG: usize = 1024;

type Ports = Arc<Mutex<HashMap<u32, mpsc::Sender<UnixStream>>>>;

/// A unix socket that answers `CONNECT <port>` for the ports that were listened on. Dropping it removes the socket.
#[derive(Debug)]
pub struct Guest {
    path: PathBuf,
    ports: Ports,
    acceptor: JoinHandle<()>,
}

/// The connections to one port.
#[derive(Debug)]
pub struct Incoming {
    port: u32,
    ports: Ports,
    streams: mpsc::Receiver<UnixStream>,
}

impl Guest {
    /// Listens on `path`. A socket that an earlier process left there is replaced; one that answers is an error.
    pub async fn bind(path: &Path) -> Result<Self, Error> {
        check_path(path)?;
        let failed = |source| Error::Listen { path: path.to_owned(), source };
        if UnixStream::connect(path).await.is_ok() {
            return Err(failed(io::ErrorKind::AddrInUse.into()));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let ports = Ports::default();
        let acceptor = tokio::spawn(accept_all(listener, Arc::clone(&ports)));
        Ok(Self { path: path.to_owned(), ports, acceptor })
    }

    /// Takes the connections to `port`.
    pub fn listen(&self, port: u32) -> Result<Incoming, Error> {
        let (sender, streams) = mpsc::channel(BACKLOG);
        match lock(&self.ports).entry(port) {
            std::collections::hash_map::Entry::Occupied(_) => Err(Error::PortTaken(port)),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(sender);
                Ok(Incoming { port, ports: Arc::clone(&self.ports), streams })
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.acceptor.abort();
        // The socket may be gone already, with its folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Incoming {
    /// The next connection; none once the [`Guest`] was dropped. Safe to cancel.
    pub async fn accept(&mut self) -> Option<UnixStream> {
        self.streams.recv().await
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        lock(&self.ports).remove(&self.port);
    }
}

/// No code panics while it holds the lock, and the map is whole between any two calls.
fn lock(ports: &Ports) -> MutexGuard<'_, HashMap<u32, mpsc::Sender<UnixStream>>> {
    ports.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept_all(listener: UnixListener, ports: Ports) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, Arc::clone(&ports)));
            }
            // Out of file descriptors, or the peer is gone already: the listener itself is sound.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Hands the stream to whoever listens on the port it asks for; drops it, which the other side reads as a refusal, if nobody does.
async fn answer(mut stream: UnixStream, ports: Ports) {
    let handshake = async {
        let port = handshake::asked_port(&mut stream).await.ok()?;
        let sender = lock(&ports).get(&port).cloned()?;
        let place = sender.reserve_owned().await.ok()?;
        handshake::accept(&mut stream, port).await.ok()?;
        Some(place)
    };
    if let Ok(Some(place)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        place.send(stream);
    }
}
