//! JSON-RPC messages, one a line, from somebody who is not trusted.

use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The longest message, bytes.
pub const LONGEST_LINE: usize = 8 << 20;
/// How deeply arrays and objects of a message may be nested.
pub const DEEPEST: usize = 64;

/// No such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Parameters that cannot be.
pub const INVALID_PARAMS: i64 = -32602;
/// A message that is no request.
pub const INVALID_REQUEST: i64 = -32600;
/// Something failed here or behind.
pub const INTERNAL: i64 = -32603;
/// No JSON at all.
pub const PARSE: i64 = -32700;
/// A protocol version that is not spoken.
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// A capability that the client has not declared.
pub const MISSING_CAPABILITY: i64 = -32021;
/// Headers that say something else than the message.
pub const HEADER_MISMATCH: i64 = -32020;

/// Why a stream cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Reading failed.
    #[error("the stream cannot be read")]
    Read(#[from] std::io::Error),
    /// A message has no end.
    #[error("a message is longer than {LONGEST_LINE} bytes")]
    Long,
    /// A message is nested like an attack.
    #[error("a message is nested more than {DEEPEST} levels deep")]
    Deep,
}

/// An error as JSON-RPC has it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// Its number.
    pub code: i64,
    /// In words.
    pub message: String,
    /// More, if there is more.
    pub data: Option<Value>,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// What a peer says is an error, whatever it is.
    pub fn of(error: &Value) -> Self {
        Self {
            code: error["code"].as_i64().unwrap_or(INTERNAL),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
            data: error.get("data").cloned(),
        }
    }

    /// The whole message, in answer to `id`.
    pub fn answer(&self, id: &Value) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        json!({ "jsonrpc": "2.0", "id": id, "error": error })
    }
}

/// A message as it is written.
pub fn line(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Reads one line into `line`, without its end. False at the end of the stream.
///
/// # Errors
/// When the line is longer than [`LONGEST_LINE`], nested too deeply, or cannot be read. What follows is then of no use.
pub async fn read_line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> Result<bool, Broken> {
    line.clear();
    loop {
        let piece = from.fill_buf().await?;
        if piece.is_empty() {
            // Half a message at the end is none.
            return Ok(false);
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let take = end.unwrap_or(piece.len());
        if line.len() + take > LONGEST_LINE {
            return Err(Broken::Long);
        }
        line.extend_from_slice(&piece[..take]);
        let used = take + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            return if depth(line) > DEEPEST { Err(Broken::Deep) } else { Ok(true) };
        }
    }
}

/// How deeply the text is nested, without parsing it: a parser would have to go there.
pub(crate) fn depth(text: &[u8]) -> usize {
    let (mut now, mut most, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' if !quoted => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert_eq!(depth(br#"{"a":"[[[\"[["}"#), 1);
        assert_eq!(depth(br#"[[{"a":[]}]]"#), 4);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_or_too_deep_ends_the_stream() {
        let mut line = Vec::new();
        let long = vec![b'x'; LONGEST_LINE + 1];
        assert!(matches!(read_line(&mut &long[..], &mut line).await, Err(Broken::Long)));
        let deep = ["[".repeat(DEEPEST + 1).as_bytes(), b"\n"].concat();
        assert!(matches!(read_line(&mut &deep[..], &mut line).await, Err(Broken::Deep)));
        let mut two = &b"one\ntwo"[..];
        assert!(read_line(&mut two, &mut line).await.unwrap());
        assert_eq!(line, b"one");
        assert!(!read_line(&mut two, &mut line).await.unwrap());
    }
}
