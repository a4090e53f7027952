//! Looks up a name's addresses: in the host's hosts file, then at its name servers, over UDP and, where an answer is cut off, TCP.
//!
//! Why not the C library: it opens files and loads modules, and the proxy has no file system. So nothing but `hosts` and the
//! `nameserver` lines of `resolv.conf` counts, as they were when the jail was made: no search domains, no mDNS, no other name service.
//! Nothing is kept: each connection has its own look-up, whose addresses are checked and then used, all of them once.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::io as net;

/// Name servers that are asked, as the C library has it.
const MOST_SERVERS: usize = 3;
/// How often all of them are asked.
const ROUNDS: u32 = 2;
/// How long one is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer over UDP: no EDNS is offered.
const LARGEST_UDP: usize = 512;
/// The largest answer over TCP.
const LARGEST_TCP: usize = 16 << 10;
/// Addresses of a name that are looked at; a name with more is not resolved.
pub(crate) const MOST_ADDRESSES: usize = 64;
/// Aliases that are followed within an answer.
const MOST_ALIASES: usize = 16;
/// Pointers that are followed within a name.
const MOST_POINTERS: usize = 32;
/// The most of hosts and resolv.conf that is read, bytes.
pub(crate) const LARGEST_FILE: u64 = 1 << 20;
/// The port of name servers.
pub(crate) const PORT: u16 = 53;

const HEADER: usize = 12;
const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;
const NO_SUCH_NAME: u8 = 3;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    A = 1,
    Aaaa = 28,
}

/// Where names are looked up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolver {
    hosts: Vec<(IpAddr, String)>,
    servers: Vec<SocketAddr>,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Addresses(Vec<IpAddr>),
    /// Cut off: ask again over TCP.
    Cut,
    /// It cannot say.
    Failed,
}

impl Resolver {
    /// From the text of `hosts` and of `resolv.conf`. Without a name server it is the one on this host, as the C library has it.
    pub(crate) fn new(hosts: &str, resolv_conf: &str) -> Self {
        let mut known = Vec::new();
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            known.extend(words.map(|name| (address, name.to_ascii_lowercase())));
        }
        let mut servers = Vec::new();
        for line in resolv_conf.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or("").split_whitespace();
            if words.next() == Some("nameserver")
                && let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>)
                && servers.len() < MOST_SERVERS
            {
                servers.push(SocketAddr::new(address, PORT));
            }
        }
        if servers.is_empty() {
            servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        Self { hosts: known, servers }
    }

    /// All addresses of a name, of version 4 first.
    pub(crate) fn look_up(&self, name: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut found: Vec<IpAddr> =
            self.hosts.iter().filter(|(_, known)| known == name).map(|(address, _)| *address).collect();
        if found.is_empty() {
            found = self.ask(name, Kind::A, deadline)?;
            found.extend(self.ask(name, Kind::Aaaa, deadline)?);
        }
        found.sort_by_key(IpAddr::is_ipv6);
        match found.len() {
            0 => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            1..=MOST_ADDRESSES => Ok(found),
            _ => Err(io::Error::other("the name has too many addresses")),
        }
    }

    fn ask(&self, name: &str, kind: Kind, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut last = io::Error::new(io::ErrorKind::TimedOut, "no name server answers");
        for server in (0..ROUNDS).flat_map(|_| &self.servers) {
            let deadline = deadline.min(Instant::now() + PATIENCE);
            // Nobody but the server that was asked can know it.
            let id = RandomState::new().build_hasher().finish() as u16;
            let Some(query) = query(id, name, kind) else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is none of DNS"));
            };
            let answer = over_udp(*server, &query, deadline).and_then(|answer| match answer {
                Answer::Cut => over_tcp(*server, &query, deadline),
                answer => Ok(answer),
            });
            match answer {
                Ok(Answer::Addresses(addresses)) => return Ok(addresses),
                Ok(_) => last = io::Error::other("the name server cannot say"),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn over_udp(server: SocketAddr, query: &[u8], deadline: Instant) -> io::Result<Answer> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // Connected: the kernel takes datagrams of that server only, on a port that nobody else can know.
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    rustix::net::connect(&socket, &server)?;
    net::send_all(&socket, query, deadline)?;
    let mut buffer = [0; LARGEST_UDP];
    loop {
        let n = net::receive(&socket, &mut buffer, deadline)?;
        // What answers another question is no answer, and not the end of waiting for one.
        if let Some(answer) = answer(&buffer[..n], query) {
            return Ok(answer);
        }
    }
}

fn over_tcp(server: SocketAddr, query: &[u8], deadline: Instant) -> io::Result<Answer> {
    let socket = net::connect(server, deadline)?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    net::send_all(&socket, &[&length.to_be_bytes(), query].concat(), deadline)?;
    let mut length = [0; 2];
    net::receive_exactly(&socket, &mut length, deadline)?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > LARGEST_TCP {
        return Err(io::Error::other("the name server's answer is too long"));
    }
    let mut buffer = vec![0; length];
    net::receive_exactly(&socket, &mut buffer, deadline)?;
    match answer(&buffer, query) {
        None | Some(Answer::Cut) => Ok(Answer::Failed),
        Some(answer) => Ok(answer),
    }
}

/// A question. None if the name does not fit into one.
fn query(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut query = Vec::with_capacity(HEADER + name.len() + 6);
    query.extend(id.to_be_bytes());
    // Recursion desired; one question.
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        query.push(length);
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend((kind as u16).to_be_bytes());
    query.extend(CLASS_IN.to_be_bytes());
    Some(query)
}

/// What a message says about a question; none if it is no answer to it.
fn answer(message: &[u8], query: &[u8]) -> Option<Answer> {
    let header = message.first_chunk::<HEADER>()?;
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let is_answer = header[2] & 0x80 != 0 && header[2] & 0x78 == 0;
    if header[..2] != query[..2] || !is_answer || count(4) != 1 {
        return None;
    }
    let question = query.get(HEADER..)?;
    if !message.get(HEADER..HEADER + question.len())?.eq_ignore_ascii_case(question) {
        return None;
    }
    if header[2] & 2 != 0 {
        return Some(Answer::Cut);
    }
    match header[3] & 0xf {
        0 => {}
        NO_SUCH_NAME => return Some(Answer::Addresses(Vec::new())),
        _ => return Some(Answer::Failed),
    }
    let kind = u16::from_be_bytes(*question.get(question.len().checked_sub(4)?..)?.first_chunk()?);
    Some(records(message, HEADER + question.len(), count(6), kind).map_or(Answer::Failed, Answer::Addresses))
}

struct Record<'a> {
    owner: Vec<u8>,
    kind: u16,
    data: &'a [u8],
    data_at: usize,
}

/// The addresses of the name that was asked for, through its aliases. None if the message is broken.
fn records(message: &[u8], mut at: usize, count: u16, kind: u16) -> Option<Vec<IpAddr>> {
    let mut records = Vec::new();
    for _ in 0..count {
        let (owner, end) = name_at(message, at)?;
        let fixed = message.get(end..)?.first_chunk::<10>()?;
        let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let data_at = end + 10;
        let data = message.get(data_at..data_at + usize::from(number(8)))?;
        at = data_at + data.len();
        if number(2) == CLASS_IN {
            records.push(Record { owner, kind: number(0), data, data_at });
        }
    }
    let (mut name, _) = name_at(message, HEADER)?;
    for _ in 0..MOST_ALIASES {
        let addresses: Option<Vec<IpAddr>> =
            records.iter().filter(|record| record.owner == name && record.kind == kind).map(address).collect();
        let addresses = addresses?;
        if !addresses.is_empty() {
            return Some(addresses);
        }
        match records.iter().find(|record| record.owner == name && record.kind == TYPE_CNAME) {
            Some(alias) => name = name_at(message, alias.data_at)?.0,
            None => return Some(Vec::new()),
        }
    }
    None
}

fn address(record: &Record<'_>) -> Option<IpAddr> {
    if record.kind == Kind::A as u16 {
        return record.data.try_into().ok().map(|bytes: [u8; 4]| Ipv4Addr::from(bytes).into());
    }
    record.data.try_into().ok().map(|bytes: [u8; 16]| Ipv6Addr::from(bytes).into())
}

/// A name in its parts, in lower case, and where it ends. None if it is broken or goes round in circles.
fn name_at(message: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut end, mut name) = (start, None, Vec::new());
    let mut pointers = 0;
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some((name, end.unwrap_or(at + 1))),
            1..=63 => {
                let label = message.get(at..=at + usize::from(length))?;
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                if name.len() > 255 {
                    return None;
                }
                at += label.len();
            }
            0xc0.. => {
                pointers += 1;
                if pointers > MOST_POINTERS {
                    return None;
                }
                end = end.or(Some(at + 2));
                at = usize::from(u16::from_be_bytes([length & 0x3f, *message.get(at + 1)?]));
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer with these records: owner as a pointer or bytes, kind, data.
    fn message(query: &[u8], flags: [u8; 2], records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2..4].copy_from_slice(&flags);
        message[7] = u8::try_from(records.len()).unwrap();
        for (owner, kind, data) in records {
            message.extend(*owner);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 9]);
            message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend(*data);
        }
        message
    }

    const OK: [u8; 2] = [0x81, 0x80];
    const ASKED: &[u8] = &[0xc0, 12];

    fn asked() -> Vec<u8> {
        query(7, "example.test", Kind::A).unwrap()
    }

    fn v4(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_of_the_name_and_of_its_aliases_are_read() {
        let plain = message(&asked(), OK, &[(ASKED, 1, &[10, 0, 0, 1]), (ASKED, 1, &[10, 0, 0, 2])]);
        let expected = Some(Answer::Addresses(vec![v4("10.0.0.1"), v4("10.0.0.2")]));
        assert_eq!(answer(&plain, &asked()), expected);
        let alias = [b"\x05other" as &[u8], &[0xc0, 20]].concat();
        let other = [b"\x05OTHER\x04test\0" as &[u8]].concat();
        let aliased = message(&asked(), OK, &[(ASKED, 5, &alias), (&other, 1, &[10, 0, 0, 3])]);
        assert_eq!(answer(&aliased, &asked()), Some(Answer::Addresses(vec![v4("10.0.0.3")])));
    }

    #[test]
    fn records_of_other_names_are_no_answer() {
        let strange = message(&asked(), OK, &[(b"\x04evil\x04test\0", 1, &[10, 0, 0, 1])]);
        assert_eq!(answer(&strange, &asked()), Some(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        let good = message(&asked(), OK, &[(ASKED, 1, &[10, 0, 0, 1])]);
        let other = message(&query(7, "evil.test", Kind::A).unwrap(), OK, &[]);
        let mut id = good.clone();
        id[1] = 8;
        let question = message(&asked(), [1, 0], &[]);
        for wrong in [other, id, question, good[..11].to_vec(), Vec::new()] {
            assert_eq!(answer(&wrong, &asked()), None);
        }
        assert_eq!(answer(&message(&asked(), [0x83, 0x80], &[]), &asked()), Some(Answer::Cut));
        assert_eq!(answer(&message(&asked(), [0x81, 0x82], &[]), &asked()), Some(Answer::Failed));
        assert_eq!(answer(&message(&asked(), [0x81, 0x83], &[]), &asked()), Some(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn names_that_go_round_in_circles_end() {
        let circle = message(&asked(), OK, &[(&[0xc0, 30], 1, &[10, 0, 0, 1])]);
        assert_eq!(answer(&circle, &asked()), Some(Answer::Failed));
        let alias = message(&asked(), OK, &[(ASKED, 5, ASKED)]);
        assert_eq!(answer(&alias, &asked()), Some(Answer::Failed));
    }

    #[test]
    fn hosts_and_name_servers_are_read() {
        let resolver = Resolver::new(
            "127.0.0.1 localhost # x\n10.0.0.1\tDb.test db # other.test\nnonsense\n::1 six.test\n",
            "# c\nsearch x\nnameserver 10.0.0.53 # y\nnameserver fe80::1%eth0\nnameserver ::1\n",
        );
        let soon = Instant::now();
        assert_eq!(resolver.look_up("db.test", soon).unwrap(), [v4("10.0.0.1")]);
        assert_eq!(resolver.look_up("six.test", soon).unwrap(), [v4("::1")]);
        assert_eq!(resolver.servers, ["10.0.0.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert_eq!(Resolver::new("", "").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn no_answer_panics(tail in prop::collection::vec(any::<u8>(), 0..200), count in 0u8..20) {
            let mut message = asked();
            message[2..4].copy_from_slice(&OK);
            message[7] = count;
            message.extend(&tail);
            let _ = answer(&message, &asked());
            let _ = answer(&tail, &asked());
        }
    }
}
