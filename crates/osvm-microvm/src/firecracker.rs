//! Firecracker: the driver for KVM. Started by root it runs in Firecracker's own jailer, as a user of its own; otherwise as the
//! caller. Its seccomp filters are on
//! in both cases. (The jail of level `process` does not fit: Firecracker opens `/dev/kvm` by its path, and asks KVM for far more
//! than our monitor does.)

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    api::{Api, NAME},
    child::{Own, dying_with_us},
    console::Console,
    error::{self, Error},
    find::{self, program},
    place::Place,
    vm::{Config, Driver, Isolation, Machine, Parts, Snapshot, log_tail, ready_path},
};

/// How long Firecracker may take to make its API's socket.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(20);
/// The first user id of jailed Firecrackers, behind those of the jails of level `process` and their proxies.
const FIRST_USER: u32 = osvm_jail::FIRST_EGRESS_ID + osvm_jail::IDS;
/// Open files of a jailed Firecracker.
const OPEN_FILES: u32 = 1024;
const SOCKET: &str = "api.sock";
const VSOCK: &str = "vsock.sock";
const LOG: &str = "firecracker.log";

/// The driver.
#[derive(Clone, Debug)]
pub struct Firecracker {
    firecracker: PathBuf,
    jailer: Option<PathBuf>,
    isolation: Isolation,
}

impl Firecracker {
    /// Looks for the program and, for root, its jailer; and for KVM. Root without a jailer is refused: a VMM is not to be root.
    /// In `tools` before `PATH`.
    pub fn find(tools: Option<&Path>) -> Result<Self, Error> {
        const GET: &str = "take it from https://github.com/firecracker-microvm/firecracker/releases into PATH";
        let help = "load KVM's module and add your user to the group kvm, or choose --driver qemu (emulation, slow)";
        let isolation =
            find::kvm().ok_or_else(|| Error::Missing { what: "/dev/kvm, open to this user,".to_owned(), help })?;
        let jailer = rustix::process::geteuid().is_root().then(|| program(tools, "jailer", GET)).transpose()?;
        Ok(Self { firecracker: program(tools, "firecracker", GET)?, jailer, isolation })
    }

    /// Starts a guest where a snapshot left it. Its kernel, memory and CPUs are the snapshot's.
    pub fn restore(&self, root: &Path, name: &str, from: &Snapshot) -> Result<Machine, Error> {
        let began = Instant::now();
        let place = Place::claim(root, name)?;
        let room = self.room(&place)?;
        for (file, name) in [(&from.state, "from.state"), (&from.memory, "from.memory")] {
            room.take_in(file, name)?;
        }
        let mut machine = self.spawn(place, &room, began)?;
        let body = json!({
            "snapshot_path": room.inside("from.state"),
            "mem_backend": { "backend_type": "File", "backend_path": room.inside("from.memory") },
            "resume_vm": true,
        });
        let done = machine.api.call("PUT", "/snapshot/load", &body);
        machine.finish(done)
    }

    /// The folder that Firecracker sees.
    fn room(&self, place: &Place) -> Result<Room, Error> {
        let Some(_) = &self.jailer else { return Ok(Room { dir: place.dir.clone(), user: None }) };
        let file = self.firecracker.file_name().unwrap_or_default();
        let dir = place.dir.join(file).join(jail_id(place)).join("root");
        fs::create_dir_all(&dir).map_err(error::io("make", &dir))?;
        let user = FIRST_USER + place.cid;
        chown(&dir, Some(user), Some(user)).map_err(error::io("give away", &dir))?;
        Ok(Room { dir, user: Some(user) })
    }

    fn command(&self, place: &Place, room: &Room) -> Command {
        let mut command = match (&self.jailer, room.user) {
            (Some(jailer), Some(user)) => {
                let mut command = Command::new(jailer);
                command.args(["--id", &jail_id(place), "--exec-file"]).arg(&self.firecracker);
                command.args(["--uid", &user.to_string(), "--gid", &user.to_string(), "--chroot-base-dir"]);
                command.arg(&place.dir).args(["--resource-limit", &format!("no-file={OPEN_FILES}"), "--"]);
                command
            }
            _ => dying_with_us(&self.firecracker),
        };
        // The jailer gives the id on by itself.
        if room.user.is_none() {
            command.args(["--id", &jail_id(place)]);
        }
        // What a terminal sends to its foreground group is not for the VMM.
        command
            .process_group(0)
            .args(["--api-sock", SOCKET, "--log-path", LOG, "--level", "Warn"])
            .current_dir(&room.dir);
        command
    }

    fn spawn(&self, place: Place, room: &Room, began: Instant) -> Result<Starting, Error> {
        let vsock = room.dir.join(VSOCK);
        let ready = UnixListener::bind(ready_path(&vsock)).map_err(error::io("listen on", ready_path(&vsock)))?;
        let log = room.dir.join(LOG);
        File::create(&log).map_err(error::io("make", &log))?;
        room.give(&log)?;
        room.give(&ready_path(&vsock))?;
        let mut command = self.command(&place, room);
        let errors = place.dir.join("stderr.log");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(&errors).map_err(error::io("make", &errors))?);
        let mut vmm = Own::spawn(&mut command).map_err(error::io("run", &self.firecracker))?;
        place.note(vmm.child())?;
        let serial = place.dir.join("console.log");
        let copy = File::create(&serial).map_err(error::io("make", &serial))?;
        let stdout = vmm.child().stdout.take().ok_or(Error::Config("the console's pipe is not there"))?;
        let console = Console::follow(stdout, copy).map_err(error::io("read", &serial))?;
        let socket = room.dir.join(SOCKET);
        let came = vmm.wait_for_socket(&socket, SOCKET_TIMEOUT, || match UnixStream::connect(&socket) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error),
        });
        let stream = match came.map_err(error::io("connect to", &socket))? {
            Ok(stream) => stream,
            Err(came) => {
                let mut said = log_tail(&errors);
                said.extend(log_tail(&log));
                said.extend(console.tail());
                return Err(Error::Ended { vmm: NAME, status: format!("no API socket ({came:?})"), console: said });
            }
        };
        let api = Api::new(stream, room.user.map(|_| room.dir.clone()), room.dir.clone())?;
        let confined = match room.user {
            Some(user) => format!("Firecracker's jailer as user {user}, its seccomp filters"),
            None => "its seccomp filters, no jail (started without root)".to_owned(),
        };
        Ok(Starting { vmm, api, console, log, vsock, ready, began, place, confined, isolation: self.isolation })
    }
}

impl Driver for Firecracker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn takes_elf(&self) -> bool {
        true
    }

    fn start(&self, config: &Config) -> Result<Machine, Error> {
        config.check()?;
        let began = Instant::now();
        let place = Place::claim(&config.root, &config.name)?;
        let room = self.room(&place)?;
        let cid = place.cid;
        room.take_in(&config.kernel, "kernel")?;
        let mut boot = json!({ "kernel_image_path": room.inside("kernel"), "boot_args": config.command_line });
        if let Some(initrd) = &config.initrd {
            room.take_in(initrd, "initrd")?;
            boot["initrd_path"] = room.inside("initrd").into();
        }
        let mut starting = self.spawn(place, &room, began)?;
        let calls = [
            ("/machine-config", json!({ "vcpu_count": config.cpus, "mem_size_mib": config.memory_mib })),
            ("/boot-source", boot),
            // By its name alone, so that a restored guest finds it in another folder too.
            ("/vsock", json!({ "guest_cid": cid, "uds_path": VSOCK })),
            ("/actions", json!({ "action_type": "InstanceStart" })),
        ];
        let done = calls.iter().try_for_each(|(path, body)| starting.api.call("PUT", path, body));
        starting.finish(done)
    }
}

/// Short: the path of the API's socket in the jail holds it.
fn jail_id(place: &Place) -> String {
    format!("v{}", place.cid)
}

/// The folder that Firecracker works in, which is all that it sees of the file system if it is jailed.
struct Room {
    dir: PathBuf,
    /// The user of the jail.
    user: Option<u32>,
}

impl Room {
    /// Makes a file of the host visible, to be read. A link where that is possible: a kernel and a memory file are large.
    fn take_in(&self, file: &Path, name: &str) -> Result<(), Error> {
        let to = self.dir.join(name);
        let from = std::path::absolute(file).map_err(error::io("read", file))?;
        if self.user.is_none() {
            return std::os::unix::fs::symlink(&from, &to).map_err(error::io("make", &to));
        }
        // A link would carry the file's own rights along, which may shut the jail's user out.
        fs::copy(&from, &to).map_err(error::io("copy", &from))?;
        fs::set_permissions(&to, Permissions::from_mode(0o400)).map_err(error::io("write", &to))?;
        self.give(&to)
    }

    fn give(&self, file: &Path) -> Result<(), Error> {
        self.user.map_or(Ok(()), |user| chown(file, Some(user), Some(user)).map_err(error::io("give away", file)))
    }

    /// As Firecracker names it.
    fn inside(&self, name: &str) -> String {
        if self.user.is_some() { format!("/{name}") } else { self.dir.join(name).display().to_string() }
    }
}

/// A Firecracker that has not been told yet what to run.
struct Starting {
    vmm: Own,
    api: Api,
    console: Console,
    log: PathBuf,
    vsock: PathBuf,
    ready: UnixListener,
    began: Instant,
    place: Place,
    confined: String,
    isolation: Isolation,
}

impl Starting {
    /// A machine, if all went well; else the refusal, after the VMM and its folder are gone.
    fn finish(self, done: Result<(), Error>) -> Result<Machine, Error> {
        done?;
        let Self { vmm, api, console, log, vsock, ready, began, place, confined, isolation } = self;
        let control = Box::new(api);
        let parts = Parts { driver: NAME, isolation, confined, control, console, log, vsock, ready, began, place };
        Machine::new(vmm, Vec::new(), parts)
    }
}
