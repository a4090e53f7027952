//! Jails that a user makes who is not root, in namespaces of users, with control groups that were delegated to them; and refusals where
//! there are none. Needs root, to become such a user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use osvm_jail::{Limits, Spec, closure};

/// The user of these tests. Nobody is this one.
const USER: u32 = 54_321;
/// What an attempt says when it was refused.
const REFUSED: i32 = 10;
/// Attempts that need nothing but the program.
const ATTEMPTS: [&str; 24] = [
    "read-etc-passwd",
    "read-by-dotdot-symlink",
    "list-root-home",
    "proc-init-environ",
    "proc-sys-write",
    "device-ptmx",
    "mount-tmpfs",
    "new-mount-api",
    "chroot-and-back",
    "name-to-handle",
    "chmod-setuid",
    "mknod-device",
    "chown",
    "write-root",
    "inherited-env",
    "unshare-user",
    "clone3-user",
    "setuid",
    "bpf-map",
    "userfaultfd",
    "io-uring",
    "raw-socket",
    "thread-bomb",
    "disk-fill",
];

fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join(name)
}

/// The binaries where such a user can read them, and control groups below our own that are the user's.
struct Delegated {
    folder: tempfile::TempDir,
    groups: Vec<PathBuf>,
    begin: Vec<PathBuf>,
}

impl Delegated {
    fn new(groups: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["osvm-jail", "examples/escape"] {
            let file = folder.path().join(Path::new(name).file_name().unwrap());
            fs::copy(built(name), &file).unwrap();
            fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let mut delegated = Self { folder, groups: Vec::new(), begin: Vec::new() };
        if groups {
            delegated.delegate();
        }
        delegated
    }

    /// Makes groups that belong to the user, and finds those in which the user's program begins.
    fn delegate(&mut self) {
        let name = format!("osvm-test-{}", std::process::id());
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let wanted = ["memory", "pids", "cpu", "cpuacct"];
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next().unwrap(), parts.next().unwrap().trim_start_matches('/'));
            if controllers.split(',').any(|name| wanted.contains(&name)) {
                let group = Path::new("/sys/fs/cgroup").join(controllers).join(path).join(&name);
                self.give(group.clone());
                self.begin.push(group);
            }
        }
        if self.groups.is_empty() {
            // Version 2, as systemd does it: a slice that is the user's, whose children have the controllers, and a scope in it.
            let top = Path::new("/sys/fs/cgroup");
            let slice = top.join(name);
            fs::write(top.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
            self.give(slice.clone());
            fs::write(slice.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
            self.give(slice.join("scope"));
            self.begin.push(slice.join("scope"));
        }
    }

    fn give(&mut self, group: PathBuf) {
        fs::create_dir(&group).unwrap();
        for file in
            ["", "tasks", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"].map(|file| group.join(file))
        {
            if file.exists() {
                chown(&file, Some(USER), Some(USER)).unwrap();
            }
        }
        self.groups.push(group);
    }

    fn run(&self, spec: &Spec) -> Output {
        // A process enters the groups while it is root.
        let enter: String =
            self.begin.iter().map(|group| format!("echo 0 > {}/cgroup.procs; ", group.display())).collect();
        let user = USER.to_string();
        let script = format!("{enter}exec setpriv --reuid={user} --regid={user} --clear-groups \"$0\"");
        let mut command = Command::new("sh");
        command.args(["-ec", &script]).arg(self.folder.path().join("osvm-jail")).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("OSVM_SECRET", "x");
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&serde_json::to_vec(spec).unwrap()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn attempt(&self, name: &str) -> Spec {
        let program = self.folder.path().join("escape");
        let mut spec = Spec::new(&program);
        spec.argv = ["escape", "attempt", name, "shared=/none", "own=/tmp"].map(str::to_owned).to_vec();
        spec.mounts = closure(&program, &[]).unwrap();
        spec.cwd = PathBuf::from("/tmp");
        spec
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in self.groups.iter().rev() {
            let _ = fs::remove_dir(group);
        }
    }
}

fn said(output: &Output) -> String {
    [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat()
}

#[test]
fn a_user_with_control_groups_of_their_own_gets_a_jail() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let delegated = Delegated::new(true);
    let mut wrong = Vec::new();
    for name in ATTEMPTS {
        let output = delegated.run(&delegated.attempt(name));
        if output.status.code() != Some(REFUSED) {
            wrong.push(format!("{name}: {}: {}", output.status, said(&output)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // What is allowed works.
    let mut spec = delegated.attempt("");
    spec.argv = ["escape", "uses"].map(str::to_owned).to_vec();
    spec.proc = true;
    let output = delegated.run(&spec);
    assert!(output.status.success(), "{}", said(&output));

    let output = delegated.run(&delegated.attempt("memory-bomb"));
    assert!(!output.status.success() && said(&output).contains("(OOM)"), "{}", said(&output));

    for group in &delegated.groups {
        let inside = fs::read_dir(group).unwrap().flatten().filter(|entry| entry.path().is_dir());
        let left: Vec<_> = inside.map(|entry| entry.path()).filter(|path| !delegated.groups.contains(path)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_user_without_control_groups_is_refused_with_the_reason() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let delegated = Delegated::new(false);
    let mut spec = delegated.attempt("inherited-env");
    spec.limits = Limits { cpus: Some(1.0), ..Limits::default() };
    let output = delegated.run(&spec);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("cannot be made"), "{}", said(&output));
    assert!(said(&output).contains("help: run as root, or in a group delegated to you"), "{}", said(&output));
}

#[test]
fn a_host_without_the_controllers_is_refused_with_the_reason() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let delegated = Delegated::new(false);
    let spec = serde_json::to_vec(&delegated.attempt("inherited-env")).unwrap();
    // A view of the host, for this process only, in which there are no control groups, or those of version 2 alone.
    let folder = tempfile::tempdir().unwrap();
    let none = "umount -l -R /sys/fs/cgroup";
    for (view, reason) in [
        (none.to_owned(), "no control group for memory is mounted"),
        (format!("{none} && mount -t cgroup2 none {}", folder.path().display()), "controller memory is not available"),
    ] {
        let script = format!("{view} && exec \"$0\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-ec", &script]).arg(built("osvm-jail"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&spec).unwrap();
        let output = child.wait_with_output().unwrap();
        let own_v2 = !fs::read_to_string("/proc/self/cgroup").unwrap().contains(":memory");
        if own_v2 && reason.starts_with("controller") {
            // Here version 2 has the controllers, and is what every other test uses.
            continue;
        }
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains(reason), "{}", said(&output));
    }
}
