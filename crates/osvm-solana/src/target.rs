//! Where a node is: a URL, or an instance's endpoint.

use std::fmt;

use osvm_model::Endpoint;

use crate::{Error, url};

/// A node's address, ready to be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) dial: Dial,
    /// The value of the `Host` header.
    pub(crate) authority: String,
    pub(crate) path: String,
    shown: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dial {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Endpoint(Endpoint),
}

impl Target {
    pub(crate) fn from_url(text: &str) -> Result<Self, Error> {
        let full = url::expand(text);
        let bad = |reason: &str| Error::Url { url: text.to_owned(), reason: reason.to_owned() };
        let uri: http::Uri = full.parse().map_err(|_| bad("write it as http://HOST:PORT"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("write it as http://HOST:PORT"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let dial = match uri.scheme_str() {
            Some("http") => Dial::Tcp { host: bare, port: uri.port_u16().unwrap_or(80) },
            Some("https") => Dial::Tls { host: bare, port: uri.port_u16().unwrap_or(443) },
            Some("ws" | "wss") => return Err(bad("that is the address for subscriptions; give the http one")),
            _ => return Err(bad("it begins with http:// or https://")),
        };
        let authority = match uri.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { dial, authority, path, shown: shown(&uri) })
    }

    pub(crate) fn from_endpoint(endpoint: &Endpoint) -> Self {
        Self {
            dial: Dial::Endpoint(endpoint.clone()),
            authority: "localhost".to_owned(),
            path: "/".to_owned(),
            shown: endpoint.to_string(),
        }
    }
}

/// The URL without what providers put into path and query: keys of the user's.
fn shown(uri: &http::Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", uri.scheme_str().unwrap_or_default())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_short_names_are_dialled() {
        let local = Target::from_url("localhost").unwrap();
        assert_eq!(local.dial, Dial::Tcp { host: "127.0.0.1".into(), port: 8899 });
        let six = Target::from_url("http://[::1]:77/x?y=1").unwrap();
        assert_eq!(six.dial, Dial::Tcp { host: "::1".into(), port: 77 });
        assert_eq!((six.authority.as_str(), six.path.as_str()), ("[::1]:77", "/x?y=1"));
        assert_eq!(
            Target::from_url("devnet").unwrap().dial,
            Dial::Tls { host: "api.devnet.solana.com".into(), port: 443 }
        );
        for bad in ["", "nonsense", "ws://127.0.0.1:8900", "ftp://x", "http://", "127.0.0.1:8899"] {
            assert!(matches!(Target::from_url(bad), Err(Error::Url { .. })), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_providers_key_is_not_shown() {
        let target = Target::from_url("https://user:pw@rpc.example.com/v2/SECRET?api-key=SECRET").unwrap();
        assert_eq!(target.to_string(), "https://rpc.example.com");
    }
}
