//! Programs of the system that people use, unmodified, in VMs. One that is not installed is left out, with a word.

use std::{fs, path::Path, process::Command};

use crate::{
    image::{in_image, libraries_below, put, python, script, tools},
    support::{Program, run, run_with},
};

/// A folder for a program that a compiler writes.
fn output(name: &str) -> Program {
    Program::empty(name)
}

#[test]
fn python_starts_processes_in_every_way_it_has() {
    let (root, program) = python();
    let shell = tools(&["dash", "cat", "sleep"]).unwrap();
    let copied = Command::new("cp").arg("-a").arg(shell.path().join(".")).arg(root.path()).status().unwrap();
    assert!(copied.success());
    put(
        &root,
        "run.py",
        r#"
import asyncio, concurrent.futures, multiprocessing, os, subprocess, sys
def square(x): return x * x
if __name__ == "__main__":
    done = subprocess.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True)
    print(done.returncode, done.stdout, done.stderr)
    print(subprocess.check_output("echo shell | cat", shell=True))
    big = subprocess.Popen(["cat"], stdin=-1, stdout=-1)
    print(big.communicate(b"x" * 300000)[0] == b"x" * 300000)
    try: subprocess.run(["sleep", "5"], timeout=0.05)
    except subprocess.TimeoutExpired: print("timeout")
    try: subprocess.run(["/nowhere"])
    except FileNotFoundError: print("not found")
    pid = os.fork()
    if pid == 0: os._exit(4)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    with multiprocessing.Pool(3) as pool: print(sum(pool.map(square, range(100))))
    with concurrent.futures.ProcessPoolExecutor(2) as pool: print(sum(pool.map(square, range(10))))
    async def main():
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        print((await child.communicate(b"async"))[0])
    asyncio.run(main())
    child = multiprocessing.get_context("spawn").Process(target=sys.exit, args=(6,))
    child.start(); child.join(); print(child.exitcode)
"#,
        0o644,
    );
    let ran = in_image(&root, &program, &["-I", "-B", "-u", "/run.py"]);
    let wanted = "3 b'out\\n' b'err\\n'\nb'shell\\n'\nTrue\ntimeout\nnot found\n4\n328350\n285\nb'async'\n6\n";
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), wanted), "{}", ran.err);
}

#[test]
fn git_makes_commits_branches_and_clones() {
    let Some(root) = tools(&["bash", "dash", "git", "cat", "sed"]) else { return };
    // Git finds its own parts by their names there.
    let core = root.path().join("usr/lib/git-core");
    fs::create_dir_all(&core).unwrap();
    for name in ["git", "git-upload-pack"] {
        std::os::unix::fs::symlink("/bin/git", core.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("git", root.path().join("bin/git-upload-pack")).unwrap();
    let ran = script(
        &root,
        "/bin/bash",
        r#"set -e
           export GIT_EXEC_PATH=/usr/lib/git-core GIT_TEMPLATE_DIR= GIT_CONFIG_NOSYSTEM=1
           git init -q /tmp/repo; cd /tmp/repo
           git config user.email a@example.org; git config user.name A
           echo one > file; git add file; git commit -qm first
           git checkout -qb other; echo two >> file; git commit -qam second
           git log --format=%s | cat
           git diff --stat HEAD~1 | sed 's/ *|.*//'
           git gc -q; git fsck --no-progress
           git clone -q /tmp/repo /tmp/copy; cat /tmp/copy/file
           git -C /tmp/copy status --short --branch"#,
    );
    let wanted = "second\nfirst\n file\n 1 file changed, 1 insertion(+)\none\ntwo\n## other...origin/other\n";
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), wanted), "{}", ran.err);
}

#[test]
fn perl_forks_pipes_and_takes_alarms() {
    let Some(root) = tools(&["perl", "dash", "sort", "cat"]) else { return };
    let ran = in_image(
        &root,
        "/bin/perl",
        &[
            "-e",
            r#"$| = 1;
               print join(" ", sort { $a <=> $b } map { $_ * 2 } 1 .. 5), "\n";
               print `echo shell | cat`;
               my $pid = fork // die; if (!$pid) { exit 7 } waitpid $pid, 0; print $? >> 8, "\n";
               open my $to, "|-", "sort" or die; print $to "b\na\n"; close $to or die;
               my %seen; $seen{$_ % 7}++ for 1 .. 1000; print scalar(keys %seen), "\n";
               $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; sleep 5;
               print "a1b22" =~ /(\d+)$/ ? "$1\n" : "no\n";"#,
        ],
    );
    let wanted = "2 4 6 8 10\nshell\n7\na\nb\n7\nalarm\n22\n";
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), wanted), "{}", ran.err);
}

#[test]
fn openssl_makes_keys_encrypts_and_speaks_tls() {
    let Some(root) = tools(&["bash", "openssl", "tail", "seq", "grep", "sleep"]) else { return };
    put(&root, "usr/lib/ssl/openssl.cnf", "[req]\ndistinguished_name = dn\n[dn]\n", 0o644);
    let ran = script(
        &root,
        "/bin/bash",
        r#"set -e
           cd /tmp
           printf abc | openssl dgst -sha256 -r | { read -r sum rest; echo ${sum:0:8}; }
           openssl ecparam -name prime256v1 -genkey -noout -out key
           openssl req -x509 -key key -subj /CN=vm -out certificate -days 1
           openssl x509 -in certificate -noout -subject
           seq 1 3000 | openssl enc -aes-256-cbc -pbkdf2 -pass pass:x | openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:x | tail -1
           openssl s_server -accept 4433 -key key -cert certificate -www > log 2>&1 &
           until echo | openssl s_client -connect 127.0.0.1:4433 > answer 2>&1; do sleep 0.02; done
           grep -c 'TLSv1.3, Cipher' answer
           kill %1; wait %1 || echo ended"#,
    );
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "ba7816bf\nsubject=CN = vm\n3000\n1\nended\n"), "{}", ran.err);
}

#[test]
fn jq_lua_sqlite_ripgrep_and_grep_do_their_work() {
    if let Some(root) = tools(&["bash", "jq"]) {
        let ran =
            script(&root, "/bin/bash", r#"echo '{"a":[1,{"b":3}]}' | jq -c '.a[1].b, (.a | length), {c: .a[0]}'"#);
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "3\n2\n{\"c\":1}\n"), "{}", ran.err);
    }
    if let Some(root) = tools(&["lua5.4", "dash"]) {
        let code = r#"local t = {} for i = 1, 1e5 do t[i] = i end print(#t, string.format("%.3f", math.pi))
                      local p = io.popen("echo shell") print(p:read("l")) p:close() print(os.execute("exit 4"))
                      print(pcall(error, "caught"))"#;
        let ran = in_image(&root, "/bin/lua5.4", &["-e", code]);
        let wanted = "100000\t3.142\nshell\nnil\texit\t4\nfalse\tcaught\n";
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), wanted), "{}", ran.err);
    }
    if let Some(root) = tools(&["sqlite3"]) {
        put(
            &root,
            "script.sql",
            "create table t (n integer primary key, s text);\n\
             with recursive c(x) as (select 1 union all select x + 1 from c where x < 5000) insert into t select x, 'row ' || x from c;\n\
             pragma journal_mode = wal;\ncreate index i on t (s);\nselect count(*), sum(n) from t where s glob 'row 4*';\n\
             begin; delete from t; rollback;\nselect max(n) from t;\npragma integrity_check;\n",
            0o644,
        );
        let ran = in_image(&root, "/bin/sqlite3", &["/tmp/base.db", ".read /script.sql"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "wal\n1111|4544899\n5000\nok\n"), "{}", ran.err);
    }
    for searcher in ["rg", "grep"] {
        let Some(root) = tools(&[searcher]) else { continue };
        for folder in ["one", "two", "two/three"] {
            let lines: String = (1..=3000).map(|n| format!("{folder} {n}\n")).collect();
            put(&root, &format!("data/{folder}/lines"), &lines, 0o644);
        }
        let args: &[&str] = if searcher == "rg" {
            &["--sort", "path", "-c", " 299[0-9]$", "/data"]
        } else {
            &["-rc", " 299[0-9]$", "/data"]
        };
        let ran = in_image(&root, &format!("/bin/{searcher}"), args);
        let mut lines: Vec<_> = ran.out.lines().collect();
        lines.sort_unstable();
        let wanted = ["/data/one/lines:10", "/data/two/lines:10", "/data/two/three/lines:10"];
        assert_eq!((ran.code, &lines[..]), (Some(0), &wanted[..]), "{}", ran.err);
    }
}

#[test]
fn a_go_program_serves_http_and_starts_processes() {
    let program = output("hello");
    let source = program.path.with_extension("go");
    fs::write(
        &source,
        r#"package main
import ("fmt"; "io"; "net"; "net/http"; "os"; "os/exec"; "sync"; "time")
func main() {
    if len(os.Args) > 1 { fmt.Print("child"); return }
    var wg sync.WaitGroup
    c, sum := make(chan int, 10), 0
    for i := 0; i < 1000; i++ { wg.Add(1); go func(i int) { defer wg.Done(); c <- i }(i) }
    go func() { wg.Wait(); close(c) }()
    for v := range c { sum += v }
    fmt.Println("sum", sum)
    l, err := net.Listen("tcp", "127.0.0.1:0")
    if err != nil { panic(err) }
    http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "path %s", r.URL.Path) })
    go http.Serve(l, nil)
    r, err := http.Get("http://" + l.Addr().String() + "/page")
    if err != nil { panic(err) }
    body, _ := io.ReadAll(r.Body)
    fmt.Println(string(body))
    began := time.Now()
    time.Sleep(20 * time.Millisecond)
    fmt.Println(time.Since(began) >= 20 * time.Millisecond)
    out, err := exec.Command("/proc/self/exe", "x").Output()
    fmt.Println(string(out), err)
}"#,
    )
    .unwrap();
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program.path)
        .arg(&source)
        .envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", "")])
        .env("GOCACHE", source.with_extension("cache"))
        .output();
    let Ok(built) = built else {
        eprintln!("left out: go is not installed");
        return;
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = run(&program);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "sum 499500\npath /page\ntrue\nchild <nil>\n"), "{}", ran.err);
}

#[test]
fn a_static_musl_program_has_threads_and_processes() {
    let program = output("musl");
    let source = program.path.with_extension("c");
    fs::write(
        &source,
        r#"#include <pthread.h>
           #include <spawn.h>
           #include <stdio.h>
           #include <stdlib.h>
           #include <sys/wait.h>
           #include <unistd.h>
           extern char **environ;
           static void *f(void *a) { return (char *)a + 1; }
           int main(int c, char **v) {
               if (c > 1) return 6;
               pthread_t t; void *r; pid_t p; int s;
               pthread_create(&t, 0, f, (void *)4), pthread_join(t, &r);
               char *args[] = {"again", "x", 0};
               if (posix_spawn(&p, "/proc/self/exe", 0, 0, args, environ)) return 1;
               waitpid(p, &s, 0);
               if (!(p = fork())) _exit(7);
               int u; waitpid(p, &u, 0);
               char *m = malloc(1 << 20); m[1 << 19] = 1; free(m);
               printf("%ld %d %d\n", (long)r, WEXITSTATUS(s), WEXITSTATUS(u));
           }"#,
    )
    .unwrap();
    let built = Command::new("musl-gcc").args(["-static", "-O1", "-w", "-o"]).arg(&program.path).arg(&source).output();
    let Ok(built) = built else {
        eprintln!("left out: musl-gcc is not installed");
        return;
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = run_with(Path::new(&program.path), &[], &[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "5 6 7\n"), "{}", ran.err);
}

#[test]
fn a_pip_installed_package_with_a_c_extension_is_imported() {
    let (root, program) = python();
    let version = Command::new("/usr/bin/python3")
        .args(["-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        .output()
        .unwrap();
    let installed = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--no-deps"])
        .args([
            "--platform",
            "manylinux2014_x86_64",
            "--python-version",
            String::from_utf8_lossy(&version.stdout).trim(),
        ])
        .arg("--target")
        .arg(root.path().join("packages"))
        .args(["jinja2==3.1.6", "markupsafe==3.0.2"])
        .output();
    match installed {
        Ok(output) if output.status.success() => {}
        other => {
            eprintln!("left out: pip cannot install: {other:?}");
            return;
        }
    }
    libraries_below(&root, "packages");
    let code = "import sys; sys.path.insert(0, '/packages')\n\
                import jinja2, markupsafe._speedups\n\
                print(jinja2.Template('{% for n in all %}<{{ n|e }}>{% endfor %}').render(all=[1, '&', 2]))";
    let ran = in_image(&root, &program, &["-I", "-B", "-c", code]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "<1><&amp;><2>\n"), "{}", ran.err);
}

#[test]
fn node_serves_http_and_starts_workers_and_processes() {
    let Some(root) = tools(&["node", "dash", "cat"]) else { return };
    put(&root, "child.js", "process.send({ answer: 42 })", 0o644);
    put(
        &root,
        "run.js",
        r#"const http = require('http'), cp = require('child_process'), fs = require('fs');
           const { Worker, isMainThread, parentPort } = require('worker_threads');
           if (!isMainThread) { parentPort.postMessage(6 * 7); return; }
           const server = http.createServer((q, r) => r.end('path ' + q.url)).listen(0, '127.0.0.1', async () => {
               const answer = await fetch(`http://127.0.0.1:${server.address().port}/page`);
               console.log(await answer.text());
               server.close(); server.closeAllConnections();
               new Worker(__filename).on('message', (m) => {
                   console.log('worker', m);
                   cp.exec('echo shell | cat', (e, out) => {
                       console.log(e, out.trim());
                       fs.writeFileSync('/tmp/file', 'text');
                       console.log(cp.execFileSync('cat', ['/tmp/file']) + '');
                       const child = cp.fork('/child.js');
                       child.on('message', (m) => { console.log('child', m.answer); child.disconnect(); });
                   });
               });
           });"#,
        0o644,
    );
    let ran = in_image(&root, "/bin/node", &["/run.js"]);
    let wanted = "path /page\nworker 42\nnull shell\ntext\nchild 42\n";
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), wanted), "{}", ran.err);
}

#[test]
fn nginx_serves_with_two_workers_and_ends_when_told() {
    let Some(root) = tools(&["bash", "nginx", "curl", "sleep"]) else { return };
    put(&root, "www/index.html", "a page\n", 0o644);
    put(&root, "var/log/nginx/none", "", 0o644);
    put(
        &root,
        "nginx.conf",
        "worker_processes 2; user root; error_log stderr; pid /tmp/pid;\n\
         events { worker_connections 64; }\n\
         http { access_log off; client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;\n\
         uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e; server { listen 8080; root /www; } }\n",
        0o644,
    );
    let ran = script(
        &root,
        "/bin/bash",
        r#"nginx -c /nginx.conf -g 'daemon off;' &
           until curl -s http://127.0.0.1:8080/; do sleep 0.02; done
           for i in 1 2 3 4 5; do curl -s -o /dev/null -o /dev/null -w '%{http_code} ' http://127.0.0.1:8080/ http://127.0.0.1:8080/none; done
           kill -QUIT $!; wait $!; echo ended $?"#,
    );
    let wanted = format!("a page\n{}ended 0\n", "200 404 ".repeat(5));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), wanted.as_str()), "{}", ran.err);
}

#[test]
fn redis_answers_and_saves_by_a_fork() {
    let Some(root) = tools(&["bash", "redis-server", "redis-cli", "sleep"]) else { return };
    let ran = script(
        &root,
        "/bin/bash",
        r#"redis-server --port 6379 --dir /tmp --save '' > /tmp/log &
           r() { redis-cli "$@"; }
           until [ "$(r ping 2>&1)" = PONG ]; do sleep 0.02; done
           r set a 41; r incr a; r eval 'return redis.call("get", KEYS[1]) * 2' 1 a
           r bgsave
           while [[ $(r info persistence) == *rdb_bgsave_in_progress:1* ]]; do sleep 0.02; done
           [[ $(r info persistence) == *rdb_last_bgsave_status:ok* ]] && [ -s /tmp/dump.rdb ] && echo saved
           r shutdown nosave; wait; echo ended"#,
    );
    let wanted = "OK\n42\n84\nBackground saving started\nsaved\nended\n";
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), wanted), "{}", ran.err);
}
