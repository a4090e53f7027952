//! A server on a tokio runtime of several threads, reached over hybrid vsock.

use std::{
    io::{Read, Write},
    net::Shutdown,
    time::{Duration, Instant},
};

use crate::support::{Running, example, http, static_c};

#[test]
fn an_unmodified_tokio_http_server_answers_over_hybrid_vsock() {
    let mut vm = Running::start(&example("http"), &[], &["8080"]);
    let mut stream = vm.connect(8080).unwrap();
    for _ in 0..200 {
        assert_eq!(http(&mut stream, "GET", "/hello", b""), (200, b"hello".to_vec()));
    }
    assert_eq!(http(&mut stream, "GET", "/nothing", b"").0, 404);
    let (_, body) = http(&mut stream, "GET", "/size/3000000", b"");
    assert!(body.len() == 3_000_000 && body.iter().all(|byte| *byte == b'x'));
    let bytes: Vec<u8> = (0..2_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(http(&mut stream, "POST", "/echo", &bytes) == (200, bytes.clone()));
    let began = Instant::now();
    assert_eq!(http(&mut stream, "GET", "/sleep/100", b"").1, b"slept");
    assert!((Duration::from_millis(100)..Duration::from_secs(5)).contains(&began.elapsed()));
    // A port that nobody listens on is refused, and so is one that cannot be.
    assert!(vm.connect(8081).is_none() && vm.connect(70000).is_none());
    vm.signal("TERM");
    assert_eq!(vm.wait(), Some(0));
}

#[test]
fn many_connections_at_once_each_get_their_own_bytes() {
    let vm = Running::start(&example("http"), &[], &["8080"]);
    std::thread::scope(|scope| {
        for n in 0..48u32 {
            let vm = &vm;
            scope.spawn(move || {
                let mut stream = vm.connect(8080).unwrap();
                for round in 0..20u32 {
                    let body = format!("{n} {round} ").repeat(1 + (n * round) as usize % 3000);
                    assert!(http(&mut stream, "POST", "/echo", body.as_bytes()) == (200, body.clone().into_bytes()));
                }
            });
        }
    });
    // Places are used again: more connections than there are places, one after another.
    for _ in 0..300 {
        let mut stream = vm.connect(8080).unwrap();
        assert_eq!(http(&mut stream, "GET", "/hello", b"").1, b"hello");
    }
}

#[test]
fn a_busy_program_still_takes_connections() {
    let vm = Running::start(&example("http"), &[], &["8080"]);
    let mut busy = vm.connect(8080).unwrap();
    // Some seconds in which nothing waits.
    busy.write_all(b"GET /work/1000 HTTP/1.1\r\nhost: vm\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    let mut stream = vm.connect(8080).unwrap();
    assert_eq!(http(&mut stream, "GET", "/hello", b"").1, b"hello");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    busy.set_nonblocking(true).unwrap();
    assert!(busy.read(&mut [0]).is_err(), "the work is not done yet");
}

#[test]
fn the_end_of_either_direction_reaches_the_other_side() {
    // Counts bytes until the end, says how many, and ends.
    let program = static_c(
        r#"#include <netinet/in.h>
           #include <stdio.h>
           #include <sys/socket.h>
           #include <unistd.h>
           int main() {
               struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9000)};
               int l = socket(AF_INET, SOCK_STREAM, 0);
               if (bind(l, (void *)&a, sizeof a) || listen(l, 8)) return 1;
               puts("ready");
               fflush(stdout);
               int s = accept(l, 0, 0);
               long sum = 0, n;
               static char b[70000];
               while ((n = read(s, b, sizeof b)) > 0) sum += n;
               dprintf(s, "%ld\n", sum);
               close(s);
               /* The second one is gone before it is accepted. */
               sleep(1);
               s = accept(l, 0, 0);
               n = read(s, b, sizeof b);
               return n == 0 ? 0 : 2;
           }"#,
    );
    let mut vm = Running::start(&program.path, &[], &[]);
    let mut stream = vm.connect(9000).unwrap();
    stream.write_all(&vec![7; 1_000_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "1000000\n");
    drop(vm.connect(9000).unwrap());
    assert_eq!(vm.wait(), Some(0));
}

#[test]
fn what_a_program_sent_before_it_ended_reaches_its_peer() {
    let program = static_c(
        r#"#include <netinet/in.h>
           #include <stdio.h>
           #include <string.h>
           #include <sys/socket.h>
           #include <unistd.h>
           int main() {
               struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9000)};
               int l = socket(AF_INET, SOCK_STREAM, 0);
               if (bind(l, (void *)&a, sizeof a) || listen(l, 8)) return 1;
               puts("ready");
               fflush(stdout);
               int s = accept(l, 0, 0);
               static char b[1000];
               memset(b, 7, sizeof b);
               for (int n = 0; n < 300; n++) write(s, b, sizeof b);
               return 3;
           }"#,
    );
    let mut vm = Running::start(&program.path, &[], &[]);
    let mut got = Vec::new();
    vm.connect(9000).unwrap().read_to_end(&mut got).unwrap();
    assert_eq!((got.len(), vm.wait()), (300_000, Some(3)));
}
