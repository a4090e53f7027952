//! A guest that means harm: its program writes garbage over everything that it shares with the monitor, and makes every hypercall.
//!
//! The program holds the library OS's rights, as nothing inside the VM is a border: it stores to the hypercall page itself.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::symlink,
};

use crate::support::{Running, run_with, static_c};

const HOSTILE: &str = r#"
    #include <netinet/in.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>
    static volatile uint64_t *control = (void *)0x61000000a000;
    static volatile uint32_t *door = (void *)0x701ff000;
    static volatile uint32_t *conns = (void *)0x612000000000;
    static uint64_t state;
    static uint64_t number(void) { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
    static uint64_t odd(void) {
        switch (number() % 8) {
            case 0: return number();
            case 1: return -(number() % 5000);
            case 2: return 0;
            case 3: return 1ull << number() % 64;
            case 4: return number() % (16 << 20);
            case 5: return (8 << 20) - number() % 5000;
            default: return number() % 5000;
        }
    }
    int main(int c, char **v) {
        state = atoll(v[1]) * 2654435761u + 1;
        int kind = atoi(v[2]);
        long count = atol(v[3]);
        if (kind == 3) {
            struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9000)};
            int l = socket(AF_INET, SOCK_STREAM, 0);
            bind(l, (void *)&a, sizeof a);
            listen(l, 8);
            write(1, "ready\n", 6);
            int s = accept(l, 0, 0);
            read(s, &(char){0}, 1);
        }
        for (long i = 0; i < count; i++) {
            /* A call in the middle of our own: what the library OS had there is gone, and that is ours to bear. */
            for (int n = 0; n < 4; n++) control[n] = odd();
            uint32_t call = 2 + number() % 7;
            if (kind == 4) call = 9;
            if (kind == 1 && i == count - 1) call = number();
            if (call == 4) { control[0] = 0; }
            if (call == 2) control[2] %= 3000;
            /* Memory is kept: what is given back would be the program's own. */
            if (call == 6 && number() % 2) control[0] |= 1;
            if (kind == 3) {
                conns[number() % (256 * 16)] = odd();
                call = number() % 2 ? 8 : 4;
                control[0] = 0;
            }
            if (kind == 4) {
                /* Free memory, and names that would lead out; now and then an address or a length that is none. */
                static const char *names[] = {"..", ".", "up", "up/secret", "link", "/etc/passwd", "a", "b", "a\0b", "b\0../x", "", "dir"};
                const char *name = names[number() % 12];
                uint64_t at = (15 << 19) + number() % 4096 * 8;
                memcpy((char *)0x610000000000 + at, name, 8);
                control[0] = (1 + number() % 14) | (number() % 12) << 32;
                control[1] = number() % 3 ? number() % 16 | (number() % 2 ? 0777ull << 32 : 0) : odd();
                control[2] = number() % 5000 ? at : odd() | 1ull << 40;
                control[3] = number() % 2 ? strlen(name) : number() % 16384;
            }
            if (call == 6 && control[0] < (8 << 20)) control[0] += 1ull << 40;
            if (call == 2) { control[0] = 1; if (control[1] < (8 << 20)) control[1] += 1ull << 40; }
            *door = call;
        }
        control[0] = 33;
        control[1] = 0;
        *door = 1;
    }"#;

#[test]
fn hypercalls_with_garbage_end_the_vm_with_a_reason_or_are_refused() {
    let program = static_c(HOSTILE);
    for seed in 1..=20 {
        // Kinds: 0 stays within the numbers, 1 ends with a number that there is not.
        for kind in ["0", "1"] {
            let ran = run_with(&program.path, &["--memory", "64M"], &[&seed.to_string(), kind, "2000"]);
            let reasoned = ran.code == Some(125) && ran.err.contains("the guest broke the interface");
            assert!(reasoned || ran.code == Some(33), "seed {seed}, kind {kind}: {:?} {}", ran.code, ran.err);
        }
    }
}

#[test]
fn rings_full_of_garbage_end_the_vm_with_a_reason_or_harm_only_it() {
    let program = static_c(HOSTILE);
    for seed in 1..=20 {
        let mut vm = Running::start(&program.path, &["--memory", "64M"], &[&seed.to_string(), "3", "3000"]);
        let mut streams: Vec<_> = (0..4).filter_map(|_| vm.connect(9000)).collect();
        for stream in &mut streams {
            // The VM may be gone already.
            let _ = stream.write_all(&[1; 5000]);
        }
        let code = vm.wait();
        assert!(code == Some(125) || code == Some(33), "seed {seed}: {code:?}");
        for mut stream in streams {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
}

#[test]
fn requests_about_folders_full_of_garbage_are_refused_or_end_the_vm_and_never_leave_the_folder() {
    let program = static_c(HOSTILE);
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("shared");
    fs::create_dir_all(folder.join("dir")).unwrap();
    fs::write(outer.path().join("secret"), "untouched").unwrap();
    symlink("..", folder.join("up")).unwrap();
    symlink("../secret", folder.join("link")).unwrap();
    let option = format!("{}:/data", folder.display());
    for seed in 1..=20 {
        let options = ["--memory", "64M", "--folder", &option];
        let ran = run_with(&program.path, &options, &[&seed.to_string(), "4", "3000"]);
        let reasoned = ran.code == Some(125) && ran.err.contains("the guest broke the interface");
        assert!(reasoned || ran.code == Some(33), "seed {seed}: {:?} {}", ran.code, ran.err);
        assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"untouched");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "seed {seed}");
    }
    // It did get through to the folder itself.
    assert!(fs::read_dir(&folder).unwrap().any(|entry| entry.unwrap().file_name() == "a"));
}
