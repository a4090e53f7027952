//! The binary: its exit codes, its words, and what a killed one leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use common::{PATIENCE, Rpc, SOL, funded, transfer};
use serde_json::json;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-localnet"));
    command.args(args).stdin(Stdio::null()).kill_on_drop(true).env_clear();
    command
}

/// Starts a node on free ports and waits until it says where it serves.
async fn start(ledger: &Path, more: &[&str]) -> (Child, Rpc) {
    let mut args =
        vec!["--ledger", ledger.to_str().unwrap(), "--rpc-port", "0", "--slot-ms", "50", "--finality-slots", "4"];
    args.extend_from_slice(more);
    serving(command(&args)).await
}

/// Starts it and waits until it says where it serves.
async fn serving(mut command: Command) -> (Child, Rpc) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("it ended");
    let address: SocketAddr = line.split("http://").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    (child, Rpc::new(address))
}

async fn run(args: &[&str]) -> Output {
    let child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it does not end").unwrap()
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

async fn ended(mut child: Child) -> std::process::ExitStatus {
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("it does not end").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_keeps_everything_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, rpc) = start(folder.path(), &[]).await;
    let from = funded(&rpc, 1_000).await;
    let to = Keypair::new().pubkey();
    let genesis = rpc.ok("getGenesisHash", json!([])).await;
    let mut sent = Vec::new();
    for lamports in SOL..SOL + 40 {
        let transaction = transfer(&from, &to, lamports, rpc.blockhash().await);
        assert!(rpc.send(&transaction).await["result"].is_string());
        sent.push(transaction.signatures[0].to_string());
    }
    child.start_kill().unwrap();
    child.wait().await.unwrap();

    let (child, rpc) = start(folder.path(), &[]).await;
    assert_eq!(rpc.ok("getGenesisHash", json!([])).await, genesis);
    let total: u64 = (SOL..SOL + 40).sum();
    assert_eq!(rpc.balance(&to, "processed").await, total);
    let statuses = rpc.ok("getSignatureStatuses", json!([sent, { "searchTransactionHistory": true }])).await;
    assert!(
        statuses["value"].as_array().unwrap().iter().all(|status| status["err"].is_null() && status["slot"].is_u64())
    );
    terminate(&child);
    assert!(ended(child).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_stop_ends_well_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let (child, rpc) = start(folder.path(), &[]).await;
    let key = Keypair::new().pubkey();
    rpc.airdrop(&key, SOL).await;
    terminate(&child);
    assert_eq!(ended(child).await.code(), Some(0));
    for file in ["validator-keypair.json", "faucet-keypair.json", "vote-account-keypair.json", "validator.log"] {
        assert!(folder.path().join(file).exists(), "{file} is missing");
    }
    let (child, rpc) = start(folder.path(), &[]).await;
    assert_eq!(rpc.balance(&key, "processed").await, SOL);
    terminate(&child);
    ended(child).await;
    let (child, rpc) = start(folder.path(), &["--reset"]).await;
    assert_eq!(rpc.balance(&key, "processed").await, 0);
    terminate(&child);
    ended(child).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_flag_is_exit_code_2_and_named() {
    for args in [
        &["--no-such-flag"][..],
        &["--slot-ms", "0"],
        &["--limit-scans", "0"],
        &["--account", "x"],
        &["--role", "king"],
    ] {
        let output = run(args).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("error: ") && text.contains(args[0]), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_exit_code_1_and_one_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let ledger = ledger.to_str().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (child, _) = start(Path::new(ledger), &[]).await;
    let system = "11111111111111111111111111111111";
    for (args, words) in [
        (&["--ledger", file, "--rpc-port", "0"][..], &[file, "--ledger"][..]),
        (&["--ledger", ledger, "--rpc-port", "0"], &[ledger, "in use"]),
        (&["--ledger", folder.path().to_str().unwrap(), "--rpc-port", &port], &[&port, "--rpc-port"]),
        (
            &["--ledger", folder.path().to_str().unwrap(), "--rpc-port", "0", "--account", system, "none.json"],
            &["none.json"],
        ),
        (&["--ledger", folder.path().to_str().unwrap(), "--rpc-port", "0", "--account", system, file], &[file]),
        (&["--ledger", folder.path().to_str().unwrap(), "--rpc-port", "0", "--bpf-program", system, file], &[system]),
        (&["--ledger", folder.path().to_str().unwrap(), "--rpc-port", "0", "--mint", "nobody"], &["nobody"]),
    ] {
        let mut all = vec!["--quiet"];
        all.extend_from_slice(args);
        let output = run(&all).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        for word in words {
            assert!(text.contains(word), "{word} is not in {text}");
        }
    }
    terminate(&child);
    ended(child).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_handed_over_is_refused_in_one_line_and_led_on_by_who_may() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().to_str().unwrap();
    let args = ["--ledger", ledger, "--rpc-port", "0"];
    let mark = || std::fs::write(folder.path().join("handed-over"), "").unwrap();
    let (child, rpc) = start(folder.path(), &[]).await;
    let genesis = rpc.ok("getGenesisHash", json!([])).await;
    terminate(&child);
    ended(child).await;
    mark();
    let output = run(&[&["--quiet"], &args[..]].concat()).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in [ledger, "handed over", "--sole", "--reset"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    // By flag, as any leader after that, and by what the control plane sets.
    let by_environment = || {
        let mut command = command(&args);
        command.env(osvm_model::handover::ENV_SOLE, "true");
        command
    };
    for (marked, command) in
        [(false, command(&[&args[..], &["--sole"]].concat())), (false, command(&args)), (true, by_environment())]
    {
        if marked {
            mark();
        }
        let (child, rpc) = serving(command).await;
        assert_eq!(rpc.ok("getGenesisHash", json!([])).await, genesis);
        terminate(&child);
        ended(child).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_answered_before_the_node_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (child, rpc) = start(folder.path(), &[]).await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "getLeaderSchedule" });
    let batch = serde_json::Value::from(vec![call; 8]).to_string();
    let asking = tokio::spawn(async move { rpc.post("", &batch).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    terminate(&child);
    assert_eq!(asking.await.unwrap().status, 200);
    assert_eq!(ended(child).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_methods_is_the_table() {
    let output = run(&["--list-methods"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    for name in osvm_localnet::method_names().chain(["accountSubscribe", "voteUnsubscribe"]) {
        assert!(text.lines().any(|line| line.split('\t').next() == Some(name)), "{name} is not listed");
    }
}
