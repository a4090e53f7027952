//! Programs that run to their end.

use std::{
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::{monitor, run, run_with, rust, static_c};

#[test]
fn a_static_c_program_gets_its_arguments_and_environment_and_its_code_comes_back() {
    let program = static_c(
        r#"#include <stdio.h>
           #include <stdlib.h>
           extern char **environ;
           int main(int c, char **v) {
               for (int i = 1; i < c; i++) printf("%s|", v[i]);
               for (char **e = environ; *e; e++) printf("%s|", *e);
               fprintf(stderr, "to stderr\n");
               return 7;
           }"#,
    );
    let ran = run_with(&program.path, &["--env", "A=1", "--env", "B=two words"], &["x", "", "-y z"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(7), "x||-y z|A=1|B=two words|"));
    assert_eq!(ran.err, "to stderr\n");
    assert_eq!(run(&program).out, "", "without --env the environment is empty");
}

#[test]
fn a_rust_program_with_threads_files_and_loopback_runs_unmodified() {
    let program = rust("threads");
    for options in [&[][..], &["--no-rewrite"], &["--no-aslr"]] {
        let mut child = monitor()
            .args(options)
            .arg("--")
            .arg(&program.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"a line\n").unwrap();
        let output = child.wait_with_output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let wanted = "channel 8000 13986000\nspin true\ncondvar 2000\ntimeout 2000 true\nmap 9999900000\nbig 67108864\n\
                      file \"text\\n more\\n\" [\"b\"]\ncatch true\ntcp OVER LOOPBACK\nstdin \"a line\\n\"\ncpus 1\nclock true\n";
        assert_eq!(out, wanted, "{options:?}");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn a_call_that_has_no_answer_is_enosys_and_is_counted_and_shown() {
    let program = static_c(
        r#"#define _GNU_SOURCE
           #include <errno.h>
           #include <unistd.h>
           int main() { for (int i = 0; i < 3; i++) if (syscall(1234) != -1 || errno != ENOSYS) return 1; return 0; }"#,
    );
    let ran = run(&program);
    assert_eq!(ran.code, Some(0));
    assert!(ran.err.contains("no answer here: 1234 (3)"), "{}", ran.err);
}

#[test]
fn system_calls_in_a_loop_trap_once_a_place() {
    let program = static_c(
        r#"#include <unistd.h>
           int main() { for (int i = 0; i < 100000; i++) if (getppid() != 0) return 1; return 0; }"#,
    );
    let ran = run_with(&program.path, &["--stats"], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.stat("calls") > 100_000 && ran.stat("traps") < 100, "{}", ran.err);
    let ran = run_with(&program.path, &["--stats", "--no-rewrite"], &[]);
    assert!(ran.code == Some(0) && ran.stat("traps") > 100_000 && ran.stat("rewritten") == 0, "{}", ran.err);
}

#[test]
fn a_program_that_never_ends_is_ended_in_time() {
    for body in ["for (;;) ;", "for (;;) pause();", "for (;;) getppid();"] {
        let program = static_c(&format!("#include <unistd.h>\nint main() {{ {body} }}"));
        let began = Instant::now();
        let ran = run_with(&program.path, &["--timeout", "0.3"], &[]);
        assert_eq!(ran.code, Some(124), "{body}: {}", ran.err);
        assert!(began.elapsed() < Duration::from_secs(5), "{body}");
    }
}

#[test]
fn memory_ends_at_its_limit_and_comes_back_when_freed() {
    let program = static_c(
        r#"#include <stdlib.h>
           #include <string.h>
           #include <sys/mman.h>
           #include <unistd.h>
           int main() {
               /* 40 times 32 MiB fit into 64 MiB only if they are given back. */
               for (int i = 0; i < 40; i++) {
                   char *p = mmap(0, 32 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                   if (p == MAP_FAILED) return 1;
                   memset(p, i, 32 << 20);
                   munmap(p, 32 << 20);
               }
               write(1, "reused", 6);
               char *p = malloc(256 << 20);
               if (p) memset(p, 1, 256 << 20);
               return 2;
           }"#,
    );
    let ran = run_with(&program.path, &["--memory", "64M"], &[]);
    // What does not fit is found out at the touch, as on Linux, and ends the program as the kernel would.
    assert_eq!((ran.code, ran.out.as_str()), (Some(128 + 9), "reused"), "{ran:?}");
    assert!(ran.err.contains("out of memory: 64 MiB"), "{}", ran.err);
}

#[test]
fn what_is_no_program_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let ran = run_with(&file, &[], &[]);
    assert_eq!(ran.code, Some(126));
    assert!(ran.err.contains("it is no ELF file"), "{}", ran.err);
    let ran = run_with(&dir.path().join("nothing"), &[], &[]);
    assert_eq!(ran.code, Some(125));
    assert!(ran.err.contains("nothing"), "{}", ran.err);
}
