//! Instances at level `process`. They need root, and osvm-jail beside the tests' folder: `cargo build -p osvm-jail`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use osvm_model::{Generation, IsolationLevel, IsolationRequest, handover::Role};
use osvm_runtime::{Driver, Exit, Process, StartSpec, choose, driver};

const LONG: Duration = Duration::from_secs(20);
/// Between two looks at a file that another process writes.
const LOOK: Duration = Duration::from_millis(2);

fn jails() -> &'static dyn Driver {
    assert!(rustix::process::geteuid().is_root(), "these tests need root");
    driver(IsolationLevel::Process).expect("level process is not available")
}

fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("program");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    path
}

fn spec(folder: &Path, text: &str) -> StartSpec {
    StartSpec {
        program: script(folder, text),
        args: vec!["one".to_owned()],
        env: BTreeMap::from([("WORD".to_owned(), "x".to_owned())]),
        uds: folder.join("i/vsock"),
        state: folder.join("state"),
        generation: Generation(7),
        role: Role::Leader,
        log: folder.join("7.log"),
        read: Vec::new(),
        memory: None,
    }
}

fn folder() -> tempfile::TempDir {
    // 0700, as a state folder is: what is inside must be seen all the same.
    tempfile::Builder::new().prefix("osvm-jailed-").tempdir().unwrap()
}

async fn ended(process: &Process) -> Exit {
    tokio::time::timeout(LONG, process.exited()).await.expect("the process did not end")
}

async fn until_log(spec: &StartSpec, word: &str) {
    let looks = async {
        while !fs::read_to_string(&spec.log).unwrap_or_default().contains(word) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(LONG, looks).await.unwrap_or_else(|_| panic!("{:?}", fs::read_to_string(&spec.log)));
}

/// Control groups of that monitor, in whichever hierarchy.
fn groups(pid: u32) -> Vec<PathBuf> {
    let name = format!(".{pid}");
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let own = entry.file_name().to_string_lossy().into_owned();
            if own.starts_with("osvm-jail.") && own.ends_with(&name) {
                found.push(entry.path());
            } else if entry.path().is_dir() && !entry.path().is_symlink() {
                todo.push(entry.path());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_jailed_instance_sees_its_state_its_socket_and_its_program_and_nothing_else() {
    let folder = folder();
    let secret = folder.path().join("secret");
    fs::write(&secret, "no").unwrap();
    let text = format!(
        "#!/bin/sh\necho files: /* /osvm/* /osvm/state/* /dev/* /tmp/*\necho words: \"$@\" $WORD $OSVM_ROLE\n\
         [ -e {0} ] && echo secret\n[ -e /proc ] && echo proc\necho new > /osvm/state/new && echo wrote\n\
         (echo new > /osvm/program) 2>/dev/null && echo changed\n(echo new > /new) 2>/dev/null && echo root\nexit 3\n",
        secret.display()
    );
    let spec = spec(folder.path(), &text);
    fs::create_dir(&spec.state).unwrap();
    fs::write(spec.state.join("old"), "").unwrap();
    let process = jails().start(&spec).unwrap();
    assert_eq!(ended(&process).await, Exit::Code(3), "{:?}", fs::read_to_string(&spec.log));
    let log = fs::read_to_string(&spec.log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    // The shell's own interpreter and libraries are what else there is.
    let shown = "files: /bin /dev /lib /lib64 /osvm /osvm/program /osvm/run /osvm/state /osvm/state/old \
                 /dev/null /dev/random /dev/urandom /dev/zero /tmp/*";
    assert_eq!(lines, [shown, "words: one x leader", "wrote"], "{log}");
    assert_eq!(groups(process.pid()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_one_generation_writes_the_next_one_reads_and_it_belongs_to_the_user_outside() {
    let folder = folder();
    let spec = spec(
        folder.path(),
        "#!/bin/sh\numask 077\n[ -e private ] && read line < private && echo read $line\necho kept > private\n",
    );
    for _ in 0..2 {
        let process = jails().start(&spec).unwrap();
        assert_eq!(ended(&process).await, Exit::Code(0), "{:?}", fs::read_to_string(&spec.log));
    }
    assert_eq!(fs::read_to_string(&spec.log).unwrap(), "read kept\n");
    let meta = fs::metadata(spec.state.join("private")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (0, 0o600));
}

#[tokio::test]
async fn what_was_declared_to_be_read_is_there_at_its_own_path_and_cannot_be_written() {
    let folder = folder();
    let file = folder.path().join("accounts.json");
    fs::write(&file, "accounts\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "#!/bin/sh\nread line < {0} && echo $line\n(echo > {0}) 2>/dev/null && echo wrote\nexit 0\n",
        file.display()
    );
    let spec = StartSpec { read: vec![file], ..spec(folder.path(), &text) };
    let process = jails().start(&spec).unwrap();
    assert_eq!(ended(&process).await, Exit::Code(0));
    assert_eq!(fs::read_to_string(&spec.log).unwrap(), "accounts\n");
}

#[tokio::test]
async fn an_ending_is_asked_for_and_then_forced_and_leaves_nothing() {
    let folder = folder();
    let polite = spec(folder.path(), "#!/bin/sh\ntrap 'exit 5' TERM\necho up\nwhile :; do :; done\n");
    let process = jails().start(&polite).unwrap();
    until_log(&polite, "up").await;
    assert_eq!(process.terminate(LONG).await, Exit::Code(5));
    assert_eq!(groups(process.pid()), Vec::<PathBuf>::new());

    let deaf = spec(folder.path(), "#!/bin/sh\ntrap '' TERM\necho deaf\nwhile :; do :; done\n");
    let process = jails().start(&deaf).unwrap();
    until_log(&deaf, "deaf").await;
    assert!(!groups(process.pid()).is_empty());
    assert_eq!(process.terminate(Duration::from_millis(50)).await, Exit::Signal(9));
    // Told only when all of the jail is gone.
    assert_eq!(groups(process.pid()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_jail_is_adopted_measured_and_killed_as_one() {
    let folder = folder();
    let text = "#!/bin/sh\necho up\nwhile :; do :; done\n";
    let spec = StartSpec { memory: Some(64 << 20), ..spec(folder.path(), text) };
    let process = jails().start(&spec).unwrap();
    until_log(&spec, "up").await;
    let adopted = jails().adopt(process.pid(), process.start_time()).unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stats = jails().stats(adopted.pid()).unwrap();
    // The loop's, not the sleeping monitor's.
    assert!(stats.cpu_ms.unwrap() >= 20 && stats.memory_bytes.unwrap() > 0, "{stats:?}");
    assert!(stats.memory_peak_bytes.unwrap() >= stats.memory_bytes.unwrap(), "{stats:?}");
    // The jail's first process and the shell.
    assert_eq!((stats.memory_limit_bytes, stats.tasks, stats.oom_kills), (spec.memory, Some(2), Some(0)));
    assert_eq!(
        osvm_runtime::instances_under(&folder.path().join("i")),
        [(process.pid(), process.start_time())],
        "an instance that nobody noted is found by its monitor, once"
    );
    adopted.kill().await;
    ended(&process).await;
    assert_eq!(groups(process.pid()), Vec::<PathBuf>::new());
    assert!(jails().stats(process.pid()).is_none());
}

#[tokio::test]
async fn more_memory_than_it_may_have_ends_it_and_is_told_as_that() {
    let folder = folder();
    let text = "#!/bin/sh\nx=0123456789abcdef\nwhile :; do x=$x$x; done\n";
    let spec = StartSpec { memory: Some(48 << 20), ..spec(folder.path(), text) };
    let process = jails().start(&spec).unwrap();
    assert_eq!(ended(&process).await, Exit::Signal(9));
    let log = fs::read_to_string(&spec.log).unwrap();
    assert!(log.contains("for memory") && log.contains("(OOM)"), "{log}");
    let unlimited = driver(IsolationLevel::None).unwrap().start(&spec).unwrap_err();
    assert!(unlimited.to_string().contains("keeps no memory limit"), "{unlimited}");
}

#[tokio::test]
async fn auto_takes_the_jail_where_there_is_one() {
    jails();
    let chosen = choose(IsolationRequest::Auto).unwrap();
    assert_eq!(chosen.level, IsolationLevel::Process);
    assert!(chosen.why.contains("auto: process"), "{}", chosen.why);
}
