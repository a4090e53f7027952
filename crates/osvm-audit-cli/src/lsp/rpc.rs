//! LSP's base protocol: a head with the length, then JSON.

use std::io::{self, BufRead, Read, Write};

use serde::Deserialize;
use serde_json::Value;

/// A message longer than this is refused before anything is kept of it.
const LARGEST: usize = 64 << 20;
/// No head is longer.
const LONGEST_LINE: u64 = 8 << 10;

/// A request (with an id) or a notification. Answers, which have no method, are passed over.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    pub(super) id: Option<Value>,
    #[serde(default)]
    pub(super) method: String,
    #[serde(default)]
    pub(super) params: Value,
}

/// The next message; `None` at the end.
pub(super) fn read(input: &mut impl BufRead) -> io::Result<Option<Message>> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut length = None;
    loop {
        let mut line = String::new();
        if input.by_ref().take(LONGEST_LINE).read_line(&mut line)? == 0 {
            return match length {
                None => Ok(None),
                Some(_) => Err(bad("it ends within a message")),
            };
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse::<usize>().map_err(|_| bad("a Content-Length that is no number"))?);
        }
    }
    let length = length.ok_or_else(|| bad("a message without Content-Length"))?;
    if length > LARGEST {
        return Err(bad("a message larger than 64 MiB"));
    }
    let mut body = Vec::new();
    if input.by_ref().take(length as u64).read_to_end(&mut body)? < length {
        return Err(bad("it ends within a message"));
    }
    serde_json::from_slice(&body).map(Some).map_err(|error| bad(&format!("a message that is not JSON-RPC: {error}")))
}

/// Sends one message.
pub(super) fn write(output: &mut impl Write, value: &Value) -> io::Result<()> {
    let body = value.to_string();
    write!(output, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_broken_ones_are_refused() {
        let text = "Content-Length: 32\r\nContent-Type: x\r\n\r\n{\"id\":1,\"method\":\"m\",\"params\":{}}";
        let text = text.replace("32", "33");
        let mut input = text.as_bytes();
        let message = read(&mut input).unwrap().unwrap();
        assert_eq!((message.method.as_str(), message.id), ("m", Some(Value::from(1))));
        assert!(read(&mut input).unwrap().is_none());
        for broken in [
            "\r\n",
            "Content-Length: x\r\n\r\n",
            "Content-Length: 9\r\n\r\n{}",
            "Content-Length: 2\r\n\r\n{]",
            "Content-Length: 99999999999\r\n\r\n",
            "Content-Length: 2\r\n",
        ] {
            assert!(read(&mut broken.as_bytes()).is_err(), "{broken:?}");
        }
    }
}
