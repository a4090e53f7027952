//! A program in the guest: its output to the host, the host's input to it, and how it ended.
//!
//! The end is told after both outputs ended, as ssh does it: a process that stays behind with the program's output keeps the
//! connection open. When the host leaves, the program's process group is killed.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::{
        net::UnixStream,
        process::{CommandExt, ExitStatusExt},
    },
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, WaitId, WaitIdOptions, waitid},
};

use crate::{
    End, Error, Exec, Reply,
    server::{Agent, refuse_io, reply},
    wire::{self, CHUNK, Frame, Kind, Sender},
};

/// Runs `wanted` until it ended or the host left.
pub(crate) fn run(agent: &Agent, stream: UnixStream, wanted: &Exec) -> Result<(), Error> {
    let (program, args) = match wanted.argv.as_slice() {
        [program, args @ ..] => (program, args),
        [] => return Ok(()),
    };
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&wanted.env).current_dir(&wanted.cwd).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return refuse_io(&stream, &error),
    };
    let group = Pid::from_child(&child);
    let number = agent.started(group);
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(Error::Ended) };
    let told = reply(&stream, &Reply::Started { exec: number });
    let writer = Mutex::new(&stream);
    thread::scope(|scope| {
        if told.is_err() {
            agent.kill(number);
        }
        scope.spawn(|| {
            let ended = finish(agent, child, number, || pump_both(&writer, stdout, stderr));
            let tell = ended.and_then(|end| {
                let mut stream = *writer.lock().unwrap_or_else(PoisonError::into_inner);
                wire::write_json(&mut stream, Kind::Exit, &end)
            });
            // Ends the reading of input below; what was written before still arrives.
            let _ = stream.shutdown(Shutdown::Both);
            tell
        });
        // However the reading ends: the host left, broke a rule, or the program is over and there is nothing to kill.
        let read = feed(&stream, stdin);
        agent.kill(number);
        let _ = stream.shutdown(Shutdown::Read);
        read
    })
}

/// Waits until the program ended, then for its outputs.
fn finish(agent: &Agent, mut child: Child, number: u64, outputs: impl FnOnce() + Send) -> Result<End, Error> {
    let pid = Pid::from_child(&child);
    let ended = thread::scope(|scope| {
        scope.spawn(outputs);
        // It stays a zombie, and its number its own, until it is off the list.
        while let Err(error) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            if error != Errno::INTR {
                break;
            }
        }
        agent.ended(number);
        child.wait()
    })?;
    Ok(match (ended.code(), ended.signal()) {
        (Some(code), _) => End::Code(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    })
}

fn pump_both(writer: &Mutex<&UnixStream>, stdout: impl Read + Send, stderr: impl Read + Send) {
    thread::scope(|scope| {
        scope.spawn(|| pump(writer, Kind::Stdout, stdout));
        scope.spawn(|| pump(writer, Kind::Stderr, stderr));
    });
}

/// Passes on what the program writes. If the host left, the pipe is closed, and a program that writes on learns it.
fn pump(writer: &Mutex<&UnixStream>, kind: Kind, mut from: impl Read) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let bytes = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut stream = *writer.lock().unwrap_or_else(PoisonError::into_inner);
        if wire::write_frame(&mut stream, kind, bytes).is_err() {
            return;
        }
    }
}

/// Passes on the host's input until the connection ends.
fn feed(mut stream: &UnixStream, stdin: ChildStdin) -> Result<(), Error> {
    rustix::io::ioctl_fionbio(&stdin, true).map_err(std::io::Error::from)?;
    let mut stdin = Some(stdin);
    while let Some(Frame { kind, payload }) = wire::read_frame(&mut stream, Sender::Host)? {
        if kind != Kind::Stdin {
            return Err(Error::OutOfPlace(kind));
        }
        if payload.is_empty() {
            stdin = None;
        } else if let Some(pipe) = &mut stdin
            && !write_while_there(stream, pipe, &payload)?
        {
            stdin = None;
        }
    }
    Ok(())
}

/// Writes to a program that may not read, for as long as the host is there. False if the program closed its input.
fn write_while_there(stream: &UnixStream, pipe: &mut ChildStdin, mut bytes: &[u8]) -> Result<bool, Error> {
    while !bytes.is_empty() {
        match pipe.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let mut both = [PollFd::new(&*pipe, PollFlags::OUT), PollFd::new(stream, PollFlags::RDHUP)];
                match poll(&mut both, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(std::io::Error::from(error).into()),
                }
                if both[0].revents().is_empty() && !both[1].revents().is_empty() {
                    return Err(Error::Ended);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}
