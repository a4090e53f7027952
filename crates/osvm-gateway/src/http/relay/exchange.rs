//! One request to an instance and its answer to the client, over as many tries as it takes. The rules are those of
//! [`crate::http::forward`], which does the same for HTTP/2 clients.

use bytes::{Buf, BytesMut};
use http::Method;
use osvm_model::{handover::RETRY, route::ReplayPolicy};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{
    backend::{Lease, Use},
    connection::{Client, ClientStream},
    http::{
        answer::Refusal,
        relay::{
            Failed, Order, Relay,
            answer::{self, Asked, Begin},
            body::{Body, Coding, Framing, write_chunk_size},
            field, io,
            timer::Timer,
        },
        replay,
    },
    limits,
    pool::Wait,
    stats::Failure,
    upstream::Stream,
};

/// A longer head is no answer.
const ANSWER_HEAD: usize = 64 << 10;
/// What a client that expects it waits for before it sends a body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An answer that has begun. What was read of its body lies in the connection's buffers.
pub(super) struct Answered {
    pub(super) head: answer::Head,
    pub(super) lease: Lease,
    pub(super) stream: Stream,
}

/// How one try ended.
pub(super) enum Tried {
    Answer(answer::Head),
    /// The instance saw nothing of it.
    Unsent,
    /// The instance says that it did nothing.
    Unprocessed,
    /// The instance may have done something.
    Broken,
}

impl<S: ClientStream> Relay<S> {
    /// Brings the request to an instance and the answer to the client. Answers whether the connection may be used again.
    pub(super) async fn forward(&mut self, order: &Order) -> Result<bool, Failed> {
        let limit = self.client.gateway.limits.body;
        if matches!(order.framing, Framing::Length(length) if length > limit) {
            return Err(Refusal::BodyTooLong.into());
        }
        // A body that is kept is read to its end before an instance gets any of it, so that it can be sent again.
        let keeps = match order.framing {
            Framing::Length(length) => length <= limits::REPLAY_BODY as u64,
            _ => order.pool.view().replay == ReplayPolicy::SolanaRpc,
        };
        if !keeps {
            return Box::pin(self.forward_streaming(order, Body::new(order.framing), None)).await;
        }
        if order.framing.is_none() {
            // Where a body would be expected, that there is none is said.
            if !matches!(order.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE) {
                field::write_length(&mut self.out, 0);
            }
            self.out.extend_from_slice(b"\r\n");
        } else if let Some((body, head_end)) = self.keep(order).await? {
            return Box::pin(self.forward_streaming(order, body, Some(head_end))).await;
        }
        self.forward_whole(order).await
    }

    /// Reads a body to its end. If it turns out too long to be kept: where the head ends, and what is left of the body.
    async fn keep(&mut self, order: &Order) -> Result<Option<(Body, usize)>, Failed> {
        if let Framing::Length(length) = order.framing {
            field::write_length(&mut self.out, length);
            self.out.extend_from_slice(b"\r\n");
        }
        let start = self.out.len();
        let mut body = Body::new(order.framing);
        self.pass_request(&mut body)?;
        if !body.is_done() && order.expects {
            io::send(&mut self.stream, CONTINUE).await.map_err(|_| Failed::Gone)?;
        }
        while !body.is_done() {
            if self.out.len() - start > limits::REPLAY_BODY {
                return Ok(Some((body, start)));
            }
            let limit = self.client.gateway.limits.body_timeout;
            match self.timer.within(limit, io::fill(&mut self.stream, &mut self.read)).await {
                Some(Ok(1..)) => self.pass_request(&mut body)?,
                Some(_) => return Err(Failed::Gone),
                None => return Err(Refusal::RequestTimeout.into()),
            }
        }
        self.unread = false;
        if order.framing == Framing::Chunked {
            let mut framing = Vec::with_capacity(32);
            field::write_length(&mut framing, body.length);
            framing.extend_from_slice(b"\r\n");
            self.out.splice(start..start, framing);
        }
        Ok(None)
    }

    fn pass_request(&mut self, body: &mut Body) -> Result<(), Refusal> {
        body.pass(&mut self.read, &mut self.out, Coding::Plain)
            .map_err(|_| field::bad("the request's chunks are broken"))?;
        if body.length > self.client.gateway.limits.body { Err(Refusal::BodyTooLong) } else { Ok(()) }
    }

    async fn forward_whole(&mut self, order: &Order) -> Result<bool, Failed> {
        let Self { client, stream, read, out, answer, reply, id, timer, .. } = self;
        let most = client.gateway.limits.head;
        let mut tries = Tries { client, order, out, answer, reply, id, timer };
        let answered = tokio::select! {
            biased;
            answered = tries.run() => answered?,
            () = io::gone(stream, read, most) => return Err(Failed::Gone),
        };
        self.relay(order, answered).await
    }

    /// Brings an answer to the client.
    async fn relay(&mut self, order: &Order, mut answered: Answered) -> Result<bool, Failed> {
        let head = answered.head;
        self.answer.advance(head.length);
        let mut body = Body::new(head.framing);
        let mut passed = body.pass(&mut self.answer, &mut self.reply, head.coding).map_err(|_| Broke::Instance);
        if passed.is_ok() && !body.is_done() {
            let most = self.client.gateway.limits.head;
            let (mut from_client, mut to_client) = tokio::io::split(&mut self.stream);
            let (from, answer, reply) = (&mut answered.stream, &mut self.answer, &mut self.reply);
            passed = tokio::select! {
                biased;
                passed = pass_answer(from, &mut to_client, answer, reply, &mut body, head.coding) => passed,
                () = io::gone(&mut from_client, &mut self.read, most) => return Err(Failed::Gone),
            };
        }
        self.finish(order, answered, passed).await
    }

    /// Sends the last of an answer, or what there is of it.
    pub(super) async fn finish(
        &mut self,
        order: &Order,
        answered: Answered,
        passed: Result<(), Broke>,
    ) -> Result<bool, Failed> {
        let Answered { head, lease, stream: instance } = answered;
        match passed {
            Ok(()) => {}
            Err(Broke::Client) => return Err(Failed::Gone),
            Err(Broke::Instance) => {
                lease.backend.count_reset();
                order.pool.counters.failure(Failure::Broken);
                // What came goes to the client, who sees that it is not all.
                let _ = io::send(&mut self.stream, &self.reply).await;
                return Err(Failed::Gone);
            }
        }
        // Bytes behind the answer belong to nothing that was asked: such a connection is not used again.
        if head.reuse && self.answer.is_empty() {
            lease.backend.give_back_stream(instance);
        } else {
            drop(instance);
        }
        self.answer.clear();
        // In flight is what an instance still works on.
        drop(lease);
        io::send(&mut self.stream, &self.reply).await.map_err(|_| Failed::Gone)?;
        if head.close {
            self.linger().await;
        }
        Ok(!head.close)
    }

    /// Makes what was kept of a chunked body its first chunk.
    pub(super) fn begin_chunks(&mut self, start: usize) {
        let mut framing = b"transfer-encoding: chunked\r\n\r\n".to_vec();
        let kept = self.out.len() - start;
        if kept > 0 {
            write_chunk_size(&mut framing, kept);
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.splice(start..start, framing);
    }
}

/// Who broke off an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broke {
    Client,
    Instance,
}

/// Passes an answer's body on as it comes; its last piece is left in `reply`.
pub(super) async fn pass_answer(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    answer: &mut BytesMut,
    reply: &mut Vec<u8>,
    body: &mut Body,
    coding: Coding,
) -> Result<(), Broke> {
    while !body.is_done() {
        if !reply.is_empty() {
            io::send(to, reply).await.map_err(|_| Broke::Client)?;
            reply.clear();
        }
        match io::fill(from, answer).await {
            Ok(1..) => body.pass(answer, reply, coding).map_err(|_| Broke::Instance)?,
            Ok(_) if body.close(reply, coding) => {}
            _ => return Err(Broke::Instance),
        }
    }
    Ok(())
}

/// The tries of a request that is whole in memory.
struct Tries<'a> {
    client: &'a Client,
    order: &'a Order,
    out: &'a mut Vec<u8>,
    answer: &'a mut BytesMut,
    reply: &'a mut Vec<u8>,
    id: &'a [u8],
    timer: &'a mut Timer,
}

impl Tries<'_> {
    async fn run(&mut self) -> Result<Answered, Refusal> {
        let (limits, pool) = (&self.client.gateway.limits, &self.order.pool);
        let policy = pool.view().replay;
        let (mut wait, mut unsent, mut marked) = (Wait::default(), false, false);
        loop {
            let lease = pool.acquire(Use::Request, limits, &mut wait).await.map_err(Refusal::Unavailable)?;
            let Ok(mut stream) = lease.backend.stream(limits).await else {
                wait.begin();
                pool.mark_down(&lease.backend, limits);
                continue;
            };
            wait.reached();
            lease.count();
            let one = one_try(self.client, self.order, policy, &mut stream, self.out, self.answer, self.reply, self.id);
            match self.timer.within(limits.answer_timeout, one).await {
                Some(Tried::Answer(head)) => {
                    wait.end(&pool.counters);
                    return Ok(Answered { head, lease, stream });
                }
                // An idle connection that the instance closed at this moment: the next one, without a pause.
                Some(Tried::Unsent) if !std::mem::replace(&mut unsent, true) => {
                    wait.begin();
                    continue;
                }
                Some(Tried::Unsent | Tried::Unprocessed) => {}
                Some(Tried::Broken) => {
                    lease.backend.count_reset();
                    if !replay::may_repeat(policy, &self.order.method, body_of(self.out)) {
                        return Err(Refusal::BadGateway);
                    }
                    if !std::mem::replace(&mut marked, true) {
                        mark_retried(self.out);
                    }
                }
                None => {
                    lease.backend.count_reset();
                    return Err(Refusal::AnswerTimeout);
                }
            }
            drop((lease, stream));
            if !unsent {
                pool.counters.replay();
            }
            pool.pause(limits, &mut wait).await.map_err(Refusal::Unavailable)?;
        }
    }
}

/// Sends the request and reads the answer's head, or the whole answer where the request may still have to be repeated.
#[expect(clippy::too_many_arguments, reason = "they are the parts of one connection, borrowed apart")]
async fn one_try(
    client: &Client,
    order: &Order,
    policy: ReplayPolicy,
    stream: &mut Stream,
    out: &[u8],
    answer: &mut BytesMut,
    reply: &mut Vec<u8>,
    id: &[u8],
) -> Tried {
    answer.clear();
    if let Sent::Nothing = write(stream, out).await {
        return Tried::Unsent;
    }
    let Some(head) = read_head(client, order, stream, answer, reply, id).await else { return Tried::Broken };
    let short = match head.framing {
        Framing::Length(length) => length <= limits::REPLAY_ANSWER,
        _ => false,
    };
    if short && (head.unprocessed || replay::collects(policy, &order.method)) {
        let Framing::Length(length) = head.framing else { return Tried::Broken };
        let whole = head.length + length as usize;
        while answer.len() < whole {
            if !matches!(io::fill(stream, answer).await, Ok(1..)) {
                return if head.unprocessed { Tried::Unprocessed } else { Tried::Broken };
            }
        }
    }
    if head.unprocessed { Tried::Unprocessed } else { Tried::Answer(head) }
}

/// How far a request got.
pub(super) enum Sent {
    Nothing,
    /// All of it, or a part and then an error; the instance may have answered all the same.
    Something,
}

pub(super) async fn write(stream: &mut Stream, mut out: &[u8]) -> Sent {
    let mut sent = Sent::Nothing;
    while !out.is_empty() {
        match stream.write(out).await {
            Ok(length @ 1..) => {
                sent = Sent::Something;
                out = &out[length..];
            }
            _ => return sent,
        }
    }
    sent
}

/// Reads until a final answer's head is there; none if the instance broke off or sent garbage.
pub(super) async fn read_head(
    client: &Client,
    order: &Order,
    stream: &mut (impl AsyncRead + Unpin),
    answer: &mut BytesMut,
    reply: &mut Vec<u8>,
    id: &[u8],
) -> Option<answer::Head> {
    loop {
        if !answer.is_empty() {
            let is_ending = client.listening.closed.is_set() || client.gateway.ending.announce.is_set();
            let keep_alive = order.keep_alive && !is_ending;
            let asked = Asked { method: &order.method, is_http10: order.is_http10, keep_alive, id };
            match answer::read(answer, &asked, reply).ok()? {
                Begin::Head(head) => return Some(head),
                Begin::Interim(length) => {
                    answer.advance(length);
                    continue;
                }
                Begin::Partial if answer.len() > ANSWER_HEAD => return None,
                Begin::Partial => {}
            }
        }
        io::fill(stream, answer).await.ok().filter(|length| *length > 0)?;
    }
}

/// Where the head of a written request ends.
fn head_end(out: &[u8]) -> usize {
    let end = out.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or(out.len(), |at| at + 4)
}

fn body_of(out: &[u8]) -> &[u8] {
    &out[head_end(out)..]
}

/// Marks a request as one that may have been processed already.
fn mark_retried(out: &mut Vec<u8>) {
    let at = head_end(out) - 2;
    out.splice(at..at, format!("{RETRY}: 1\r\n").into_bytes());
}
