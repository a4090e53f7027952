//! Every call that is allowed is used by some program that was run in a jail, and the jail's first process uses what it may. Needs root,
//! python3 and node.
//!
//! `examples/escape/trace.rs` records what goes through the filters. A call that no run here needs does not belong into the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use osvm_jail::{Inbound, Mount, Spec, calls, closure};

type Calls = BTreeSet<(String, i64)>;

/// What a shell and the basic tools do.
const SHELL: &str = r#"
set -e
cd /tmp; umask 022; trap 'true' USR1; kill -USR1 $$
mkdir -p a/b; echo text > a/one; cat a/one >> a/two; cp -r a c; mv c d; ln a/one a/hard; ln -s one a/soft
ls -lR a; stat a/one; df . ; readlink -f a/soft; test -r a/one; touch -d yesterday a/one; chmod 600 a/one
dd if=/dev/zero of=zeros bs=4096 count=4 conv=fsync status=none; truncate -s 1M sparse; cp --sparse=always sparse sparse2
sort a/two | head -1 | tr a-z A-Z | tee copy | wc -c; find . -type f ! -name sums | xargs sha256sum > sums; sha256sum -c sums
mkfifo pipe; (cat pipe > out &) ; echo through > pipe; (sleep 0.3 & sleep 0.1; kill -STOP $!; kill -CONT $!; wait); timeout 5 sleep 0.01; nice -n 1 true
tar -cf all.tar a; tar -tf all.tar; tail -n 1 copy; date; id; uname -a; nproc; env; tty || true; rm -rf a d; rmdir /tmp/x 2>/dev/null || true
"#;

/// What an interpreter does for a service: files, threads, child processes, sockets, waiting.
const PYTHON: &str = r#"
import asyncio, concurrent.futures, json, mmap, os, select, shutil, signal, socket, subprocess, sys, tempfile, threading, time
os.chdir("/tmp")
with tempfile.TemporaryDirectory() as folder:
    name = os.path.join(folder, "file")
    open(name, "w").write("text")
    shutil.copytree(folder, folder + "2"); shutil.rmtree(folder + "2"); os.utime(name); os.replace(name, name + "2")
memory = mmap.mmap(-1, 4096); memory.write(b"x"); memory.close()
with concurrent.futures.ThreadPoolExecutor(4) as pool: assert sum(pool.map(len, ["a", "bc"])) == 3
assert subprocess.run([sys.executable, "-I", "-S", "-c", "print(1)"], capture_output=True).stdout == b"1\n"
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()
async def serve():
    async def answer(reader, writer):
        writer.write(await reader.readline()); await writer.drain(); writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\n"); assert await reader.readline() == b"hello\n"; writer.close(); server.close()
    await (await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", "0")).wait()
asyncio.run(serve())
poll = select.poll(); poll.register(0, select.POLLIN); poll.poll(0); select.select([0], [], [], 0)
one, two = socket.socketpair(); one.sendmsg([b"x"]); two.recvmsg(8); one.shutdown(socket.SHUT_RDWR)
child = os.fork()
if child == 0: os._exit(0)
os.waitpid(child, 0)
subprocess.run([sys.executable, "-I", "-S", "-c", "0"], start_new_session=True, check=True)
child = os.fork()
if child == 0: os.execve(os.open("/usr/bin/true", os.O_RDONLY), ["true"], {})
assert os.waitpid(child, 0)[1] == 0; time.sleep(0.001); print(json.dumps({"time": time.process_time()}))
"#;

/// What a JavaScript server does.
const NODE: &str = r#"
const http = require('http'), fs = require('fs'), { execFileSync } = require('child_process'), { Worker } = require('worker_threads');
fs.writeFileSync('/tmp/file', 'x'); fs.copyFileSync('/tmp/file', '/tmp/copy'); fs.readdirSync('/tmp'); fs.unlinkSync('/tmp/copy');
execFileSync(process.execPath, ['-e', '0']);
const watch = fs.watch('/tmp'); 
const server = http.createServer((_, answer) => answer.end('hello')).listen(0, '127.0.0.1', () => {
  http.get({ host: '127.0.0.1', port: server.address().port }, answer => {
    answer.resume().on('end', () => new Worker('0', { eval: true }).on('exit', () => { server.close(); watch.close(); process.exit(0) }));
  });
});
"#;

fn escape() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/escape")
}

/// A program among the host's own programs and libraries.
fn with_system(program: &str, args: &[&str]) -> Spec {
    let mut spec = Spec::new(program);
    spec.argv.extend(args.iter().map(|arg| (*arg).to_owned()));
    let folders = ["/usr", "/bin", "/lib", "/lib64"].map(PathBuf::from).into_iter().filter(|folder| folder.exists());
    spec.mounts =
        folders.map(|path| Mount { source: path.clone(), target: path, writable: false, owned: false }).collect();
    spec.env.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    spec.proc = true;
    spec.limits.memory = 2 << 30;
    spec
}

fn begin(spec: &Spec, record: &Path) -> Child {
    let mut command = Command::new(escape());
    command.arg("trace").arg(record).arg(env!("CARGO_BIN_EXE_osvm-jail"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(spec).unwrap()).unwrap();
    child
}

fn end(child: Child, record: &Path) -> Calls {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(record).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(who, call)| (who.to_owned(), call.parse().unwrap())).collect()
}

fn run(spec: &Spec) -> Calls {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    end(begin(spec, &record), &record)
}

/// A program that is reached through its socket: the first process joins the connections.
fn reached() -> Calls {
    const PORT: u16 = 8080;
    let folder = tempfile::tempdir().unwrap();
    let (record, socket) = (folder.path().join("record"), folder.path().join("socket"));
    let mut spec = with_system("/usr/bin/python3", &["-I", "-c"]);
    spec.argv.push(format!(
        "import signal, socket, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\ns = socket.create_server(('127.0.0.1', {PORT}))\nprint('up', flush=True)\n\
         while True:\n c, _ = s.accept(); t = c.makefile('rb').read(); time.sleep(0.1); c.sendall(t); c.close()"
    ));
    spec.network.inbound = Some(Inbound { socket: socket.clone(), port: PORT });
    let mut child = begin(&spec, &record);
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    for _ in 0..2 {
        let mut caller = UnixStream::connect(&socket).unwrap();
        caller.write_all(b"hello").unwrap();
        // The service answers after that, so the first process has one direction that ended and one that did not.
        caller.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hello");
    }
    // The monitor passes it on, and so does the first process.
    let tracer = child.id();
    let monitor = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap();
    let monitor = rustix::process::Pid::from_raw(monitor.split(' ').next().unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::TERM).unwrap();
    end(child, &record)
}

#[test]
fn each_allowed_call_is_used_by_a_program_in_a_jail() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let mut probe = Spec::new(escape());
    probe.argv = ["escape", "uses"].map(str::to_owned).to_vec();
    probe.mounts = closure(&escape(), &[]).unwrap();
    probe.proc = true;
    let runs = BTreeMap::from([
        ("the tests' own program", run(&probe)),
        ("sh", run(&with_system("/bin/sh", &["-c", SHELL]))),
        ("python3", run(&with_system("/usr/bin/python3", &["-I", "-c", PYTHON]))),
        ("node", run(&with_system("/usr/bin/node", &["-e", NODE]))),
        ("a service that is reached", reached()),
    ]);
    for (name, calls) in &runs {
        println!("{name}: {} calls", calls.iter().filter(|(who, _)| who == "service").count());
    }
    let unused = |who: &str, lists: &[&[i64]]| -> Vec<i64> {
        let used = |call: &i64| runs.values().any(|calls| calls.contains(&(who.to_owned(), *call)));
        lists.concat().into_iter().filter(|call| !used(call)).collect()
    };
    let service = unused("service", &[calls::SERVICE, calls::SERVICE_OLD]);
    let mut init = unused("init", &[calls::INIT]);
    // What it needs when its heap grows by this way, and when a signal is handled: no run here can be made to.
    init.retain(|call| ![libc::SYS_brk, libc::SYS_rt_sigreturn].contains(call));
    assert!(service.is_empty() && init.is_empty(), "nobody uses {service:?}, the first process does not use {init:?}");
}
