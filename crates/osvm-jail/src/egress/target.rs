//! Destinations: how a host and a port may be written, and the list of those that are allowed.
//!
//! There is one way to write each: a name is of letters, digits and hyphens, does not end with a dot and not in a number (so that no
//! resolver takes it for an address); an IPv4 address is four decimal numbers; an IPv6 address has no zone. Case is all that is made
//! even. Whatever is written in another way is no destination, not even a wrong one.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::address;
use crate::spec::{BadSpec, HostPort};

/// Destinations that one jail may have.
pub(crate) const MOST_ALLOWED: usize = 256;
/// The longest name that DNS can ask for, in its text form.
const LONGEST_NAME: usize = 253;
/// The longest part of a name between two dots.
const LONGEST_LABEL: usize = 63;

/// A host, in its one form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// In lower case.
    Name(String),
    Address(IpAddr),
}

/// Where a connection is to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// Why a text is no destination.
pub(crate) type Why = &'static str;

impl Host {
    /// A name or an address, an IPv6 one without brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, Why> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        if text.contains(':') {
            let address: Ipv6Addr = text.parse().map_err(|_| "it is neither a name nor an IPv6 address")?;
            return Ok(Self::Address(address.into()));
        }
        name(text).map(Self::Name)
    }

    /// A name, an IPv4 address, or an IPv6 address in brackets.
    fn parse_bracketed(text: &str) -> Result<Self, Why> {
        match text.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or("a bracket is not closed")?;
                let address: Ipv6Addr =
                    inner.parse().map_err(|_| "in brackets stands an IPv6 address without a zone")?;
                Ok(Self::Address(address.into()))
            }
            None if text.contains(':') => Err("an IPv6 address stands in brackets"),
            None => Self::parse(text),
        }
    }
}

fn name(text: &str) -> Result<String, Why> {
    if text.is_empty() {
        return Err("it has no host");
    }
    if text.len() > LONGEST_NAME {
        return Err("a name has 253 characters at most");
    }
    if !text.is_ascii() {
        return Err("a name is ASCII: write an international one in its xn-- form");
    }
    let mut last = "";
    for label in text.split('.') {
        if label.is_empty() {
            return Err("a name has no empty part and no dot at its end");
        }
        if label.len() > LONGEST_LABEL {
            return Err("a part of a name has 63 characters at most");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err("a name consists of letters, digits, hyphens and dots");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("no part of a name begins or ends with a hyphen");
        }
        last = label;
    }
    // What some resolvers take for an address: 127.1, 0x7f.1, 0177.0.0.1, 2130706433.
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .or_else(|| last.strip_prefix("0X"))
            .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_number {
        return Err(
            "a name does not end in a number, and an IPv4 address is four decimal numbers without leading zeros",
        );
    }
    Ok(text.to_ascii_lowercase())
}

impl Target {
    /// `HOST:PORT`.
    pub(crate) fn parse(text: &str) -> Result<Self, Why> {
        let (host, port) = text.rsplit_once(':').ok_or("it is not HOST:PORT")?;
        // `[::1]` without a port ends with a bracket behind its last colon.
        Ok(Self { port: self::port(port)?, host: Host::parse_bracketed(host)? })
    }

    /// `HOST` or `HOST:PORT`.
    pub(crate) fn parse_with_default(text: &str, default: u16) -> Result<Self, Why> {
        let bracketed = text.starts_with('[') && text.ends_with(']');
        if bracketed || !text.contains(':') {
            return Ok(Self { host: Host::parse_bracketed(text)?, port: default });
        }
        Self::parse(text)
    }
}

fn port(text: &str) -> Result<u16, Why> {
    let wrong = "a port is a number from 1 to 65535";
    if text.is_empty() || text.len() > 5 || text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong);
    }
    text.parse().map_err(|_| wrong)
}

impl fmt::Display for Target {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(to, "{name}:{}", self.port),
            Host::Address(IpAddr::V4(address)) => write!(to, "{address}:{}", self.port),
            Host::Address(IpAddr::V6(address)) => write!(to, "[{address}]:{}", self.port),
        }
    }
}

impl HostPort {
    /// Reads `HOST:PORT`, an IPv6 address in brackets, and gives it in the one form that it has.
    ///
    /// # Errors
    /// What is wrong with it: see [`crate::Spec::check`].
    pub fn parse(text: &str) -> Result<Self, BadSpec> {
        let target = Target::parse(text).map_err(|why| bad(text, why))?;
        let host = match &target.host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        };
        let parsed = Self { host, port: target.port };
        parsed.check()?;
        Ok(parsed)
    }

    pub(crate) fn check(&self) -> Result<(), BadSpec> {
        self.target().map(drop)
    }

    fn target(&self) -> Result<Target, BadSpec> {
        let wrong = |why| bad(&format!("{}:{}", self.host, self.port), why);
        if self.port == 0 {
            return Err(wrong("a port is a number from 1 to 65535"));
        }
        let host = Host::parse(&self.host).map_err(wrong)?;
        if let Host::Address(address) = host
            && let Some(why) = address::never(address)
        {
            return Err(wrong(why));
        }
        Ok(Target { host, port: self.port })
    }
}

fn bad(text: &str, why: Why) -> BadSpec {
    BadSpec { what: format!("destination {text:?}"), why }
}

/// The destinations that are let through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed(Vec<Target>);

impl Allowed {
    pub(crate) fn new(list: &[HostPort]) -> Result<Self, BadSpec> {
        if list.len() > MOST_ALLOWED {
            return Err(BadSpec { what: format!("{} destinations", list.len()), why: "a jail has 256 at most" });
        }
        list.iter().map(HostPort::target).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn has(&self, target: &Target) -> bool {
        self.0.contains(target)
    }

    /// Why a connection to this address and port must not be made, though it is where an allowed name leads; none if it may.
    pub(crate) fn denies(&self, address: IpAddr, port: u16) -> Option<&'static str> {
        let what = address::denied(address)?;
        (!self.has(&Target { host: Host::Address(address), port })).then_some(what)
    }

    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().map(|target| target.port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed() -> Allowed {
        let list = ["example.com:443", "xn--bcher-kva.example:80", "10.1.2.3:80", "[2606:4700::1]:443", "[fd00::1]:80"];
        Allowed::new(&list.map(|text| HostPort::parse(text).unwrap())).unwrap()
    }

    fn passes(text: &str) -> bool {
        Target::parse(text).is_ok_and(|target| allowed().has(&target))
    }

    #[test]
    fn only_what_is_on_the_list_passes() {
        for text in [
            "example.com:443",
            "EXAMPLE.Com:443",
            "xn--bcher-kva.example:80",
            "10.1.2.3:80",
            "[2606:4700::1]:443",
            "[2606:4700:0:0:0:0:0:1]:443",
        ] {
            assert!(passes(text), "{text}");
        }
        for text in [
            "",
            ":",
            ":443",
            "example.com",
            "example.com:",
            "example.com:80",
            "example.com:0443",
            "example.com:+443",
            "example.com: 443",
            "example.com:443 ",
            "example.com:65979",
            "example.com:0",
            "example.com:65536",
            "example.com.:443",
            ".example.com:443",
            "example..com:443",
            "sub.example.com:443",
            "com:443",
            "example.com\0:443",
            "example.com\0.evil.test:443",
            "example.com%00:443",
            "example%2ecom:443",
            "user@example.com:443",
            "evil.test#@example.com:443",
            "example.com:443@evil.test:443",
            "example.com:443:443",
            "[example.com]:443",
            "http://example.com:443",
            "example.com/:443",
            "ex\u{e4}mple.com:443",
            "b\u{fc}cher.example:80",
            "example\u{3002}com:443",
            "\u{ff45}xample.com:443",
            "10.1.2.3:443",
            "010.1.2.3:80",
            "012.1.2.3:80",
            "0x0a.1.2.3:80",
            "0xa010203:80",
            "167838211:80",
            "10.66051:80",
            "10.1.515:80",
            "10.1.2.3.:80",
            "[::ffff:10.1.2.3]:80",
            "[::10.1.2.3]:80",
            "[10.1.2.3]:80",
            "[fd00::1%eth0]:80",
            "[fd00::1%25eth0]:80",
            "[fd00::1:80",
            "fd00::1:80",
            "fd00::1]:80",
            "[fd00::1]80",
            "[fd00::1]",
            "0.0.0.0:80",
            "127.0.0.1:443",
            "localhost:443",
        ] {
            assert!(!passes(text), "{text:?}");
        }
    }

    #[test]
    fn a_private_address_is_let_through_only_where_it_is_named_itself() {
        let allowed = allowed();
        let denies = |text: &str, port| allowed.denies(text.parse().unwrap(), port);
        assert_eq!(denies("10.1.2.3", 80), None);
        assert_eq!(denies("10.1.2.3", 443), Some("private"));
        assert_eq!(denies("10.1.2.4", 80), Some("private"));
        assert_eq!(denies("fd00::1", 80), None);
        assert_eq!(denies("::ffff:10.1.2.3", 80), Some("an IPv4 address in IPv6"));
        assert_eq!(denies("93.184.215.14", 80), None);
    }

    #[test]
    fn what_cannot_be_a_destination_cannot_be_allowed() {
        for text in [
            "0.0.0.0:80",
            "[::]:80",
            "224.0.0.1:80",
            "[::ffff:10.0.0.1]:80",
            "[64:ff9b::a00:1]:80",
            "example.com.:80",
            "*.example.com:80",
            "exa_mple.com:80",
            "2130706433:80",
            "0x7f.1:80",
            "example.com:0",
            "::1:80",
        ] {
            assert!(HostPort::parse(text).is_err(), "{text}");
        }
        assert_eq!(HostPort::parse("[FD00::0:1]:80"), Ok(HostPort { host: "fd00::1".to_owned(), port: 80 }));
        assert!(HostPort { host: "fd00::1".to_owned(), port: 0 }.check().is_err());
    }

    #[test]
    fn a_port_may_be_left_out_where_the_scheme_has_one() {
        let parse = |text| Target::parse_with_default(text, 80).map(|target| target.to_string());
        assert_eq!(parse("example.com"), Ok("example.com:80".to_owned()));
        assert_eq!(parse("example.com:81"), Ok("example.com:81".to_owned()));
        assert_eq!(parse("[fd00::1]"), Ok("[fd00::1]:80".to_owned()));
        assert_eq!(parse("[fd00::1]:81"), Ok("[fd00::1]:81".to_owned()));
        for text in ["", ":", "example.com:", "fd00::1", "[fd00::1", "example.com:81:82"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_passes_is_a_destination_of_the_list_but_for_case(
            text in prop_oneof![
                any::<String>(),
                "(example|EXAMPLE|evil|10|\\[|\\]|fd00|::|1|0x|com|\\.|:|%|@|443|80|\\x00|-){0,12}",
                "[eE]xample\\.com[.:%@0-9]{0,6}",
            ]
        ) {
            if passes(&text) {
                let list = ["example.com:443", "xn--bcher-kva.example:80", "10.1.2.3:80", "[fd00::1]:80"];
                let lower = text.to_ascii_lowercase();
                prop_assert!(list.contains(&&*lower) || lower.starts_with('['), "{text:?}");
            }
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "[a-z0-9.:\\[\\]-]{0,30}") {
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(Target::parse(&target.to_string()), Ok(target));
            }
        }
    }
}
