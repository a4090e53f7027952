//! Header fields that the relay treats in some special way, and what `Connection` names.

use std::mem::MaybeUninit;

use crate::http::answer::Refusal;

/// What a field means to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    ForwardedFor,
    Host,
    /// Concerns this hop only.
    Hop,
    NotProcessed,
    /// Said by the gateway alone.
    Ours,
    RequestId,
    TransferEncoding,
    Upgrade,
    /// Passes as it is.
    Other,
}

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        // By length first: it tells most fields apart from all of these.
        let candidates: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Hop)],
            4 => &[("host", Self::Host), ("date", Self::Date)],
            6 => &[("cookie", Self::Cookie), ("expect", Self::Expect)],
            7 => &[("upgrade", Self::Upgrade), ("trailer", Self::Hop)],
            10 => &[("connection", Self::Connection), ("keep-alive", Self::Hop)],
            12 => &[("x-request-id", Self::RequestId), ("x-osvm-retry", Self::Ours)],
            14 => &[("content-length", Self::ContentLength)],
            15 => &[("x-forwarded-for", Self::ForwardedFor)],
            16 => &[("x-forwarded-host", Self::Ours), ("proxy-connection", Self::Hop)],
            17 => &[("transfer-encoding", Self::TransferEncoding), ("x-forwarded-proto", Self::Ours)],
            18 => &[("proxy-authenticate", Self::Hop)],
            19 => &[("proxy-authorization", Self::Hop)],
            20 => &[("x-osvm-not-processed", Self::NotProcessed)],
            _ => return Self::Other,
        };
        let known = candidates.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map_or(Self::Other, |(_, kind)| *kind)
    }
}

/// Fields of one head for which there is room on the stack.
const ON_STACK: usize = 128;

/// Runs `parse` with room for `most` fields.
pub(super) fn with_room<'b, T>(most: usize, parse: impl FnOnce(&mut [MaybeUninit<httparse::Header<'b>>]) -> T) -> T {
    if most <= ON_STACK {
        parse(&mut [const { MaybeUninit::uninit() }; ON_STACK][..most])
    } else {
        let mut room: Vec<_> = std::iter::repeat_with(MaybeUninit::uninit).take(most).collect();
        parse(&mut room)
    }
}

/// The names that the `Connection` fields of one head list, as they stand there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'h, 'b> {
    fields: &'h [httparse::Header<'b>],
    /// There is such a field.
    any: bool,
}

impl<'h, 'b> Named<'h, 'b> {
    pub(super) fn of(fields: &'h [httparse::Header<'b>]) -> Self {
        Self { fields, any: fields.iter().any(|field| Kind::of(field.name) == Kind::Connection) }
    }

    pub(super) fn has(self, token: &str) -> bool {
        self.any
            && self.fields.iter().filter(|field| Kind::of(field.name) == Kind::Connection).any(|field| {
                let mut tokens = field.value.split(|byte| *byte == b',');
                tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
            })
    }

    /// Whether the field is to be taken out for being named. Nobody may have the fields dropped that say where a message ends and
    /// whom it is for.
    pub(super) fn drops(self, name: &str, kind: Kind) -> bool {
        self.any && !matches!(kind, Kind::ContentLength | Kind::Host) && self.has(name)
    }
}

/// The length that `Content-Length` tells.
pub(super) fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Whether each line of the head ends with CR LF, and neither stands alone anywhere. A parser before or behind this one may
/// take a lone one for a line's end.
pub(super) fn has_clean_lines(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().all(|byte| {
        let clean = (*byte == b'\n') == (before == b'\r');
        before = *byte;
        clean
    })
}

/// Writes `name: value`.
pub(super) fn write(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes `content-length: LENGTH`.
pub(super) fn write_length(out: &mut Vec<u8>, length: u64) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), length);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    write(out, "content-length", &digits[at..]);
}

/// A head that cannot be taken.
pub(super) fn bad(why: &'static str) -> Refusal {
    Refusal::BadRequest(why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_field_of_the_hop_is_known_however_it_is_written() {
        for (name, kind) in [
            ("te", Kind::Hop),
            ("host", Kind::Host),
            ("date", Kind::Date),
            ("cookie", Kind::Cookie),
            ("expect", Kind::Expect),
            ("trailer", Kind::Hop),
            ("upgrade", Kind::Upgrade),
            ("connection", Kind::Connection),
            ("keep-alive", Kind::Hop),
            ("proxy-connection", Kind::Hop),
            ("content-length", Kind::ContentLength),
            ("transfer-encoding", Kind::TransferEncoding),
            ("proxy-authenticate", Kind::Hop),
            ("proxy-authorization", Kind::Hop),
            ("x-request-id", Kind::RequestId),
            ("x-forwarded-for", Kind::ForwardedFor),
            ("x-forwarded-host", Kind::Ours),
            ("x-forwarded-proto", Kind::Ours),
            (osvm_model::handover::RETRY, Kind::Ours),
            (osvm_model::handover::NOT_PROCESSED, Kind::NotProcessed),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
            assert_eq!(Kind::of(&name.to_ascii_uppercase()), kind);
            assert_eq!(Kind::of(&format!("{name}x")), Kind::Other);
        }
    }

    #[test]
    fn a_lone_cr_or_lf_is_seen() {
        assert!(has_clean_lines(b"GET / HTTP/1.1\r\nA: b\r\n\r\n"));
        for head in ["a\nb\r\n\r\n", "a\rb\r\n\r\n", "a\r\n\n", "\n", "a\r\r\n", "a\r\n\r\r\n"] {
            assert!(!has_clean_lines(head.as_bytes()), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn a_length_is_written_as_it_is_read(number in any::<u64>()) {
            let mut out = Vec::new();
            write_length(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("content-length: {number}\r\n"));
            prop_assert_eq!(length(number.to_string().as_bytes()), Some(number));
        }
    }

    #[test]
    fn a_length_is_digits_alone() {
        for value in ["", "+1", "-1", " 1", "1 ", "1,1", "0x1", "1.0", "99999999999999999999"] {
            assert_eq!(length(value.as_bytes()), None, "{value:?}");
        }
    }
}
