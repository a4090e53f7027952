//! What a program frees, the host has back before the VM ends.

use std::{
    fs,
    io::{Read, Write},
    process::{Child, Stdio},
};

use crate::support::{monitor, static_c};

const PROGRAM: &str = r#"
    #include <stdio.h>
    #include <sys/mman.h>
    #include <unistd.h>
    enum { LEN = 64 << 20 };
    static void step(const char *word) {
        char answer;
        write(1, word, 1);
        read(0, &answer, 1);
    }
    static char *filled(void) {
        char *at = mmap(0, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (long n = 0; n < LEN; n += 4096) {
            if (at[n]) _exit(9);
            at[n] = 1;
        }
        return at;
    }
    int main(void) {
        char *at = filled();
        step("a");
        munmap(at, LEN);
        step("b");
        at = filled();
        step("c");
        madvise(at, LEN, MADV_DONTNEED);
        step("d");
        for (long n = 0; n < LEN; n += 4096) if (at[n]) return 8;
        return 0;
    }"#;

/// Waits for the program's next word; the memory that its monitor holds then, MiB.
fn at(child: &mut Child, word: u8) -> u64 {
    let mut said = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(said[0], word);
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn what_a_program_frees_goes_back_to_the_host_and_reads_as_zero_when_it_is_used_again() {
    let program = static_c(PROGRAM);
    let mut command = monitor();
    command.args(["--memory", "256M", "--"]).arg(&program.path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let held: Vec<u64> = b"abcd"
        .iter()
        .map(|word| {
            let held = at(&mut child, *word);
            child.stdin.as_mut().unwrap().write_all(b".").unwrap();
            held
        })
        .collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let [used, unmapped, again, forgotten] = held[..] else { panic!("{held:?}") };
    assert!(used >= 64 && again >= 64, "{held:?}");
    assert!(unmapped < 16 && forgotten < 16, "{held:?} MiB: the host did not get it back");
}
