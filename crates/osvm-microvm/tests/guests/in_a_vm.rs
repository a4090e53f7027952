//! The real Firecracker under KVM, with a guest that has no operating system: see `echo.rs`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use osvm_microvm::{Config, Driver, Error, Firecracker, Machine, Snapshot, living};

use crate::support::{compiled, drop_leaves_nothing, echoed, nothing_is_left, pattern, told, tools};

const ECHO: u32 = 7;
const RESET: u32 = 9;
const SOON: Duration = Duration::from_secs(20);
const MEMORY_MIB: u32 = 24;
/// Of the VMM beside the guest's memory, as Firecracker promises.
const MOST_OVERHEAD_KIB: u64 = 5 << 10;

fn guest() -> PathBuf {
    let script = format!(
        "-Clink-arg=-Wl,-T,{},-z,norelro,--gc-sections,--build-id=none",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/link.ld").display()
    );
    let args = [
        "-Crelocation-model=static",
        "-Clink-arg=-nostartfiles",
        "-Clink-arg=-nostdlib",
        "-Clink-arg=-static",
        "-Clink-arg=-no-pie",
        &script,
    ];
    compiled("echo", &args)
}

fn config(root: &Path, name: &str) -> Config {
    Config {
        root: root.to_owned(),
        name: name.to_owned(),
        kernel: guest(),
        initrd: None,
        command_line: "osvm=test".to_owned(),
        memory_mib: MEMORY_MIB,
        cpus: 1,
    }
}

fn driver() -> Firecracker {
    Firecracker::find(Some(&tools())).unwrap()
}

fn started(root: &Path, name: &str) -> Machine {
    let mut machine = driver().start(&config(root, name)).unwrap_or_else(|error| panic!("{}", told(&error)));
    machine.wait_ready(SOON).unwrap_or_else(|error| panic!("{}", told(&error)));
    machine
}

#[test]
fn a_guest_says_that_it_is_ready_echoes_and_ends() {
    let root = tempfile::tempdir().unwrap();
    let mut machine = started(root.path(), "echo");
    let line = machine.describe();
    assert!(line.starts_with("microvm on Firecracker, "), "{line}");
    assert_eq!(
        line.contains("hardware isolation (KVM)"),
        osvm_microvm::kvm() == Some(osvm_microvm::Isolation::Hardware)
    );
    let stream = machine.connect(ECHO).unwrap();
    let bytes = pattern(1 << 20);
    assert!(echoed(&stream, &bytes) == bytes);
    assert!(machine.console().holds("guest: ready"));
    let refused = machine.connect(8).unwrap_err();
    assert!(told(&refused).contains("nobody listens on port 8"), "{}", told(&refused));
    // The guest answers nothing on this port: it resets.
    assert!(machine.connect(RESET).is_err());
    assert!(machine.wait(SOON).unwrap().unwrap().success());
    drop_leaves_nothing(root.path(), machine);
}

#[test]
fn a_paused_guest_stands_still_and_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let mut machine = started(root.path(), "pause");
    let stream = machine.connect(ECHO).unwrap();
    machine.pause().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    std::io::Write::write_all(&mut &stream, b"x").unwrap();
    let mut byte = [0];
    assert!(std::io::Read::read(&mut &stream, &mut byte).is_err(), "a paused guest answered");
    machine.resume().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!((std::io::Read::read(&mut &stream, &mut byte).unwrap(), byte), (1, *b"x"));
    drop_leaves_nothing(root.path(), machine);
}

#[test]
fn a_snapshot_restores_twice_under_names_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let saved = tempfile::tempdir().unwrap();
    let snapshot = Snapshot { state: saved.path().join("state"), memory: saved.path().join("memory") };
    let mut machine = started(root.path(), "first");
    assert!(matches!(machine.snapshot(&snapshot), Err(Error::Refused { .. })), "a guest that runs cannot be saved");
    machine.pause().unwrap();
    machine.snapshot(&snapshot).unwrap();
    drop_leaves_nothing(root.path(), machine);
    let driver = driver();
    let mut both: Vec<Machine> = ["second", "third"]
        .iter()
        .map(|name| driver.restore(root.path(), name, &snapshot).unwrap_or_else(|error| panic!("{}", told(&error))))
        .collect();
    for machine in &mut both {
        let took = machine.wait_ready(SOON).unwrap();
        println!("restored and ready in {took:?}");
        let bytes = pattern(100_000);
        assert!(echoed(&machine.connect(ECHO).unwrap(), &bytes) == bytes);
    }
    let pids: Vec<u32> = both.iter().flat_map(Machine::pids).collect();
    drop(both);
    nothing_is_left(root.path(), &pids);
    // A state that was changed is refused by its checksum, and nothing is left of the try.
    let mut state = fs::read(&snapshot.state).unwrap();
    let middle = state.len() / 2;
    state[middle] ^= 0xff;
    fs::remove_file(&snapshot.state).unwrap();
    fs::write(&snapshot.state, state).unwrap();
    let refused = driver.restore(root.path(), "fourth", &snapshot).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{}", told(&refused));
    nothing_is_left(root.path(), &[]);
}

#[test]
fn what_cannot_be_started_is_told_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = config(root.path(), "bad");
        change(&mut config);
        driver().start(&config).unwrap_err()
    };
    let text = root.path().join("text");
    fs::write(&text, "no kernel\n".repeat(100)).unwrap();
    let wrong = refused(&|config| config.kernel = text.clone());
    assert!(
        matches!(&wrong, Error::Refused { what, said, .. } if what.contains("/actions") && said.contains("kernel")),
        "{}",
        told(&wrong)
    );
    nothing_is_left(root.path(), &[]);
    assert!(matches!(refused(&|config| config.kernel = root.path().join("none")), Error::Io { .. }));
    assert!(matches!(refused(&|config| config.memory_mib = 0), Error::Config(_)));
    assert!(matches!(refused(&|config| config.cpus = 33), Error::Config(_)));
    assert!(matches!(refused(&|config| config.command_line = "a\nb".to_owned()), Error::Config(_)));
    assert!(matches!(refused(&|config| config.name = "../up".to_owned()), Error::Name(_)));
    let _holder = started(root.path(), "bad");
    assert!(matches!(refused(&|_| {}), Error::Taken(_)));
}

#[test]
fn a_guest_that_is_never_ready_and_a_vmm_that_is_killed_are_told() {
    let root = tempfile::tempdir().unwrap();
    let mut machine = driver().start(&config(root.path(), "slow")).unwrap();
    machine.pause().unwrap();
    // It may have been quicker than the pause: then it has told so already.
    if let Err(error) = machine.wait_ready(Duration::from_millis(300)) {
        assert!(matches!(error, Error::NotReady { .. }), "{}", told(&error));
    }
    let pids = machine.pids();
    assert!(Command::new("kill").args(["-9", &machine.pid().to_string()]).status().unwrap().success());
    assert!(machine.wait(SOON).unwrap().is_some());
    let why = machine.why_it_ended();
    assert!(matches!(&why, Error::Ended { status, .. } if status.contains("signal: 9")), "{}", told(&why));
    assert!(machine.connect(ECHO).is_err());
    drop(machine);
    nothing_is_left(root.path(), &pids);
}

#[test]
fn the_vmm_is_in_a_jail_as_a_user_of_its_own() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (started(root.path(), "one"), started(root.path(), "two"));
    let user = |machine: &Machine| {
        let status = fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!((field("Seccomp:").as_str(), field("CapEff:").as_str()), ("2", "0000000000000000"));
        let inside = fs::read_dir(format!("/proc/{}/root", machine.pid())).unwrap();
        let inside: BTreeSet<String> = inside.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!inside.contains("etc") && !inside.contains("usr") && inside.contains("kernel"), "{inside:?}");
        field("Uid:").split_whitespace().next().unwrap().to_owned()
    };
    assert_ne!(user(&one), "0");
    assert_ne!(user(&one), user(&two));
}

#[test]
fn a_hundred_at_once_are_apart_and_leave_nothing() {
    const COUNT: usize = 100;
    let root = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let mut machines: Vec<Machine> = Vec::new();
    let mut times = Vec::new();
    for number in 0..COUNT {
        let mut machine = driver().start(&config(root.path(), &format!("many-{number}"))).unwrap();
        times.push(machine.wait_ready(SOON).unwrap());
        machines.push(machine);
    }
    times.sort();
    println!(
        "{COUNT} in {:?}; start to ready: median {:?}, slowest {:?}",
        began.elapsed(),
        times[COUNT / 2],
        times[COUNT - 1]
    );
    assert_eq!(living(root.path()).len(), COUNT);
    let cids: BTreeSet<u32> = machines.iter().map(Machine::cid).collect();
    assert_eq!(cids.len(), COUNT);
    // All alive: each echoes its own name, after all were started.
    let streams: Vec<_> = machines.iter().map(|machine| machine.connect(ECHO).unwrap()).collect();
    for (machine, stream) in machines.iter().zip(&streams) {
        assert_eq!(echoed(stream, machine.name().as_bytes()), machine.name().as_bytes());
    }
    let mut overhead: Vec<u64> = machines.iter().map(|machine| overhead_kib(machine.pid())).collect();
    overhead.sort_unstable();
    println!("VMM beside the guest's memory: median {} KiB, most {} KiB", overhead[COUNT / 2], overhead[COUNT - 1]);
    assert!(overhead[COUNT - 1] <= MOST_OVERHEAD_KIB, "{} KiB", overhead[COUNT - 1]);
    let pids: Vec<u32> = machines.iter().flat_map(Machine::pids).collect();
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), COUNT);
    drop(machines);
    nothing_is_left(root.path(), &pids);
}

/// Resident memory in all mappings but the guest's.
fn overhead_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut size, mut sum) = (0, 0);
    for line in text.lines() {
        let number = || line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        if line.starts_with("Size:") {
            size = number();
        } else if line.starts_with("Rss:") && size != u64::from(MEMORY_MIB) << 10 {
            sum += number();
        }
    }
    sum
}
