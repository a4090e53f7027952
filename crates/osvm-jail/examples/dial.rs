//! A program for the network tests: speaks what it is told on one connection, or serves.
//!
//! `dial ADDRESS OP…` with `send=TEXT` (`\r`, `\n`, `\0`, `\xHH`, `\\`), `read=N`, `head`, `half`, `rest`, `zeros=N`, `hold`; what it
//! reads goes to stdout. `dial env`; `dial many N` (tunnels, which it then holds); `dial alone`; `dial serve PORT MODE [MILLISECONDS]`.
//! Exit 7: it cannot connect. Exit 8: the connection broke.
#![forbid(unsafe_code)]

use std::{
    env,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::Duration,
};

const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 3128);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["env"] => {
            env::vars().for_each(|(name, value)| println!("{name}={value}"));
            Ok(())
        }
        ["many", count, target] => many(count.parse().unwrap_or(0), target),
        ["alone"] => alone(),
        ["serve", port, mode] => serve(port, mode, "0"),
        ["serve", port, mode, after] => serve(port, mode, after),
        [address, ref ops @ ..] => match TcpStream::connect(address) {
            Ok(stream) => speak(stream, ops),
            Err(error) => {
                println!("cannot connect: {error}");
                return ExitCode::from(7);
            }
        },
        [] => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("broken: {error}");
            ExitCode::from(8)
        }
    }
}

fn speak(mut stream: TcpStream, ops: &[&str]) -> io::Result<()> {
    let mut stdout = io::stdout();
    for op in ops {
        match op.split_once('=').unwrap_or((op, "")) {
            ("send", text) => stream.write_all(&unescape(text))?,
            ("zeros", count) => {
                let mut left = count.parse::<usize>().unwrap_or(0);
                while left > 0 {
                    let n = left.min(1 << 16);
                    stream.write_all(&vec![0; n])?;
                    left -= n;
                }
            }
            ("read", count) => {
                let mut bytes = vec![0; count.parse().unwrap_or(0)];
                stream.read_exact(&mut bytes)?;
                stdout.write_all(&bytes)?;
            }
            ("head", _) => {
                let mut bytes = Vec::new();
                while !bytes.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte)?;
                    bytes.push(byte[0]);
                }
                stdout.write_all(&bytes)?;
            }
            ("half", _) => stream.shutdown(Shutdown::Write)?,
            ("rest", _) => drop(io::copy(&mut stream, &mut stdout)?),
            ("hold", _) => {
                println!("holding");
                let _ = io::copy(&mut stream, &mut io::sink());
            }
            (other, _) => println!("no op {other}"),
        }
        stdout.flush()?;
    }
    Ok(())
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (_, true) => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b'0') => 0,
                Some(b'x') => {
                    let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                    u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or(0)
                }
                other => other.unwrap_or(b'\\'),
            },
            (byte, false) => byte,
        });
    }
    bytes
}

/// Opens tunnels to a target, says how each was answered, and holds them until stdout's reader has had enough.
fn many(count: usize, target: &str) -> io::Result<()> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(PROXY)?;
        let sent = write!(stream, "CONNECT {target} HTTP/1.1\r\n\r\n");
        let mut bytes = [0; 39];
        let read = sent.and_then(|()| stream.read_exact(&mut bytes));
        let opened = read.is_ok() && bytes.starts_with(b"HTTP/1.1 200 ");
        println!("{}", if opened { "open" } else { "refused" });
        held.push(stream);
    }
    drop(held.split_off(1));
    // Places that were given back are free again.
    for _ in 0..100 {
        let mut stream = TcpStream::connect(PROXY)?;
        let sent = write!(stream, "CONNECT {target} HTTP/1.1\r\n\r\n");
        let mut bytes = [0; 39];
        if sent.and_then(|()| stream.read_exact(&mut bytes)).is_ok() {
            println!("again");
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Says when there is a proxy, and when there is none any more, and goes on to its own end.
fn alone() -> io::Result<()> {
    drop(TcpStream::connect(PROXY)?);
    println!("together");
    while TcpStream::connect(PROXY).is_ok() {
        thread::sleep(Duration::from_millis(10));
    }
    println!("alone");
    Ok(())
}

/// echo: back what comes, its end too. count: how much came, at its end. flood: as much as is taken. first: says something and
/// ends its side, then counts.
fn serve(port: &str, mode: &str, after: &str) -> io::Result<()> {
    println!("started");
    thread::sleep(Duration::from_millis(after.parse().unwrap_or(0)));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse().unwrap_or(0)))?;
    println!("listening");
    for stream in listener.incoming() {
        let (mut stream, mode) = (stream?, mode.to_owned());
        thread::Builder::new().stack_size(64 << 10).spawn(move || {
            let mut buffer = vec![0; 16 << 10];
            let mut total = 0u64;
            if mode == "first" {
                let _ = stream.write_all(b"first").and_then(|()| stream.shutdown(Shutdown::Write));
            }
            if mode == "flood" {
                let _ = stream.read_exact(&mut buffer[..1]).and_then(|()| stream.write_all(&buffer[..1]));
                if buffer[0] == b'f' {
                    while stream.write_all(&buffer).is_ok() {}
                    return;
                }
            }
            while let Ok(n) = stream.read(&mut buffer) {
                total += n as u64;
                if n == 0 || matches!(&*mode, "echo" | "flood") && stream.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            if mode == "first" {
                println!("{total} after the end");
            }
            if mode == "count" {
                let _ = write!(stream, "{total}");
            }
        })?;
    }
    Ok(())
}
