//! Faults, rights of memory, and signals.

use crate::support::{Running, c, run, run_with, static_c};

#[test]
fn a_fault_ends_in_a_report_with_registers_and_the_functions_on_the_way() {
    let source = r#"
        __attribute__((noinline)) void inner(volatile int *p) { *p = 1; }
        __attribute__((noinline)) void outer(volatile int *p) { inner(p); __asm__ volatile(""); }
        int main() { outer((int *)0x10); return 0; }"#;
    for flags in [&["-static"][..], &["-static-pie"]] {
        let ran = run(&c(source, flags));
        assert_eq!(ran.code, Some(128 + 11), "{}", ran.err);
        for part in
            ["page fault writing 0x10 in thread 1", "rip 0", "rsp 0", "at 0x", "inner+0x", "outer+0x", "main+0x"]
        {
            assert!(ran.err.contains(part), "{part} is missing: {}", ran.err);
        }
    }
}

#[test]
fn each_kind_of_fault_has_its_signal() {
    for (body, code, words) in [
        ("volatile int z = 0; return 7 / z;", 8, "divide error"),
        ("__asm__(\"ud2\");", 4, "invalid instruction"),
        ("__asm__(\"hlt\");", 11, "general protection fault"),
        ("*(volatile char *)0x800000000000 = 1;", 11, ""),
        ("abort();", 6, ""),
    ] {
        let ran = run(&static_c(&format!("#include <stdlib.h>\nint main() {{ {body} }}")));
        assert_eq!(ran.code, Some(128 + code), "{body}: {}", ran.err);
        assert!(ran.err.contains(words), "{body}: {}", ran.err);
    }
}

#[test]
fn code_is_not_written_and_data_is_not_executed() {
    for body in [
        "*(volatile char *)main = 0xc3;",
        "static char code[] = {0xc3}; ((void (*)())code)();",
        "char code[] = {0xc3}; ((void (*)())code)();",
        "char *p = malloc(4096); *p = 0xc3; ((void (*)())p)();",
        "*(volatile char *)\"constant\" = 1;",
    ] {
        let ran = run(&static_c(&format!("#include <stdlib.h>\nint main() {{ {body} return 0; }}")));
        assert_eq!(ran.code, Some(128 + 11), "{body}: {}", ran.err);
    }
}

#[test]
fn a_stack_that_overflows_hits_a_guard() {
    let program = static_c(
        r#"#include <string.h>
           int deeper(int n) { volatile char room[4096]; memset((char *)room, n, sizeof room); return deeper(n + 1) + room[n % 4096]; }
           int main() { return deeper(0); }"#,
    );
    let ran = run(&program);
    assert_eq!(ran.code, Some(128 + 11));
    assert!(ran.err.contains("deeper+0x"), "{}", ran.err);
}

#[test]
fn addresses_differ_from_run_to_run_unless_told_otherwise() {
    let program = c(
        r#"#include <stdio.h>
           #include <stdlib.h>
           #include <sys/mman.h>
           int main() { int x; printf("%p %p %p %p\n", main, &x, malloc(9), mmap(0, 4096, 3, 34, -1, 0)); }"#,
        &["-static-pie", "-fPIE"],
    );
    let places = |options: &[&str]| -> Vec<String> {
        run_with(&program.path, options, &[]).out.split_whitespace().map(str::to_owned).collect()
    };
    let (first, second) = (places(&[]), places(&[]));
    assert_eq!(first.len(), 4);
    for (a, b) in first.iter().zip(&second) {
        assert_ne!(a, b, "{first:?} {second:?}");
    }
    assert_eq!(places(&["--no-aslr"]), places(&["--no-aslr"]));
}

#[test]
fn a_program_handles_its_faults_and_goes_on() {
    let program = static_c(
        r#"#define _GNU_SOURCE
           #include <setjmp.h>
           #include <signal.h>
           #include <stdio.h>
           #include <stdlib.h>
           #include <sys/mman.h>
           static sigjmp_buf back;
           static char *page;
           static double kept = 1.5;
           static void jump(int n, siginfo_t *i, void *c) { siglongjmp(back, i->si_addr == (void *)0x40 ? 1 : 2); }
           static void mend(int n, siginfo_t *i, void *c) { mprotect(page, 4096, 3); volatile double x = 3; x = x * x; }
           int main() {
               stack_t alternate = {.ss_sp = malloc(65536), .ss_size = 65536};
               sigaltstack(&alternate, 0);
               struct sigaction a = {.sa_sigaction = jump, .sa_flags = SA_SIGINFO | SA_ONSTACK};
               sigaction(SIGSEGV, &a, 0);
               int got = sigsetjmp(back, 1);
               if (!got) *(volatile char *)0x40 = 1;
               a.sa_sigaction = mend;
               sigaction(SIGSEGV, &a, 0);
               page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
               double before = kept * 2;
               page[5] = 9;
               raise(SIGWINCH);
               printf("%d %d %.1f\n", got, page[5], before);
               return 0;
           }"#,
    );
    let ran = run(&program);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "1 9 3.0\n"), "{}", ran.err);
}

const SLEEPER: &str = r#"#include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <unistd.h>
    static void leave(int n) { _exit(40 + n); }
    int main(int c, char **v) {
        if (c > 1) signal(SIGTERM, leave);
        puts("ready");
        fflush(stdout);
        if (c > 2) for (;;) ;
        for (;;) pause();
    }"#;

#[test]
fn a_signal_to_the_monitor_reaches_the_program() {
    let program = static_c(SLEEPER);
    for (args, code) in [(&[][..], 128 + 15), (&["handles"], 55), (&["handles", "spins"], 55)] {
        let mut vm = Running::start(&program.path, &[], args);
        vm.signal("TERM");
        assert_eq!(vm.wait(), Some(code), "{args:?}");
    }
}

#[test]
fn a_killed_monitor_takes_its_vm_along_and_the_next_one_gets_its_socket() {
    let program = static_c(SLEEPER);
    let mut vm = Running::start(&program.path, &[], &[]);
    let pid = vm.child.id();
    vm.signal("KILL");
    assert_eq!(vm.wait(), None);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "nothing of it is left");
    // All that stays is the socket's name.
    let socket = vm.socket.to_str().unwrap().to_owned();
    let ran = run_with(&static_c("int main() { return 3; }").path, &["--vsock", &socket], &[]);
    assert_eq!(ran.code, Some(3), "{}", ran.err);
    assert!(!vm.socket.exists(), "a monitor that ends by itself removes its socket");
}

#[test]
fn a_program_whose_file_becomes_shorter_is_ended_with_a_reason() {
    let program = static_c(
        r#"#include <signal.h>
           #include <stdio.h>
           #include <stdlib.h>
           #include <unistd.h>
           static const char large[4 << 20] = {1, 2, 3};
           static volatile int place = 3 << 20;
           static void look(int n) { exit(large[place]); }
           int main() { signal(SIGUSR1, look); puts("ready"); fflush(stdout); for (;;) pause(); }"#,
    );
    let mut vm = Running::start(&program.path, &[], &[]);
    std::fs::OpenOptions::new().write(true).open(&program.path).unwrap().set_len(1 << 20).unwrap();
    vm.signal("USR1");
    assert_eq!(vm.wait(), Some(125));
}
