//! Instances at level `unikernel`. They need root, `/dev/kvm`, and osvm-jail and osvm-unikernel beside the tests' folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod in_a_vm {
    use std::{
        collections::BTreeMap,
        fs,
        path::{Path, PathBuf},
        time::Duration,
    };

    use osvm_model::{Generation, IsolationLevel, handover::Role};
    use osvm_runtime::{Driver, Exit, Process, StartSpec, driver};

    const LONG: Duration = Duration::from_secs(30);
    /// Between two looks at a file that another process writes.
    const LOOK: Duration = Duration::from_millis(2);

    fn vms() -> &'static dyn Driver {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        driver(IsolationLevel::Unikernel).unwrap_or_else(|refused| panic!("{refused}; {}", refused.help))
    }

    /// An ordinary program of the host, with its libraries.
    fn spec(folder: &Path, program: &str, args: &[&str]) -> StartSpec {
        StartSpec {
            program: PathBuf::from(program),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: BTreeMap::from([("WORD".to_owned(), "x".to_owned())]),
            uds: folder.join("i/vsock"),
            state: folder.join("state"),
            generation: Generation(7),
            role: Role::Standby,
            log: folder.join("7.log"),
            read: Vec::new(),
            memory: None,
        }
    }

    async fn ended(process: &Process) -> Exit {
        tokio::time::timeout(LONG, process.exited()).await.expect("the process did not end")
    }

    async fn run(spec: &StartSpec) -> (Exit, String) {
        let process = vms().start(spec).unwrap();
        let exit = ended(&process).await;
        (exit, fs::read_to_string(&spec.log).unwrap())
    }

    #[tokio::test]
    async fn an_instance_in_a_vm_writes_its_state_and_reads_what_was_declared_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("accounts.json");
        fs::write(&file, "accounts\n").unwrap();
        fs::write(folder.path().join("secret"), "no").unwrap();
        let name = file.to_str().unwrap();
        let declared =
            |program, args: &[&str]| StartSpec { read: vec![file.clone()], ..spec(folder.path(), program, args) };
        let (exit, log) = run(&declared("/bin/cp", &[name, "copied"])).await;
        assert_eq!(exit, Exit::Code(0), "{log}");
        assert_eq!(fs::read(folder.path().join("state/copied")).unwrap(), b"accounts\n");
        // The next one has the state; the file is not to be changed, and its neighbour is not there.
        let (exit, log) = run(&declared("/bin/cat", &["copied"])).await;
        assert_eq!((exit, log.lines().last()), (Exit::Code(0), Some("accounts")), "{log}");
        let (exit, log) = run(&declared("/bin/cp", &["copied", name])).await;
        assert!(exit == Exit::Code(1) && log.contains("Read-only file system"), "{exit:?} {log}");
        let secret = folder.path().join("secret");
        for other in
            [secret.to_str().unwrap(), concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "/etc/fstab", "/osvm/run"]
        {
            let (exit, log) = run(&declared("/bin/cat", &[other])).await;
            assert!(exit == Exit::Code(1) && log.contains("No such file"), "{other}: {exit:?} {log}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"accounts\n");
    }

    #[tokio::test]
    async fn an_instance_in_a_vm_gets_its_words_and_its_environment_and_no_socket() {
        let folder = tempfile::tempdir().unwrap();
        let (exit, log) = run(&spec(folder.path(), "/usr/bin/env", &["-u", "NOTHING"])).await;
        assert_eq!(exit, Exit::Code(0), "{log}");
        let mut lines: Vec<&str> = log.lines().collect();
        lines.sort_unstable();
        let all = [
            "OSVM_CONTROL_PORT=8901",
            "OSVM_GENERATION=7",
            "OSVM_REPLICATION_PORT=8902",
            "OSVM_ROLE=standby",
            "OSVM_STATE=/osvm/state",
            "WORD=x",
        ];
        assert_eq!(lines, all);
    }

    #[tokio::test]
    async fn an_instance_in_a_vm_ends_when_asked_and_its_use_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(folder.path(), "/bin/sleep", &["100"]);
        let process = vms().start(&spec).unwrap();
        let up = async {
            while std::os::unix::net::UnixStream::connect(&spec.uds).is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(LONG, up).await.expect("the monitor does not listen");
        let used = vms().stats(process.pid()).unwrap();
        assert!(used.memory_bytes.unwrap() > 1 << 20 && used.memory_limit_bytes.is_some(), "{used:?}");
        let exit = process.terminate(LONG).await;
        assert!(matches!(exit, Exit::Code(143) | Exit::Signal(15)), "{exit:?}");
        assert!(!spec.uds.exists());
    }
}
