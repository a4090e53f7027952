//! The two lines that open a connection. Both sides read byte by byte, so that nothing behind the line is lost.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Error;

/// `CONNECT 4294967295\n` and `OK 4294967295\n` fit.
const LONGEST_LINE: usize = 32;

/// The host's side.
pub(crate) async fn request<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, port: u32) -> Result<(), Error> {
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await.map_err(Error::Handshake)?;
    match read_line(stream).await? {
        None => Err(Error::Refused(port)),
        Some(line) => match line.strip_prefix("OK ").map(str::parse::<u32>) {
            Some(Ok(_)) => Ok(()),
            _ => Err(Error::Protocol(line)),
        },
    }
}

/// The guest's side: the port that is asked for. [`accept`] or dropping the stream answers.
pub(crate) async fn asked_port<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u32, Error> {
    let line = read_line(stream).await?.ok_or_else(|| Error::Handshake(io::ErrorKind::UnexpectedEof.into()))?;
    match line.strip_prefix("CONNECT ").map(str::parse) {
        Some(Ok(port)) => Ok(port),
        _ => Err(Error::Protocol(line)),
    }
}

/// The guest's answer to a port that somebody listens on.
pub(crate) async fn accept<S: AsyncWrite + Unpin>(stream: &mut S, port: u32) -> Result<(), Error> {
    stream.write_all(format!("OK {port}\n").as_bytes()).await.map_err(Error::Handshake)
}

/// A line without its end, or nothing if the stream ended before its first byte.
async fn read_line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<String>, Error> {
    let mut line = Vec::with_capacity(LONGEST_LINE);
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
            Ok(byte) if line.len() < LONGEST_LINE => line.push(byte),
            Ok(_) => return Err(Error::Protocol(String::from_utf8_lossy(&line).into_owned())),
            Err(error) if line.is_empty() && is_end(&error) => return Ok(None),
            Err(error) => return Err(Error::Handshake(error)),
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let (mut host, mut guest) = tokio::io::duplex(256);
        host.write_all(&[b'C'; 100]).await.unwrap();
        assert!(matches!(asked_port(&mut guest).await, Err(Error::Protocol(_))));
    }

    #[tokio::test]
    async fn a_port_is_a_number_of_32_bits() {
        for bad in ["CONNECT \n", "CONNECT -1\n", "CONNECT 4294967296\n", "connect 1\n", "\n", "GET / HTTP/1.1\n"] {
            let (mut host, mut guest) = tokio::io::duplex(256);
            host.write_all(bad.as_bytes()).await.unwrap();
            assert!(matches!(asked_port(&mut guest).await, Err(Error::Protocol(_))), "{bad:?} was taken");
        }
    }

    #[tokio::test]
    async fn bytes_behind_the_line_stay_in_the_stream() {
        let (mut host, mut guest) = tokio::io::duplex(256);
        host.write_all(b"CONNECT 8899\nhello").await.unwrap();
        assert_eq!(asked_port(&mut guest).await.unwrap(), 8899);
        let mut rest = [0; 5];
        guest.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"hello");
    }
}
