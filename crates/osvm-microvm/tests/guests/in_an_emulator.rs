//! Debian's kernel in QEMU, which acts the processor: a boot takes some seconds, so one guest serves many checks.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use osvm_agent::{Code, End, Exec, Request, host};
use osvm_microvm::{
    Config, Driver, Error, Isolation, Machine, Qemu, READY_TIMEOUT, SHUTDOWN_TIMEOUT,
    initramfs::{self, Archive, Layer},
    kernel::{Kernel, WANTED},
};

use crate::support::{compiled, drop_leaves_nothing, echoed, nothing_is_left, pattern, told, tools};

const SOON: Duration = Duration::from_secs(60);
const TOOL: &str = "/bin/tool";

/// A root with the agent, the modules, and one program.
fn initrd(dir: &Path) -> PathBuf {
    let image = dir.join("image.cpio");
    let mut archive = Archive::new(fs::File::create(&image).unwrap());
    archive.folder("bin").unwrap();
    archive.copy("bin/tool", 0o755, &compiled("tool", &[])).unwrap();
    archive.finish().unwrap();
    let to = dir.join("initrd");
    let modules = kernel().modules(&WANTED).unwrap();
    initramfs::build(
        &mut fs::File::create(&to).unwrap(),
        &tools().join("osvm-guest-agent"),
        &modules,
        &[Layer { path: image, sha256: None }],
    )
    .unwrap();
    to
}

fn kernel() -> Kernel {
    Kernel::unpacked(&tools().join("kernel")).unwrap()
}

fn config(root: &Path, name: &str) -> Config {
    Config {
        root: root.to_owned(),
        name: name.to_owned(),
        kernel: kernel().image,
        initrd: Some(initrd(root)),
        command_line: osvm_microvm::COMMAND_LINE.to_owned(),
        memory_mib: 384,
        cpus: 1,
    }
}

fn driver() -> Qemu {
    Qemu::find(Some(&tools())).unwrap()
}

fn booted(config: &Config) -> Machine {
    let mut machine = driver().start(config).unwrap_or_else(|error| panic!("{}", told(&error)));
    let took = machine.wait_ready(READY_TIMEOUT).unwrap_or_else(|error| panic!("{}", told(&error)));
    println!("ready after {took:?}");
    machine
}

fn tool(args: &[&str]) -> Exec {
    let argv = std::iter::once(TOOL).chain(args.iter().copied()).map(str::to_owned).collect();
    Exec { argv, env: BTreeMap::new(), cwd: PathBuf::from("/") }
}

fn run(machine: &Machine, program: Exec, input: &[u8]) -> (End, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let stream = machine.agent().unwrap();
    let end = host::exec(&stream, program, Cursor::new(input.to_vec()), &mut out, &mut err, |_| {}).unwrap();
    (end, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Starts a program that goes on, and returns once it wrote its first line; with its number, and its end to come.
fn started(machine: &Machine, program: Exec) -> (u64, mpsc::Receiver<Result<End, osvm_agent::Error>>) {
    struct FirstLine(mpsc::Sender<()>);
    impl Write for FirstLine {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let stream = machine.agent().unwrap();
    let (number_in, number) = mpsc::channel();
    let (line_in, line) = mpsc::channel();
    let (end_in, end) = mpsc::channel();
    thread::spawn(move || {
        let (never, _keep) = std::io::pipe().unwrap();
        let number = |exec| number_in.send(exec).unwrap();
        let mut out = FirstLine(line_in);
        let _ = end_in.send(host::exec(&stream, program, never, &mut out, &mut std::io::sink(), number));
    });
    line.recv_timeout(SOON).unwrap();
    (number.recv_timeout(SOON).unwrap(), end)
}

#[test]
fn a_linux_guest_runs_programs_takes_and_gives_files_forwards_ports_and_ends() {
    let root = tempfile::tempdir().unwrap();
    let mut machine = booted(&config(root.path(), "linux"));
    assert!(machine.describe().starts_with("microvm on QEMU, emulation (TCG), no hardware isolation;"));
    assert_eq!(driver().isolation(), Isolation::Emulation);

    let info = host::info(&machine.agent().unwrap()).unwrap();
    assert_eq!(info.kernel, kernel().release);
    println!("kernel {} to ready in {} ms by its own clock", info.kernel, info.ready_ms);

    let (end, out, err) = run(&machine, tool(&["copy", "7"]), b"given");
    assert_eq!((end, out.as_str(), err.as_str()), (End::Code(7), "given", "copied 5\n"));
    let mut program = tool(&["where"]);
    program.cwd = PathBuf::from("/tmp");
    program.env.insert("ONE".to_owned(), "1".to_owned());
    assert_eq!(run(&machine, program, b"").1, "/tmp ONE=1\n");
    let gone = Exec { argv: vec!["/bin/gone".to_owned()], ..tool(&[]) };
    let refused =
        host::exec(&machine.agent().unwrap(), gone, std::io::empty(), &mut Vec::new(), &mut Vec::new(), |_| {});
    assert!(matches!(refused, Err(osvm_agent::Error::Refused(failure)) if failure.code == Code::Missing));

    let (number, end) = started(&machine, tool(&["wait"]));
    host::done(&machine.agent().unwrap(), &Request::Signal { exec: number, signal: 15 }).unwrap();
    assert_eq!(end.recv_timeout(SOON).unwrap().unwrap(), End::Signal(15));

    files(&machine);
    ports(&machine);
    full_disk(&machine);

    machine.pause().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", machine.pid())).unwrap();
    assert!(stat.contains(") T "), "{stat}");
    machine.resume().unwrap();
    let round = Instant::now();
    host::info(&machine.agent().unwrap()).unwrap();
    println!("connection and answer: {:?}", round.elapsed());

    let pids = machine.pids();
    machine.shut_down(SHUTDOWN_TIMEOUT).unwrap();
    nothing_is_left(root.path(), &pids);
}

/// 64 MiB in, summed inside, and out again.
fn files(machine: &Machine) {
    let bytes = pattern(64 << 20);
    let path = Path::new("/tmp/large");
    let began = Instant::now();
    host::write(&machine.agent().unwrap(), path, 0o640, bytes.len() as u64, bytes.as_slice()).unwrap();
    println!("64 MiB in: {:?}", began.elapsed());
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(run(machine, tool(&["sum", "/tmp/large"]), b"").1, format!("{sum:016x}\n"));
    let mut back = Vec::with_capacity(bytes.len());
    let began = Instant::now();
    assert_eq!(host::read(&machine.agent().unwrap(), path, &mut back).unwrap(), 0o640);
    println!("64 MiB out: {:?}", began.elapsed());
    assert!(back == bytes);
}

/// A TCP port inside, over several connections.
fn ports(machine: &Machine) {
    let (number, end) = started(machine, tool(&["echo", "7777"]));
    let forward = || -> UnixStream {
        let stream = machine.agent().unwrap();
        host::done(&stream, &Request::Forward { port: 7777 }).unwrap();
        stream
    };
    let bytes = pattern(1 << 20);
    let (one, two) = (forward(), forward());
    assert!(echoed(&one, &bytes) == bytes && echoed(&two, b"two") == b"two");
    let closed = host::done(&machine.agent().unwrap(), &Request::Forward { port: 7778 });
    assert!(matches!(closed, Err(osvm_agent::Error::Refused(failure)) if failure.code == Code::Missing));
    host::done(&machine.agent().unwrap(), &Request::Signal { exec: number, signal: 9 }).unwrap();
    assert_eq!(end.recv_timeout(SOON).unwrap().unwrap(), End::Signal(9));
}

/// A disk without room refuses a file and keeps none of it; with room again it takes it.
fn full_disk(machine: &Machine) {
    const NO_SPACE: &str = "28\n";
    assert_eq!(run(machine, tool(&["fill", "/tmp/fill"]), b"").1, NO_SPACE);
    let path = Path::new("/tmp/one-more");
    let bytes = pattern(1 << 20);
    let write = || host::write(&machine.agent().unwrap(), path, 0o600, bytes.len() as u64, bytes.as_slice());
    let refused = write();
    assert!(matches!(&refused, Err(osvm_agent::Error::Refused(failure)) if failure.code == Code::Full), "{refused:?}");
    assert_eq!(run(machine, tool(&["remove", "/tmp/fill"]), b"").0, End::Code(0));
    write().unwrap();
}

#[test]
fn a_panic_in_the_guest_is_told_with_the_consoles_last_lines() {
    let root = tempfile::tempdir().unwrap();
    let mut machine = booted(&config(root.path(), "panic"));
    let stream = machine.agent().unwrap();
    let ended = host::exec(&stream, tool(&["panic"]), std::io::empty(), &mut Vec::new(), &mut Vec::new(), |_| {});
    assert!(ended.is_err());
    assert!(machine.wait(SOON).unwrap().is_some());
    let why = machine.why_it_ended();
    let Error::Panicked { console } = &why else { panic!("{}", told(&why)) };
    assert!(console.iter().any(|line| line.contains("Kernel panic - not syncing: sysrq")), "{console:?}");
    drop_leaves_nothing(root.path(), machine);
}

#[test]
fn what_cannot_boot_and_who_is_killed_is_told_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let good = config(root.path(), "bad");
    let text = root.path().join("text");
    fs::write(&text, "no kernel\n".repeat(1000)).unwrap();
    // QEMU looks at a kernel before or after it opens its control socket: either way it says why.
    let wrong =
        driver().start(&Config { kernel: text, ..good.clone() }).and_then(|mut machine| machine.wait_ready(SOON));
    let told_by_qemu = told(&wrong.unwrap_err());
    assert!(told_by_qemu.contains("kernel"), "{told_by_qemu}");
    nothing_is_left(root.path(), &[]);

    let mut machine = driver().start(&good).unwrap();
    let early = machine.wait_ready(Duration::from_millis(50));
    assert!(matches!(early, Err(Error::NotReady { .. })), "{early:?}");
    assert!(Command::new("kill").args(["-9", &machine.pid().to_string()]).status().unwrap().success());
    let killed = machine.wait_ready(SOON).unwrap_err();
    assert!(matches!(&killed, Error::Ended { status, .. } if status.contains("signal: 9")), "{}", told(&killed));
    drop_leaves_nothing(root.path(), machine);
}
