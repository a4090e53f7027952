//! A VM from start to end: makes it, runs it, answers its hypercalls.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use kvm_bindings::{KVM_CAP_SPLIT_IRQCHIP, kvm_enable_cap};
use kvm_ioctls::{VcpuExit, VmFd};

use crate::{
    abi::{self, Boot, Mapped, PAGE, UNKNOWN, VERSION, boot_flags, gpa, hypercall},
    error::Error,
    folder::{Folder, Folders},
    io::Io,
    layout,
    memory::{Memory, control},
    snapshot::{Head, Source},
    ticker::Ticker,
    vcpu::Vcpu,
};

/// Bytes that one hypercall moves to or from the console at most.
const CONSOLE: u64 = 1 << 20;
/// Where a local APIC has its page, guest-physical.
const APIC_PAGE: u64 = 0xfee0_0000;

/// What to run, and with what.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The program's file on the host.
    pub program: PathBuf,
    /// Its path in the guest.
    pub path: String,
    /// Arguments, the first of which is its name.
    pub args: Vec<String>,
    /// The environment: all that it gets.
    pub env: Vec<(String, String)>,
    /// An image that [`crate::image`] packed.
    pub image: Option<PathBuf>,
    /// Folders of the host that it has.
    pub folders: Vec<Folder>,
    /// Its working directory.
    pub cwd: String,
    /// Memory at most, in bytes.
    pub memory: u64,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// Where connections to its ports are taken.
    pub socket: Option<PathBuf>,
    /// Turn system calls that were seen to trap into calls.
    pub rewrite: bool,
    /// Load everything at random addresses.
    pub aslr: bool,
    /// End it by a snapshot.
    pub snapshot: Option<Snapshot>,
}

/// When a VM becomes a file.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The file; another of that name is replaced.
    pub file: PathBuf,
    /// As soon as the program waits and listens on this port. None: as soon as it waits for anything but the time.
    pub port: Option<u16>,
}

/// What to make of a snapshot.
#[derive(Debug, Clone)]
pub struct Clone {
    /// The snapshot.
    pub file: PathBuf,
    /// How long the clone may run.
    pub timeout: Option<Duration>,
    /// Where connections to its ports are taken.
    pub socket: Option<PathBuf>,
}

/// How a VM ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The program left with this code.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// Its time was up.
    Expired,
    /// It became a snapshot.
    Saved,
}

/// What the VM counted.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// System calls.
    pub calls: u64,
    /// Those that trapped.
    pub traps: u64,
    /// Call sites that were rewritten.
    pub rewritten: u64,
    /// Page faults that the library OS answered.
    pub faults: u64,
    /// Bytes of guest memory in use at the end, as the guest says.
    pub memory: u64,
    /// Hypercalls.
    pub hypercalls: u64,
    /// Times the program was interrupted.
    pub ticks: u32,
    /// System calls that have no answer: number and count.
    pub unknown: Vec<(u32, u32)>,
    /// From the start of [`run`] until the vCPU's first instruction.
    pub made_in: Duration,
}

/// How it ended, and what was counted.
#[derive(Debug, Clone)]
pub struct Report {
    /// The end.
    pub end: End,
    /// The counts.
    pub stats: Stats,
    /// Where the program was when its time was up: instruction and stack pointer.
    pub stopped_at: Option<(u64, u64)>,
}

struct Vm {
    vcpu: Vcpu,
    ticker: Ticker,
    io: Io,
    folders: Folders,
    hypercalls: u64,
    snapshot: Option<Snapshot>,
    /// The files that it maps.
    program: Source,
    image: Option<Source>,
    // Last, so that it is dropped last: the vCPU uses it.
    memory: Memory,
}

/// Runs a program in a VM of its own until it ends, on the calling thread.
pub fn run(spec: &Spec) -> Result<Report, Error> {
    let began = Instant::now();
    go(make(spec)?, began)
}

/// Runs a clone of a VM that became a snapshot until it ends, on the calling thread.
pub fn clone(spec: &Clone) -> Result<Report, Error> {
    let began = Instant::now();
    go(make_again(spec)?, began)
}

fn go(mut vm: Vm, began: Instant) -> Result<Report, Error> {
    let made_in = began.elapsed();
    let ended = vm.go();
    let stats = vm.stats(made_in);
    let end = ended?;
    let regs = if end == End::Expired { vm.vcpu.fd.get_regs().ok() } else { None };
    Ok(Report { end, stats, stopped_at: regs.map(|regs| (regs.rip, regs.rsp)) })
}

fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |error| Error::Kvm(what, io::Error::from_raw_os_error(error.errno()))
}

fn make(spec: &Spec) -> Result<Vm, Error> {
    let kvm = crate::sys::kvm().map_err(Error::NoKvm)?;
    let vm = kvm.create_vm().map_err(refused("make a VM"))?;
    local_apic(&vm, spec.memory);
    if spec.snapshot.is_some() && !spec.folders.is_empty() {
        return Err(Error::Snapshot("a VM with a folder of the host makes none, as its open files are the host's"));
    }
    // A clone may have connections although this VM has none.
    let connections = spec.socket.is_some() || spec.snapshot.is_some();
    let mut memory = Memory::new(vm, spec.memory, connections)?;
    let open = |path: &PathBuf| -> Result<(File, Source), Error> {
        let broken = |source| Error::File { path: path.clone(), source };
        let file = File::open(path).map_err(broken)?;
        let source = Source::of(path, &file).map_err(broken)?;
        Ok((file, source))
    };
    let (file, program_source) = open(&spec.program)?;
    let program = memory.map_file(&spec.program, &file, true)?;
    let (image, image_source) = match &spec.image {
        Some(path) => {
            let (file, source) = open(path)?;
            (memory.map_file(path, &file, false)?, Some(source))
        }
        None => (Mapped { gpa: gpa::FILES, len: 0 }, None),
    };
    let start = layout::write(&mut memory)?;
    let strings = strings(spec)?;
    let free = (start + strings.len() as u64).next_multiple_of(PAGE);
    let (size, limit) = memory.size();
    if free >= size {
        return Err(Error::Memory { memory: size, needed: free });
    }
    memory.fill(start, &strings);
    let vcpu = Vcpu::new(&kvm, &memory)?;
    let mut flags = 0;
    flags |= if spec.rewrite { 0 } else { boot_flags::NO_REWRITE };
    flags |= if spec.aslr { 0 } else { boot_flags::NO_ASLR };
    flags |= if connections { 0 } else { boot_flags::NO_RINGS };
    memory.write(
        gpa::BOOT,
        Boot {
            version: VERSION,
            cpus: 1,
            memory: size,
            memory_limit: limit,
            program,
            image,
            strings: Mapped { gpa: start, len: strings.len() as u64 },
            args: spec.args.len() as u32,
            envs: spec.env.len() as u32,
            folders: spec.folders.len() as u32,
            pad: 0,
            free,
            seed: seed()?,
            xcr0: vcpu.xcr0,
            xsave_size: vcpu.xsave_size,
            flags,
        },
    );
    vcpu.set_clock(&memory);
    let folders = Folders::open(&spec.folders)?;
    let io = Io::new(spec.socket.as_deref())?;
    io.watch(folders.event())?;
    let ticker =
        Ticker::new(memory.ram(), io.epoll(), spec.timeout).map_err(|error| Error::Host("set an alarm", error))?;
    let (program, image, snapshot) = (program_source, image_source, spec.snapshot.clone());
    Ok(Vm { vcpu, ticker, io, folders, hypercalls: 0, snapshot, program, image, memory })
}

fn make_again(spec: &Clone) -> Result<Vm, Error> {
    let (head, file, at) = Head::read(&spec.file)?;
    let kvm = crate::sys::kvm().map_err(Error::NoKvm)?;
    let vm = kvm.create_vm().map_err(refused("make a VM"))?;
    local_apic(&vm, head.limit);
    let mut memory = Memory::again(vm, &file, at, head.memory, head.limit)?;
    memory.map_file(&head.program.path, &head.program.open()?, true)?;
    if let Some(image) = &head.image {
        memory.map_file(&image.path, &image.open()?, false)?;
    }
    layout::share(&mut memory)?;
    let vcpu = Vcpu::again(&memory, &head)?;
    memory.write(control!(seed), seed()?);
    memory.write(control!(cloned), 1u64);
    vcpu.set_clock(&memory);
    let mut io = Io::new(spec.socket.as_deref())?;
    io.go_on(&head.io);
    let folders = Folders::open(&[])?;
    io.watch(folders.event())?;
    let ticker =
        Ticker::new(memory.ram(), io.epoll(), spec.timeout).map_err(|error| Error::Host("set an alarm", error))?;
    Ok(Vm {
        vcpu,
        ticker,
        io,
        folders,
        hypercalls: 0,
        snapshot: None,
        program: head.program,
        image: head.image,
        memory,
    })
}

/// Gives the vCPU a local APIC, which nothing here uses: a KVM whose first vCPU has none changes its own code for that, and back at the
/// end, which takes a tenth of a short program's time. Refused, the VM works as well.
fn local_apic(vm: &VmFd, memory: u64) {
    // With an APIC, KVM may want its page for itself.
    if memory <= APIC_PAGE {
        let _ = vm.enable_cap(&kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() });
    }
}

/// Arguments, environment, the program's path, the working directory and the paths of folders, each closed by a zero.
fn strings(spec: &Spec) -> Result<Vec<u8>, Error> {
    let env = spec.env.iter().map(|(name, value)| format!("{name}={value}"));
    let folders = spec.folders.iter().map(|folder| folder.target.clone());
    let places = [spec.path.clone(), spec.cwd.clone()].into_iter().chain(folders);
    let mut out = Vec::new();
    for text in spec.args.iter().cloned().chain(env).chain(places) {
        if text.contains('\0') {
            return Err(Error::Zero);
        }
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    }
    Ok(out)
}

fn seed() -> Result<[u64; 4], Error> {
    let mut bytes = [0u8; 32];
    let mut source = File::open("/dev/urandom").map_err(|error| Error::Host("open /dev/urandom", error))?;
    io::Read::read_exact(&mut source, &mut bytes).map_err(|error| Error::Host("read /dev/urandom", error))?;
    let mut seed = [0; 4];
    for (word, part) in seed.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = part.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    Ok(seed)
}

impl Vm {
    fn go(&mut self) -> Result<End, Error> {
        loop {
            if self.ticker.expired() {
                return Ok(End::Expired);
            }
            match self.vcpu.fd.run() {
                Ok(VcpuExit::MmioWrite(gpa::HYPERCALL, bytes)) => {
                    let number = bytes.try_into().map(u32::from_le_bytes);
                    let number = number.map_err(|_| Error::Guest("a hypercall's number is not four bytes"))?;
                    self.hypercalls += 1;
                    if let Some(end) = self.hypercall(number)? {
                        return Ok(end);
                    }
                }
                Ok(VcpuExit::Intr) => self.interrupted()?,
                Ok(VcpuExit::Shutdown) => return Err(self.stopped("it was reset")),
                Ok(VcpuExit::MmioRead(..) | VcpuExit::MmioWrite(..)) => {
                    return Err(Error::Guest("it touched memory that it does not have"));
                }
                Ok(other) => {
                    let what = format!("{other:?}");
                    return Err(self.stopped(&what));
                }
                Err(error) if error.errno() == libc::EINTR => self.interrupted()?,
                Err(error) if error.errno() == libc::EFAULT => {
                    return Err(Error::Stopped("a file that the guest has mapped became shorter".to_owned()));
                }
                Err(error) => return Err(refused("run the vCPU")(error)),
            }
        }
    }

    fn stopped(&self, why: &str) -> Error {
        let at = match self.vcpu.fd.get_regs() {
            Ok(regs) => format!(", rip {:#x}, rsp {:#x}", regs.rip, regs.rsp),
            Err(_) => String::new(),
        };
        Error::Stopped(format!("{why}{at}"))
    }

    /// The ticker, or a stray signal, stopped the vCPU.
    fn interrupted(&mut self) -> Result<(), Error> {
        self.io.rings(&self.memory)?;
        self.io.turn(&self.memory, Some(Duration::ZERO))?;
        self.vcpu.enter_library_os(&self.memory)
    }

    fn hypercall(&mut self, number: u32) -> Result<Option<End>, Error> {
        let args: [u64; 4] = self.memory.read(control!(args));
        let answer = match number {
            hypercall::EXIT => {
                let (code, signal) = (args[0] as u8, args[1] as u8);
                self.io.finish(&self.memory)?;
                return Ok(Some(if signal == 0 { End::Exited(code.into()) } else { End::Signalled(signal.into()) }));
            }
            hypercall::CONSOLE_OUT => self.console_out(args[0], args[1], args[2])?,
            hypercall::CONSOLE_IN => self.console_in(args[0], args[1])?,
            hypercall::WAIT => {
                if self.is_ready(args[0]) {
                    self.save()?;
                    return Ok(Some(End::Saved));
                }
                self.wait(args[0], args[1] as u32)?;
                0
            }
            hypercall::GROW => self.memory.grow(args[0]) as i64,
            hypercall::GIVE_BACK => {
                if self.memory.give_back(args[0], args[1]) {
                    0
                } else {
                    abi::REFUSED
                }
            }
            hypercall::LISTEN => match u16::try_from(args[0]) {
                Ok(port) if self.io.listen(port.into(), args[1] != 0) => 0,
                _ => abi::REFUSED,
            },
            hypercall::DOORBELL => {
                self.io.rings(&self.memory)?;
                0
            }
            hypercall::FOLDER => self.folders.call(&self.memory, args)?,
            _ => return Err(Error::Guest("it made a hypercall that there is not")),
        };
        self.memory.write(control!(answer), answer);
        Ok(None)
    }

    /// Whether a part of the guest's memory may be a console's buffer.
    fn console_buffer(&self, at: u64, len: u64) -> Result<(u64, u64), Error> {
        if len > CONSOLE || !self.memory.holds(at, len) {
            return Err(Error::Guest("a console buffer lies outside its memory"));
        }
        Ok((at, len))
    }

    fn console_out(&self, stream: u64, at: u64, len: u64) -> Result<i64, Error> {
        let part = self.console_buffer(at, len)?;
        let (out, err) = (io::stdout(), io::stderr());
        let target: BorrowedFd<'_> = if stream == 2 { err.as_fd() } else { out.as_fd() };
        loop {
            match self.memory.ram().write_to(target, [part, (0, 0)]) {
                Ok(put) => return Ok(put as i64),
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    if self.ticker.expired() {
                        return Ok(0);
                    }
                }
                Err(error) => return Ok(-i64::from(error.raw_os_error().unwrap_or(libc::EIO))),
            }
        }
    }

    fn console_in(&mut self, at: u64, len: u64) -> Result<i64, Error> {
        let part = self.console_buffer(at, len)?;
        if !Io::input_is_ready() {
            self.io.wait_for_input();
            return Ok(abi::AGAIN);
        }
        loop {
            match self.memory.ram().read_from(io::stdin().as_fd(), [part, (0, 0)]) {
                Ok(got) => return Ok(got as i64),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A standard input that is closed has ended.
                Err(_) => return Ok(0),
            }
        }
    }

    /// Whether it is time for the snapshot that was asked for.
    fn is_ready(&self, deadline: u64) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| match snapshot.port {
            Some(port) => self.io.listens(port),
            None => deadline == u64::MAX,
        })
    }

    /// Writes the snapshot. The guest stands in a wait, and gets its answer as the first thing in each clone.
    fn save(&mut self) -> Result<(), Error> {
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        self.io.rings(&self.memory)?;
        let io = self.io.standing()?;
        self.memory.write(control!(answer), 0i64);
        let (memory, limit) = self.memory.size();
        let mut head = Head::new(memory, limit, io, self.program.clone(), self.image.clone());
        self.vcpu.save(&mut head)?;
        head.write(&snapshot.file, &self.memory.ram())
    }

    /// Waits until the guest has something new to see, or its deadline is there.
    fn wait(&mut self, deadline: u64, seen: u32) -> Result<(), Error> {
        self.ticker.running(false);
        self.io.rings(&self.memory)?;
        while self.io.activity() == seen && !self.ticker.expired() {
            let timeout = match deadline {
                u64::MAX => None,
                deadline => {
                    let now = self.vcpu.monotonic();
                    if now >= deadline {
                        break;
                    }
                    Some(Duration::from_nanos(deadline - now))
                }
            };
            self.io.turn(&self.memory, timeout)?;
        }
        self.vcpu.set_clock(&self.memory);
        self.ticker.running(true);
        Ok(())
    }

    fn stats(&self, made_in: Duration) -> Stats {
        let word = |at| self.memory.read::<u64>(at);
        let unknown = (0..UNKNOWN as u64).map(|n| {
            let at = control!(unknown) + n * 8;
            let [number, count]: [u32; 2] = self.memory.read(at);
            (number, count)
        });
        Stats {
            calls: word(control!(calls)),
            traps: word(control!(traps)),
            rewritten: word(control!(rewritten)),
            faults: word(control!(faults)),
            memory: word(control!(memory)),
            hypercalls: self.hypercalls,
            ticks: self.ticker.ticks(),
            unknown: unknown.filter(|(_, count)| *count > 0).collect(),
            made_in,
        }
    }
}

/// Whether KVM is there for this user; else why not.
pub fn available() -> Result<(), Error> {
    crate::sys::kvm().map(drop).map_err(Error::NoKvm)
}
