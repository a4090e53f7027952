//! Requests whose body is not kept: it goes on as it comes, and the answer may begin before it has ended. One try, once anything of it was
//! sent.

use std::pin::pin;

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    backend::{Lease, Use},
    connection::ClientStream,
    http::{
        answer::Refusal,
        relay::{
            Failed, Order, Relay,
            body::{Body, Coding, Framing},
            exchange::{Answered, Broke, CONTINUE, Sent, pass_answer, read_head, write},
            field, io,
        },
    },
    limits::Limits,
    pool::Wait,
    upstream::Stream,
};

/// Why a body did not reach its instance.
enum Stopped {
    /// The client's fault.
    Refused(Refusal),
    ClientGone,
    /// The instance reads no more; it may have answered.
    Deaf,
    /// The instance took nothing for as long as it may take to begin its answer.
    Stuck,
}

impl<S: ClientStream> Relay<S> {
    /// `kept`: where the head ends, if a part of the body was read already.
    pub(super) async fn forward_streaming(
        &mut self,
        order: &Order,
        mut body: Body,
        kept: Option<usize>,
    ) -> Result<bool, Failed> {
        let limits = std::sync::Arc::clone(&self.client.gateway.limits);
        let coding = self.begin(order, kept);
        pass(&mut body, &mut self.read, &mut self.out, coding, &limits)?;
        let (lease, mut instance) = self.reach(order).await?;
        // Told already where a part was kept.
        if order.expects && kept.is_none() && !body.is_done() {
            io::send(&mut self.stream, CONTINUE).await.map_err(|_| Failed::Gone)?;
        }
        let mut unread = true;
        let outcome = {
            let Self { client, stream, read, out, answer, reply, id, .. } = self;
            let (mut from_client, mut to_client) = tokio::io::split(stream);
            let (mut from_instance, mut to_instance) = tokio::io::split(&mut instance);
            let mut sending = pin!(upload(&mut from_client, &mut to_instance, read, out, &mut body, coding, &limits));
            let mut over = false;
            let head = {
                answer.clear();
                let mut reading = pin!(read_head(client, order, &mut from_instance, answer, reply, id));
                let mut deadline = Instant::now();
                loop {
                    tokio::select! {
                        biased;
                        sent = &mut sending, if !over => {
                            over = true;
                            deadline = Instant::now() + limits.answer_timeout;
                            match sent {
                                Ok(()) => unread = false,
                                Err(Stopped::Deaf) => {}
                                Err(Stopped::Refused(refusal)) => break Err(Failed::Refused(refusal)),
                                Err(Stopped::ClientGone) => break Err(Failed::Gone),
                                Err(Stopped::Stuck) => break Err(Refusal::AnswerTimeout.into()),
                            }
                        }
                        head = &mut reading => break head.ok_or(Refusal::BadGateway.into()),
                        () = sleep_until(deadline), if over => break Err(Refusal::AnswerTimeout.into()),
                    }
                }
            };
            match head {
                Err(failed) => Err(failed),
                // The body cannot be sent again.
                Ok(head) if head.unprocessed => Err(Refusal::BadGateway.into()),
                Ok(head) => {
                    bytes::Buf::advance(answer, head.length);
                    let mut body = Body::new(head.framing);
                    let first = body.pass(answer, reply, head.coding).map_err(|_| Broke::Instance);
                    let rest = async {
                        first?;
                        pass_answer(&mut from_instance, &mut to_client, answer, reply, &mut body, head.coding).await
                    };
                    let mut passing = pin!(rest);
                    loop {
                        tokio::select! {
                            biased;
                            sent = &mut sending, if !over => {
                                over = true;
                                match sent {
                                    Ok(()) => unread = false,
                                    Err(Stopped::Deaf) => {}
                                    Err(_) => break Ok((head, Err(Broke::Client))),
                                }
                            }
                            passed = &mut passing => break Ok((head, passed)),
                        }
                    }
                }
            }
        };
        self.unread = unread;
        match outcome {
            Ok((mut head, passed)) => {
                // An answer before the end of the request: what is left of that on either connection is not waited for.
                head.close |= unread;
                head.reuse &= !unread;
                self.finish(order, Answered { head, lease, stream: instance }, passed).await
            }
            Err(failed) => {
                if matches!(failed, Failed::Refused(Refusal::BadGateway | Refusal::AnswerTimeout)) {
                    lease.backend.count_reset();
                }
                Err(failed)
            }
        }
    }

    /// Ends the head.
    fn begin(&mut self, order: &Order, kept: Option<usize>) -> Coding {
        match (order.framing, kept) {
            (Framing::Length(length), _) => {
                field::write_length(&mut self.out, length);
                self.out.extend_from_slice(b"\r\n");
                return Coding::Plain;
            }
            (_, Some(start)) => self.begin_chunks(start),
            (_, None) => self.out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
        }
        Coding::Chunked
    }

    /// Finds an instance and sends it the head and what there is of the body.
    async fn reach(&mut self, order: &Order) -> Result<(Lease, Stream), Failed> {
        let Self { client, stream, read, out, .. } = self;
        let (limits, pool) = (&client.gateway.limits, &order.pool);
        let reaching = async {
            let (mut wait, mut unsent) = (Wait::default(), false);
            loop {
                let lease = pool.acquire(Use::Request, limits, &mut wait).await.map_err(Refusal::Unavailable)?;
                let Ok(mut instance) = lease.backend.stream(limits).await else {
                    wait.begin();
                    pool.mark_down(&lease.backend, limits);
                    continue;
                };
                wait.reached();
                lease.count();
                match timeout(limits.answer_timeout, write(&mut instance, out)).await {
                    Ok(Sent::Something) => {
                        wait.end(&pool.counters);
                        return Ok((lease, instance));
                    }
                    // An idle connection that the instance closed at this moment: the next one, without a pause.
                    Ok(Sent::Nothing) if !std::mem::replace(&mut unsent, true) => {
                        wait.begin();
                    }
                    Ok(Sent::Nothing) => {
                        drop((lease, instance));
                        pool.pause(limits, &mut wait).await.map_err(Refusal::Unavailable)?;
                    }
                    Err(_) => return Err(Refusal::AnswerTimeout),
                }
            }
        };
        tokio::select! {
            biased;
            reached = reaching => Ok(reached?),
            () = io::gone(stream, read, limits.head) => Err(Failed::Gone),
        }
    }
}

/// Passes what was read of a request's body.
fn pass(
    body: &mut Body,
    read: &mut BytesMut,
    out: &mut Vec<u8>,
    coding: Coding,
    limits: &Limits,
) -> Result<(), Refusal> {
    body.pass(read, out, coding).map_err(|_| field::bad("the request's chunks are broken"))?;
    if body.length > limits.body { Err(Refusal::BodyTooLong) } else { Ok(()) }
}

/// Sends the rest of a request's body as it comes.
async fn upload(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    read: &mut BytesMut,
    out: &mut Vec<u8>,
    body: &mut Body,
    coding: Coding,
    limits: &Limits,
) -> Result<(), Stopped> {
    out.clear();
    loop {
        // While an instance was looked for, more may have come.
        pass(body, read, out, coding, limits).map_err(Stopped::Refused)?;
        if !out.is_empty() {
            match timeout(limits.answer_timeout, io::send(to, out)).await {
                Ok(Ok(())) => out.clear(),
                Ok(Err(_)) => return Err(Stopped::Deaf),
                Err(_) => return Err(Stopped::Stuck),
            }
        }
        if body.is_done() {
            return Ok(());
        }
        match timeout(limits.body_timeout, io::fill(from, read)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return Err(Stopped::ClientGone),
            Err(_) => return Err(Stopped::Refused(Refusal::RequestTimeout)),
        }
    }
}
