//! NDJSON bodies from what comes over time.

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::mpsc;

/// One JSON value a line, as they come over the channel.
pub(super) fn from_channel<T: Serialize + Send + 'static>(values: mpsc::Receiver<T>) -> Response {
    lines(stream::unfold(values, |mut values| async move { Some((values.recv().await?, values)) }))
}

/// One JSON value a line.
pub(super) fn lines<T: Serialize + Send + 'static>(values: impl Stream<Item = T> + Send + 'static) -> Response {
    let lines = values.map(|value| {
        let mut line = serde_json::to_vec(&value)?;
        line.push(b'\n');
        Ok::<_, serde_json::Error>(Bytes::from(line))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
