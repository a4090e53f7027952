//! `osvm microvm` as a user has it, with QEMU.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use osvm_microvm::{Config, Driver, Qemu, READY_TIMEOUT, kernel::Kernel};

use crate::support::{compiled, nothing_is_left, tools};

fn command(state: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-microvm"));
    command.args(args).env("OSVM_HOME", state).env("OSVM_MICROVM_TOOLS", tools()).stdin(Stdio::null());
    command
}

fn done(state: &Path, args: &[&str]) -> Output {
    command(state, args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_kernel_and_a_folder_become_a_guest_that_runs_a_program() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    let run = ["run", "--driver", "qemu", "--image", "tool", "--name", "one"];
    let with = |more: &[&'static str]| [&run[..], more].concat();

    let none = done(state, &with(&["--", "/bin/tool", "wait"]));
    assert_eq!(
        (none.status.code(), err(&none).contains("osvm microvm image build")),
        (Some(3), true),
        "{}",
        err(&none)
    );
    let from = state.join("from");
    fs::create_dir_all(from.join("bin")).unwrap();
    fs::copy(compiled("tool", &[]), from.join("bin/tool")).unwrap();
    fs::set_permissions(from.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    let built = done(state, &["image", "build", from.to_str().unwrap(), "--name", "tool"]);
    assert!(built.status.success() && out(&built).starts_with("tool sha256:"), "{}", err(&built));
    let none = done(state, &with(&["--", "/bin/tool", "wait"]));
    assert_eq!(
        (none.status.code(), err(&none).contains("osvm microvm kernel install")),
        (Some(3), true),
        "{}",
        err(&none)
    );
    let package = tools().join("kernel.deb");
    let installed = done(state, &["kernel", "install", package.to_str().unwrap()]);
    assert!(installed.status.success(), "{}", err(&installed));

    let refused = done(state, &with(&["--require-hardware", "--", "/bin/tool", "wait"]));
    assert_eq!(refused.status.code(), Some(3));
    assert!(err(&refused).contains("emulation (TCG), no hardware isolation is all there is"), "{}", err(&refused));

    // One guest: a program that goes on, a second one beside it, files both ways, and a signal that ends it.
    let mut first =
        command(state, &with(&["--", "tool", "wait"])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    if line != "waiting\n" {
        panic!("{}", err(&first.wait_with_output().unwrap()));
    }
    assert!(out(&done(state, &["ls"])).contains("microvm on QEMU, emulation (TCG), no hardware isolation"));
    let taken = done(state, &with(&["--", "tool", "wait"]));
    assert!(err(&taken).contains("a microVM one runs already"), "{}", err(&taken));
    let mut copy = command(state, &["exec", "one", "--", "tool", "copy", "9"]);
    let mut copy = copy.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    copy.stdin.take().unwrap().write_all(b"some text").unwrap();
    let copied = copy.wait_with_output().unwrap();
    assert_eq!(
        (copied.status.code(), out(&copied).as_str(), err(&copied).as_str()),
        (Some(9), "some text", "copied 9\n")
    );
    let gone = done(state, &["exec", "one", "--", "gone"]);
    assert_eq!(gone.status.code(), Some(127), "{}", err(&gone));
    let (there, back) = (from.join("bin/tool"), state.join("back"));
    let (there, back) = (there.to_str().unwrap(), back.to_str().unwrap());
    assert!(done(state, &["cp", there, "one:/tmp/copy"]).status.success());
    assert!(done(state, &["cp", "one:/tmp/copy", back]).status.success());
    assert!(fs::read(there).unwrap() == fs::read(back).unwrap());
    assert_eq!(fs::metadata(back).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(Command::new("kill").args(["-TERM", &first.id().to_string()]).status().unwrap().success());
    let ended = first.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(128 + 15), "{}", err(&ended));
    assert!(err(&ended).contains("one: microvm on QEMU, emulation (TCG), no hardware isolation;"), "{}", err(&ended));
    assert!(err(&ended).contains(", ready in "), "{}", err(&ended));

    nothing_is_left(&state.join("microvm"), &[]);
    let left: Vec<_> = fs::read_dir(state.join("microvm")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    a_killed_owner_takes_its_guest_along(state, &with(&["--", "tool", "wait"]));
    the_elf_boots_and_a_changed_one_is_refused(&state.join("microvm"));
}

/// The guest need not be ready: its processes are there.
fn a_killed_owner_takes_its_guest_along(state: &Path, run: &[&str]) {
    let mut owner = command(state, run).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("microvm on QEMU"), "{line}");
    let vms = state.join("microvm/vms");
    let guest = fs::read_dir(&vms).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(guest.join("processes")).unwrap();
    let ends: Vec<_> = text
        .lines()
        .map(|line| Pid::from_raw(line.split_once(' ').unwrap().0.parse().unwrap()).unwrap())
        .map(|pid| pidfd_open(pid, PidfdFlags::empty()).unwrap())
        .collect();
    assert_eq!(ends.len(), 2, "{text}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    let soon = Timespec { tv_sec: 20, tv_nsec: 0 };
    for end in &ends {
        assert_eq!(poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&soon)), Ok(1), "it lives on");
    }
    assert_eq!(out(&done(state, &["ls"])), "");
    assert!(guest.exists());
    drop(osvm_microvm::Place::claim(&state.join("microvm"), "next").unwrap());
    nothing_is_left(&state.join("microvm"), &[]);
}

/// What Firecracker gets. Here QEMU boots it, by the entry for PVH.
fn the_elf_boots_and_a_changed_one_is_refused(root: &Path) {
    let kernel = Kernel::installed(root).unwrap();
    let agent = tools().join("osvm-guest-agent");
    let (mut file, initrd) = osvm_microvm::initramfs::unnamed(root).unwrap();
    let modules = kernel.modules(&osvm_microvm::kernel::WANTED).unwrap();
    osvm_microvm::initramfs::build(&mut file, &agent, &modules, &[]).unwrap();
    let config = Config {
        root: root.to_owned(),
        name: "elf".to_owned(),
        kernel: kernel.elf.clone(),
        initrd: Some(initrd),
        command_line: osvm_microvm::COMMAND_LINE.to_owned(),
        memory_mib: 256,
        cpus: 1,
    };
    let mut machine = Qemu::find(Some(&tools())).unwrap().start(&config).unwrap();
    machine.wait_ready(READY_TIMEOUT).unwrap();
    drop(machine);
    let mut bytes = fs::read(&kernel.elf).unwrap();
    bytes[1000] ^= 1;
    fs::write(&kernel.elf, bytes).unwrap();
    assert!(matches!(Kernel::installed(root), Err(osvm_microvm::Error::Digest { .. })));
}
