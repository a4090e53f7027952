//! `osvm run --isolation unikernel`: needs root, a C compiler, `/dev/kvm`, and osvm-unikernel beside osvm-run.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int count, char **words) {
    const char *word = getenv("WORD");
    printf("%d words, WORD=%s, HOME=%s\n", count, word ? word : "-", getenv("HOME") ? "there" : "-");
    fflush(stdout);
    if (count > 1 && !strcmp(words[1], "loop")) for (;;) __asm__ volatile("pause");
    if (count > 1 && !strcmp(words[1], "fill")) for (;;) memset(malloc(1 << 20), 1, 1 << 20);
    return 7;
}
"#;

/// The program, built without a libc to load.
fn program(folder: &Path) -> PathBuf {
    let (source, program) = (folder.join("program.c"), folder.join("program"));
    fs::write(&source, PROGRAM).unwrap();
    let built = Command::new("cc").args(["-O1", "-static", "-o"]).arg(&program).arg(&source).status().unwrap();
    assert!(built.success());
    program
}

fn command(options: &[&str], program: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-run"));
    command.args(["--isolation", "unikernel"]).args(options).arg("--").arg(program).args(words);
    command.env_remove("OSVM_OUTPUT").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A field of `/proc/PID/status`.
fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

fn child(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

/// Starts it, and returns once the program has said its line.
fn up(program: &Path) -> Child {
    let mut child = command(&[], program, &["loop"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    assert!(line.starts_with("2 words"), "{line}");
    child
}

#[test]
fn options_that_the_level_does_not_have_are_refused_and_nothing_runs() {
    for option in [["--allow", "example.com:443"], ["--publish", "/x.sock:80"]] {
        let output = command(&option, Path::new("/bin/true"), &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(option[0]), "{output:?}");
    }
}

#[test]
fn a_file_is_no_folder_to_be_mounted_in_a_vm() {
    let output = command(&["--mount", "/etc/passwd:/etc/passwd:ro"], Path::new("/bin/true"), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("/etc/passwd is no folder"), "{output:?}");
}

mod in_a_vm {
    use super::*;

    #[test]
    fn a_mounted_folder_is_written_unless_it_is_read_only_and_is_the_working_directory_if_told() {
        let folder = tempfile::tempdir().unwrap();
        let (source, copier) = (folder.path().join("copier.c"), folder.path().join("copier"));
        let text = r#"
            #include <stdio.h>
            int main(int c, char **v) {
                FILE *in = fopen(v[1], "r"), *out = fopen(v[2], "w");
                if (!in || !out) { perror(in ? v[2] : v[1]); return 1; }
                for (int b; (b = fgetc(in)) != EOF;) fputc(b, out);
                return fclose(out);
            }"#;
        fs::write(&source, text).unwrap();
        assert!(Command::new("cc").args(["-static", "-o"]).arg(&copier).arg(&source).status().unwrap().success());
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("file"), "content").unwrap();
        let from_option = format!("{}:/from:ro", from.display());
        let to_option = format!("{}:/data/to", to.display());
        let options = ["--mount", &from_option, "--mount", &to_option, "--cwd", "/data/to"];
        let output = command(&options, &copier, &["/from/file", "copy"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read(to.join("copy")).unwrap(), b"content");
        let output = command(&options, &copier, &["copy", "/from/file"]).output().unwrap();
        assert!(!output.status.success() && super::text(&output.stderr).contains("Read-only"), "{output:?}");
        assert_eq!(fs::read(from.join("file")).unwrap(), b"content");
    }

    fn run(options: &[&str], words: &[&str]) -> Output {
        let folder = tempfile::tempdir().unwrap();
        command(options, &program(folder.path()), words).output().unwrap()
    }

    #[test]
    fn a_program_runs_in_a_vm_with_its_words_its_environment_and_its_exit_code() {
        let output = run(&["--env", "WORD=w"], &["a", "b"]);
        assert_eq!(text(&output.stdout), "3 words, WORD=w, HOME=-\n", "{output:?}");
        assert_eq!(output.status.code(), Some(7));
        let output = run(&["--output", "json"], &[]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((json["isolation"].as_str(), &json["exit"]), (Some("unikernel"), &7.into()), "{json}");
        assert_eq!(json["stdout"], "1 words, WORD=-, HOME=-\n");
    }

    #[test]
    fn a_vm_ends_at_its_time_and_at_its_memory() {
        assert_eq!(run(&["--timeout", "500ms"], &["loop"]).status.code(), Some(124));
        let output = run(&["--memory", "64M"], &["fill"]);
        assert!(!output.status.success() && output.status.code() != Some(7), "{output:?}");
    }

    #[test]
    fn the_monitor_is_in_a_jail_with_a_filter_of_its_own_and_without_a_device() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let folder = tempfile::tempdir().unwrap();
        let mut run = up(&program(folder.path()));
        let monitor = child(child(run.id()));
        assert_eq!(fs::read_to_string(format!("/proc/{monitor}/comm")).unwrap(), "unikernel\n");
        assert_eq!((&*field(monitor, "Seccomp"), &*field(monitor, "NoNewPrivs")), ("2", "1"));
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(monitor, set), "0000000000000000", "{set}");
        }
        assert!(!field(monitor, "Uid").split_whitespace().any(|uid| uid == "0"));
        let devices = fs::read_dir(format!("/proc/{monitor}/root/dev")).unwrap();
        let mut devices: Vec<_> = devices.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        devices.sort();
        assert_eq!(devices, ["null", "random", "urandom", "zero"]);
        for kind in ["net", "mnt", "pid", "ipc", "uts", "user"] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            assert_ne!(of(&monitor.to_string()), of("self"), "{kind}");
        }
        run.kill().unwrap();
        run.wait().unwrap();
    }
}
