//! A time limit beyond what the clock can say is no limit, and no crash of the monitor. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use osvm_jail::{Spec, closure};

#[test]
fn a_limit_that_the_clock_cannot_say_is_never_reached() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let mut spec = Spec::new("/bin/sh");
    spec.argv = ["sh", "-c", "exit 7"].map(str::to_owned).to_vec();
    spec.mounts = closure("/bin/sh".as_ref(), &[]).unwrap();
    spec.limits.timeout = Some(Duration::MAX);
    let mut child = Command::new(env!("CARGO_BIN_EXE_osvm-jail")).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&spec).unwrap()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
}
