//! The egress proxy: what it lets through, what it refuses and tells, what it is itself, and what happens when something ends.
//!
//! Needs root. Each test runs in a network of its own (see `network`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod network;

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use network::{
    METADATA, PRIVATE, PUBLIC, PUBLIC_2, PUBLIC_6, UNIQUE_LOCAL, children, field, inside, line, name_server, run, spec,
    start, until, web,
};
use osvm_jail::{FIRST_EGRESS_ID, IDS, Mount, Spec, closure};

const PROXY: &str = "127.0.0.1:3128";

/// A request for a page, through the proxy.
fn get(url: &str) -> String {
    format!("send=GET {url} HTTP/1.1\\r\\n\\r\\n")
}

/// A request for a page, through a tunnel.
fn tunnel(target: &str) -> [String; 3] {
    let connect = format!("send=CONNECT {target} HTTP/1.1\\r\\n\\r\\n");
    [connect, "head".to_owned(), "send=GET / HTTP/1.1\\r\\n\\r\\n".to_owned()]
}

/// A page's text, or the proxy's answer, to a request by each of the three ways.
fn by_all_ways(allow: &[&str], target: &str) -> Vec<String> {
    let [connect, head, page] = tunnel(target);
    let (host, port) = target.rsplit_once(':').unwrap();
    let host = host.trim_matches(['[', ']']);
    let port: u16 = port.parse().unwrap();
    let socks = format!(
        "send=\\x05\\x01\\0\\x05\\x01\\0\\x03\\x{:02x}{host}\\x{:02x}\\x{:02x}",
        host.len(),
        port >> 8,
        port & 0xff
    );
    let mut answers = vec![
        run(allow, &[PROXY, &get(&format!("http://{target}/")), "rest"]).out,
        run(allow, &[PROXY, &connect, &head, &page, "rest"]).out,
    ];
    // A name or an IPv4 address; IPv6 has its own kind in SOCKS.
    if !host.contains(':') {
        answers.push(run(allow, &[PROXY, &socks, "read=12", &page, "rest"]).out);
    }
    answers
}

#[test]
fn a_program_reaches_what_is_allowed() {
    inside("a_program_reaches_what_is_allowed", || {
        let private = web("10.99.0.1:8080");
        let allow = ["10.99.0.1:8080"];
        for answer in by_all_ways(&allow, "10.99.0.1:8080") {
            assert!(answer.ends_with("I am 10.99.0.1:8080"), "{answer}");
        }
        assert_eq!(private.lock().unwrap().len(), 3);
        let six = format!("[{PUBLIC_6}]:80");
        let _public = (web(&format!("{PUBLIC}:80")), web(&six), web(&format!("[{UNIQUE_LOCAL}]:81")));
        for (allow, target) in [
            ("public.test:80", "public.test:80"),
            ("93.184.215.14:80", "93.184.215.14:80"),
            ("public6.test:80", "public6.test:80"),
            ("[2606:4700:0::9999]:80", &six),
            ("[fd00:99::1]:81", "[fd00:99::1]:81"),
        ] {
            for answer in by_all_ways(&[allow], target) {
                assert!(answer.contains("I am "), "{target}: {answer}");
            }
        }
        let six = ["\\x26\\x06\\x47\\0", &"\\0".repeat(10), "\\x99\\x99\\0\\x50"].concat();
        let socks = format!("send=\\x05\\x01\\0\\x05\\x01\\0\\x04{six}");
        let ran = run(&[&format!("[{PUBLIC_6}]:80")], &[PROXY, &socks, "read=12", &tunnel("")[2], "rest"]);
        assert!(ran.out.contains("I am "), "{ran:?}");
    });
}

#[test]
fn a_program_reaches_nothing_else_and_every_refusal_is_a_line() {
    inside("a_program_reaches_nothing_else_and_every_refusal_is_a_line", || {
        let targets = [
            "10.99.0.1:8080",
            "10.99.0.1:8081",
            "169.254.169.254:80",
            "93.184.215.14:80",
            "127.0.0.1:9000",
            "[fd00:99::1]:80",
        ];
        let servers = targets.map(web);
        let asked = name_server(&[("evil.test", &[&[PUBLIC]])]);
        let allow = ["10.99.0.1:8080", "public.test:8080"];
        for target in &targets[1..] {
            for answer in by_all_ways(&allow, target) {
                assert!(!answer.contains("I am"), "{target}: {answer}");
            }
            let ran = run(&allow, &[PROXY, &get(&format!("http://{target}/")), "rest"]);
            assert!(ran.out.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{ran:?}");
            let told = format!("osvm-jail: egress refused: {target}: not-allowed: it is not on the list (--allow)\n");
            assert_eq!(ran.err, told);
            // And not without the proxy either.
            assert_eq!(run(&allow, &[target]).code, Some(7), "{target}");
        }
        let ran = run(&allow, &[PROXY, &get("http://evil.test:8080/"), "rest"]);
        assert!(ran.err.contains("egress refused: evil.test:8080: not-allowed"), "{ran:?}");
        assert!(asked.lock().unwrap().is_empty(), "a name that is not on the list was looked up: {asked:?}");
        for (server, target) in servers.iter().zip(targets) {
            assert!(server.lock().unwrap().is_empty(), "{target} was reached");
        }
        // The servers are there: outside the jail they are reached.
        for target in targets {
            assert!(std::net::TcpStream::connect(target).is_ok(), "{target}");
        }
    });
}

#[test]
fn a_name_that_leads_to_an_address_that_is_not_public_is_refused() {
    inside("a_name_that_leads_to_an_address_that_is_not_public_is_refused", || {
        let private = format!("{PRIVATE}:80");
        let servers =
            [web(&private), web(&format!("{METADATA}:80")), web("127.0.0.1:80"), web(&format!("[{UNIQUE_LOCAL}]:80"))];
        let public = web(&format!("{PUBLIC}:80"));
        name_server(&[
            ("rebound.test", &[&[PRIVATE]]),
            ("mixed.test", &[&[PUBLIC, PRIVATE]]),
            ("six.test", &[&[PUBLIC, UNIQUE_LOCAL]]),
        ]);
        for (name, what) in [
            ("private", "10.99.0.1 is private"),
            ("metadata", "169.254.169.254 is metadata"),
            ("local", "127.0.0.1 is loopback"),
            ("unique", "fd00:99::1 is private"),
            ("mapped", "::ffff:10.99.0.1 is an IPv4 address in IPv6"),
            ("nat64", "64:ff9b::a63:1 is an IPv4 address in IPv6"),
            ("zero", "0.0.0.0 is unspecified"),
            ("shared", "100.64.0.1 is shared by a carrier's customers"),
            ("rebound", "10.99.0.1 is private"),
            ("mixed", "10.99.0.1 is private"),
            ("six", "fd00:99::1 is private"),
        ] {
            let target = format!("{name}.test:80");
            let ran = run(&[&target], &[PROXY, &get(&format!("http://{target}/")), "rest"]);
            assert!(ran.out.starts_with("HTTP/1.1 403 "), "{ran:?}");
            let told =
                format!("osvm-jail: egress refused: {target}: forbidden-address: {what}, and not on the list itself\n");
            assert_eq!(ran.err, told);
        }
        for server in servers {
            assert!(server.lock().unwrap().is_empty());
        }
        assert!(public.lock().unwrap().is_empty());
        // The address itself is named: then its name leads there too.
        let ran = run(&["private.test:80", &private], &[PROXY, &get("http://private.test/"), "rest"]);
        assert!(ran.out.ends_with("I am 10.99.0.1:80"), "{ran:?}");
        // With another port it is not.
        let ran = run(&["private.test:80", "10.99.0.1:81"], &[PROXY, &get("http://private.test/"), "rest"]);
        assert!(ran.err.contains("forbidden-address"), "{ran:?}");
    });
}

#[test]
fn a_name_is_looked_up_once_and_the_address_that_was_checked_is_used() {
    inside("a_name_is_looked_up_once_and_the_address_that_was_checked_is_used", || {
        let private = web(&format!("{PRIVATE}:80"));
        let _public = web(&format!("{PUBLIC}:80"));
        let asked = name_server(&[
            ("flips.test", &[&[PUBLIC], &[PRIVATE]]),
            ("cut.test", &[&[PUBLIC]]),
            ("second.test", &[&[PUBLIC_2, PUBLIC]]),
        ]);
        let allow = ["flips.test:80", "cut.test:80", "second.test:80", "nowhere.test:80"];
        let page = |name: &str| run(&allow, &[PROXY, &get(&format!("http://{name}/")), "rest"]);
        let ran = page("flips.test");
        assert!(ran.out.ends_with("I am 93.184.215.14:80"), "{ran:?}");
        assert_eq!(*asked.lock().unwrap(), ["flips.test"]);
        // Asked again, the name leads elsewhere, and is refused.
        assert!(page("FLIPS.test").err.contains("flips.test:80: forbidden-address: 10.99.0.1"));
        assert!(private.lock().unwrap().is_empty());
        // An answer that was cut off is asked for again over TCP; of two addresses the one that answers is taken.
        for name in ["cut.test", "second.test"] {
            let ran = page(name);
            assert!(ran.out.ends_with("I am 93.184.215.14:80"), "{ran:?}");
        }
        let ran = page("nowhere.test");
        assert!(ran.out.starts_with("HTTP/1.1 502 "), "{ran:?}");
        assert_eq!(ran.err, "", "a name without an address is no refusal");
    });
}

#[test]
fn what_is_no_request_is_refused_and_told() {
    inside("what_is_no_request_is_refused_and_told", || {
        let server = web(&format!("{PUBLIC}:80"));
        let allow = ["public.test:80", "93.184.215.14:80"];
        for (request, target) in [
            ("CONNECT public.test.:80 HTTP/1.1\\r\\n\\r\\n", "public.test.:80"),
            ("CONNECT user@public.test:80 HTTP/1.1\\r\\n\\r\\n", "user@public.test:80"),
            ("CONNECT 0x5d.184.215.14:80 HTTP/1.1\\r\\n\\r\\n", "0x5d.184.215.14:80"),
            ("CONNECT 0135.184.215.14:80 HTTP/1.1\\r\\n\\r\\n", "0135.184.215.14:80"),
            ("CONNECT 1572394766:80 HTTP/1.1\\r\\n\\r\\n", "1572394766:80"),
            ("CONNECT public.test:65616 HTTP/1.1\\r\\n\\r\\n", "public.test:65616"),
            ("CONNECT public%2etest:80 HTTP/1.1\\r\\n\\r\\n", "public%2etest:80"),
            ("CONNECT public.test\\0.x:80 HTTP/1.1\\r\\n\\r\\n", "-"),
            ("CONNECT public.test:80 HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n", "public.test:80"),
            ("GET http://public.test/ HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n", "http://public.test/"),
            ("GET http://public.test/ HTTP/1.1\\nHost: public.test\\n\\r\\n\\r\\n", "-"),
            ("GET / HTTP/1.1\\r\\nHost: public.test\\r\\n\\r\\n", "/"),
            (
                "POST http://public.test/ HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
                "http://public.test/",
            ),
            ("\\x16\\x03\\x01\\r\\n\\r\\n", "-"),
        ] {
            let ran = run(&allow, &[PROXY, &format!("send={request}"), "rest"]);
            assert!(ran.out.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request}: {ran:?}");
            let told = format!("osvm-jail: egress refused: {target}: bad-request: ");
            assert!(ran.err.starts_with(&told) && ran.err.lines().count() == 1, "{request}: {ran:?}");
        }
        let long = format!("send=GET http://public.test/ HTTP/1.1\\r\\nX: {}\\r\\n\\r\\n", "x".repeat(16 << 10));
        let ran = run(&allow, &[PROXY, &long, "rest"]);
        assert!(ran.out.starts_with("HTTP/1.1 400 ") && ran.err.contains("bad-request"), "{ran:?}");
        let socks = |bytes: &str| run(&allow, &[PROXY, &format!("send={bytes}"), "rest"]);
        assert_eq!(socks("\\x05\\x01\\x02").out.as_bytes(), b"\x05\xef\xbf\xbd");
        let bind = socks("\\x05\\x01\\0\\x05\\x02\\0\\x01\\x5d\\xb8\\xd7\\x0e\\0\\x50");
        assert!(bind.out.starts_with("\x05\0\x05\x07") && bind.err.contains("bad-request"), "{bind:?}");
        assert!(server.lock().unwrap().is_empty());
    });
}

#[test]
fn of_a_connection_one_request_is_passed_on_with_its_body_and_nothing_behind_it() {
    inside("of_a_connection_one_request_is_passed_on_with_its_body_and_nothing_behind_it", || {
        let server = web(&format!("{PUBLIC}:80"));
        let request = "send=POST http://public.test/a?b HTTP/1.1\\r\\nProxy-Connection: keep-alive\\r\\nContent-Length: 5\\r\\n\\r\\n\
                       helloGET http://evil.test/ HTTP/1.1\\r\\n\\r\\n";
        let ran = run(&["public.test:80"], &[PROXY, request, "rest"]);
        assert!(ran.out.ends_with("I am 93.184.215.14:80"), "{ran:?}");
        let seen = server.lock().unwrap().clone();
        let sent = "POST /a?b HTTP/1.1\r\nHost: public.test\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        assert_eq!(seen, [sent]);
    });
}

#[test]
fn each_end_of_a_tunnel_is_passed_on_by_itself() {
    inside("each_end_of_a_tunnel_is_passed_on_by_itself", || {
        const SENT: u64 = 3 << 20;
        let listener = TcpListener::bind((PUBLIC, 80)).unwrap();
        let server = thread::spawn(move || {
            // Counts what comes, and answers only behind its end.
            let (mut stream, _) = listener.accept().unwrap();
            let count = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
            write!(stream, "{count}").unwrap();
            drop(stream);
            // Ends its side first, and goes on to read.
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"first").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            (count, rest.len() as u64)
        });
        let [connect, head, _] = tunnel("public.test:80");
        let zeros = format!("zeros={SENT}");
        let ran = run(&["public.test:80"], &[PROXY, &connect, &head, &zeros, "half", "rest"]);
        assert!(ran.out.ends_with(&SENT.to_string()), "{ran:?}");
        let ran = run(&["public.test:80"], &[PROXY, &connect, &head, "rest", &zeros]);
        assert!(ran.out.ends_with("first") && ran.code == Some(0), "{ran:?}");
        assert_eq!(server.join().unwrap(), (SENT, SENT));
    });
}

fn program(file: &str, allow: &[&str], args: &[&str]) -> Option<Spec> {
    let file = PathBuf::from(file);
    if !file.exists() {
        return None;
    }
    let mut example = spec(allow, &[]);
    example.program.clone_from(&file);
    example.argv = [&[file.to_str().unwrap()], args].concat().into_iter().map(str::to_owned).collect();
    example.mounts = closure(&file, &[]).unwrap();
    Some(example)
}

#[test]
fn curl_and_python_find_the_proxy_by_themselves() {
    inside("curl_and_python_find_the_proxy_by_themselves", || {
        let _server = web(&format!("{PUBLIC}:80"));
        let allow = ["public.test:80"];
        for args in [
            &["-sS", "http://public.test/x"][..],
            &["-sS", "-p", "http://public.test/x"],
            &["-sS", "-x", "socks5h://127.0.0.1:3128", "http://public.test/x"],
            &["-sS", "-d", "body", "http://public.test/x"],
        ] {
            let spec = program("/usr/bin/curl", &allow, args).expect("this test needs curl");
            let ran = network::Ran::from(start(&spec).wait_with_output().unwrap());
            assert_eq!((ran.code, &*ran.out), (Some(0), "I am 93.184.215.14:80"), "{args:?}: {ran:?}");
        }
        let spec = program("/usr/bin/curl", &allow, &["-sS", "-f", "http://evil.test/x"]).unwrap();
        let ran = network::Ran::from(start(&spec).wait_with_output().unwrap());
        assert!(ran.code == Some(22) && ran.err.contains("egress refused: evil.test:80: not-allowed"), "{ran:?}");
        let code = "import urllib.request as r; print(r.urlopen('http://public.test/y').read().decode())";
        let Some(mut spec) = program("/usr/bin/python3", &allow, &["-S", "-c", code]) else { return };
        let library = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
        let library = library.filter(|path| path.to_string_lossy().contains("/python3"));
        spec.mounts.extend(library.map(|path| Mount {
            source: path.clone(),
            target: path,
            writable: false,
            owned: false,
        }));
        // The files that the folder covers.
        let folders: Vec<_> =
            spec.mounts.iter().filter(|mount| mount.source.is_dir()).map(|m| m.target.clone()).collect();
        spec.mounts
            .retain(|mount| mount.source.is_dir() || !folders.iter().any(|folder| mount.target.starts_with(folder)));
        let ran = network::Ran::from(start(&spec).wait_with_output().unwrap());
        assert_eq!(ran.out, "I am 93.184.215.14:80\n", "{ran:?}");
    });
}

#[test]
fn a_programs_environment_names_the_proxy_unless_it_was_set() {
    inside("a_programs_environment_names_the_proxy_unless_it_was_set", || {
        assert_eq!(run(&[], &["env"]).out, "");
        let mut example = spec(&["public.test:80"], &["env"]);
        example.env.insert("http_proxy".to_owned(), "http://other:1".to_owned());
        let ran = network::Ran::from(start(&example).wait_with_output().unwrap());
        let mut lines: Vec<_> = ran.out.lines().collect();
        lines.sort_unstable();
        let (proxy, none) = ("http://127.0.0.1:3128", "localhost,127.0.0.1,::1");
        let mut expected = vec!["http_proxy=http://other:1".to_owned()];
        expected.extend(["ALL_PROXY", "HTTPS_PROXY", "all_proxy", "https_proxy"].map(|name| format!("{name}={proxy}")));
        expected.extend(["NO_PROXY", "no_proxy"].map(|name| format!("{name}={none}")));
        expected.sort_unstable();
        assert_eq!(lines, expected);
    });
}

/// The proxy and the jail's first process of a monitor.
fn pair(monitor: u32) -> (u32, u32) {
    let mut found = (0, 0);
    let uid = |pid| field(pid, "Uid").and_then(|uid| uid.parse::<u32>().ok()).unwrap_or(0);
    until("a proxy and a jail", || {
        for child in children(monitor) {
            let is_proxy = (FIRST_EGRESS_ID..FIRST_EGRESS_ID + IDS).contains(&uid(child));
            if is_proxy { found.0 = child } else { found.1 = child }
        }
        found.0 != 0 && found.1 != 0
    });
    found
}

#[test]
fn the_proxy_has_the_network_and_nothing_else() {
    inside("the_proxy_has_the_network_and_nothing_else", || {
        let mut jail = start(&spec(&["public.test:80"], &[PROXY, "send=x", "hold"]));
        line(jail.stdout.as_mut().unwrap(), "holding");
        let (proxy, first) = pair(jail.id());
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(proxy, name).as_deref(), Some("0000000000000000"), "{name}");
        }
        assert_eq!((field(proxy, "NoNewPrivs").as_deref(), field(proxy, "Seccomp").as_deref()), (Some("1"), Some("2")));
        assert_ne!(field(proxy, "Uid"), field(first, "Uid"));
        assert_eq!(field(proxy, "Groups").as_deref(), Some(""));
        let namespace = |pid: u32, name| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        for name in ["user", "pid", "mnt", "ipc", "uts", "cgroup"] {
            assert_ne!(namespace(proxy, name), namespace(std::process::id(), name), "{name}");
            assert_ne!(namespace(proxy, name), namespace(first, name), "{name}");
        }
        assert_eq!(namespace(proxy, "net"), namespace(std::process::id(), "net"));
        assert_eq!(fs::read_dir(format!("/proc/{proxy}/root/")).unwrap().count(), 0, "its root is not empty");
        let mounts = fs::read_to_string(format!("/proc/{proxy}/mounts")).unwrap();
        assert!(mounts.lines().count() == 1 && mounts.contains(" ro,"), "{mounts}");
        for entry in fs::read_dir(format!("/proc/{proxy}/fd")).unwrap().flatten() {
            let target = fs::read_link(entry.path()).unwrap();
            let text = target.to_string_lossy().into_owned();
            let kind = ["pipe:", "socket:"].iter().any(|kind| text.starts_with(kind));
            // stderr is the test's pipe; the null device is known by its path in a mount that is gone.
            assert!(kind || text.ends_with("/null"), "{text}");
        }
        // In the jail's first process and in the program nothing of the proxy is left.
        let listener = fs::read_to_string(format!("/proc/{first}/net/tcp")).unwrap();
        assert!(listener.contains("0100007F:0C38"), "the listener is in the jail's network: {listener}");
        let sockets = fs::read_dir(format!("/proc/{first}/fd")).unwrap().flatten();
        let sockets = sockets.filter(|fd| fs::read_link(fd.path()).unwrap().to_string_lossy().starts_with("socket:"));
        assert_eq!(sockets.count(), 0);
        jail.kill().unwrap();
        jail.wait().unwrap();
    });
}

#[test]
fn the_proxy_ends_with_its_jail_and_with_its_monitor() {
    inside("the_proxy_ends_with_its_jail_and_with_its_monitor", || {
        let gone = |pid: u32| until("the end of a process", || field(pid, "State").is_none_or(|state| state == "Z"));
        for kill in ["first", "monitor", "term"] {
            let mut jail = start(&spec(&["public.test:80"], &[PROXY, "send=x", "hold"]));
            line(jail.stdout.as_mut().unwrap(), "holding");
            let (proxy, first) = pair(jail.id());
            let (pid, signal) = match kill {
                "first" => (first, "KILL"),
                "monitor" => (jail.id(), "KILL"),
                _ => (jail.id(), "TERM"),
            };
            assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
            jail.wait().unwrap();
            gone(proxy);
            gone(first);
        }
    });
}

#[test]
fn a_killed_proxy_takes_the_network_with_it_and_nothing_else() {
    inside("a_killed_proxy_takes_the_network_with_it_and_nothing_else", || {
        let mut jail = start(&spec(&["public.test:80"], &["alone"]));
        line(jail.stdout.as_mut().unwrap(), "together");
        let (proxy, _) = pair(jail.id());
        assert!(Command::new("kill").args(["-s", "KILL", &proxy.to_string()]).status().unwrap().success());
        let ran = network::Ran::from(jail.wait_with_output().unwrap());
        assert_eq!((ran.code, &*ran.out), (Some(0), "alone\n"));
        assert_eq!(ran.err, "osvm-jail: the egress proxy has ended: the program has no network any more\n");
    });
}

#[test]
fn a_proxy_that_cannot_be_confined_means_that_nothing_starts() {
    inside("a_proxy_that_cannot_be_confined_means_that_nothing_starts", || {
        // A limit under which the jail itself can be made, and the proxy's own limit cannot be set.
        let tried = |allow: &[&str]| {
            let mut spec = spec(allow, &["env"]);
            spec.limits.open_files = 64;
            spec.env.insert("RAN".to_owned(), "yes".to_owned());
            let mut command = Command::new("prlimit");
            command.args(["--nofile=256:256", "--", env!("CARGO_BIN_EXE_osvm-jail")]);
            network::Ran::from(network::start_by(command, &spec).wait_with_output().unwrap())
        };
        let ran = tried(&[]);
        assert_eq!((ran.code, &*ran.out), (Some(0), "RAN=yes\n"), "{ran:?}");
        let ran = tried(&["public.test:80"]);
        assert_eq!((ran.code, &*ran.out), (Some(3), ""), "{ran:?}");
        assert!(ran.err.contains("setting resource limits failed in the egress proxy"), "{ran:?}");
    });
}

#[test]
fn what_a_program_sent_before_it_ended_arrives_and_a_silent_tunnel_keeps_nobody_waiting() {
    inside("what_a_program_sent_before_it_ended_arrives_and_a_silent_tunnel_keeps_nobody_waiting", || {
        const SENT: u64 = 1 << 20;
        let listener = TcpListener::bind((PUBLIC, 80)).unwrap();
        let server = thread::spawn(move || {
            let (mut slow, _) = listener.accept().unwrap();
            // Longer than the program lives.
            thread::sleep(Duration::from_millis(500));
            let count = std::io::copy(&mut slow, &mut std::io::sink()).unwrap();
            let (silent, _) = listener.accept().unwrap();
            (count, silent)
        });
        let [connect, head, _] = tunnel("public.test:80");
        let ran = run(&["public.test:80"], &[PROXY, &connect, &head, &format!("zeros={SENT}")]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let began = Instant::now();
        let ran = run(&["public.test:80"], &[PROXY, &connect, &head]);
        assert!(ran.code == Some(0) && began.elapsed() < Duration::from_secs(1), "{ran:?} {:?}", began.elapsed());
        assert_eq!(server.join().unwrap().0, SENT);
    });
}

#[test]
fn more_connections_than_there_may_be_are_refused_and_told() {
    inside("more_connections_than_there_may_be_are_refused_and_told", || {
        let listener = TcpListener::bind((PUBLIC, 80)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Until the program ends it.
                thread::spawn(move || std::io::copy(&mut stream.unwrap(), &mut std::io::sink()));
            }
        });
        let ran = run(&["public.test:80"], &["many", "131", "public.test:80"]);
        let open = ran.out.lines().filter(|line| *line == "open").count();
        assert_eq!((ran.code, open), (Some(0), 128), "{ran:?}");
        assert!(ran.out.ends_with("refused\nrefused\nrefused\nagain\n"), "{ran:?}");
        let told = "osvm-jail: egress refused: -: too-many: it has as many connections as it may have\n";
        assert!(ran.err.starts_with(&told.repeat(3)), "{ran:?}");
    });
}

#[test]
fn a_request_that_does_not_arrive_is_not_waited_for() {
    inside("a_request_that_does_not_arrive_is_not_waited_for", || {
        let began = Instant::now();
        let ran = run(&["public.test:80"], &[PROXY, "send=CONNECT public.test:80 HTTP/1.1\\r\\n", "rest"]);
        let took = began.elapsed();
        assert!(ran.code == Some(0) && ran.out.is_empty(), "{ran:?}");
        assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&took), "{took:?}");
    });
}
