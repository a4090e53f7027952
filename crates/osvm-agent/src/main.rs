//! `osvm-agent`: process 1 of a Linux guest, or a server on a unix socket.
#![forbid(unsafe_code)]

use std::{
    os::unix::net::UnixListener,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
};

use osvm_agent::{Error, init, server::Agent, vsock};

const USAGE: &str = "\
Usage: osvm-agent                as process 1 of a guest: mounts, starts the server, resets the machine
       osvm-agent vsock          serves port 1024 of the guest
       osvm-agent unix SOCKET    serves a unix socket, as an ordinary process";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let served = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // The kernel passes on what it does not know of its command line.
        _ if init::is_init() => return init::run(),
        ["vsock"] => serve_vsock(),
        ["unix", path] => serve_unix(path),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}{error}", init::FAILED);
            ExitCode::FAILURE
        }
    }
}

fn serve_vsock() -> Result<(), Error> {
    let listener = vsock::listener()?;
    serve(
        move || vsock::accept(&listener),
        || {
            println!("osvm-agent: ready");
            // A host that does not listen for it asks for itself.
            let _ = vsock::tell_ready();
        },
    )
}

fn serve_unix(path: &str) -> Result<(), Error> {
    let listener = UnixListener::bind(path)?;
    serve(move || listener.accept().map(|(stream, _)| stream), || println!("osvm-agent: ready"))
}

/// Until somebody asks for the end.
fn serve(
    accept: impl Fn() -> std::io::Result<std::os::unix::net::UnixStream> + Send + 'static,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let (stop, stopped) = mpsc::sync_channel(1);
    let agent = Agent::new(stop);
    let taking = Arc::clone(&agent);
    thread::Builder::new().spawn(move || {
        loop {
            match accept() {
                Ok(stream) => taking.take(stream),
                // Out of descriptors or memory, or the other side left already: the listener is sound.
                Err(_) => thread::yield_now(),
            }
        }
    })?;
    ready();
    // The agent holds the other end, so this ends by a request only.
    let _ = stopped.recv();
    agent.kill_all();
    Ok(())
}
