//! Starting, watching, adopting and ending real processes at level `none`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use osvm_model::{Generation, IsolationLevel, handover::Role};
use osvm_runtime::{Exit, Process, StartError, StartSpec, driver};

const LONG: Duration = Duration::from_secs(20);

fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("program");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn spec(folder: &Path, program: PathBuf) -> StartSpec {
    StartSpec {
        program,
        args: vec!["one".to_owned()],
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        uds: folder.join("i.sock"),
        state: folder.join("state"),
        generation: Generation(7),
        role: Role::Standby,
        log: folder.join("7.log"),
        read: Vec::new(),
        memory: None,
    }
}

fn start(spec: &StartSpec) -> Result<Process, StartError> {
    driver(IsolationLevel::None).unwrap().start(spec)
}

async fn ended(process: &Process) -> Exit {
    tokio::time::timeout(LONG, process.exited()).await.expect("the process did not end")
}

#[tokio::test]
async fn an_instance_sees_what_was_declared_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), script(folder.path(), "#!/bin/sh\necho \"$@\"; pwd; env; exit 3\n"));
    let process = start(&spec).unwrap();
    assert_eq!(ended(&process).await, Exit::Code(3));
    let log = fs::read_to_string(&spec.log).unwrap();
    let mut names: Vec<&str> = log.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    // The shell sets PWD (and perhaps OLDPWD, SHLVL, _) by itself.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["OSVM_GENERATION", "OSVM_ROLE", "OSVM_STATE", "OSVM_VSOCK", "PATH"]);
    assert!(log.starts_with(&format!("one\n{}\n", spec.state.display())), "{log}");
    assert!(log.contains("OSVM_ROLE=standby") && log.contains("OSVM_GENERATION=7"));
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let none = spec(folder.path(), folder.path().join("none"));
    assert!(matches!(start(&none), Err(StartError::Missing { .. })));
    let text = spec(folder.path(), script(folder.path(), "\x7fELF nonsense"));
    assert!(matches!(start(&text), Err(StartError::WrongFormat { .. })));
    fs::set_permissions(&text.program, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(start(&text), Err(StartError::NotExecutable { .. })));
}

#[tokio::test]
async fn ending_asks_first_and_then_kills_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let polite = script(folder.path(), "#!/bin/sh\ntrap 'exit 5' TERM\necho up\nwhile :; do sleep 0.01; done\n");
    let polite = spec(folder.path(), polite);
    let process = start(&polite).unwrap();
    wait_for_line(&polite.log, "up").await;
    assert_eq!(process.terminate(LONG).await, Exit::Code(5));

    let stubborn =
        script(folder.path(), "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho child $!\nwhile :; do sleep 1; done\n");
    let stubborn = spec(folder.path(), stubborn);
    let process = start(&stubborn).unwrap();
    let line = wait_for_line(&stubborn.log, "child ").await;
    assert_eq!(process.terminate(Duration::from_millis(50)).await, Exit::Signal(9));
    let child: u32 = line.trim_start_matches("child ").parse().unwrap();
    wait_until("the child of the group ends", || !alive(child)).await;
}

#[tokio::test]
async fn a_process_is_adopted_by_its_id_and_start_time_only() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), script(folder.path(), "#!/bin/sh\nexec sleep 1000\n"));
    let process = start(&spec).unwrap();
    let (pid, start_time) = (process.pid(), process.start_time());
    assert!(Process::adopt(pid, start_time + 1).unwrap().is_none());
    let adopted = Process::adopt(pid, start_time).unwrap().unwrap();
    assert_eq!(adopted.try_exit(), None);
    process.kill().await;
    assert_eq!(ended(&adopted).await, Exit::Unknown);
    assert!(Process::adopt(pid, start_time).unwrap().is_none());
    assert!(Process::adopt(u32::MAX, 1).unwrap().is_none());
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn wait_for_line(log: &Path, start: &str) -> String {
    let mut found = None;
    wait_until("the program says something", || {
        let text = fs::read_to_string(log).unwrap_or_default();
        found = text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
        found.is_some() && text.ends_with('\n')
    })
    .await;
    found.unwrap()
}

async fn wait_until(what: &str, mut seen: impl FnMut() -> bool) {
    let looked = tokio::time::timeout(LONG, async {
        while !seen() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}
