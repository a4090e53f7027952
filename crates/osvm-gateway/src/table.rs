//! The route table, checked and made ready for look-ups.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use osvm_model::{ListenerProtocol, RouteTable};
use tokio_rustls::TlsAcceptor;

use crate::{
    pool::Pool,
    tls::{self, TlsError},
};

/// Why a table is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("table {offered} is older than {in_force}, which is in force")]
    Older { offered: u64, in_force: u64 },
    #[error("table {0} is in force with other contents")]
    Differs(u64),
    #[error("{0} is listed twice")]
    Twice(SocketAddr),
    #[error("{addr} has a route to pool {pool:?}, which is not in the table")]
    NoPool { addr: SocketAddr, pool: String },
    #[error(
        "{addr} {protocol:?} needs exactly one route without host and path, since nothing else is known of its clients"
    )]
    NotOneRoute { addr: SocketAddr, protocol: ListenerProtocol },
    #[error("{addr} cannot speak TLS")]
    Tls {
        addr: SocketAddr,
        #[source]
        source: TlsError,
    },
    #[error("cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// What a listener does with a connection.
pub(crate) struct Plan {
    pub(crate) protocol: ListenerProtocol,
    pub(crate) tls: Option<TlsAcceptor>,
    routes: Vec<Target>,
}

struct Target {
    host: Option<String>,
    prefix: Option<String>,
    pool: Arc<Pool>,
}

impl Plan {
    /// The pool for a request: the first route whose host and path match.
    pub(crate) fn route(&self, host: Option<&str>, path: &str) -> Option<&Arc<Pool>> {
        self.routes.iter().find(|target| target.matches(host, path)).map(|target| &target.pool)
    }
}

impl Target {
    fn matches(&self, host: Option<&str>, path: &str) -> bool {
        let host_fits = self.host.as_deref().is_none_or(|wanted| {
            host.is_some_and(|host| without_port(host).trim_end_matches('.').eq_ignore_ascii_case(wanted))
        });
        host_fits && self.prefix.as_deref().is_none_or(|prefix| begins_with(path, prefix))
    }
}

/// Whether `path` begins with the whole segments of `prefix`.
fn begins_with(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A host without its port; the brackets of an IPv6 address stay.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

/// Checks the table as far as that goes without touching a socket, and makes a plan for each listener.
pub(crate) fn plans(
    model: &RouteTable,
    mut pool: impl FnMut(&str) -> Option<Arc<Pool>>,
) -> Result<Vec<(SocketAddr, Plan)>, TableError> {
    let mut seen = HashSet::new();
    let mut plans = Vec::with_capacity(model.listeners.len());
    for listener in &model.listeners {
        let addr = listener.addr;
        if !seen.insert(addr) {
            return Err(TableError::Twice(addr));
        }
        let tls = listener
            .tls
            .as_ref()
            .map(|files| tls::acceptor(files, listener.protocol == ListenerProtocol::Http))
            .transpose()
            .map_err(|source| TableError::Tls { addr, source })?;
        let routes = listener
            .routes
            .iter()
            .map(|route| {
                let missing = || TableError::NoPool { addr, pool: route.pool.clone() };
                let pool = pool(&route.pool).ok_or_else(missing)?;
                Ok(Target { host: route.host.clone(), prefix: route.path_prefix.clone(), pool })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let catches_all = matches!(&routes[..], [Target { host: None, prefix: None, .. }]);
        if listener.protocol == ListenerProtocol::Tcp && !catches_all {
            return Err(TableError::NotOneRoute { addr, protocol: listener.protocol });
        }
        plans.push((addr, Plan { protocol: listener.protocol, tls, routes }));
    }
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_segments() {
        for (path, prefix, fits) in [
            ("/a/b", "/a", true),
            ("/a/b", "/a/", true),
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/ab", "/a", false),
            ("/", "/", true),
            ("/x", "/", true),
            ("*", "/", false),
        ] {
            assert_eq!(begins_with(path, prefix), fits, "{path} {prefix}");
        }
    }

    #[test]
    fn a_host_is_compared_without_its_port() {
        for (host, bare) in
            [("a.b:80", "a.b"), ("a.b", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", ""), (":", "")]
        {
            assert_eq!(without_port(host), bare);
        }
    }
}
