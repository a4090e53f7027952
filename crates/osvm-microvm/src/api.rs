//! Firecracker's API: HTTP/1.1 over its unix socket, one request at a time, JSON both ways. What it answers is held to a limit.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    error::{Error, io},
    vm::{Control, Snapshot},
};

pub(crate) const NAME: &str = "Firecracker";
/// How long an answer may take. Saving a guest's memory takes longest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const LONGEST_ANSWER: usize = 64 << 10;
/// Header lines of an answer.
const MOST_HEADERS: usize = 32;

/// The API of one Firecracker.
#[derive(Debug)]
pub(crate) struct Api {
    stream: UnixStream,
    /// What the VMM sees as `/`, if it is in a jail.
    pub(crate) root: Option<PathBuf>,
    /// The folder in which snapshots are written.
    pub(crate) dir: PathBuf,
}

impl Api {
    pub(crate) fn new(stream: UnixStream, root: Option<PathBuf>, dir: PathBuf) -> Result<Self, Error> {
        let broken = |source| Error::NoAnswer { vmm: NAME, what: "the first connection".to_owned(), source };
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(broken)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(broken)?;
        Ok(Self { stream, root, dir })
    }

    /// One request. Anything but a status of 200 or 204 is a refusal.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<(), Error> {
        let what = format!("{method} {path}");
        let broken = |source| Error::NoAnswer { vmm: NAME, what: what.clone(), source };
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all((head + &body).as_bytes()).map_err(broken)?;
        let (status, body) = answer(&mut self.stream).map_err(broken)?;
        match status {
            200 | 204 => Ok(()),
            status => {
                let value: Option<Value> = serde_json::from_slice(&body).ok();
                let said = value.and_then(|value| value["fault_message"].as_str().map(str::to_owned));
                Err(Error::Refused { vmm: NAME, what, said: said.unwrap_or_else(|| format!("status {status}")) })
            }
        }
    }

    /// A file of [`Self::dir`] as the VMM names it.
    pub(crate) fn inside(&self, file: &Path) -> String {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        Path::new("/").join(file.strip_prefix(root).unwrap_or(file)).display().to_string()
    }
}

impl Control for Api {
    fn pause(&mut self) -> Result<(), Error> {
        self.call("PATCH", "/vm", &json!({ "state": "Paused" }))
    }

    fn resume(&mut self) -> Result<(), Error> {
        self.call("PATCH", "/vm", &json!({ "state": "Resumed" }))
    }

    /// Written in the VMM's own folder and then moved: in a jail the VMM sees no other.
    fn snapshot(&mut self, to: &Snapshot) -> Result<(), Error> {
        let (state, memory) = (self.dir.join("saved.state"), self.dir.join("saved.memory"));
        let body = json!({
            "snapshot_type": "Full", "snapshot_path": self.inside(&state), "mem_file_path": self.inside(&memory),
        });
        self.call("PUT", "/snapshot/create", &body)?;
        for (from, to) in [(&state, &to.state), (&memory, &to.memory)] {
            moved(from, to)?;
        }
        Ok(())
    }
}

/// A rename, or a copy where that is another file system.
fn moved(from: &Path, to: &Path) -> Result<(), Error> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            std::fs::copy(from, to).map_err(io("write", to))?;
            std::fs::remove_file(from).map_err(io("remove", from))
        }
        other => other.map_err(io("write", to)),
    }
}

/// Status and body of one answer. One with a body says how long it is.
fn answer(stream: &mut impl Read) -> io::Result<(u16, Vec<u8>)> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(head) = response.parse(&bytes).map_err(|_| bad())? {
            let status = response.code.ok_or_else(bad)?;
            let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = match length.map(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok())
            {
                Some(Some(length)) if length <= LONGEST_ANSWER => length,
                Some(_) => return Err(bad()),
                None => 0,
            };
            if let Some(body) = bytes.get(head..head + length) {
                return Ok((status, body.to_vec()));
            }
        }
        if bytes.len() > 2 * LONGEST_ANSWER {
            return Err(bad());
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body_of_the_length_that_it_says() {
        let text = b"HTTP/1.1 400 \r\nServer: x\r\nContent-Length: 3\r\n\r\nabcd";
        assert_eq!(answer(&mut &text[..]).unwrap(), (400, b"abc".to_vec()));
        assert_eq!(answer(&mut &b"HTTP/1.1 204 \r\n\r\n"[..]).unwrap(), (204, Vec::new()));
        for bad in
            ["", "HTTP/1.1 200 \r\nContent-Length: 9999999\r\n\r\n", "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nab"]
        {
            assert!(answer(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_answered_ends_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut text = b"HTTP/1.1 ".to_vec();
            text.extend(bytes);
            let _ = answer(&mut text.as_slice());
        }
    }
}
