//! Which addresses are nobody's business but the host's: all that is not a public unicast address.
//!
//! IPv6 is decided from the other side: only 2000::/3 is public, so that IPv4 in IPv6's clothes (mapped, compatible, NAT64) and what
//! will be invented there is denied without being known here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are denied: address, bits of the prefix, what they are.
const DENIED_V4: [([u8; 4], u32, &str); 19] = [
    ([0, 0, 0, 0], 8, "unspecified"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "shared by a carrier's customers"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([168, 63, 129, 16], 32, "metadata"),
    ([169, 254, 169, 254], 32, "metadata"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "reserved"),
    ([192, 0, 2, 0], 24, "for documentation"),
    ([192, 31, 196, 0], 24, "reserved"),
    ([192, 52, 193, 0], 24, "reserved"),
    ([192, 88, 99, 0], 24, "reserved"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "for benchmarks"),
    ([198, 51, 100, 0], 24, "for documentation"),
    ([203, 0, 113, 0], 24, "for documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// Networks of 2000::/3 that are denied.
const DENIED_V6: [([u16; 3], u32, &str); 5] = [
    // Teredo, ORCHID and other protocols' own.
    ([0x2001, 0, 0], 23, "reserved"),
    ([0x2001, 0x0db8, 0], 32, "for documentation"),
    // 6to4 and what else carries an IPv4 address.
    ([0x2002, 0, 0], 16, "an IPv4 address in IPv6"),
    ([0x2620, 0x4f, 0x8000], 48, "reserved"),
    ([0x3fff, 0, 0], 20, "for documentation"),
];

/// Why an address is denied unless it is named itself; none for a public one.
pub(crate) fn denied(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => denied_v4(address),
        IpAddr::V6(address) => denied_v6(address),
    }
}

/// Why an address cannot even be named: it is no single destination, or another one than it seems.
pub(crate) fn never(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) if address.octets()[0] == 0 => Some("it stands for no host, or for this one"),
        IpAddr::V6(address) if address.is_unspecified() => Some("it stands for no host, or for this one"),
        _ if address.is_multicast() => Some("it is a multicast address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("it is the broadcast address"),
        IpAddr::V6(address) => carries_v4(address).then_some("it is an IPv4 address in IPv6: write it as IPv4"),
        IpAddr::V4(_) => None,
    }
}

fn denied_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let within = |network: [u8; 4], prefix: u32| (bits ^ u32::from_be_bytes(network)) >> (32 - prefix) == 0;
    DENIED_V4.iter().find(|(network, prefix, _)| within(*network, *prefix)).map(|(_, _, what)| *what)
}

fn denied_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    if bits >> 125 != 1 {
        return Some(match address.segments()[0] {
            _ if address.is_unspecified() => "unspecified",
            _ if address.is_loopback() => "loopback",
            _ if carries_v4(address) => "an IPv4 address in IPv6",
            first if first & 0xfe00 == 0xfc00 => "private",
            first if first & 0xffc0 == 0xfe80 => "link-local",
            first if first & 0xff00 == 0xff00 => "multicast",
            _ => "reserved",
        });
    }
    let within = |[a, b, c]: [u16; 3], prefix: u32| {
        (bits ^ Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_bits()) >> (128 - prefix) == 0
    };
    DENIED_V6.iter().find(|(network, prefix, _)| within(*network, *prefix)).map(|(_, _, what)| *what)
}

/// Mapped (::ffff:0:0/96), compatible (::/96), translated (::ffff:0:0:0/96), NAT64 (64:ff9b::/96, 64:ff9b:1::/48), 6to4 (2002::/16).
fn carries_v4(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, ..] = address.segments();
    let old = [a, b, c, d] == [0; 4] && matches!((e, f), (0, 0) | (0, 0xffff) | (0xffff, 0)) && !address.is_loopback();
    old || (a, b) == (0x64, 0xff9b) || a == 0x2002
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> Option<&'static str> {
        denied(text.parse().unwrap())
    }

    #[test]
    fn what_is_not_public_is_denied() {
        for (text, what) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("10.0.0.1", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "shared by a carrier's customers"),
            ("100.100.100.200", "shared by a carrier's customers"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("168.63.129.16", "metadata"),
            ("169.254.169.254", "metadata"),
            ("169.254.1.1", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("198.19.0.1", "for benchmarks"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:8.8.8.8", "an IPv4 address in IPv6"),
            ("::ffff:10.0.0.1", "an IPv4 address in IPv6"),
            ("::10.0.0.1", "an IPv4 address in IPv6"),
            ("::ffff:0:10.0.0.1", "an IPv4 address in IPv6"),
            ("64:ff9b::a00:1", "an IPv4 address in IPv6"),
            ("64:ff9b:1::a00:1", "an IPv4 address in IPv6"),
            ("2002:a00:1::", "an IPv4 address in IPv6"),
            ("2001::1", "reserved"),
            ("2001:db8::1", "for documentation"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "reserved"),
            ("ff02::1", "multicast"),
            ("100::1", "reserved"),
            ("4000::1", "reserved"),
        ] {
            assert_eq!(why(text), Some(what), "{text}");
        }
    }

    #[test]
    fn what_is_public_is_not() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "3ffe::1",
        ] {
            assert_eq!(why(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_single_destination_cannot_be_named() {
        for text in
            ["0.0.0.0", "0.0.0.1", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::1"]
        {
            assert!(never(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "fd00::1", "8.8.8.8"] {
            assert!(never(text.parse().unwrap()).is_none(), "{text}");
        }
    }
}
