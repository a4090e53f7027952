//! An HTTP server on a tokio runtime of several threads, for the tests and benches to run in a VM. Nothing in it knows that it is in one.
//!
//! `http [PORT]`: says `ready` on standard output once it listens. Answers `/hello`, `/size/BYTES`, `/work/MILLIONS` (of steps, on a blocking thread),
//! `/sleep/MILLISECONDS`, and echoes what is posted to `/echo`. On SIGTERM it leaves with code 0.
#![forbid(unsafe_code)]

use std::{convert::Infallible, net::Ipv4Addr, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let number = path.rsplit('/').next().and_then(|last| last.parse::<u64>().ok()).unwrap_or(0);
    let body = match path.split('/').nth(1) {
        Some("hello") => Bytes::from_static(b"hello"),
        Some("size") => Bytes::from(vec![b'x'; number as usize]),
        Some("work") => {
            let sum =
                tokio::task::spawn_blocking(move || (0..number * 1_000_000).fold(0, |sum, n| sum ^ n.wrapping_mul(n)))
                    .await;
            Bytes::from(sum.unwrap_or(0).to_string())
        }
        Some("sleep") => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            Bytes::from_static(b"slept")
        }
        Some("echo") => match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => Bytes::from(error.to_string()),
        },
        _ => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    Ok(Response::new(Full::new(body)))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    let mut term = signal(SignalKind::terminate())?;
    println!("ready");
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = term.recv() => return Ok(()),
        };
        tokio::spawn(async move {
            // A client that goes away is no failure of the server.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}
