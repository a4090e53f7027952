//! What each command does.

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use osvm_agent::{End, Request, host, wire};
use osvm_microvm::{
    COMMAND_LINE, Config, Error, Living, READY_TIMEOUT, SHUTDOWN_TIMEOUT, connect, driver,
    image::Images,
    initramfs::{self, Layer},
    kernel::{Kernel, WANTED},
    living,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{self, Cli, Command};

/// Where a program in a guest looks for others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A folder in which the VMMs and the guest's agent are looked for first.
const ENV_TOOLS: &str = "OSVM_MICROVM_TOOLS";
/// The static agent's name, beside this program or in PATH.
const AGENT: &str = "guest-agent";
const MIB: u64 = 1 << 20;

/// Does it, and gives back the exit code.
pub(crate) fn run(cli: &Cli) -> Result<u8, Error> {
    let root = root(cli)?;
    match &cli.command {
        Command::Run(run) => boot(&root, run),
        Command::Exec(exec) => {
            let guest = find(&root, &exec.name)?;
            let stream = connect(&guest.vsock, wire::PORT)?;
            execute(&stream, &exec.program, &guest.vsock, None)
        }
        Command::Cp { from, to } => copy(&root, from, to).map(|()| 0),
        Command::Ls => {
            for Living { name, about, .. } in living(&root) {
                println!("{name:<32} {about}");
            }
            Ok(0)
        }
        Command::Image(image) => images(&root, image).map(|()| 0),
        Command::Kernel(cli::Kernel::Install { package }) => {
            let kernel = Kernel::install(&root, package.as_deref())?;
            println!("kernel {} is installed: {}", kernel.release, kernel.image.display());
            Ok(0)
        }
    }
}

fn root(cli: &Cli) -> Result<PathBuf, Error> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = match &cli.state_dir {
        Some(dir) => Some(std::path::absolute(dir).map_err(io_error("use", dir))?),
        None => set("XDG_STATE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".local/state")))
            .map(|dir| dir.join("osvm")),
    };
    let state = state.ok_or(Error::Config("neither XDG_STATE_HOME nor HOME is set: give --state-dir"))?;
    Ok(state.join("microvm"))
}

fn boot(root: &Path, run: &cli::Run) -> Result<u8, Error> {
    let tools = env::var_os(ENV_TOOLS).map(PathBuf::from);
    let driver = driver(run.driver.into(), run.require_hardware, tools.as_deref())?;
    let images = Images::of(root);
    let image = images.find(&run.image)?;
    let kernel = Kernel::installed(root)?;
    let agent = agent(tools.as_deref())?;
    fs::create_dir_all(root).map_err(io_error("make", root))?;
    let (mut initrd, initrd_path) = initramfs::unnamed(root)?;
    let layer = Layer { path: images.file(&image), sha256: Some(image.sha256.clone()) };
    initramfs::build(&mut initrd, &agent, &kernel.modules(&WANTED)?, &[layer])?;
    let config = Config {
        root: root.to_owned(),
        name: run.name.clone().unwrap_or_else(|| format!("run-{}", std::process::id())),
        kernel: if driver.takes_elf() { kernel.elf } else { kernel.image },
        initrd: Some(initrd_path),
        command_line: COMMAND_LINE.to_owned(),
        memory_mib: u32::try_from(run.memory / MIB).unwrap_or(u32::MAX),
        cpus: run.cpus,
    };
    let mut machine = driver.start(&config)?;
    eprintln!("{}: {}", machine.name(), machine.describe());
    let took = machine.wait_ready(READY_TIMEOUT)?;
    eprintln!(
        "{}: kernel {}, image {} {:.12}, ready in {:.2} s",
        machine.name(),
        kernel.release,
        image.name,
        image.sha256,
        took.as_secs_f64()
    );
    drop(initrd);
    let code = match execute(&machine.agent()?, &run.program, machine.vsock(), Some(machine.pid())) {
        // The connection broke: if that is the VMM's end, its console says more.
        Err(refused @ Error::Agent(osvm_agent::Error::Refused(_))) => return Err(refused),
        Err(Error::Agent(_)) if machine.wait(BROKEN_TIMEOUT)?.is_some() => return Err(machine.why_it_ended()),
        other => other?,
    };
    machine.shut_down(SHUTDOWN_TIMEOUT)?;
    Ok(code)
}

/// How long after a broken connection the VMM's end may be seen.
const BROKEN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the program with this process's input and output.
fn execute(stream: &UnixStream, program: &cli::Program, vsock: &Path, vmm: Option<u32>) -> Result<u8, Error> {
    let mut env = std::collections::BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    env.extend(program.env.iter().cloned());
    let wanted = osvm_agent::Exec { argv: program.command.clone(), env, cwd: program.cwd.clone() };
    let vsock: Arc<Path> = vsock.into();
    let started = move |exec| pass_signals_on(exec, vsock, vmm);
    let end = host::exec(stream, wanted, io::stdin(), &mut AtOnce(io::stdout()), &mut io::stderr(), started)?;
    Ok(match end {
        End::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
        End::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    })
}

/// Standard output that holds back nothing: a prompt is no whole line.
struct AtOnce(io::Stdout);

impl Write for AtOnce {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.0.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Ctrl-C and TERM go to the program in the guest; a second one ends the guest.
fn pass_signals_on(exec: u64, vsock: Arc<Path>, vmm: Option<u32>) {
    use tokio::signal::unix::{SignalKind, signal};
    let watch = async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        for before in 0.. {
            let number = tokio::select! { _ = interrupt.recv() => 2, _ = terminate.recv() => 15 };
            if let (1.., Some(pid)) = (before, vmm.and_then(|pid| Pid::from_raw(pid.cast_signed()))) {
                // The main thread has not reaped it: it waits for the program, and ends this process when that is over.
                let _ = kill_process(pid, Signal::KILL);
            }
            let vsock = Arc::clone(&vsock);
            // Its failure is seen by what the program does: nothing.
            let sent = move || {
                connect(&vsock, wire::PORT)
                    .and_then(|stream| Ok(host::done(&stream, &Request::Signal { exec, signal: number })?))
            };
            thread::spawn(sent);
        }
    };
    thread::spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(watch);
        }
    });
}

fn copy(root: &Path, from: &str, to: &str) -> Result<(), Error> {
    match (inside(from), inside(to)) {
        (Some((name, path)), None) => {
            let guest = find(root, name)?;
            let stream = connect(&guest.vsock, wire::PORT)?;
            let to = Path::new(to);
            // Whole or not at all: what came short is not left under the name.
            let part = TemporaryFile(to.with_file_name(format!(".osvm-cp-{}", std::process::id())));
            let mut file = File::create_new(&part.0).map_err(io_error("make", &part.0))?;
            let mode = host::read(&stream, Path::new(path), &mut file)?;
            let kept =
                file.set_permissions(fs::Permissions::from_mode(mode & 0o777)).and_then(|()| fs::rename(&part.0, to));
            kept.map_err(io_error("write", to))
        }
        (None, Some((name, path))) => {
            let guest = find(root, name)?;
            let file = File::open(from).map_err(io_error("read", from))?;
            let meta = file.metadata().map_err(io_error("read", from))?;
            if !meta.is_file() {
                return Err(Error::Unfit { path: from.into(), why: "no regular file".to_owned() });
            }
            let stream = connect(&guest.vsock, wire::PORT)?;
            Ok(host::write(&stream, Path::new(path), meta.permissions().mode() & 0o777, meta.len(), file)?)
        }
        _ => Err(Error::Config("one of the two is in a guest, as NAME:/PATH")),
    }
}

/// Name and path of `NAME:/PATH`.
fn inside(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(name, path)| !name.contains('/') && path.starts_with('/'))
}

fn images(root: &Path, command: &cli::Image) -> Result<(), Error> {
    let images = Images::of(root);
    match command {
        cli::Image::Build { from, name } => {
            let image = images.build(name, from)?;
            println!("{} sha256:{} {} bytes", image.name, image.sha256, image.bytes);
            Ok(())
        }
        cli::Image::Ls => {
            for image in images.list() {
                println!("{:<32} sha256:{:.12} {:>12} bytes", image.name, image.sha256, image.bytes);
            }
            Ok(())
        }
        cli::Image::Rm { name } => images.remove(name),
    }
}

fn find(root: &Path, name: &str) -> Result<Living, Error> {
    let found = living(root).into_iter().find(|guest| guest.name == name);
    found
        .ok_or_else(|| Error::Missing { what: format!("a guest {name}"), help: "osvm microvm ls lists those that run" })
}

/// The static agent.
fn agent(tools: Option<&Path>) -> Result<PathBuf, Error> {
    let file = tools.map(|dir| dir.join(format!("osvm-{AGENT}"))).filter(|file| file.is_file());
    file.or_else(|| osvm_jail::companion(AGENT)).ok_or_else(|| Error::Missing {
        what: format!("osvm-{AGENT}, beside osvm-microvm or in PATH,"),
        help: "it is osvm-agent, linked statically: see docs/isolation-microvm.md",
    })
}

fn io_error(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { verb, path: path.into(), source }
}

/// A file that is removed when this is dropped, if it is still there.
struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
