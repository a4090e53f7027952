//! The rules for a head on its way: what is checked, what is taken out, what is put in.
//!
//! Taken out: hop-by-hop fields and those that `Connection` names, and what only the gateway may say (`x-osvm-retry`,
//! `x-osvm-not-processed`). Put in: `x-forwarded-for` (appended), `x-forwarded-proto`, `x-forwarded-host`, and `x-request-id`
//! where the client sent none that is fit. `traceparent` and `tracestate` pass as they are. `Via` is not added: it would tell
//! clients what stands before the service and serves nobody here.

use std::{fmt::Write as _, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
    request, response,
};
use osvm_model::handover::{NOT_PROCESSED, RETRY};

use crate::{gateway::RequestIds, http::answer::Refusal};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const RETRIED: HeaderName = HeaderName::from_static(RETRY);
const UNPROCESSED: HeaderName = HeaderName::from_static(NOT_PROCESSED);
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];
/// An id of a client's that is passed on is at most so long.
const LONGEST_ID: usize = 128;

/// The host that a request names: of the URI if it has one (HTTP/2, absolute form), else the one `Host` field.
pub(crate) fn host<B>(request: &Request<B>) -> Result<HeaderValue, Refusal> {
    let mut named = request.headers().get_all(HOST).iter();
    let (first, second) = (named.next(), named.next());
    if second.is_some() {
        return Err(Refusal::BadRequest("the request has more than one Host"));
    }
    if let Some(authority) = request.uri().authority() {
        return HeaderValue::from_str(authority.as_str())
            .map_err(|_| Refusal::BadRequest("the request's host is not one"));
    }
    match first {
        Some(host) if host.to_str().is_ok() => Ok(host.clone()),
        Some(_) => Err(Refusal::BadRequest("the request's host is not one")),
        // HTTP/1.0 knew no Host.
        None if request.version() == Version::HTTP_10 => Ok(HeaderValue::from_static("")),
        None => Err(Refusal::BadRequest("the request has no Host")),
    }
}

/// The protocol that a request wants to change to.
pub(crate) fn upgrade(parts: &request::Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 || !names(&parts.headers, "upgrade") {
        return None;
    }
    parts.headers.get(UPGRADE).cloned()
}

/// Whether `Connection` names `token`.
fn names(headers: &HeaderMap, token: &str) -> bool {
    connection_tokens(headers).any(|named| named.eq_ignore_ascii_case(token))
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Takes out what concerns only this hop.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = connection_tokens(headers).filter_map(|token| token.parse().ok()).collect();
        for name in named {
            // Nobody may have the fields dropped that say where a message ends and whom it is for.
            if name != CONTENT_LENGTH && name != HOST {
                headers.remove(name);
            }
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Makes a client's head an instance's. Answers the request's id.
pub(crate) fn prepare_request(
    parts: &mut request::Parts,
    host: HeaderValue,
    peer: IpAddr,
    tls: bool,
    ids: &RequestIds,
) -> HeaderValue {
    let headers = &mut parts.headers;
    strip(headers);
    headers.remove(EXPECT);
    headers.remove(RETRIED);
    headers.remove(UNPROCESSED);
    join_cookies(headers);
    let id = match headers.get(&REQUEST_ID) {
        Some(id) if is_fit(id) => id.clone(),
        _ => {
            let made = HeaderValue::from_str(&ids.next()).unwrap_or(HeaderValue::from_static("-"));
            headers.insert(REQUEST_ID, made.clone());
            made
        }
    };
    let mut forwarded = String::with_capacity(64);
    for earlier in headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()) {
        forwarded.push_str(earlier);
        forwarded.push_str(", ");
    }
    // Writing to a string does not fail.
    let _ = write!(forwarded, "{peer}");
    if let Ok(value) = HeaderValue::from_str(&forwarded) {
        headers.insert(FORWARDED_FOR, value);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if tls { "https" } else { "http" }));
    headers.insert(FORWARDED_HOST, host.clone());
    headers.insert(HOST, host);
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    parts.version = Version::HTTP_11;
    id
}

fn is_fit(id: &HeaderValue) -> bool {
    !id.is_empty() && id.len() <= LONGEST_ID && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// HTTP/2 may split cookies over several fields, HTTP/1.1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (all.next(), all.next()) {
        let mut joined = [first.as_bytes(), second.as_bytes()].join(&b"; "[..]);
        for more in all {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(more.as_bytes());
        }
        if let Ok(value) = HeaderValue::from_bytes(&joined) {
            headers.insert(COOKIE, value);
        }
    }
}

/// Makes an instance's head a client's.
pub(crate) fn prepare_answer(parts: &mut response::Parts, id: HeaderValue) {
    strip(&mut parts.headers);
    parts.headers.remove(UNPROCESSED);
    parts.headers.insert(REQUEST_ID, id);
    parts.version = Version::HTTP_11;
}

/// Marks a request as one that may have been processed already.
pub(crate) fn mark_retried(headers: &mut HeaderMap) {
    headers.insert(RETRIED, HeaderValue::from_static("1"));
}

/// Whether the instance says that it did nothing with the request.
pub(crate) fn is_unprocessed(parts: &response::Parts) -> bool {
    parts.status == http::StatusCode::SERVICE_UNAVAILABLE && parts.headers.contains_key(UNPROCESSED)
}

/// Asks for the change to another protocol.
pub(crate) fn ask_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}
