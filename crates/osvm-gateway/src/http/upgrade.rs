//! Upgraded connections (WebSocket and the like): bytes both ways, counted as a tunnel on their instance.
//!
//! When the instance leaves the table, or the gateway's last deadline is over, the tunnel is cut. A WebSocket client then gets
//! a close frame 1001 at the end of the frame that is on its way; other protocols see their stream end.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy},
    time::timeout,
};

use crate::{
    backend::{Lease, Use},
    connection::Client,
    http::{
        answer::Refusal,
        body::{AnswerBody, OutBody, Streaming},
        frames::{Frames, GOING_AWAY},
        head,
    },
    limits,
    pool::{Pool, Wait},
    signal::Signal,
};

/// What is read from an instance in one go.
const PIECE: usize = 16 << 10;

/// Sends the request on a connection of its own; if the instance agrees, the two streams are joined.
pub(crate) async fn forward(
    client: &Client,
    pool: &Arc<Pool>,
    mut parts: request::Parts,
    protocol: HeaderValue,
    id: HeaderValue,
) -> Result<Response<AnswerBody>, Refusal> {
    let limits = &client.gateway.limits;
    let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    let from_client = parts.extensions.remove::<OnUpgrade>();
    head::ask_upgrade(&mut parts.headers, protocol);
    let mut wait = Wait::default();
    loop {
        let lease = pool.acquire(Use::Tunnel, limits, &mut wait).await.map_err(Refusal::Unavailable)?;
        let mut sender = match lease.backend.new_connection(limits).await {
            Ok(sender) => sender,
            Err(_) => {
                wait.begin();
                pool.mark_down(&lease.backend, limits);
                continue;
            }
        };
        wait.reached();
        lease.count();
        let request = http::Request::from_parts(parts.clone(), OutBody::Whole(bytes::Bytes::new()));
        let Ok(sent) = timeout(limits.answer_timeout, sender.send_request(request)).await else {
            return Err(Refusal::AnswerTimeout);
        };
        let Ok(mut response) = sent else {
            lease.backend.count_reset();
            return Err(Refusal::BadGateway);
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            wait.end(&pool.counters);
            let agreed = response.headers().get(http::header::UPGRADE).cloned();
            let to_instance = hyper::upgrade::on(&mut response);
            let (mut parts, _) = response.into_parts();
            head::prepare_answer(&mut parts, id);
            if let Some(agreed) = agreed {
                head::ask_upgrade(&mut parts.headers, agreed);
            }
            let Some(from_client) = from_client else { return Err(Refusal::BadGateway) };
            let held = client.clone();
            client.gateway.tasks.spawn(async move {
                let Ok((from_client, to_instance)) = tokio::try_join!(from_client, to_instance) else { return };
                let cut = held.gateway.ending.cut.clone();
                join(TokioIo::new(from_client), TokioIo::new(to_instance), is_websocket, &lease, cut).await;
            });
            return Ok(Response::from_parts(parts, AnswerBody::Whole(bytes::Bytes::new())));
        }
        let (mut parts, incoming) = response.into_parts();
        if head::is_unprocessed(&parts) {
            drop(incoming);
            pool.pause(limits, &mut wait).await.map_err(Refusal::Unavailable)?;
            continue;
        }
        wait.end(&pool.counters);
        head::prepare_answer(&mut parts, id);
        let body = AnswerBody::Stream(Box::new(Streaming::new(incoming, Arc::clone(pool), lease, sender)));
        return Ok(Response::from_parts(parts, body));
    }
}

/// Copies both ways until both have ended or the tunnel is cut.
async fn join(
    client: impl AsyncRead + AsyncWrite,
    instance: impl AsyncRead + AsyncWrite,
    is_websocket: bool,
    lease: &Lease,
    cut: Signal,
) {
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut instance_read, mut instance_write) = tokio::io::split(instance);
    let up = async {
        // Either way the instance is to see the end.
        let _ = copy(&mut client_read, &mut instance_write).await;
        let _ = instance_write.shutdown().await;
    };
    let cutting = async {
        tokio::select! {
            () = lease.backend.gone.cancelled() => {}
            () = cut.wait() => {}
        }
    };
    let mut frames = is_websocket.then(Frames::default);
    let down = copy_down(&mut instance_read, &mut client_write, &mut frames);
    let both = async { tokio::join!(up, down) };
    tokio::select! {
        biased;
        _ = both => return,
        () = cutting => {}
    }
    if let Some(mut frames) = frames {
        let farewell = say_goodbye(&mut instance_read, &mut client_write, &mut frames);
        if timeout(limits::CUT_TIMEOUT, farewell).await.is_ok() {
            // The client's own close frame, then its end.
            let _ = timeout(limits::CUT_TIMEOUT, copy(&mut client_read, &mut tokio::io::sink())).await;
        }
    }
}

/// Copies an instance's bytes to the client. Safe to drop between two pieces only as far as `frames` knows what was written.
async fn copy_down(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    frames: &mut Option<Frames>,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            // One write at a time, so that a cut in between finds `frames` at the last byte that was written.
            let Ok(written @ 1..) = to.write(rest).await else { return };
            if let Some(frames) = frames {
                frames.follow(&rest[..written]);
            }
            rest = &rest[written..];
        }
        if to.flush().await.is_err() {
            return;
        }
    }
    // The client is to see the end; if it is gone there is nobody to tell.
    let _ = to.shutdown().await;
}

/// Ends the frame that is on its way, then closes with 1001.
async fn say_goodbye(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    frames: &mut Frames,
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    while !frames.at_boundary() {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            // The frame will never be whole, so nothing can follow it.
            return to.shutdown().await;
        }
        let end = frames.first_end(&piece[..length]).unwrap_or(length);
        to.write_all(&piece[..end]).await?;
    }
    if !frames.is_closed() {
        to.write_all(&GOING_AWAY).await?;
    }
    to.flush().await?;
    to.shutdown().await
}
