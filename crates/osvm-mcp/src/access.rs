//! Who may use the HTTP endpoint, from where, and how much of it.
//!
//! A browser that was led here by a name that somebody else controls says so in Host or Origin; so both have to name this endpoint.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use http::{HeaderMap, header};

use crate::{
    config::{Client, Config, DEFAULT_REQUESTS},
    pins::sha256,
};

/// The client's name in the audit log where no tokens are asked for.
pub(crate) const ANYBODY: &str = "http";
/// Names of the loopback.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Why a request is refused before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Host or Origin names something else.
    Elsewhere,
    /// No token, or none that is known.
    Token,
    /// Too many requests.
    Rate,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) servers: Option<Arc<Vec<String>>>,
}

/// A client and what is left of its minute.
struct Account {
    known: Known,
    a_minute: f64,
    left: Mutex<(f64, Instant)>,
}

/// The rules of one endpoint.
pub(crate) struct Access {
    hosts: Vec<String>,
    /// By SHA-256 of the token.
    accounts: BTreeMap<String, Account>,
    /// Where no tokens are asked for.
    anybody: Option<Account>,
}

impl Account {
    fn new(name: &str, client: Option<&Client>) -> Self {
        let servers = client.and_then(|client| client.servers.clone()).map(Arc::new);
        let a_minute = f64::from(client.map_or(DEFAULT_REQUESTS, |client| client.requests_a_minute));
        let known = Known { name: name.to_owned(), servers };
        Self { known, a_minute, left: Mutex::new((a_minute, Instant::now())) }
    }

    /// Takes one request from a bucket that fills evenly.
    fn take(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = *left;
        let count = (count + since.elapsed().as_secs_f64() * self.a_minute / 60.0).min(self.a_minute);
        *left = (if count < 1.0 { count } else { count - 1.0 }, Instant::now());
        count >= 1.0
    }
}

impl Access {
    /// The rules for a listener. `names` are further host names under which it is reached.
    pub(crate) fn new(config: &Config, listener: SocketAddr, names: &[String]) -> Self {
        let mut hosts: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if listener.ip().is_loopback() {
            hosts.extend(LOOPBACK.map(str::to_owned));
        }
        hosts.push(if listener.is_ipv6() { format!("[{}]", listener.ip()) } else { listener.ip().to_string() });
        let accounts =
            config.clients.iter().map(|(name, client)| (client.token_sha256.clone(), Account::new(name, Some(client))));
        let anybody = config.clients.is_empty().then(|| Account::new(ANYBODY, None));
        Self { hosts, accounts: accounts.collect(), anybody }
    }

    /// Who asks, if they may.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Known, Refusal> {
        if !self.is_here(headers) {
            return Err(Refusal::Elsewhere);
        }
        let by_token = || self.accounts.get(&sha256(token(headers)?.as_bytes()));
        let account = self.anybody.as_ref().or_else(by_token);
        let account = account.ok_or(Refusal::Token)?;
        if account.take() { Ok(account.known.clone()) } else { Err(Refusal::Rate) }
    }

    fn is_here(&self, headers: &HeaderMap) -> bool {
        let hosts: Vec<_> = headers.get_all(header::HOST).iter().collect();
        let origins: Vec<_> = headers.get_all(header::ORIGIN).iter().collect();
        let ours = |authority: &str| self.hosts.iter().any(|host| *host == name(authority));
        let [host] = hosts[..] else { return false };
        let origin_is_ours = |text: &str| {
            let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
            authority.is_some_and(ours)
        };
        host.to_str().is_ok_and(ours)
            && origins.iter().all(|origin| origin.to_str().is_ok_and(origin_is_ours))
            && origins.len() <= 1
    }
}

/// An authority without its port, in small letters.
fn name(authority: &str) -> String {
    let end = if authority.starts_with('[') { authority.find(']').map(|end| end + 1) } else { authority.find(':') };
    let (name, rest) = authority.split_at(end.unwrap_or(authority.len()));
    let port = rest.strip_prefix(':').unwrap_or(rest);
    // What is no port makes it no name of ours.
    if port.bytes().all(|byte| byte.is_ascii_digit()) { name.to_ascii_lowercase() } else { String::new() }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let only = given.next().filter(|_| given.next().is_none())?.to_str().ok()?;
    let (scheme, token) = only.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn access(client: Option<Client>) -> Access {
        let clients = client.into_iter().map(|client| ("c".to_owned(), client)).collect();
        Access::new(&Config { clients, ..Config::default() }, "127.0.0.1:80".parse().unwrap(), &["box.lan".to_owned()])
    }

    #[test]
    fn a_page_of_another_site_is_refused_whatever_its_name_leads_to() {
        let access = access(None);
        for good in [
            &[("host", "localhost:8080")][..],
            &[("host", "[::1]:1"), ("origin", "http://127.0.0.1:3")],
            &[("host", "BOX.lan")],
        ] {
            assert!(access.check(&headers(good)).is_ok(), "{good:?}");
        }
        for bad in [
            &[][..],
            &[("host", "evil.example")],
            &[("host", "localhost.evil.example")],
            &[("host", "localhost:80@evil.example")],
            &[("host", "localhost"), ("host", "localhost")],
            &[("host", "localhost"), ("origin", "http://evil.example")],
            &[("host", "localhost"), ("origin", "null")],
            &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://localhost")],
        ] {
            assert_eq!(access.check(&headers(bad)).unwrap_err(), Refusal::Elsewhere, "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_asked_for_where_one_is_declared_and_its_requests_are_counted() {
        let client = Client { token_sha256: sha256(b"secret"), servers: None, requests_a_minute: 2 };
        let access = access(Some(client));
        let with = |token: &str| access.check(&headers(&[("host", "localhost"), ("authorization", token)]));
        assert_eq!(access.check(&headers(&[("host", "localhost")])).unwrap_err(), Refusal::Token);
        assert_eq!(with("Bearer wrong").unwrap_err(), Refusal::Token);
        assert_eq!(with("Basic secret").unwrap_err(), Refusal::Token);
        assert_eq!(with("Bearer secret").unwrap().name, "c");
        assert_eq!(with("bearer secret").unwrap().name, "c");
        assert_eq!(with("Bearer secret").unwrap_err(), Refusal::Rate);
    }
}
