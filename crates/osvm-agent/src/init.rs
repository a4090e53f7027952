//! Process 1 of the guest: modules, mounts, the server as a child, every orphan's end, and at last the machine's reset.
//!
//! The server is a process of its own so that waiting for any child here takes no end of a program away from it.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Command, ExitCode},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid as NixPid,
};
use rustix::{
    fs::sync,
    io::Errno,
    mount::{MountFlags, mount},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
    process::{Pid, WaitOptions, WaitStatus, getpid, wait},
    system::{RebootCommand, finit_module, reboot},
};

/// Lists the modules to load, one path a line, in this order. Without it none are loaded.
pub const MODULES: &str = "/etc/osvm/modules";
/// What the console says before the reason when the agent itself fails.
pub const FAILED: &str = "osvm-agent: failed: ";

/// What is mounted: type and place.
const MOUNTS: [(&str, &str); 5] =
    [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp")];

/// Whether this process is process 1.
pub fn is_init() -> bool {
    getpid() == Pid::INIT
}

/// Does all of it and resets the machine. Returns only if this is not process 1, or the machine cannot be reset.
pub fn run() -> ExitCode {
    if !is_init() {
        eprintln!("{FAILED}only process 1 of a guest is its init");
        return ExitCode::FAILURE;
    }
    if let Err(reason) = serve() {
        eprintln!("{FAILED}{reason}");
    }
    // Every process but this one; there may be none.
    let _ = kill(NixPid::from_raw(-1), Signal::SIGKILL);
    sync();
    // Firecracker and `qemu -no-reboot` end at a reset; neither ends when the guest merely halts.
    if let Err(error) = reboot(RebootCommand::Restart) {
        eprintln!("{FAILED}cannot reset the machine: {error}");
    }
    ExitCode::FAILURE
}

/// Until the server ended.
fn serve() -> Result<(), String> {
    for (kind, place) in MOUNTS {
        mounted(kind, place).map_err(|error| format!("cannot mount {kind} on {place}: {error}"))?;
    }
    loopback().map_err(|error| format!("cannot bring up the loopback: {error}"))?;
    modules().map_err(|(module, error)| format!("cannot load {module}: {error}"))?;
    let server = Command::new("/proc/self/exe").arg("vsock").spawn();
    let server = server.map_err(|error| format!("cannot start the server: {error}"))?;
    let server = Pid::from_child(&server);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == server => return ended(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("cannot wait for the server: {error}")),
        }
    }
}

fn ended(status: WaitStatus) -> Result<(), String> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("the server ended with {code}")),
        (None, signal) => Err(format!("the server was ended by signal {}", signal.unwrap_or_default())),
    }
}

fn mounted(kind: &str, place: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    match mount(kind, place, kind, MountFlags::NOSUID, None) {
        // The kernel may have mounted its own devices.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sets the first interface up, by one message over netlink; the kernel gives it 127.0.0.1 and ::1 by itself.
fn loopback() -> io::Result<()> {
    const REQUEST: LinkUp = LinkUp { kind: 16, flags: 0x5, index: 1, up: 1 };
    // Without a protocol it is the first one, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &REQUEST.bytes(), SendFlags::empty())?;
    let mut answer = [0; 256];
    let (got, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // The answer's header is 16 bytes; the error, negative, comes behind it.
    let error = answer.get(..got).and_then(|answer| answer.get(16..20)).and_then(|error| error.try_into().ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A `RTM_NEWLINK` with `NLM_F_REQUEST` and `NLM_F_ACK`: a `nlmsghdr` and an `ifinfomsg`.
struct LinkUp {
    kind: u16,
    flags: u16,
    index: i32,
    up: u32,
}

impl LinkUp {
    const LENGTH: u32 = 32;

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend(Self::LENGTH.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        // Its number, its sender, then family, padding and type of the interface: none of them matters here.
        bytes.extend([0; 12]);
        bytes.extend(self.index.to_ne_bytes());
        bytes.extend(self.up.to_ne_bytes());
        bytes.extend(self.up.to_ne_bytes());
        bytes
    }
}

fn modules() -> Result<(), (String, io::Error)> {
    let list = match fs::read_to_string(MODULES) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err((MODULES.to_owned(), error)),
    };
    for path in list.lines().filter(|line| !line.is_empty()) {
        let loaded = File::open(Path::new(path)).and_then(|file| match finit_module(&file, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        });
        loaded.map_err(|error| (path.to_owned(), error))?;
    }
    Ok(())
}
