//! A disk that really is full: a tmpfs in a mount namespace of the node's own, which no other process sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{net::SocketAddr, path::Path, process::Stdio};

use common::{PATIENCE, Rpc, SOL, funded, transfer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// The size of the disk. A ledger without transactions needs less than half of it.
const DISK: &str = "size=4m";

/// Mounts the disk over `folder`, for itself alone, and becomes the node, twice: the second time on what the first one left.
async fn start_on_a_disk_of_its_own(folder: &Path) -> (Shell, BufReader<tokio::process::ChildStdout>) {
    let script = format!(
        "mount -t tmpfs -o {DISK} none \"$1\" || exit 9; \
         \"$2\" --ledger \"$1\" --rpc-port 0 --slot-ms 50; \
         exec \"$2\" --ledger \"$1\" --rpc-port 0 --slot-ms 50"
    );
    // Mounting takes root, or a user namespace in which one is root; in a chroot the kernel refuses those.
    let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
    let mut child = Command::new("unshare")
        .args(user)
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(folder)
        .arg(env!("CARGO_BIN_EXE_osvm-localnet"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("unshare of util-linux is needed");
    let out = BufReader::new(child.stdout.take().unwrap());
    (Shell(child), out)
}

async fn serves(out: &mut BufReader<tokio::process::ChildStdout>) -> Rpc {
    let mut line = String::new();
    tokio::time::timeout(PATIENCE, out.read_line(&mut line)).await.unwrap().unwrap();
    let address: SocketAddr = line
        .split("http://")
        .nth(1)
        .unwrap_or_else(|| panic!("the node did not start (are user namespaces allowed?): {line:?}"))
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    Rpc::new(address)
}

/// The shell, which must not leave its first node behind when the test fails.
struct Shell(Child);

impl Shell {
    /// The node, while it is a child of the shell.
    fn node(&self) -> Option<Pid> {
        let shell = self.0.id()?;
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let node = self.node();
        let _ = self.0.start_kill();
        if let Some(node) = node {
            let _ = kill_process(node, Signal::KILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_in_words_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, mut out) = start_on_a_disk_of_its_own(folder.path()).await;
    let rpc = serves(&mut out).await;
    let from = funded(&rpc, 1_000).await;
    let to = Keypair::new().pubkey();

    let mut acknowledged = Vec::new();
    let mut lamports = SOL;
    let refusal = loop {
        let transaction = transfer(&from, &to, lamports, rpc.blockhash().await);
        let answer = rpc.send(&transaction).await;
        if answer["error"].is_object() {
            break answer;
        }
        acknowledged.push((transaction.signatures[0].to_string(), lamports));
        lamports += 1;
        if acknowledged.len() == 50 {
            // From here on the disk has room for nothing.
            let filler = format!("/proc/{}/root{}/filler", shell.node().unwrap(), folder.path().display());
            let _ = std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(filler).unwrap());
        }
        assert!(acknowledged.len() < 100_000, "the disk never filled up");
    };
    let words = refusal["error"]["message"].as_str().unwrap();
    assert!(words.contains("space") || words.contains("full"), "{refusal}");

    // Reads go on, with all that was acknowledged.
    let total: u64 = acknowledged.iter().map(|(_, lamports)| lamports).sum();
    assert_eq!(rpc.balance(&to, "processed").await, total);

    // Once there is room again, writes go on.
    let node = shell.node().unwrap();
    std::fs::remove_file(format!("/proc/{node}/root{}/filler", folder.path().display())).unwrap();
    let transaction = loop {
        let transaction = transfer(&from, &to, SOL, rpc.blockhash().await);
        if rpc.send(&transaction).await["result"].is_string() {
            break transaction;
        }
        lamports += 1;
        assert!(lamports < SOL + 1_000_000, "it never took a write again");
    };
    acknowledged.push((transaction.signatures[0].to_string(), SOL));

    // And a node that is killed then starts on what is there.
    kill_process(node, Signal::KILL).unwrap();
    let rpc = serves(&mut out).await;
    assert_eq!(rpc.balance(&to, "processed").await, total + SOL);
    for page in acknowledged.chunks(200) {
        let signatures: Vec<&str> = page.iter().map(|(signature, _)| signature.as_str()).collect();
        let statuses = rpc.ok("getSignatureStatuses", json!([signatures, { "searchTransactionHistory": true }])).await;
        assert!(statuses["value"].as_array().unwrap().iter().all(|status| status["slot"].is_u64()), "{statuses}");
    }
}
