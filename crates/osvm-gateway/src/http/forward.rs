//! One request's way to an instance and its answer's way back, over as many tries as it takes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, request};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use osvm_model::route::ReplayPolicy;
use tokio::time::timeout;

use crate::{
    backend::{Lease, Sender, Use},
    connection::Client,
    http::{
        answer::Refusal,
        body::{AnswerBody, BodyError, ClientBody, Fate, Fault, OutBody, Streaming},
        head, replay, upgrade,
    },
    limits,
    pool::{Pool, Wait},
};

/// Answers one request. It never fails: what fails becomes an answer.
pub(crate) async fn handle(client: &Client, request: Request<Incoming>) -> Response<AnswerBody> {
    match route(client, &request) {
        Ok((host, pool)) => {
            pool.counters.request();
            let (mut parts, incoming) = request.into_parts();
            let protocol = head::upgrade(&parts).filter(|_| incoming.is_end_stream());
            let ids = &client.gateway.request_ids;
            let id = head::prepare_request(&mut parts, host, client.peer.ip(), client.tls, ids);
            let answered = match protocol {
                // HTTP/2 is spoken with prior knowledge only; a server may pass over an offer to upgrade.
                Some(protocol) if !protocol.as_bytes().eq_ignore_ascii_case(b"h2c") => {
                    upgrade::forward(client, &pool, parts, protocol, id.clone()).await
                }
                _ => exchange(client, &pool, parts, incoming, id.clone()).await,
            };
            answered.unwrap_or_else(|refusal| {
                if let Some(failure) = refusal.failure() {
                    pool.counters.failure(failure);
                }
                let mut response = refusal.response();
                response.headers_mut().insert(head::REQUEST_ID, id);
                response
            })
        }
        Err(refusal) => refusal.response(),
    }
}

/// The host that the request names, and the pool that answers it.
fn route(client: &Client, request: &Request<Incoming>) -> Result<(HeaderValue, Arc<Pool>), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::MethodNotAllowed);
    }
    let (host, path) = (head::host(request)?, request.uri().path());
    let name = host.to_str().ok().filter(|name| !name.is_empty());
    let pool = client.listening.plan.load().route(name, path).cloned().ok_or(Refusal::NoRoute)?;
    Ok((host, pool))
}

/// A request's body between two tries.
enum Held {
    /// In memory: as many tries as needed.
    Whole(Bytes),
    /// One try, or none once it was begun.
    Once(Option<OutBody>),
}

impl Held {
    fn take(&mut self) -> Option<OutBody> {
        match self {
            Self::Whole(bytes) => Some(OutBody::Whole(bytes.clone())),
            Self::Once(body) => body.take(),
        }
    }

    /// What came back unsent.
    fn put_back(&mut self, body: OutBody) {
        if let Self::Once(place) = self {
            *place = Some(body);
        }
    }

    fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Once(_) => None,
        }
    }
}

/// How one try ended.
enum Tried {
    Answer(Response<AnswerBody>),
    /// The instance saw nothing of it.
    Unsent,
    /// The instance says that it did nothing.
    Unprocessed,
    /// The instance may have done something.
    Broken,
}

async fn exchange(
    client: &Client,
    pool: &Arc<Pool>,
    parts: request::Parts,
    incoming: Incoming,
    id: HeaderValue,
) -> Result<Response<AnswerBody>, Refusal> {
    let limits = &client.gateway.limits;
    let policy = pool.view().replay;
    let (mut body, fate) = hold(client, incoming, policy).await?;
    let mut call = Call { client, pool, policy, parts, id, fate };
    let (mut wait, mut unsent) = (Wait::default(), false);
    loop {
        let lease = pool.acquire(Use::Request, limits, &mut wait).await.map_err(Refusal::Unavailable)?;
        let sender = match lease.backend.connection(limits).await {
            Ok(sender) => sender,
            Err(_) => {
                wait.begin();
                pool.mark_down(&lease.backend, limits);
                continue;
            }
        };
        wait.reached();
        let Some(this_body) = body.take() else { return Err(Refusal::BadGateway) };
        match call.send(lease, sender, this_body, &mut body).await? {
            Tried::Answer(response) => {
                wait.end(&pool.counters);
                return Ok(response);
            }
            // An idle connection that the instance closed at this moment: the next one, without a pause.
            Tried::Unsent if !std::mem::replace(&mut unsent, true) => {
                wait.begin();
                continue;
            }
            Tried::Unsent => {}
            Tried::Unprocessed if body.whole().is_some() => {}
            Tried::Broken
                if body.whole().is_some_and(|bytes| replay::may_repeat(policy, &call.parts.method, bytes)) =>
            {
                head::mark_retried(&mut call.parts.headers);
            }
            Tried::Unprocessed | Tried::Broken => return Err(Refusal::BadGateway),
        }
        if !unsent {
            pool.counters.replay();
        }
        pool.pause(limits, &mut wait).await.map_err(Refusal::Unavailable)?;
    }
}

/// Reads a body that is to be kept, so that it can be sent again; others are left to be streamed.
async fn hold(client: &Client, incoming: Incoming, policy: ReplayPolicy) -> Result<(Held, Fate), Refusal> {
    let limits = &client.gateway.limits;
    let known = incoming.size_hint().exact();
    if known == Some(0) {
        return Ok((Held::Whole(Bytes::new()), Fate::default()));
    }
    if known.is_some_and(|length| length > limits.body) {
        return Err(Refusal::BodyTooLong);
    }
    let mut body = Box::new(ClientBody::new(incoming, limits.body, limits.body_timeout));
    let fate = body.fate();
    let keep = match known {
        Some(length) => length <= limits::REPLAY_BODY as u64,
        None => policy == ReplayPolicy::SolanaRpc,
    };
    if !keep {
        return Ok((Held::Once(Some(OutBody::Stream(body))), fate));
    }
    let mut kept = BytesMut::new();
    loop {
        match body.frame().await {
            None => return Ok((Held::Whole(kept.freeze()), fate)),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if kept.is_empty() && body.is_end_stream() {
                    return Ok((Held::Whole(data), fate));
                }
                kept.extend_from_slice(&data);
                if kept.len() > limits::REPLAY_BODY {
                    return Ok((Held::Once(Some(OutBody::Begun(kept.freeze(), body))), fate));
                }
            }
            Some(Err(BodyError::TooLong)) => return Err(Refusal::BodyTooLong),
            Some(Err(BodyError::Slow)) => return Err(Refusal::RequestTimeout),
            Some(Err(_)) => return Err(Refusal::BadRequest("the request's body broke off")),
        }
    }
}

/// What stays the same over all tries of a request.
struct Call<'a> {
    client: &'a Client,
    pool: &'a Arc<Pool>,
    policy: ReplayPolicy,
    parts: request::Parts,
    id: HeaderValue,
    fate: Fate,
}

impl Call<'_> {
    async fn send(&self, lease: Lease, mut sender: Sender, body: OutBody, held: &mut Held) -> Result<Tried, Refusal> {
        let limits = &self.client.gateway.limits;
        lease.count();
        let request = Request::from_parts(self.parts.clone(), body);
        let Ok(sent) = timeout(limits.answer_timeout, sender.try_send_request(request)).await else {
            lease.backend.count_reset();
            return Err(match self.fate.fault() {
                Some(fault) => refusal(fault),
                None => Refusal::AnswerTimeout,
            });
        };
        let response = match sent {
            Ok(response) => response,
            Err(mut error) => {
                if let Some(request) = error.take_message() {
                    held.put_back(request.into_body());
                    return Ok(Tried::Unsent);
                }
                if let Some(fault) = self.fate.fault() {
                    return Err(refusal(fault));
                }
                lease.backend.count_reset();
                return Ok(Tried::Broken);
            }
        };
        let (mut parts, incoming) = response.into_parts();
        let length = incoming.size_hint().exact();
        let short = length.is_some_and(|length| length <= limits::REPLAY_ANSWER);
        let unprocessed = head::is_unprocessed(&parts);
        if parts.status == http::StatusCode::SWITCHING_PROTOCOLS {
            lease.backend.count_reset();
            return Ok(Tried::Broken);
        }
        if unprocessed || (short && replay::collects(self.policy, &self.parts.method)) {
            let whole = timeout(limits.answer_timeout, incoming.collect()).await;
            let collected = match whole {
                Ok(Ok(collected)) => {
                    lease.backend.give_back(sender);
                    collected
                }
                _ if unprocessed => return Ok(Tried::Unprocessed),
                Ok(Err(_)) => {
                    lease.backend.count_reset();
                    return Ok(Tried::Broken);
                }
                Err(_) => return Err(Refusal::AnswerTimeout),
            };
            if unprocessed {
                return Ok(Tried::Unprocessed);
            }
            head::prepare_answer(&mut parts, self.id.clone());
            return Ok(Tried::Answer(Response::from_parts(parts, AnswerBody::Whole(collected.to_bytes()))));
        }
        head::prepare_answer(&mut parts, self.id.clone());
        let streaming = Streaming::new(incoming, Arc::clone(self.pool), lease, sender);
        Ok(Tried::Answer(Response::from_parts(parts, AnswerBody::Stream(Box::new(streaming)))))
    }
}

fn refusal(fault: Fault) -> Refusal {
    match fault {
        Fault::TooLong => Refusal::BodyTooLong,
        Fault::Slow => Refusal::RequestTimeout,
        Fault::Gone => Refusal::BadRequest("the request's body broke off"),
    }
}
