//! One POST of JSON over HTTP/1.1, with a key where there is one. A key is only sent over TLS or to this machine.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A model may think for a while.
const TIMEOUT: Duration = Duration::from_secs(180);
/// No answer is longer.
const LARGEST: usize = 1 << 20;

/// An address and the key for it.
#[derive(Debug)]
pub(super) struct Client {
    host: String,
    port: u16,
    tls: bool,
    authority: String,
    path: String,
    key: Option<Key>,
}

/// Never shown.
struct Key(String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Client {
    pub(super) fn new(url: &str, key: Option<String>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "write it as https://HOST/v1 or http://HOST:PORT".to_owned())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it names no host")?.to_owned();
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it begins with http:// or https://".to_owned()),
        };
        if key.is_some() && !tls && !osvm_solana::url::is_local(url) {
            return Err("a key is not sent without TLS: use https, or unset OSVM_AI_KEY".to_owned());
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let authority = uri.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, tls, authority, path, key: key.map(Key) })
    }

    pub(super) fn target(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }

    /// The answer's body, if the answer is a success.
    pub(super) async fn post(&self, body: &str) -> Result<Bytes, String> {
        let done = tokio::time::timeout(TIMEOUT, self.exchange(body)).await;
        done.map_err(|_| format!("no answer within {} s", TIMEOUT.as_secs()))?
    }

    async fn exchange(&self, body: &str) -> Result<Bytes, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("cannot reach {}: {error}", self.target()))?;
        if self.tls {
            let stream = osvm_solana::tls::connect(stream, &self.host).await;
            self.send(stream.map_err(|error| format!("no TLS with {}: {error}", self.target()))?, body).await
        } else {
            self.send(stream, body).await
        }
    }

    async fn send<S>(&self, stream: S, body: &str) -> Result<Bytes, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| format!("the connection to {} broke: {error}", self.target());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let mut request = Request::post(&self.path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(Key(key)) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned())));
        let request = request.map_err(|_| "the key or the address cannot be put into a request".to_owned())?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), LARGEST).collect().await;
        let bytes = bytes.map_err(|error| format!("the answer cannot be read: {error}"))?.to_bytes();
        if status.is_success() { Ok(bytes) } else { Err(format!("{} answered {status}", self.target())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_over_tls_or_stays_on_this_machine() {
        let key = || Some("secret".to_owned());
        assert!(Client::new("http://models.example.com/v1/chat", key()).is_err());
        assert!(Client::new("http://127.0.0.1:1/v1/chat", key()).is_ok());
        let client = Client::new("https://models.example.com/v1/chat", key()).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
        assert_eq!(client.target(), "https://models.example.com");
        assert!(Client::new("ftp://x", None).is_err());
    }
}
