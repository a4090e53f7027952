//! TLS to nodes elsewhere, with the certificates that this machine trusts.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Where distributions keep the certificates they trust, in one file.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Opens TLS on `stream` to `host`. `SSL_CERT_FILE` names another file of trusted certificates.
///
/// # Errors
/// That of the handshake, or that this machine has no certificates to trust.
pub async fn connect(stream: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(trusted()?)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn trusted() -> io::Result<RootCertStore> {
    let bundle = match std::env::var_os("SSL_CERT_FILE") {
        Some(path) => PathBuf::from(path),
        None => BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
            io::Error::other(
                "this machine has no file of trusted certificates; install ca-certificates or set SSL_CERT_FILE",
            )
        })?,
    };
    let mut roots = RootCertStore::empty();
    // A bundle may hold certificates that this library does not read; the others still count.
    for certificate in CertificateDer::pem_file_iter(&bundle).map_err(io::Error::other)?.flatten() {
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(io::Error::other(format!("{} holds no certificate", bundle.display())));
    }
    Ok(roots)
}
