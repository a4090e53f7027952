//! What the binary says to what it cannot do, before it speaks to any node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

fn osvm_program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_osvm-program")).args(args).output().unwrap()
}

#[test]
fn a_wrong_command_line_ends_with_2_and_names_what_is_wrong() {
    for (args, named) in
        [(&["deploy"][..], "<FILE>"), (&["deploy", "--no-such-flag", "x"], "--no-such-flag"), (&[], "Usage")]
    {
        let output = osvm_program(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_deployed_is_named_and_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program.so");
    let file = file.to_str().unwrap();
    let missing = osvm_program(&["deploy", file]);
    std::fs::write(file, "hello").unwrap();
    // Nobody listens there: the file is found wrong before anyone is asked.
    let no_elf = osvm_program(&["deploy", file, "--url", "http://127.0.0.1:1"]);
    for (output, words) in [(missing, "cannot read"), (no_elf, "no ELF file")] {
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("error: ") && text.contains(file) && text.contains(words), "{text}");
    }
}
