//! Real servers from npm and PyPI, unmodified, each with a call that works and an attempt that leads nowhere. They need node, npm,
//! python3 with pip, and the two registries.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod with_registries {
    use std::{fs, net::ToSocketAddrs, path::Path, process::Command};

    use osvm_mcp::config::{Config, Server};
    use serde_json::{Value, json};

    use super::common::{Bridge, audited, text};

    /// A declared and installed server, behind the bridge under its own names.
    fn installed(folder: &Path, line: &[&str], change: impl FnOnce(&mut Server)) -> Bridge {
        let mut server = Server::new(line.iter().map(|word| (*word).to_owned()).collect());
        change(&mut server);
        let config = Config { servers: [("s".to_owned(), server.clone())].into(), ..Config::default() };
        config.save(&folder.join("mcp.toml")).unwrap();
        install(folder, &[]);
        Bridge::start(folder, &[("s", server)], &["--only", "s"])
    }

    fn install(folder: &Path, args: &[&str]) {
        let output = command(folder).args(["install", "s"]).args(args).args(addresses()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-mcp"));
        command.env("OSVM_MCP_CONFIG", folder.join("mcp.toml")).env("OSVM_HOME", folder);
        command
    }

    /// The registries' addresses, by themselves: where they are mirrors, they may be such as have to be named.
    fn addresses() -> Vec<String> {
        let hosts = ["registry.npmjs.org:443", "pypi.org:443", "files.pythonhosted.org:443"];
        let mut found: Vec<_> =
            hosts.iter().flat_map(|host| host.to_socket_addrs().unwrap()).map(|at| at.to_string()).collect();
        found.sort();
        found.dedup();
        found.into_iter().flat_map(|at| ["--allow".to_owned(), at]).collect()
    }

    #[test]
    fn filesystem_reads_its_folder_and_no_other_one_that_it_was_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let (data, other) = (folder.path().join("data"), folder.path().join("other"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(data.join("a"), "for it").unwrap();
        fs::write(other.join("a"), "not for it").unwrap();
        let (data_text, other_text) = (data.to_str().unwrap(), other.to_str().unwrap());
        let line = ["npx", "-y", "@modelcontextprotocol/server-filesystem@2026.8.31", data_text, other_text];
        let mut bridge = installed(folder.path(), &line, |server| server.read.push(data.clone()));
        let read =
            |bridge: &mut Bridge, folder: &Path| bridge.call("read_text_file", json!({ "path": folder.join("a") }));
        assert_eq!(text(&read(&mut bridge, &data)), "for it");
        let refused = read(&mut bridge, &other);
        assert!(refused["result"]["isError"] == true && !refused.to_string().contains("not for it"), "{refused}");
        let written = bridge.call("write_file", json!({ "path": data.join("b"), "content": "x" }));
        assert_eq!(written["result"]["isError"], true, "{written}");
        assert!(!data.join("b").exists());
        bridge.end();
        let outcomes: Vec<_> = audited(folder.path()).iter().map(|line| line["outcome"].clone()).collect();
        assert_eq!(outcomes, ["done", "the tool reports an error", "the tool reports an error"]);
        // The lock is followed, and a registry that serves other bytes is refused.
        install(folder.path(), &[]);
        let lock = folder.path().join("mcp/packages/s/package-lock.json");
        let before = fs::read_to_string(&lock).unwrap();
        let mut changed: Value = serde_json::from_str(&before).unwrap();
        let entry = "node_modules/@modelcontextprotocol/server-filesystem";
        changed["packages"][entry]["integrity"] = json!(format!("sha512-{}==", "A".repeat(86)));
        fs::write(&lock, changed.to_string()).unwrap();
        assert!(!command(folder.path()).args(["install", "s"]).args(addresses()).output().unwrap().status.success());
        install(folder.path(), &["--update"]);
        let after: Value = serde_json::from_str(&fs::read_to_string(&lock).unwrap()).unwrap();
        assert_ne!(after["packages"][entry]["integrity"], changed["packages"][entry]["integrity"]);
    }

    #[test]
    fn memory_keeps_what_it_may_write_and_loses_nothing_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        let line = ["npx", "-y", "@modelcontextprotocol/server-memory@2026.8.31"];
        let mut bridge = installed(folder.path(), &line, |server| {
            server.env.insert("MEMORY_FILE_PATH".to_owned(), kept.join("memory.json").display().to_string());
            server.write.push(kept.clone());
        });
        let entities = json!([{ "name": "a", "entityType": "b", "observations": ["c"] }]);
        assert!(bridge.call("create_entities", json!({ "entities": entities }))["result"].is_object());
        assert!(text(&bridge.call("read_graph", json!({}))).contains("\"a\""));
        bridge.end();
        assert!(fs::read_to_string(kept.join("memory.json")).unwrap().contains("\"a\""));
        // The same, without the permission.
        let mut bridge = installed(folder.path(), &line, |server| {
            server.env.insert("MEMORY_FILE_PATH".to_owned(), folder.path().join("elsewhere").display().to_string());
        });
        let answer = bridge.call("create_entities", json!({ "entities": entities }));
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        bridge.end();
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn everything_and_sequential_thinking_work_and_see_no_variable_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let line = ["npx", "-y", "@modelcontextprotocol/server-everything@2026.8.31"];
        let mut bridge = installed(folder.path(), &line, |_| {});
        assert!(text(&bridge.call("echo", json!({ "message": "hello" }))).contains("hello"));
        let told = bridge.call("get-env", json!({}));
        assert!(text(&told).contains("PATH") && !told.to_string().contains("OSVM_HOME"), "{told}");
        bridge.end();
        // Another folder: in the first one a server of this name has other tools, and these would be held.
        let folder = tempfile::tempdir().unwrap();
        let line = ["npx", "-y", "@modelcontextprotocol/server-sequential-thinking"];
        let mut bridge = installed(folder.path(), &line, |_| {});
        let thought = json!({ "thought": "a", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1 });
        assert!(text(&bridge.call("sequentialthinking", thought)).contains("\"thoughtNumber\": 1"));
        bridge.end();
    }

    #[test]
    fn time_tells_it_and_fetch_reaches_no_site_that_is_not_declared() {
        let folder = tempfile::tempdir().unwrap();
        let mut bridge = installed(folder.path(), &["uvx", "mcp-server-time", "--local-timezone", "UTC"], |_| {});
        assert!(text(&bridge.call("get_current_time", json!({ "timezone": "UTC" }))).contains("UTC"));
        bridge.end();
        let folder = tempfile::tempdir().unwrap();
        // Its own rule against addresses that are not public is switched off: the jail's is what counts.
        let line = ["uvx", "mcp-server-fetch", "--ignore-robots-txt", "--allow-private-ips"];
        let mut bridge = installed(folder.path(), &line, |server| {
            server.allow.push("192.0.2.1:80".to_owned());
            server.call_seconds = 30;
        });
        for url in [
            "http://169.254.169.254/latest/meta-data/",
            "http://metadata.google.internal/",
            "http://attacker.example/",
            "http://127.0.0.1:22/",
        ] {
            let answer = bridge.call("fetch", json!({ "url": url }));
            assert!(answer["error"].is_object() || answer["result"]["isError"] == true, "{answer}");
        }
        let log = bridge.end();
        // What is asked of 127.0.0.1 goes to the jail's own, where nobody is.
        assert_eq!(log.matches("egress refused: ").count(), 3, "{log}");
    }
}
