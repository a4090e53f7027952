//! HTTP/1.1 from the client's bytes to the instance's and back, in one task and without a copy of the head in between.
//!
//! Every request on a connection is read strictly (see `request`), has the limits of a first one, and is written anew. In the common
//! case it costs two reads and two writes. Not here: HTTP/2 and upgrades, which hyper serves; they are handed over before a byte of
//! them was taken.

mod answer;
mod body;
mod chunks;
mod exchange;
mod field;
mod io;
mod request;
mod streaming;
mod timer;

#[cfg(test)]
mod differential;

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use http::Method;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use crate::{
    connection::{Client, ClientStream},
    http::{
        PREFACE,
        answer::Refusal,
        relay::{body::Framing, request::Forwarded, timer::Timer},
    },
    limits,
    pool::Pool,
    signal::Watch,
};

/// Bytes of a client that are read away after an answer that ends its connection: closing on unread bytes resets the
/// connection, and the answer may be lost.
const LINGER_MAX: usize = 1 << 20;

/// Who goes on with a connection.
pub(super) enum Next<S> {
    /// Nobody.
    End,
    /// hyper, with what was read and not taken.
    Http2(Client, BytesMut, S),
    /// The same, for one request that asks for another protocol.
    Upgrade(Client, BytesMut, S),
}

/// One client connection.
struct Relay<S> {
    client: Client,
    stream: S,
    /// What the client sent and nobody took yet.
    read: BytesMut,
    /// The request as it goes to the instance: its head, and as much of its body as is kept.
    out: Vec<u8>,
    /// What the instance sent and nobody took yet.
    answer: BytesMut,
    /// The answer as it goes to the client, as far as it was not sent yet.
    reply: Vec<u8>,
    /// The request's id.
    id: Vec<u8>,
    peer: String,
    timer: Timer,
    closed: Watch,
    /// Of the request's body there is more to come. Whatever is on the connection then is no head.
    unread: bool,
}

/// A request whose head was taken.
struct Order {
    pool: Arc<Pool>,
    method: Method,
    framing: Framing,
    is_http10: bool,
    keep_alive: bool,
    expects: bool,
}

/// What a client's bytes begin with.
enum Heard {
    Request(Order),
    Refused {
        refusal: Refusal,
        head_only: bool,
        keep_alive: bool,
    },
    Http2,
    Upgrade,
    /// The client is gone, said nothing in time, or is no longer to be served.
    End,
}

/// Why a request got no answer from an instance.
enum Failed {
    Refused(Refusal),
    /// The client is gone, or the answer to it broke off.
    Gone,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Serves HTTP/1.1 until the connection ends or is for somebody else. `may_be_http2`: the version is not settled yet.
pub(super) async fn serve<S: ClientStream>(client: Client, stream: S, may_be_http2: bool) -> Next<S> {
    let mut relay = Relay {
        stream,
        read: BytesMut::new(),
        out: Vec::new(),
        answer: BytesMut::new(),
        reply: Vec::new(),
        id: Vec::new(),
        peer: client.peer.ip().to_string(),
        timer: Timer::new(client.gateway.limits.head_timeout),
        closed: client.listening.closed.watch(),
        unread: false,
        client,
    };
    let mut is_first = true;
    loop {
        let keep = match relay.hear(is_first, is_first && may_be_http2).await {
            Heard::Request(order) => relay.serve(&order).await,
            Heard::Refused { refusal, head_only, keep_alive } => {
                relay.id.clear();
                relay.refuse(refusal, head_only, false, keep_alive).await
            }
            Heard::Http2 => return Next::Http2(relay.client, relay.read, relay.stream),
            Heard::Upgrade => return Next::Upgrade(relay.client, relay.read, relay.stream),
            Heard::End => {
                // Over TLS, the end has to be said. If the client is gone there is nobody to tell.
                let _ = timeout(limits::CUT_TIMEOUT, relay.stream.shutdown()).await;
                false
            }
        };
        if !keep {
            return Next::End;
        }
        is_first = false;
        relay.rest();
    }
}

impl<S: ClientStream> Relay<S> {
    /// Waits for the next head.
    async fn hear(&mut self, is_first: bool, may_be_http2: bool) -> Heard {
        let limits = &self.client.gateway.limits;
        let (longest, head_timeout, idle_timeout) = (limits.head, limits.head_timeout, limits.idle_timeout);
        let mut deadline = is_first.then(|| Instant::now() + head_timeout);
        let mut looked_at = 0;
        loop {
            if may_be_http2 && self.read.starts_with(PREFACE) {
                return Heard::Http2;
            }
            // A head ends with a line; reading it anew for each byte of a slow client would be dear.
            let has_line = self.read[looked_at..].contains(&b'\n');
            if has_line && !(may_be_http2 && PREFACE.starts_with(&self.read)) {
                match self.take() {
                    Ok(Some(heard)) => return heard,
                    Ok(None) => {}
                    Err(refusal) => return Heard::Refused { refusal, head_only: false, keep_alive: false },
                }
            }
            if self.read.len() > longest {
                return Heard::Refused { refusal: Refusal::HeadTooLarge, head_only: false, keep_alive: false };
            }
            looked_at = self.read.len();
            if looked_at > 0 && deadline.is_none() {
                deadline = Some(Instant::now() + head_timeout);
            }
            let until = deadline.unwrap_or_else(|| Instant::now() + idle_timeout);
            let (stream, read, closed) = (&mut self.stream, &mut self.read, &mut self.closed);
            let more = async {
                tokio::select! {
                    biased;
                    filled = io::fill(stream, read) => matches!(filled, Ok(1..)),
                    () = closed => false,
                }
            };
            match self.timer.until(until, more).await {
                Some(true) => {}
                Some(false) => return Heard::End,
                None if self.read.is_empty() => return Heard::End,
                None => {
                    let refusal = Refusal::RequestTimeout;
                    return Heard::Refused { refusal, head_only: false, keep_alive: false };
                }
            }
        }
    }

    /// Takes a head from what was read, and writes the instance's.
    fn take(&mut self) -> Result<Option<Heard>, Refusal> {
        let gateway = &self.client.gateway;
        let (most_bytes, most_fields) = (gateway.limits.head, gateway.limits.headers);
        let (out, id) = (&mut self.out, &mut self.id);
        let taken = request::read(&self.read, most_fields, |head| {
            if head.length > most_bytes {
                return Err(Refusal::HeadTooLarge);
            }
            let host = Some(&*head.host).filter(|host| !host.is_empty());
            let Some(pool) = self.client.listening.plan.load().route(host, head.path()).cloned() else {
                // Only where nothing of the request is left to be read.
                let keep_alive = head.keep_alive && head.framing.is_none() && !head.is_http10;
                let head_only = head.method == Method::HEAD;
                return Ok((head.length, Heard::Refused { refusal: Refusal::NoRoute, head_only, keep_alive }));
            };
            if head.upgrades {
                return Ok((0, Heard::Upgrade));
            }
            pool.counters.request();
            out.clear();
            let forwarded = Forwarded { peer: &self.peer, tls: self.client.tls, ids: &gateway.request_ids };
            head.write(out, id, &forwarded);
            let order = Order {
                pool,
                framing: head.framing,
                is_http10: head.is_http10,
                keep_alive: head.keep_alive,
                expects: head.expects && !head.is_http10,
                method: head.method,
            };
            Ok((head.length, Heard::Request(order)))
        })?;
        Ok(taken.map(|(length, heard)| {
            self.read.advance(length);
            self.unread = matches!(&heard, Heard::Request(order) if !order.framing.is_none());
            heard
        }))
    }

    /// Answers one request. Answers whether the connection may be used again.
    async fn serve(&mut self, order: &Order) -> bool {
        match self.forward(order).await {
            Ok(keep) => keep,
            Err(Failed::Gone) => false,
            Err(Failed::Refused(refusal)) => {
                if let Some(failure) = refusal.failure() {
                    order.pool.counters.failure(failure);
                }
                let keep_alive = order.keep_alive && !self.unread;
                self.refuse(refusal, order.method == Method::HEAD, order.is_http10, keep_alive).await
            }
        }
    }

    /// Writes the gateway's own answer.
    async fn refuse(&mut self, refusal: Refusal, head_only: bool, is_http10: bool, keep_alive: bool) -> bool {
        let close = !keep_alive || self.is_ending();
        self.reply.clear();
        refusal.write(&mut self.reply, head_only, |reply| {
            if !self.id.is_empty() {
                field::write(reply, "x-request-id", &self.id);
            }
            answer::write_date(reply);
            answer::write_connection(reply, close, is_http10);
        });
        if io::send(&mut self.stream, &self.reply).await.is_err() {
            return false;
        }
        if close {
            self.linger().await;
        }
        !close
    }

    /// Whether clients are told to go elsewhere.
    fn is_ending(&self) -> bool {
        self.closed.is_set() || self.client.gateway.ending.announce.is_set()
    }

    /// Ends the connection so that the client reads the answer even if it still sends.
    async fn linger(&mut self) {
        let ending = async {
            self.stream.shutdown().await?;
            let mut left = LINGER_MAX;
            while left > 0 {
                self.read.clear();
                match io::fill(&mut self.stream, &mut self.read).await? {
                    0 => break,
                    length => left = left.saturating_sub(length),
                }
            }
            std::io::Result::Ok(())
        };
        // However it ends: the answer was given.
        let _ = timeout(limits::CUT_TIMEOUT, ending).await;
    }

    /// Between two requests: memory that one large message took is given back.
    fn rest(&mut self) {
        io::reset(&mut self.out);
        io::reset(&mut self.reply);
        io::shrink(&mut self.read);
        io::shrink(&mut self.answer);
    }
}
