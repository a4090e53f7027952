//! What a microVM is made of, and one that runs, whichever VMM runs it.

use std::{
    fmt, fs, io,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use osvm_agent::{Request, host, wire};

use crate::{
    child::{Came, Own},
    console::Console,
    error::{Error, io},
    place::Place,
};

/// How long the guest may take to say that it is ready. An emulated one on a loaded machine takes its time.
pub const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a guest may take to end after it said that it will.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the console's last bytes may take after the VMM ended.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines of the VMM's own log that a message shows.
const LOG_LINES: usize = 6;
/// Least and most memory, MiB.
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 16..=1 << 20;
/// Most virtual CPUs; Firecracker takes no more.
const MOST_CPUS: u8 = 32;
/// Most bytes of the kernel's command line that all x86 kernels take.
const LONGEST_COMMAND_LINE: usize = 2048;

/// The command line of a Linux guest: its console, and a reset at once after a panic, which ends the VMM.
pub const COMMAND_LINE: &str = "console=ttyS0 reboot=k panic=-1 loglevel=4 i8042.noaux i8042.nomux i8042.dumbkbd tsc=reliable no_timer_check cryptomgr.notests";

/// What to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder below which microVMs live.
    pub root: PathBuf,
    /// Its name.
    pub name: String,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// Its first root.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: String,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub cpus: u8,
}

impl Config {
    /// Whether it makes sense, before anything is made.
    pub fn check(&self) -> Result<(), Error> {
        if !MEMORY_MIB.contains(&self.memory_mib) {
            return Err(Error::Config("a microVM has 16 MiB to 1 TiB of memory"));
        }
        if self.cpus == 0 || self.cpus > MOST_CPUS {
            return Err(Error::Config("a microVM has 1 to 32 CPUs"));
        }
        if self.command_line.len() > LONGEST_COMMAND_LINE
            || !self.command_line.bytes().all(|b| (b' '..0x7f).contains(&b))
        {
            return Err(Error::Config("a kernel's command line has 2048 printable characters at most"));
        }
        for file in [Some(&self.kernel), self.initrd.as_ref()].into_iter().flatten() {
            let meta = fs::metadata(file).map_err(io("read", file))?;
            if !meta.is_file() || meta.len() == 0 {
                return Err(Error::Unfit { path: file.clone(), why: "no file with something in it".to_owned() });
            }
        }
        Ok(())
    }
}

/// What keeps the guest from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// The processor's virtualisation, by KVM.
    Hardware,
    /// KVM, but by a module that does without the processor's virtualisation.
    Paravirtual,
    /// A program that acts the processor. Its walls are software's, and it is slow.
    Emulation,
}

impl Isolation {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Hardware => "hardware isolation (KVM)",
            Self::Paravirtual => "paravirtual KVM, no hardware isolation",
            Self::Emulation => "emulation (TCG), no hardware isolation",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// One VMM.
pub trait Driver: fmt::Debug {
    /// Its name, as it is printed.
    fn name(&self) -> &'static str;
    /// What isolates a guest that it starts.
    fn isolation(&self) -> Isolation;
    /// Whether it takes a kernel as an ELF file, and not as a boot loader does.
    fn takes_elf(&self) -> bool;
    /// Starts a guest. It runs when this returns, and is not ready yet. The VMM ends with the thread that calls this.
    fn start(&self, config: &Config) -> Result<Machine, Error>;
}

/// How a running VMM is told what to do.
pub(crate) trait Control: fmt::Debug {
    fn pause(&mut self) -> Result<(), Error>;
    fn resume(&mut self) -> Result<(), Error>;
    /// Saves a paused guest to two files.
    fn snapshot(&mut self, _to: &Snapshot) -> Result<(), Error>;
}

/// Where a saved guest lies.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The state of CPUs and devices.
    pub state: PathBuf,
    /// The memory.
    pub memory: PathBuf,
}

/// A guest that runs. Dropping it kills the VMM and removes all that it left.
#[derive(Debug)]
pub struct Machine {
    // Dropped in this order: the VMM before its helpers, all of them before their folder.
    pub(crate) vmm: Own,
    pub(crate) helpers: Vec<Own>,
    pub(crate) parts: Parts,
}

/// What a machine is besides its processes.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) driver: &'static str,
    pub(crate) isolation: Isolation,
    /// What confines the VMM itself, for people.
    pub(crate) confined: String,
    pub(crate) control: Box<dyn Control>,
    pub(crate) console: Console,
    pub(crate) log: PathBuf,
    pub(crate) vsock: PathBuf,
    pub(crate) ready: UnixListener,
    pub(crate) began: Instant,
    pub(crate) place: Place,
}

impl Machine {
    pub(crate) fn new(vmm: Own, helpers: Vec<Own>, parts: Parts) -> Result<Self, Error> {
        let machine = Self { vmm, helpers, parts };
        machine.parts.place.publish(&machine.parts.vsock, &machine.describe())?;
        Ok(machine)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.parts.place.name
    }

    /// Its context id.
    pub fn cid(&self) -> u32 {
        self.parts.place.cid
    }

    /// The VMM's process.
    pub fn pid(&self) -> u32 {
        self.vmm.id()
    }

    /// All its processes: the VMM and those beside it.
    pub fn pids(&self) -> Vec<u32> {
        std::iter::once(&self.vmm).chain(&self.helpers).map(Own::id).collect()
    }

    /// The unix socket that speaks hybrid vsock.
    pub fn vsock(&self) -> &Path {
        &self.parts.vsock
    }

    /// What the guest wrote on its console.
    pub fn console(&self) -> &Console {
        &self.parts.console
    }

    /// One line: who runs it and what isolates it.
    pub fn describe(&self) -> String {
        let Parts { driver, isolation, confined, .. } = &self.parts;
        format!("microvm on {driver}, {isolation}; VMM: {confined}")
    }

    /// Waits until the guest connects to the host's ready port, and gives back how long that took from the start.
    pub fn wait_ready(&mut self, most: Duration) -> Result<Duration, Error> {
        let path = ready_path(&self.parts.vsock);
        match self.vmm.wait_with(&self.parts.ready, most).map_err(io("wait on", &path))? {
            Came::Event => {
                let (mut told, _) = self.parts.ready.accept().map_err(io("accept on", &path))?;
                told.set_read_timeout(Some(most)).map_err(io("read", &path))?;
                match wire::read_preamble(&mut told) {
                    Ok(()) => Ok(self.parts.began.elapsed()),
                    // It has connected, and not got further.
                    Err(error) if error.is_timeout() => {
                        Err(Error::NotReady { after: most, console: self.parts.console.tail() })
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Came::End => Err(self.why_it_ended()),
            Came::Timeout => Err(Error::NotReady { after: most, console: self.parts.console.tail() }),
        }
    }

    /// A connection to a vsock port of the guest.
    pub fn connect(&self, port: u32) -> Result<UnixStream, Error> {
        connect(&self.parts.vsock, port)
    }

    /// A connection to the guest's agent.
    pub fn agent(&self) -> Result<UnixStream, Error> {
        self.connect(wire::PORT)
    }

    /// Stops the guest's CPUs.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.still_runs()?;
        self.parts.control.pause()
    }

    /// Lets them go on.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.still_runs()?;
        self.parts.control.resume()
    }

    fn still_runs(&mut self) -> Result<(), Error> {
        if self.vmm.is_over() { Err(self.why_it_ended()) } else { Ok(()) }
    }

    /// Saves a paused guest.
    pub fn snapshot(&mut self, to: &Snapshot) -> Result<(), Error> {
        self.parts.control.snapshot(to)
    }

    /// Asks the agent to end the guest, and waits for the VMM's end. A guest that does not end in time is killed, and that is an error.
    pub fn shut_down(mut self, most: Duration) -> Result<(), Error> {
        host::done(&self.agent()?, &Request::Shutdown)?;
        match self.wait(most)? {
            Some(status) if status.success() && !self.parts.console.panicked() => Ok(()),
            Some(_) => Err(self.why_it_ended()),
            None => Err(Error::NotReady { after: most, console: self.parts.console.tail() }),
        }
    }

    /// How the VMM ended; none if it still runs after `most`.
    pub fn wait(&mut self, most: Duration) -> Result<Option<ExitStatus>, Error> {
        self.vmm.wait(most).map_err(io("wait for", &self.parts.place.dir))
    }

    /// For a VMM that ended: what its console and its log say.
    pub fn why_it_ended(&mut self) -> Error {
        self.parts.console.wait_end(CONSOLE_TIMEOUT);
        if self.parts.console.panicked() {
            return Error::Panicked { console: self.parts.console.panic_lines() };
        }
        let status = match self.vmm.wait(CONSOLE_TIMEOUT) {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it still runs".to_owned(),
            Err(error) => error.to_string(),
        };
        let mut console = self.parts.console.tail();
        console.extend(log_tail(&self.parts.log));
        Error::Ended { vmm: self.parts.driver, status, console }
    }
}

/// Where a VMM passes on the guest's connection to the host's ready port.
pub(crate) fn ready_path(vsock: &Path) -> PathBuf {
    let mut path = vsock.as_os_str().to_owned();
    path.push(format!("_{}", wire::READY_PORT));
    path.into()
}

/// A connection to `port` of the guest behind the unix socket `vsock`.
pub fn connect(vsock: &Path, port: u32) -> Result<UnixStream, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io("connect to", vsock))?;
    let stream = runtime.block_on(osvm_vsock::connect(vsock, port)).map_err(|source| Error::Vsock { port, source })?;
    let blocking = |stream: tokio::net::UnixStream| -> io::Result<UnixStream> {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    };
    blocking(stream).map_err(io("connect to", vsock))
}

/// The last lines of a VMM's log.
pub(crate) fn log_tail(log: &Path) -> Vec<String> {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let plain = |line: &&str| line.chars().filter(|c| !c.is_control()).take(300).collect();
    lines.iter().skip(lines.len().saturating_sub(LOG_LINES)).map(plain).collect()
}
