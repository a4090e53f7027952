//! A request to the proxy in HTTP/1.1: `CONNECT HOST:PORT`, or another method with `http://HOST[:PORT]/…`.
//!
//! Read strictly: what could be read in two ways is refused, never repaired. One request a connection; of `http://` requests the one
//! body goes out that was announced, and nothing behind it.

use super::target::{Target, Why};

/// The longest head, bytes.
pub(crate) const LONGEST_HEAD: usize = 16 << 10;
/// The most header fields of a head.
const MOST_FIELDS: usize = 100;
/// The port of `http://` where none is written.
const HTTP_PORT: u16 = 80;

/// Fields that are between the program and the proxy, and not the destination's.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// What the program asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A tunnel.
    Connect(Target),
    /// One request, passed on with this head and so many bytes of body.
    Forward { target: Target, head: Vec<u8>, body: u64 },
}

/// A head that is no request to this proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    /// The target as it was written, if there was one.
    pub(crate) target: String,
    pub(crate) why: Why,
}

struct Field<'a> {
    name: &'a str,
    value: &'a str,
}

/// Where a head ends: behind its empty line. None if that is not there yet.
pub(crate) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a whole head, the empty line included.
pub(crate) fn parse(head: &[u8]) -> Result<Request, Bad> {
    let bad = |why| Bad { target: String::new(), why };
    let plain = |byte: &u8| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~');
    if !head.iter().all(plain) {
        return Err(bad("a byte in it is no printable ASCII"));
    }
    let text = std::str::from_utf8(head).map_err(|_| bad("a byte in it is no printable ASCII"))?;
    let text = text.strip_suffix("\r\n\r\n").ok_or(bad("it has no end"))?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("its first line is not METHOD TARGET VERSION"));
    };
    let bad = |why| Bad { target: target.to_owned(), why };
    if first.contains(['\r', '\n', '\t']) {
        return Err(bad("a line in it ends with half a line end"));
    }
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(bad("its method is none"));
    }
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(bad("its version is neither HTTP/1.1 nor HTTP/1.0"));
    }
    let fields = fields(lines).map_err(bad)?;
    if method == "CONNECT" {
        connect(target, &fields).map_err(bad)
    } else {
        forward(method, target, &fields).map_err(bad)
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Field<'a>>, Why> {
    let mut fields = Vec::new();
    for line in lines {
        if line.contains(['\r', '\n']) {
            return Err("a line in it ends with half a line end");
        }
        if fields.len() == MOST_FIELDS {
            return Err("it has more than 100 header fields");
        }
        let (name, value) = line.split_once(':').ok_or("a header field has no colon")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("a header field's name is none");
        }
        fields.push(Field { name, value: value.trim_matches([' ', '\t']) });
    }
    Ok(fields)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn one<'a>(fields: &[Field<'a>], name: &str, twice: Why) -> Result<Option<&'a str>, Why> {
    let mut found = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    let value = found.next();
    if found.next().is_some() { Err(twice) } else { Ok(value) }
}

/// How many bytes of body there are. A body of chunks has an end that only its reader knows, so it is not passed on.
fn body(fields: &[Field<'_>]) -> Result<u64, Why> {
    if fields.iter().any(|field| field.name.eq_ignore_ascii_case("transfer-encoding")) {
        return Err("a body without Content-Length is not passed on; use CONNECT");
    }
    let Some(length) = one(fields, "content-length", "it has two Content-Length")? else { return Ok(0) };
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("its Content-Length is no number");
    }
    length.parse().map_err(|_| "its Content-Length is no number")
}

fn connect(target: &str, fields: &[Field<'_>]) -> Result<Request, Why> {
    let parsed = Target::parse(target)?;
    if body(fields)? != 0 {
        return Err("a CONNECT has no body");
    }
    same_host(&parsed, parsed.port, fields)?;
    Ok(Request::Connect(parsed))
}

/// A Host field names what the target names, or nothing is passed on.
fn same_host(target: &Target, default: u16, fields: &[Field<'_>]) -> Result<(), Why> {
    let Some(host) = one(fields, "host", "it has two Host fields")? else { return Ok(()) };
    match Target::parse_with_default(host, default) {
        Ok(named) if named == *target => Ok(()),
        _ => Err("its Host field differs from its target"),
    }
}

fn forward(method: &str, target: &str, fields: &[Field<'_>]) -> Result<Request, Why> {
    let (scheme, rest) = target.split_once("://").ok_or("its target is not http://HOST/…, and it is no CONNECT")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err("only http:// is passed on; everything else goes through CONNECT");
    }
    if target.contains(['#', '\\']) {
        return Err("its target has a fragment or a backslash");
    }
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let parsed = Target::parse_with_default(authority, HTTP_PORT)?;
    same_host(&parsed, HTTP_PORT, fields)?;
    let body = body(fields)?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head = format!("{method} {slash}{path} HTTP/1.1\r\nHost: {authority}\r\n");
    let named: Vec<_> = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("connection"))
        .flat_map(|field| field.value.split(','))
        .map(|name| name.trim_matches([' ', '\t']))
        .collect();
    for Field { name, value } in fields {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        // What frames the request is never taken away by a Connection field that names it.
        let kept = is("content-length") || !named.iter().any(|name| is(name));
        if kept && !is("host") && !HOP_BY_HOP.iter().any(|own| is(own)) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("Connection: close\r\n\r\n");
    Ok(Request::Forward { target: parsed, head: head.into_bytes(), body })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why(head: &str) -> Why {
        parse(head.as_bytes()).unwrap_err().why
    }

    fn connects(head: &str) -> String {
        match parse(head.as_bytes()) {
            Ok(Request::Connect(target)) => target.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn forwards(head: &str) -> (String, String, u64) {
        match parse(head.as_bytes()) {
            Ok(Request::Forward { target, head, body }) => (target.to_string(), String::from_utf8(head).unwrap(), body),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connect_goes_where_its_target_says() {
        assert_eq!(connects("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"), "example.com:443");
        assert_eq!(connects("CONNECT example.com:443 HTTP/1.1\r\nHost: EXAMPLE.com\r\n\r\n"), "example.com:443");
        assert_eq!(connects("CONNECT [fd00::1]:443 HTTP/1.0\r\n\r\n"), "[fd00::1]:443");
    }

    #[test]
    fn a_request_is_passed_on_in_its_origins_form() {
        let head = "GET http://Example.com/a?b HTTP/1.1\r\nHost: example.com:80\r\nProxy-Connection: keep-alive\r\nX-Hop: 1\r\n\
                    Connection: x-hop, content-length\r\nProxy-Authorization: Basic eA==\r\nAccept: */*\r\nContent-Length: 7\r\n\r\n";
        let sent =
            "GET /a?b HTTP/1.1\r\nHost: Example.com\r\nAccept: */*\r\nContent-Length: 7\r\nConnection: close\r\n\r\n";
        assert_eq!(forwards(head), ("example.com:80".to_owned(), sent.to_owned(), 7));
        let (target, sent, body) = forwards("GET http://10.0.0.1:8080?q HTTP/1.0\r\n\r\n");
        assert_eq!((&*target, body), ("10.0.0.1:8080", 0));
        assert!(sent.starts_with("GET /?q HTTP/1.1\r\nHost: 10.0.0.1:8080\r\n"), "{sent}");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for head in [
            "\r\n\r\n",
            "GET\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            "GET  http://example.com/ HTTP/1.1\r\n\r\n",
            "GET http://example.com/ HTTP/1.1 \r\n\r\n",
            "GET http://example.com/ HTTP/2\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\nHost: example.com\r\n\r\n",
            "GET http://example.com/\tx HTTP/1.1\r\n\r\n",
            "GET http://example.com/\0 HTTP/1.1\r\n\r\n",
            "GET http://example.com\0.evil.test/ HTTP/1.1\r\n\r\n",
            "GET http://user@example.com/ HTTP/1.1\r\n\r\n",
            "GET http://user:pass@example.com:80/ HTTP/1.1\r\n\r\n",
            "GET http://example.com\\@evil.test/ HTTP/1.1\r\n\r\n",
            "GET http://example%2ecom/ HTTP/1.1\r\n\r\n",
            "GET http://example.com./ HTTP/1.1\r\n\r\n",
            "GET http://example.com:/ HTTP/1.1\r\n\r\n",
            "GET http://example.com:0/ HTTP/1.1\r\n\r\n",
            "GET http://example.com:65536/ HTTP/1.1\r\n\r\n",
            "GET http:///x HTTP/1.1\r\n\r\n",
            "GET https://example.com/ HTTP/1.1\r\n\r\n",
            "GET ftp://example.com/ HTTP/1.1\r\n\r\n",
            "GET http://example.com/#x HTTP/1.1\r\n\r\n",
            "GET http://2130706433/ HTTP/1.1\r\n\r\n",
            "GET http://0x7f.1/ HTTP/1.1\r\n\r\n",
            "GET http://[fd00::1%25eth0]/ HTTP/1.1\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nHost: example.com:81\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nHost: example.com\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nHost: \r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nHost : example.com\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\n folded: x\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nX: 1\rY: 2\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nno colon\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nX: \u{e4}\r\n\r\n",
            "POST http://example.com/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST http://example.com/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "POST http://example.com/ HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST http://example.com/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT example.com HTTP/1.1\r\n\r\n",
            "CONNECT http://example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT example.com:443/ HTTP/1.1\r\n\r\n",
            "CONNECT example.com:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:444\r\n\r\n",
            "CONNECT example.com:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
            "CONNECT evil.test:443@example.com:443 HTTP/1.1\r\n\r\n",
            "connect example.com:443 HTTP/1.1\r\n\r\n",
        ] {
            assert!(parse(head.as_bytes()).is_err(), "{head:?}");
        }
        assert_eq!(why("CONNECT a.test:1 HTTP/1.1\r\nHost: b.test\r\n\r\n"), "its Host field differs from its target");
    }

    #[test]
    fn a_head_ends_behind_its_empty_line() {
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\nA: b\r\n"), None);
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\n\r\nrest"), Some(18));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn no_head_panics_and_what_is_passed_on_is_one_request_to_its_target(
            head in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                "(GET|POST|CONNECT) (http://)?[a-z0-9.:@%\\[\\]\\\\/?#]{0,20} HTTP/1.[012]\r\n((Host|Connection|Content-Length|X|Transfer-Encoding)(:| :)[ a-z0-9.,:\t\r\n]{0,12}\r\n){0,4}\r\n"
                    .prop_map(String::into_bytes),
            ]
        ) {
            match parse(&head) {
                Ok(Request::Connect(target)) => {
                    let start = format!("CONNECT {target} ").to_ascii_lowercase().into_bytes();
                    let bracket = start.contains(&b'[');
                    prop_assert!(bracket || head.to_ascii_lowercase().starts_with(&start));
                }
                Ok(Request::Forward { target, head: sent, .. }) => {
                    prop_assert_eq!(end_of_head(&sent), Some(sent.len()));
                    let text = String::from_utf8(sent).unwrap();
                    prop_assert_eq!(text.matches("\r\n").count(), text.matches('\n').count());
                    let hosts: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("Host: ")).collect();
                    prop_assert_eq!(hosts.len(), 1);
                    prop_assert_eq!(Target::parse_with_default(hosts[0], 80), Ok(target));
                }
                Err(_) => {}
            }
        }
    }
}
