//! Reading and writing without memory that lies idle: what is read goes by way of the stack.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// What is read in one go.
pub(super) const PIECE: usize = 16 << 10;
/// A buffer that grew beyond this is given back when its request is done.
const KEPT: usize = 2 * PIECE;

/// Appends what there is; 0 at the end. Safe to cancel.
pub(super) async fn fill(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|cx| poll_fill(stream, buffer, cx)).await
}

fn poll_fill(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut space = [const { MaybeUninit::uninit() }; PIECE];
    let mut piece = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut piece))?;
    buffer.extend_from_slice(piece.filled());
    Poll::Ready(Ok(piece.filled().len()))
}

/// Returns when the client is gone. What it sends until then is kept, up to `most` bytes; beyond, it is not listened to.
pub(super) async fn gone(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut, most: usize) {
    while read.len() < most {
        if !matches!(fill(stream, read).await, Ok(1..)) {
            return;
        }
    }
    std::future::pending().await
}

/// Writes all of it, down to the socket.
pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Clears, and gives memory back that one large message took.
pub(super) fn reset(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT {
        *buffer = Vec::new();
    }
    buffer.clear();
}

/// The same where what is left in it counts.
pub(super) fn shrink(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > KEPT {
        *buffer = BytesMut::new();
    }
}
