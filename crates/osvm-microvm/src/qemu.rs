//! QEMU: a PC under software emulation, which boots any Linux anywhere. Its vsock is `vhost-device-vsock`, a process beside it.
//!
//! Emulation only: on hardware KVM, Firecracker is the driver. QEMU's own seccomp filter is on.

use std::{
    fs::{self, File},
    io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};

use crate::{
    child::{Own, dying_with_us},
    console::Console,
    error::{self, Error},
    find::program,
    place::Place,
    vm::{Config, Control, Driver, Isolation, Machine, Parts, Snapshot, log_tail, ready_path},
};

const NAME: &str = "QEMU";
/// How long the helper may take to make its socket.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(20);
/// No new processes, no more powers, no system calls that nobody needs any more.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The driver.
#[derive(Clone, Debug)]
pub struct Qemu {
    qemu: PathBuf,
    vsock: PathBuf,
}

impl Qemu {
    /// Looks for both programs, in `tools` before `PATH`.
    pub fn find(tools: Option<&Path>) -> Result<Self, Error> {
        Ok(Self {
            qemu: program(tools, "qemu-system-x86_64", "install it: apt install qemu-system-x86")?,
            vsock: program(
                tools,
                "vhost-device-vsock",
                "install it: cargo install --locked vhost-device-vsock --version 0.3.0",
            )?,
        })
    }

    fn arguments(config: &Config) -> Vec<String> {
        let mut args: Vec<String> = [
            "-nodefaults -no-user-config -no-reboot -display none -accel tcg -cpu max",
            "-machine pc,memory-backend=memory -chardev stdio,id=console,signal=off -serial chardev:console",
            "-monitor none",
            "-chardev socket,id=vsock,path=vhost.sock -device vhost-user-vsock-pci,chardev=vsock",
        ]
        .iter()
        .flat_map(|line| line.split(' ').map(str::to_owned))
        .collect();
        let mut more = |name: &str, value: String| args.extend([name.to_owned(), value]);
        more("-sandbox", SANDBOX.to_owned());
        more("-object", format!("memory-backend-memfd,id=memory,size={}M,share=on", config.memory_mib));
        more("-m", format!("{}M", config.memory_mib));
        more("-smp", config.cpus.to_string());
        more("-kernel", config.kernel.display().to_string());
        if let Some(initrd) = &config.initrd {
            more("-initrd", initrd.display().to_string());
        }
        more("-append", config.command_line.clone());
        args
    }

    fn vsock_daemon(&self, place: &Place, vsock: &Path) -> Result<Own, Error> {
        let dir = &place.dir;
        let (log, socket) = (dir.join("vsock.log"), dir.join("vhost.sock"));
        let file = File::create(&log).map_err(error::io("make", &log))?;
        let mut daemon = dying_with_us(&self.vsock);
        daemon.arg(format!("--guest-cid={}", place.cid)).arg(format!("--socket={}", socket.display()));
        daemon.arg(format!("--uds-path={}", vsock.display())).current_dir(dir);
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut daemon = Own::spawn(&mut daemon).map_err(error::io("run", &self.vsock))?;
        place.note(daemon.child())?;
        let listens = || Ok(listens(&socket).then_some(()));
        let came = daemon.wait_for_socket(&socket, SOCKET_TIMEOUT, listens).map_err(error::io("wait for", &socket))?;
        if let Err(came) = came {
            let console = log_tail(&log);
            return Err(Error::Ended { vmm: "vhost-device-vsock", status: format!("{came:?}"), console });
        }
        Ok(daemon)
    }
}

impl Driver for Qemu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn isolation(&self) -> Isolation {
        Isolation::Emulation
    }

    fn takes_elf(&self) -> bool {
        false
    }

    fn start(&self, config: &Config) -> Result<Machine, Error> {
        config.check()?;
        let began = Instant::now();
        let place = Place::claim(&config.root, &config.name)?;
        let dir = place.dir.clone();
        let vsock = dir.join("vsock.sock");
        let ready = UnixListener::bind(ready_path(&vsock)).map_err(error::io("listen on", ready_path(&vsock)))?;
        let daemon = self.vsock_daemon(&place, &vsock)?;
        let log = dir.join("qemu.log");
        let mut qemu = dying_with_us(&self.qemu);
        qemu.args(Self::arguments(config)).current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::piped());
        qemu.stderr(File::create(&log).map_err(error::io("make", &log))?);
        let mut vmm = Own::spawn(&mut qemu).map_err(error::io("run", &self.qemu))?;
        place.note(vmm.child())?;
        let serial = dir.join("console.log");
        let copy = File::create(&serial).map_err(error::io("make", &serial))?;
        let stdout = vmm.child().stdout.take().ok_or(Error::Config("the console's pipe is not there"))?;
        let console = Console::follow(stdout, copy).map_err(error::io("read", &serial))?;
        let control = Box::new(Process(Pid::from_child(vmm.child())));
        let parts = Parts {
            driver: NAME,
            isolation: self.isolation(),
            confined: "its own seccomp filter".to_owned(),
            control,
            console,
            log,
            vsock,
            ready,
            began,
            place,
        };
        Machine::new(vmm, vec![daemon], parts)
    }
}

/// Whether somebody listens on that socket. Asked by looking: the helper takes one connection, and that is QEMU's.
fn listens(socket: &Path) -> bool {
    /// `__SO_ACCEPTCON` of the kernel, the fourth word of a line.
    const LISTENS: &str = "00010000";
    let (text, path) = (fs::read_to_string("/proc/net/unix").unwrap_or_default(), socket.display().to_string());
    text.lines().any(|line| line.split_whitespace().nth(3) == Some(LISTENS) && line.ends_with(&path))
}

/// QEMU's process. It is not waited for while this is used, so that its number is its own.
///
/// QEMU's own `stop` would stop its queues as well, and the vsock helper does not take them up again.
#[derive(Debug)]
struct Process(Pid);

impl Process {
    fn signal(&self, signal: Signal, what: &str) -> Result<(), Error> {
        let failed = |error| Error::NoAnswer { vmm: NAME, what: what.to_owned(), source: io::Error::from(error) };
        kill_process(self.0, signal).map_err(failed)
    }
}

impl Control for Process {
    fn pause(&mut self) -> Result<(), Error> {
        self.signal(Signal::STOP, "a signal to stop")?;
        // Until it stands still, or ended; it is not reaped.
        let change = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(error) = waitid(WaitId::Pid(self.0), change) {
            if error != Errno::INTR {
                return Err(Error::NoAnswer { vmm: NAME, what: "a signal to stop".to_owned(), source: error.into() });
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Error> {
        self.signal(Signal::CONT, "a signal to go on")
    }

    fn snapshot(&mut self, _to: &Snapshot) -> Result<(), Error> {
        Err(Error::Unable { vmm: NAME, what: "saves no guest whose vsock is a process beside it" })
    }
}
