//! An HTTP/1.1 instance that is a closure. It says on which connection each request came.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// A running instance. Dropping it cuts all its connections, as a death does.
pub(crate) struct Instance {
    pub(crate) addr: SocketAddr,
    pub(crate) connections: Arc<AtomicU64>,
    pub(crate) requests: Arc<AtomicU64>,
    dead: CancellationToken,
}

impl Instance {
    /// Serves `answer`; none means that the connection is cut without one.
    pub(crate) async fn start<F, Fut>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Option<Answer>> + Send + 'static,
    {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer).await
    }

    pub(crate) async fn start_on<F, Fut>(listener: TcpListener, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Option<Answer>> + Send + 'static,
    {
        let addr = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let dead = CancellationToken::new();
        let (seen, served, end) = (Arc::clone(&connections), Arc::clone(&requests), dead.clone());
        tokio::spawn(async move {
            // Dropping the set aborts every connection.
            let mut all = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = end.cancelled() => return,
                };
                stream.set_nodelay(true).unwrap();
                seen.fetch_add(1, Ordering::SeqCst);
                let (answer, served) = (answer.clone(), Arc::clone(&served));
                let service = service_fn(move |request| {
                    served.fetch_add(1, Ordering::SeqCst);
                    let answer = answer(request);
                    async move { answer.await.ok_or("cut") }
                });
                all.spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        Self { addr, connections, requests, dead }
    }

    /// Always the same short answer.
    pub(crate) async fn fixed(text: &'static str) -> Self {
        Self::start(move |_| async move { Some(whole(text)) }).await
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.dead.cancel();
    }
}

pub(crate) fn whole(body: impl Into<Bytes>) -> Answer {
    Response::new(BoxBody::new(Full::new(body.into())))
}
