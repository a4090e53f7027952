//! A request to the proxy in SOCKS5 (RFC 1928): no authentication, `CONNECT` only, to a name or an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    http::Bad,
    target::{Host, Target},
};

/// The first byte of all that a client says.
pub(crate) const VERSION: u8 = 5;
/// The answer to a greeting: no authentication.
pub(crate) const CHOSEN: [u8; 2] = [VERSION, 0];
/// The answer to a greeting that offers only others.
pub(crate) const NONE_CHOSEN: [u8; 2] = [VERSION, 0xff];

const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// What of a message has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read<T> {
    /// Not all of it.
    Partly,
    /// All of it, and its length.
    Whole(T, usize),
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done = 0,
    Failed = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

impl Reply {
    /// Its bytes. The address that the connection has outside is nobody's business inside.
    pub(crate) fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]
    }
}

/// Whether a greeting offers to go without authentication.
pub(crate) fn greeting(bytes: &[u8]) -> Read<bool> {
    let [_, count, methods @ ..] = bytes else { return Read::Partly };
    match methods.get(..usize::from(*count)) {
        Some(methods) => Read::Whole(methods.contains(&0), 2 + methods.len()),
        None => Read::Partly,
    }
}

/// Where a request is to go.
pub(crate) fn request(bytes: &[u8]) -> Read<Result<Target, (Bad, Reply)>> {
    let bad = |target: String, why, reply| Read::Whole(Err((Bad { target, why }, reply)), bytes.len());
    let [version, command, zero, kind, rest @ ..] = bytes else { return Read::Partly };
    if *version != VERSION || *zero != 0 {
        return bad(String::new(), "it is no SOCKS5 request", Reply::Failed);
    }
    let (host, length) = match *kind {
        IPV4 => match rest.first_chunk::<4>() {
            Some(address) => (Ok(IpAddr::from(Ipv4Addr::from(*address))), 4),
            None => return Read::Partly,
        },
        IPV6 => match rest.first_chunk::<16>() {
            Some(address) => (Ok(IpAddr::from(Ipv6Addr::from(*address))), 16),
            None => return Read::Partly,
        },
        NAME => match rest.split_first().map(|(length, rest)| rest.get(..usize::from(*length))) {
            Some(Some(name)) => (Err(name), 1 + name.len()),
            _ => return Read::Partly,
        },
        _ => return bad(String::new(), "it has a kind of address that SOCKS5 does not have", Reply::NoSuchAddress),
    };
    let Some(port) = rest.get(length..).and_then(|rest| rest.first_chunk::<2>()) else { return Read::Partly };
    let port = u16::from_be_bytes(*port);
    let shown = match host {
        Ok(address) => Target { host: Host::Address(address), port }.to_string(),
        Err(name) => format!("{}:{port}", name.escape_ascii()),
    };
    if *command != CONNECT {
        return bad(shown, "of SOCKS5's commands only CONNECT is served", Reply::NoSuchCommand);
    }
    if port == 0 {
        return bad(shown, "a port is a number from 1 to 65535", Reply::NotAllowed);
    }
    let host = match host {
        Ok(address) => Ok(Host::Address(address)),
        // Brackets and colons are not part of a name here: SOCKS5 has its own kind for such addresses.
        Err(name) => match std::str::from_utf8(name) {
            Ok(name) if !name.contains(':') => Host::parse(name),
            _ => Err("a name consists of letters, digits, hyphens and dots"),
        },
    };
    match host {
        Ok(host) => Read::Whole(Ok(Target { host, port }), 4 + length + 2),
        Err(why) => bad(shown, why, Reply::NotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(host: &[u8], port: u16) -> Vec<u8> {
        let length = u8::try_from(host.len()).unwrap();
        [&[5, 1, 0, 3, length], host, &port.to_be_bytes()].concat()
    }

    fn target(bytes: &[u8]) -> Option<String> {
        match request(bytes) {
            Read::Whole(Ok(target), length) if length == bytes.len() => Some(target.to_string()),
            _ => None,
        }
    }

    #[test]
    fn names_and_addresses_are_read() {
        assert_eq!(target(&name(b"Example.com", 443)).as_deref(), Some("example.com:443"));
        assert_eq!(target(&name(b"10.0.0.1", 80)).as_deref(), Some("10.0.0.1:80"));
        assert_eq!(target(&[5, 1, 0, 1, 10, 0, 0, 1, 0, 80]).as_deref(), Some("10.0.0.1:80"));
        let six = [&[5, 1, 0, 4][..], &[0xfd; 16], &[0, 80]].concat();
        assert_eq!(target(&six).as_deref(), Some("[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:80"));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for bytes in [
            name(b"example.com.", 443),
            name(b"example.com\0", 443),
            name(b"a\0b.test", 443),
            name(b"", 443),
            name(b"user@example.com", 443),
            name(b"[::1]", 443),
            name(b"::1", 443),
            name(b"0x7f.1", 443),
            name(b"2130706433", 443),
            name(b"\xff.test", 443),
            name(b"example.com", 0),
            vec![5, 2, 0, 1, 10, 0, 0, 1, 0, 80],
            vec![5, 3, 0, 1, 10, 0, 0, 1, 0, 80],
            vec![5, 1, 0, 2, 10, 0, 0, 1, 0, 80],
            vec![5, 1, 1, 1, 10, 0, 0, 1, 0, 80],
            vec![4, 1, 0, 80, 10, 0, 0, 1, 0],
        ] {
            assert!(matches!(request(&bytes), Read::Whole(Err(_), _)), "{bytes:?}");
        }
    }

    #[test]
    fn a_greeting_offers_no_authentication_or_is_turned_away() {
        assert_eq!(greeting(&[5, 2, 2, 0]), Read::Whole(true, 4));
        assert_eq!(greeting(&[5, 1, 2]), Read::Whole(false, 3));
        assert_eq!(greeting(&[5, 2, 0]), Read::Partly);
        assert_eq!(greeting(&[5]), Read::Partly);
    }

    proptest! {
        #[test]
        fn no_message_panics_and_no_part_of_one_is_taken_for_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = greeting(&bytes);
            if let Read::Whole(Ok(target), length) = request(&bytes) {
                prop_assert_eq!(request(&bytes[..length]), Read::Whole(Ok(target), length));
                for end in 0..length {
                    prop_assert_eq!(request(&bytes[..end]), Read::Partly);
                }
            }
        }

        #[test]
        fn parts_of_a_good_request_are_waited_for(host in "[a-z]{1,20}\\.test", port in 1u16..) {
            let bytes = name(host.as_bytes(), port);
            for end in 0..bytes.len() {
                prop_assert_eq!(request(&bytes[..end]), Read::Partly);
            }
            prop_assert_eq!(target(&bytes), Some(format!("{host}:{port}")));
        }
    }
}
