//! An answer's head: read, and written anew for the client.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{Method, StatusCode};

use crate::http::relay::{
    body::{Coding, Framing},
    field::{self, Kind, Named},
};

/// Fields of an answer's head.
const MOST_FIELDS: usize = 128;

/// An answer that nobody can rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// What the request says about how it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) is_http10: bool,
    /// The client's connection may be used again.
    pub(super) keep_alive: bool,
    pub(super) id: &'a [u8],
}

/// A head that was read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its bytes in the instance's buffer.
    pub(super) length: usize,
    /// Where its body ends.
    pub(super) framing: Framing,
    /// How the body goes to the client.
    pub(super) coding: Coding,
    /// The instance takes another request on the connection.
    pub(super) reuse: bool,
    /// The client's connection ends with this answer.
    pub(super) close: bool,
    /// The instance says that it did nothing.
    pub(super) unprocessed: bool,
}

/// What an instance's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Partial,
    /// An interim answer of so many bytes.
    Interim(usize),
    Head(Head),
}

/// Reads a head; if it is whole, `reply` is the client's.
pub(super) fn read(bytes: &[u8], asked: &Asked<'_>, reply: &mut Vec<u8>) -> Result<Begin, Garbage> {
    field::with_room(MOST_FIELDS, |room| {
        let mut parsed = httparse::Response::new(&mut []);
        let outcome = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut parsed, bytes, room)
            .map_err(|_| Garbage)?;
        let httparse::Status::Complete(length) = outcome else { return Ok(Begin::Partial) };
        let (Some(code), Some(version)) = (parsed.code, parsed.version) else { return Err(Garbage) };
        match code {
            // Nobody asked for another protocol.
            101 => Err(Garbage),
            100..=199 => Ok(Begin::Interim(length)),
            200..=999 => {
                reply.clear();
                pass(&parsed, code, version, length, asked, reply).map(Begin::Head)
            }
            _ => Err(Garbage),
        }
    })
}

fn pass(
    parsed: &httparse::Response<'_, '_>,
    code: u16,
    version: u8,
    length: usize,
    asked: &Asked<'_>,
    reply: &mut Vec<u8>,
) -> Result<Head, Garbage> {
    let fields = &*parsed.headers;
    let named = Named::of(fields);
    reply.extend_from_slice(b"HTTP/1.1 ");
    reply.extend([code / 100, code / 10 % 10, code % 10].map(|digit| b'0' + digit as u8));
    reply.push(b' ');
    let reason = parsed.reason.filter(|reason| !reason.is_empty());
    let known = || StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason()).unwrap_or("");
    reply.extend_from_slice(reason.unwrap_or_else(known).as_bytes());
    reply.extend_from_slice(b"\r\n");
    let (mut told, mut encoded, mut unprocessed, mut dated) = (None, false, false, false);
    for one in fields {
        let kind = Kind::of(one.name);
        match kind {
            Kind::ContentLength => {
                let length = field::length(one.value).ok_or(Garbage)?;
                if told.replace(length).is_some_and(|earlier| earlier != length) {
                    return Err(Garbage);
                }
            }
            Kind::TransferEncoding => {
                if !one.value.eq_ignore_ascii_case(b"chunked") || std::mem::replace(&mut encoded, true) {
                    return Err(Garbage);
                }
            }
            Kind::NotProcessed => unprocessed = true,
            Kind::Connection | Kind::Hop | Kind::Upgrade | Kind::RequestId => {}
            _ if named.drops(one.name, kind) => {}
            _ => {
                dated |= kind == Kind::Date;
                field::write(reply, one.name, one.value);
            }
        }
    }
    if told.is_some() && encoded {
        return Err(Garbage);
    }
    let bodiless = *asked.method == Method::HEAD || code == 204 || code == 304;
    let framing = match (bodiless, told, encoded) {
        (true, _, _) => Framing::NONE,
        (_, Some(length), _) => Framing::Length(length),
        (_, None, true) => Framing::Chunked,
        (_, None, false) => Framing::UntilClose,
    };
    // An HTTP/1.0 client knows no chunks; to it, the connection's end is the body's.
    let unmeasured = !matches!(framing, Framing::Length(_));
    let coding = if unmeasured && !asked.is_http10 { Coding::Chunked } else { Coding::Plain };
    let close = !asked.keep_alive || (unmeasured && asked.is_http10);
    let reuse =
        framing != Framing::UntilClose && if version == 0 { named.has("keep-alive") } else { !named.has("close") };
    if !dated {
        write_date(reply);
    }
    field::write(reply, "x-request-id", asked.id);
    match told {
        Some(length) if code != 204 => field::write_length(reply, length),
        _ if coding == Coding::Chunked => field::write(reply, "transfer-encoding", b"chunked"),
        _ => {}
    }
    write_connection(reply, close, asked.is_http10);
    reply.extend_from_slice(b"\r\n");
    Ok(Head { length, framing, coding, reuse, close, unprocessed: unprocessed && code == 503 })
}

/// Says what becomes of the client's connection, where that does not go without saying.
pub(super) fn write_connection(reply: &mut Vec<u8>, close: bool, is_http10: bool) {
    match (close, is_http10) {
        (true, _) => field::write(reply, "connection", b"close"),
        (false, true) => field::write(reply, "connection", b"keep-alive"),
        (false, false) => {}
    }
}

thread_local! {
    /// The second, and how it is written.
    static NOW: Cell<(u64, [u8; 29])> = const { Cell::new((0, [b' '; 29])) };
}

/// A message without a date gets one; see RFC 9110, section 6.6.1.
pub(super) fn write_date(reply: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (second, mut text) = NOW.get();
    if second != now {
        let written = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        if written.len() == text.len() {
            text.copy_from_slice(written.as_bytes());
            NOW.set((now, text));
        }
    }
    field::write(reply, "date", &text);
}
