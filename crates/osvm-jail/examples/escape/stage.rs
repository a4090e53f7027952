//! Where attempts are made: namespaces of mounts, network, IPC, host name and processes that end with this process, the first in them.
//!
//! It sets the scene (addresses, listeners, lent files, another instance), makes the attempt in a jail, looks whether anything was
//! harmed, and then makes the same attempt without a jail. What it found is printed, a line each:
//! `inside|outside STATUS TEXT` and `harm TEXT`.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    mem,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener, UnixStream},
            process::ExitStatusExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use osvm_jail::{Inbound, Mount, Spec, closure};

use crate::{Attempt, Scene, call, neighbour};

/// Addresses that the stage has, beside [`METADATA`].
pub(crate) const ADDRESSES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 11, 12, 13),
    Ipv4Addr::new(172, 16, 5, 4),
    Ipv4Addr::new(192, 168, 77, 7),
    Ipv4Addr::new(169, 254, 7, 7),
];
/// Where clouds tell a machine its secrets.
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
pub(crate) const ABSTRACT: &str = "osvm-stage";
pub(crate) const SHM_KEY: u64 = 0x6f73_766d;
/// An attempt that hangs is no refusal.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is in the lent file.
const LENT: &str = "lent";

type Done<T = ()> = io::Result<T>;

/// Sets the scene, makes the attempt twice and prints what became of it.
pub(crate) fn run(jail: &Path, attempt: &Attempt) -> Done {
    let stage = Stage::set(jail, attempt.scene)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let name = rustix::system::uname().nodename().to_owned();
    let variants: &[bool] = if attempt.proc { &[false, true] } else { &[false] };
    for proc in variants {
        report("inside", &stage.inside(attempt.name, *proc)?);
    }
    let harm = |what: &str| println!("harm {what}");
    if stage.arrived()? {
        harm("a connection or a datagram came out of the jail");
    }
    if fs::read_to_string("/proc/self/mountinfo")? != mounts {
        harm("mounts changed");
    }
    if rustix::system::uname().nodename() != &*name {
        harm("the host's name changed");
    }
    if let Err(error) = stage.unharmed() {
        harm(&error.to_string());
    }
    report("outside", &stage.outside(attempt.name)?);
    Ok(())
}

fn report(side: &str, output: &Output) {
    let status = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("exit:{code}"),
        (None, signal) => format!("signal:{}", signal.unwrap_or(0)),
    };
    let text = [&*output.stdout, &*output.stderr].concat();
    println!("{side} {status} {}", String::from_utf8_lossy(&text).replace('\n', " "));
}

struct Stage {
    jail: PathBuf,
    folder: PathBuf,
    scene: Scene,
    facts: Vec<String>,
    tcp: TcpListener,
    udp: UdpSocket,
    sockets: [UnixListener; 2],
    neighbour: Option<Neighbour>,
}

impl Stage {
    fn set(jail: &Path, scene: Scene) -> Done<Self> {
        let own = std::env::current_exe()?;
        let folder = std::env::current_dir()?;
        mount_tmpfs(&folder)?;
        std::env::set_current_dir(&folder)?;
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o755))?;
        for name in ["shared", "own", "neighbour", "control"] {
            fs::create_dir(name)?;
        }
        for name in ["own", "neighbour"] {
            fs::set_permissions(name, PermissionsExt::from_mode(0o777))?;
        }
        fs::write("secret", "not lent")?;
        fs::write("shared/file", LENT)?;
        for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("capable", 0o755)] {
            let file = Path::new("shared").join(name);
            fs::copy(&own, &file)?;
            fs::set_permissions(&file, PermissionsExt::from_mode(mode))?;
        }
        crate::files::set_capabilities("shared/capable")?;
        // A mount of its own that events travel through, as on hosts with systemd.
        let at = c"shared".as_ptr() as u64;
        call(libc::SYS_mount, &[at, at, 0, libc::MS_BIND, 0])?;
        call(libc::SYS_mount, &[0, at, 0, libc::MS_SHARED, 0])?;
        call(libc::SYS_shmget, &[SHM_KEY, 4096, (libc::IPC_CREAT | 0o666) as u64])?;

        let (tcp, udp) = network()?;
        let abstract_name = SocketAddr::from_abstract_name(ABSTRACT)?;
        let sockets = [UnixListener::bind(folder.join("socket"))?, UnixListener::bind_addr(&abstract_name)?];
        fs::set_permissions("socket", PermissionsExt::from_mode(0o777))?;
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        // A folder of the host that is handed on by mistake.
        let root = File::open("/")?;
        let nine = rustix::io::fcntl_dupfd_cloexec(&root, 9)?;
        if nine.as_raw_fd() != 9 {
            return Err(io::Error::other("descriptor 9 is taken"));
        }
        rustix::io::fcntl_setfd(&nine, rustix::io::FdFlags::empty())?;
        mem::forget(nine);

        let mut facts = vec![
            format!("port={}", tcp.local_addr()?.port()),
            format!("socket={}/socket", folder.display()),
            format!("handle={}", handle()?),
            format!("neighbour={}/neighbour", folder.display()),
            format!("door={}/door", folder.display()),
        ];
        let mut stage =
            Self { jail: jail.to_owned(), folder, scene, facts: Vec::new(), tcp, udp, sockets, neighbour: None };
        if scene == Scene::Neighbour {
            let neighbour = stage.neighbour()?;
            facts.extend([format!("pid={}", neighbour.pid), format!("address={}", neighbour.address)]);
            stage.neighbour = Some(neighbour);
        }
        stage.facts = facts;
        Ok(stage)
    }

    /// The attempt in a jail.
    fn inside(&self, name: &str, proc: bool) -> Done<Output> {
        let mut spec = Spec::new(std::env::current_exe()?);
        spec.argv = ["escape", "attempt", name, "shared=/shared", "own=/own"].map(str::to_owned).to_vec();
        spec.argv.extend(self.facts.iter().cloned());
        spec.cwd = PathBuf::from("/tmp");
        spec.proc = proc;
        spec.limits.timeout = Some(PATIENCE);
        spec.mounts = closure(&spec.program, &[]).map_err(io::Error::other)?;
        spec.mounts.extend([self.lend("shared", "/shared", false), self.lend("own", "/own", true)]);
        let mut command = Command::new(&self.jail);
        command.env("OSVM_SECRET", "x");
        self.run(command, &serde_json::to_vec(&spec)?)
    }

    /// The same attempt without one.
    fn outside(&self, name: &str) -> Done<Output> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--"]).arg(std::env::current_exe()?).args(["attempt", name]);
        command.args(["shared", "own"].map(|name| format!("{name}={}/{name}", self.folder.display())));
        command.args(&self.facts).current_dir("control").env("OSVM_SECRET", "x");
        self.run(command, &[])
    }

    /// Runs it to its end with the scene's stderr.
    fn run(&self, mut command: Command, stdin: &[u8]) -> Done<Output> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let other = match self.scene {
            Scene::Plain | Scene::Neighbour => {
                command.stderr(Stdio::piped());
                None
            }
            Scene::Terminal => {
                let (master, slave) = terminal()?;
                command.stderr(Stdio::from(slave));
                Some(master)
            }
            Scene::Sent => {
                let (ours, theirs) = UnixStream::pair()?;
                send_root(&ours)?;
                command.stderr(Stdio::from(OwnedFd::from(theirs)));
                Some(OwnedFd::from(ours))
            }
        };
        let mut child = command.spawn()?;
        // A program that does not read is its own business.
        let _ = child.stdin.take().map(|mut pipe| pipe.write_all(stdin));
        let output = child.wait_with_output();
        drop(other);
        output
    }

    fn lend(&self, name: &str, target: &str, writable: bool) -> Mount {
        Mount { source: self.folder.join(name), target: PathBuf::from(target), writable, owned: false }
    }

    fn neighbour(&self) -> Done<Neighbour> {
        let mut spec = Spec::new(std::env::current_exe()?);
        spec.argv = ["escape", "neighbour"].map(str::to_owned).to_vec();
        spec.env.insert("SECRET".to_owned(), "x".to_owned());
        spec.mounts = closure(&spec.program, &[]).map_err(io::Error::other)?;
        spec.mounts.push(self.lend("neighbour", "/data", true));
        spec.network.inbound = Some(Inbound { socket: self.folder.join("door"), port: neighbour::PORT });
        let mut monitor =
            Command::new(&self.jail).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let pipes = monitor.stdin.take().zip(monitor.stdout.take());
        let Some((mut stdin, stdout)) = pipes else { return Err(io::Error::other("no pipes")) };
        stdin.write_all(&serde_json::to_vec(&spec)?)?;
        drop(stdin);
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        let pid = only_child(only_child(u64::from(monitor.id()))?)?;
        Ok(Neighbour { monitor, pid, address: address.trim().to_owned() })
    }

    /// Whether anybody came to one of the host's sockets.
    fn arrived(&self) -> Done<bool> {
        let came = |error: Option<io::Error>| match error {
            None => Ok(true),
            Some(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Some(error) => Err(error),
        };
        Ok(came(self.tcp.accept().err())?
            || came(self.udp.recv(&mut [0; 8]).err())?
            || came(self.sockets[0].accept().err())?
            || came(self.sockets[1].accept().err())?)
    }

    /// The lent files are as they were, and the other instance lives and has what it had.
    fn unharmed(&self) -> Done {
        let names = |folder: &str| -> Done<Vec<_>> {
            let mut names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<Done<Vec<_>>>()?;
            names.sort();
            Ok(names)
        };
        if fs::read("shared/file")? != LENT.as_bytes() || names("shared")? != ["capable", "file", "setgid", "setuid"] {
            return Err(io::Error::other("lent files changed"));
        }
        for entry in fs::read_dir("own")? {
            let meta = entry?.metadata()?;
            if meta.permissions().mode() & 0o6000 != 0 {
                return Err(io::Error::other("a program of another user's rights was left in the writable mount"));
            }
        }
        if self.neighbour.is_some() {
            let mut door = UnixStream::connect("door")?;
            door.set_read_timeout(Some(PATIENCE))?;
            let mut told = Vec::new();
            door.read_to_end(&mut told)?;
            if told != neighbour::SECRET || fs::read("neighbour/secret")? != neighbour::SECRET {
                return Err(io::Error::other("the other instance is not what it was"));
            }
        }
        Ok(())
    }
}

struct Neighbour {
    monitor: Child,
    pid: u64,
    address: String,
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // The control may have killed it. Its jail ends with it.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.monitor),
            rustix::process::Signal::TERM,
        );
        let _ = crate::raw(libc::SYS_kill, &[self.pid, libc::SIGCONT as u64]);
        let _ = self.monitor.wait();
    }
}

fn only_child(pid: u64) -> Done<u64> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    list.trim().parse().map_err(|_| io::Error::other(format!("process {pid} has the children {list:?}")))
}

fn mount_tmpfs(at: &Path) -> Done {
    use rustix::mount::{MountFlags, mount};
    Ok(mount("tmpfs", at, "tmpfs", MountFlags::empty(), None)?)
}

/// The addresses, on the loopback interface, and who listens on all of them.
fn network() -> Done<(TcpListener, UdpSocket)> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    up(&socket)?;
    for (index, address) in ADDRESSES.iter().chain([&METADATA]).enumerate() {
        add_address(&socket, index, *address)?;
    }
    let tcp = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0"))?;
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, tcp.local_addr()?.port()))?;
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    Ok((tcp, udp))
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain memory, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn up(socket: &UdpSocket) -> Done {
    let mut request = request("lo");
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    call(libc::SYS_ioctl, &[socket.as_raw_fd() as u64, libc::SIOCSIFFLAGS, &raw const request as u64])
}

/// Gives the loopback interface one more address.
pub(crate) fn add_address(socket: &UdpSocket, index: usize, address: Ipv4Addr) -> Done {
    let mut request = request(&format!("lo:{index}"));
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are 16 bytes of plain memory; the kernel reads a sockaddr_in there.
    request.ifr_ifru.ifru_addr = unsafe { mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
    call(libc::SYS_ioctl, &[socket.as_raw_fd() as u64, libc::SIOCSIFADDR, &raw const request as u64])
}

/// The handle of a file that is not lent, by which it could be opened through any file of the same file system.
fn handle() -> Done<String> {
    let mut handle = [0u32; 34];
    handle[0] = 128;
    let mut mount = 0i32;
    let name = c"secret".as_ptr() as u64;
    call(
        libc::SYS_name_to_handle_at,
        &[libc::AT_FDCWD as u64, name, handle.as_mut_ptr() as u64, &raw mut mount as u64, 0],
    )?;
    Ok(handle.map(|word| word.to_string()).join(","))
}

fn terminal() -> Done<(OwnedFd, OwnedFd)> {
    let (mut master, mut slave) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: both numbers outlive the call; no name, settings or size are passed.
    if unsafe { libc::openpty(&raw mut master, &raw mut slave, null, null.cast(), null.cast()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made both, nobody else owns them.
    let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    for fd in [&master, &slave] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok((master, slave))
}

fn send_root(to: &UnixStream) -> Done {
    let root = File::open("/")?;
    let files = [root.as_fd()];
    let mut space = [mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    control.push(rustix::net::SendAncillaryMessage::ScmRights(&files));
    let flags = rustix::net::SendFlags::empty();
    rustix::net::sendmsg(to, &[io::IoSlice::new(b"/")], &mut control, flags)?;
    Ok(())
}
