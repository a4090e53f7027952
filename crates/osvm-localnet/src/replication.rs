//! Takes replication streams and hands them to the bank, which knows from its role what to do on them.

use osvm_bank::{Bank, Link};
use tokio_util::{either::Either, sync::CancellationToken};

use crate::listen::{Listener, Stream};

/// Serves until `stop`. A new stream takes the place of the one before.
pub(crate) async fn serve(bank: Bank, mut listener: Listener, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = stop.cancelled() => None,
        };
        let Some(stream) = stream else { return };
        match link(stream) {
            Ok(link) => {
                tracing::info!("a replication stream was opened");
                bank.attach(link);
            }
            Err(error) => tracing::warn!(%error, "a replication stream could not be used"),
        }
    }
}

/// The bank reads and writes on threads of its own.
fn link(stream: Stream) -> std::io::Result<Link> {
    match stream {
        Either::Left(tcp) => {
            let tcp = tcp.into_std()?;
            tcp.set_nonblocking(false)?;
            Link::from_tcp(tcp)
        }
        Either::Right(unix) => {
            let unix = unix.into_std()?;
            unix.set_nonblocking(false)?;
            Link::from_unix(unix)
        }
    }
}
