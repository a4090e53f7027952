//! A request's head: read strictly, checked, and written anew for the instance.
//!
//! Refused is what two parsers could read in two ways. The rules for what is taken out and put in are those of [`crate::http::head`].

use std::borrow::Cow;

use http::{Method, Uri};

use crate::{
    gateway::RequestIds,
    http::{
        answer::Refusal,
        relay::{
            body::Framing,
            field::{self, Kind, Named, bad},
        },
    },
};

/// An id of a client's that is passed on is at most so long.
const LONGEST_ID: usize = 128;

/// A checked head that still lies in the buffer.
#[derive(Debug)]
pub(super) struct Head<'h, 'b> {
    /// Its bytes.
    pub(super) length: usize,
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: Cow<'b, str>,
    pub(super) host: Cow<'b, str>,
    pub(super) framing: Framing,
    pub(super) is_http10: bool,
    pub(super) keep_alive: bool,
    /// The client waits for a 100 before it sends the body.
    pub(super) expects: bool,
    /// It wants another protocol, and not HTTP/2: that is spoken with prior knowledge only, and an offer may be passed over.
    pub(super) upgrades: bool,
    fields: &'h [httparse::Header<'b>],
    named: Named<'h, 'b>,
}

/// Reads a head and hands it on; none if it is not whole yet.
pub(super) fn read<T>(
    bytes: &[u8],
    most_fields: usize,
    with: impl FnOnce(Head<'_, '_>) -> Result<T, Refusal>,
) -> Result<Option<T>, Refusal> {
    field::with_room(most_fields, |room| {
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, room) {
            Ok(httparse::Status::Complete(length)) => check(&parsed, bytes, length).and_then(with).map(Some),
            Ok(httparse::Status::Partial) => Ok(None),
            Err(httparse::Error::TooManyHeaders) => Err(Refusal::HeadTooLarge),
            Err(_) => Err(bad("the request is not HTTP")),
        }
    })
}

fn check<'h, 'b>(
    parsed: &'h httparse::Request<'_, 'b>,
    bytes: &'b [u8],
    length: usize,
) -> Result<Head<'h, 'b>, Refusal> {
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(bad("the request is not HTTP"));
    };
    if !field::has_clean_lines(&bytes[..length]) {
        return Err(bad("a line of the request does not end with CR LF"));
    }
    let is_http10 = version == 0;
    let fields = &*parsed.headers;
    let named = Named::of(fields);
    let (mut host, mut told, mut encoded, mut expects, mut upgrade) = (None, None, false, false, None);
    for one in fields {
        match Kind::of(one.name) {
            Kind::Host if host.replace(one.value).is_some() => return Err(bad("the request has more than one Host")),
            Kind::ContentLength => {
                let length = field::length(one.value).ok_or(bad("the request's Content-Length is not a number"))?;
                if told.replace(length).is_some() {
                    return Err(bad("the request has two Content-Lengths"));
                }
            }
            Kind::TransferEncoding => {
                if !one.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(bad("the request's Transfer-Encoding is not chunked"));
                }
                if std::mem::replace(&mut encoded, true) {
                    return Err(bad("the request has two Transfer-Encodings"));
                }
            }
            Kind::Expect => expects = one.value.eq_ignore_ascii_case(b"100-continue"),
            Kind::Upgrade => upgrade = upgrade.or(Some(one.value)),
            _ => {}
        }
    }
    let framing = match (told, encoded) {
        (Some(_), true) => return Err(bad("the request has both Content-Length and Transfer-Encoding")),
        (None, true) if is_http10 => return Err(bad("an HTTP/1.0 request has no Transfer-Encoding")),
        (None, true) => Framing::Chunked,
        (length, false) => Framing::Length(length.unwrap_or(0)),
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("the request is not HTTP"))?;
    if method == Method::CONNECT {
        return Err(Refusal::MethodNotAllowed);
    }
    let (target, authority) = split_target(target)?;
    let host = match (authority, host) {
        (Some(authority), _) => Cow::Owned(authority),
        (None, Some(host)) => Cow::Borrowed(named_host(host)?),
        // HTTP/1.0 knew no Host.
        (None, None) if is_http10 => Cow::Borrowed(""),
        (None, None) => return Err(bad("the request has no Host")),
    };
    let upgrades = !is_http10
        && framing.is_none()
        && upgrade.is_some_and(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
        && named.has("upgrade");
    let keep_alive = if is_http10 { named.has("keep-alive") } else { !named.has("close") };
    Ok(Head { length, method, target, host, framing, is_http10, keep_alive, expects, upgrades, fields, named })
}

/// Path and query, and the host of an absolute form.
fn split_target(target: &str) -> Result<(Cow<'_, str>, Option<String>), Refusal> {
    if target.starts_with('/') && target.bytes().all(is_plain) {
        return Ok((Cow::Borrowed(target), None));
    }
    let uri: Uri = target.parse().map_err(|_| bad("the request's target is not one"))?;
    let rest = uri.path_and_query().map_or("/", |rest| rest.as_str()).to_owned();
    match (uri.scheme(), uri.authority()) {
        (None, None) => Ok((Cow::Owned(rest), None)),
        (Some(_), Some(authority)) if is_host(authority.as_str().as_bytes()) => {
            Ok((Cow::Owned(rest), Some(authority.as_str().to_owned())))
        }
        _ => Err(bad("the request's target is not one")),
    }
}

/// What needs no second look in a path or query.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/?&=-._~%+:;,@!$'()*".contains(&byte)
}

fn named_host(value: &[u8]) -> Result<&str, Refusal> {
    let host = if is_host(value) { std::str::from_utf8(value).ok() } else { None };
    host.ok_or(bad("the request's host is not one"))
}

/// What may stand in a host with its port.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%:[]!$&'()*+,;=".contains(byte))
}

/// What the gateway says of the client.
pub(super) struct Forwarded<'a> {
    pub(super) peer: &'a str,
    pub(super) tls: bool,
    pub(super) ids: &'a RequestIds,
}

impl Head<'_, '_> {
    /// Path without query, as routes look at it.
    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// Writes the head but for the fields that frame the body and the empty line. The request's id goes to `id`.
    pub(super) fn write(&self, out: &mut Vec<u8>, id: &mut Vec<u8>, forwarded: &Forwarded<'_>) {
        for part in [self.method.as_str(), " ", &self.target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        field::write(out, "host", self.host.as_bytes());
        id.clear();
        let (mut cookies, mut earlier) = (0, 0);
        for one in self.fields {
            let kind = Kind::of(one.name);
            if self.named.drops(one.name, kind) {
                continue;
            }
            match kind {
                Kind::Other | Kind::Date => field::write(out, one.name, one.value),
                Kind::Cookie => cookies += 1,
                Kind::ForwardedFor => earlier += 1,
                Kind::RequestId if id.is_empty() && is_fit(one.value) => id.extend_from_slice(one.value),
                _ => {}
            }
        }
        if cookies > 0 {
            // One field: HTTP/1.1 has them in one, whatever the client did.
            self.join(out, Kind::Cookie, "cookie: ", b"; ");
            out.extend_from_slice(b"\r\n");
        }
        if earlier > 0 {
            self.join(out, Kind::ForwardedFor, "x-forwarded-for: ", b", ");
            out.extend_from_slice(b", ");
        } else {
            out.extend_from_slice(b"x-forwarded-for: ");
        }
        out.extend_from_slice(forwarded.peer.as_bytes());
        out.extend_from_slice(b"\r\n");
        field::write(out, "x-forwarded-proto", if forwarded.tls { b"https" } else { b"http" });
        field::write(out, "x-forwarded-host", self.host.as_bytes());
        if id.is_empty() {
            forwarded.ids.write(id);
        }
        field::write(out, "x-request-id", id);
    }

    fn join(&self, out: &mut Vec<u8>, kind: Kind, start: &str, between: &[u8]) {
        out.extend_from_slice(start.as_bytes());
        let mut first = true;
        for one in self.fields.iter().filter(|one| Kind::of(one.name) == kind) {
            if !std::mem::replace(&mut first, false) {
                out.extend_from_slice(between);
            }
            out.extend_from_slice(one.value);
        }
    }
}

fn is_fit(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= LONGEST_ID && id.iter().all(u8::is_ascii_graphic)
}
