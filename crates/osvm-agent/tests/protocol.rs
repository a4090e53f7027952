//! Either side against whatever the other may send, and the agent as an ordinary process' thread.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    io::{Cursor, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::mpsc,
};

use osvm_agent::{
    End, Error, Exec, host,
    server::Agent,
    wire::{self, Kind, MAX_PAYLOAD, Sender},
};
use proptest::prelude::*;

fn served() -> UnixStream {
    let (host, guest) = UnixStream::pair().unwrap();
    let (stop, _) = mpsc::sync_channel(1);
    Agent::new(stop).take(guest);
    host
}

fn shell(text: &str) -> Exec {
    let argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()];
    Exec { argv, env: BTreeMap::new(), cwd: PathBuf::from("/") }
}

fn run(text: &str, input: &[u8]) -> (End, Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = host::exec(&served(), shell(text), Cursor::new(input.to_vec()), &mut out, &mut err, |_| {}).unwrap();
    (end, out, err)
}

#[test]
fn a_program_gives_back_its_output_and_its_exit_code() {
    let (end, out, err) = run("cat; echo bad >&2; exit 7", b"given");
    assert_eq!((end, out.as_slice(), err.as_slice()), (End::Code(7), &b"given"[..], &b"bad\n"[..]));
}

#[test]
fn a_program_that_is_killed_tells_the_signal() {
    assert_eq!(run("kill -9 $$", b"").0, End::Signal(9));
}

#[test]
fn a_program_that_is_not_there_is_refused() {
    let gone = Exec { argv: vec!["/nonexistent".to_owned()], env: BTreeMap::new(), cwd: PathBuf::from("/") };
    let end = host::exec(&served(), gone, std::io::empty(), &mut Vec::new(), &mut Vec::new(), |_| {});
    assert!(matches!(end, Err(Error::Refused(_))), "{end:?}");
}

#[test]
fn a_file_goes_in_and_comes_out_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    host::write(&served(), &path, 0o640, bytes.len() as u64, bytes.as_slice()).unwrap();
    let mut back = Vec::new();
    assert_eq!(host::read(&served(), &path, &mut back).unwrap(), 0o640);
    assert!(back == bytes);
}

#[test]
fn a_file_that_comes_short_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let written = host::write(&served(), &dir.path().join("file"), 0o600, 10, &b"short"[..]);
    assert!(written.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest! {
    #[test]
    fn a_frame_comes_out_as_it_went_in(payload in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut bytes = Vec::new();
        wire::write_frame(&mut bytes, Kind::Data, &payload).unwrap();
        let frame = wire::read_frame(&mut bytes.as_slice(), Sender::Guest).unwrap().unwrap();
        prop_assert_eq!(frame.payload, payload);
    }

    #[test]
    fn whatever_comes_is_a_short_frame_or_an_error(
        kind in 0_u8..24, length in 0_u32..200_000, rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = vec![kind];
        bytes.extend(length.to_le_bytes());
        bytes.extend(&rest);
        for sender in [Sender::Host, Sender::Guest] {
            if let Ok(Some(frame)) = wire::read_frame(&mut bytes.as_slice(), sender) {
                prop_assert!(frame.payload.len() <= MAX_PAYLOAD && frame.payload.len() == length as usize);
            }
        }
    }

    #[test]
    fn a_host_ends_whatever_the_guest_sends(rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (host, mut guest) = UnixStream::pair().unwrap();
        wire::write_preamble(&mut guest).unwrap();
        guest.write_all(&rest).unwrap();
        guest.shutdown(Shutdown::Write).unwrap();
        prop_assert!(host::info(&host).is_err());
    }
}
