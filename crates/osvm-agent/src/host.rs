//! The host's side of a connection. Whatever the guest sends, at most a frame of it is held, and nothing of it is trusted.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    thread,
};

use crate::{
    End, Error, Exec, Failure, Info, Reply, Request,
    wire::{self, CHUNK, Frame, Kind, Sender},
};

/// Asks, and gives back the answer; what follows it is still in the stream.
pub fn ask(mut stream: &UnixStream, request: &Request) -> Result<Reply, Error> {
    request.check()?;
    wire::write_preamble(&mut stream)?;
    wire::write_json(&mut stream, Kind::Request, request)?;
    wire::read_preamble(&mut stream)?;
    reply(stream)
}

/// Who the agent is.
pub fn info(stream: &UnixStream) -> Result<Info, Error> {
    match ask(stream, &Request::Info)? {
        Reply::Info(info) => Ok(info),
        _ => Err(Error::WrongReply),
    }
}

/// Asks for something that is answered by [`Reply::Done`]: a signal, a forwarded port, the end.
pub fn done(stream: &UnixStream, request: &Request) -> Result<(), Error> {
    expect_done(ask(stream, request)?)
}

/// Runs a program and gives back how it ended. `started` gets its number, for signals, before any output is passed on. `input` is read in a
/// thread that goes on until it ends or the program does; one that blocks for ever is the caller's.
pub fn exec(
    stream: &UnixStream,
    program: Exec,
    input: impl Read + Send + 'static,
    stdout: &mut impl Write,
    stderr: &mut impl Write,
    started: impl FnOnce(u64),
) -> Result<End, Error> {
    match ask(stream, &Request::Exec(program))? {
        Reply::Started { exec } => started(exec),
        _ => return Err(Error::WrongReply),
    }
    let sending = stream.try_clone()?;
    thread::Builder::new().spawn(move || send(&sending, Kind::Stdin, input))?;
    let end = loop {
        match output(stream, stdout, stderr) {
            Ok(None) => {}
            Ok(Some(end)) => break Ok(end),
            Err(error) => break Err(error),
        }
    };
    // Lets the thread above end at its next write, and the guest kill a program whose end was not seen. It may be closed already.
    let _ = stream.shutdown(Shutdown::Both);
    end
}

/// Passes on one frame of output, or tells the end.
fn output(mut stream: &UnixStream, stdout: &mut impl Write, stderr: &mut impl Write) -> Result<Option<End>, Error> {
    let frame = wire::read_frame(&mut stream, Sender::Guest)?.ok_or(Error::Ended)?;
    match frame.kind {
        Kind::Stdout => stdout.write_all(&frame.payload)?,
        Kind::Stderr => stderr.write_all(&frame.payload)?,
        Kind::Exit => return Ok(Some(frame.json()?)),
        Kind::Failure => return Err(Error::Refused(frame.json()?)),
        kind => return Err(Error::OutOfPlace(kind)),
    }
    Ok(None)
}

/// Copies a file out of the guest into `to` and gives back its permissions. No more is written than the guest announced.
pub fn read(mut stream: &UnixStream, path: &Path, to: &mut impl Write) -> Result<u32, Error> {
    let Reply::File { size, mode } = ask(stream, &Request::Read { path: path.to_owned() })? else {
        return Err(Error::WrongReply);
    };
    let mut got = 0;
    loop {
        let frame = wire::read_frame(&mut stream, Sender::Guest)?.ok_or(Error::Ended)?;
        match frame.kind {
            Kind::Data if frame.payload.is_empty() && got == size => return Ok(mode & 0o7777),
            Kind::Data => {
                got += frame.payload.len() as u64;
                if frame.payload.is_empty() || got > size {
                    return Err(Error::Size { due: size, got });
                }
                to.write_all(&frame.payload)?;
            }
            Kind::Failure => return Err(Error::Refused(frame.json()?)),
            kind => return Err(Error::OutOfPlace(kind)),
        }
    }
}

/// Copies `size` bytes into a file of the guest.
pub fn write(stream: &UnixStream, path: &Path, mode: u32, size: u64, from: impl Read) -> Result<(), Error> {
    done(stream, &Request::Write { path: path.to_owned(), mode, size })?;
    let sent = send(stream, Kind::Data, from.take(size));
    // The guest's reason says more than that it closed the connection.
    let answer = reply(stream);
    match (sent, answer) {
        (_, Err(refused @ Error::Refused(_))) => Err(refused),
        (Err(error), _) => Err(error),
        (Ok(()), answer) => expect_done(answer?),
    }
}

/// Sends all of `from`, and then that it ended.
fn send(mut stream: &UnixStream, kind: Kind, mut from: impl Read) -> Result<(), Error> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(count) => {
                wire::write_frame(&mut stream, kind, buffer.get(..count).unwrap_or_default())?;
                if count == 0 {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn reply(mut stream: &UnixStream) -> Result<Reply, Error> {
    let Frame { kind, payload } = wire::read_frame(&mut stream, Sender::Guest)?.ok_or(Error::Ended)?;
    match kind {
        Kind::Reply => Ok(serde_json::from_slice(&payload)?),
        Kind::Failure => Err(Error::Refused(serde_json::from_slice::<Failure>(&payload)?)),
        kind => Err(Error::OutOfPlace(kind)),
    }
}

fn expect_done(answer: Reply) -> Result<(), Error> {
    if answer == Reply::Done { Ok(()) } else { Err(Error::WrongReply) }
}
