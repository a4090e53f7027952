//! The checklist against nodes that lie, lag or babble. The nodes are scripts behind real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use osvm_solana::{
    Client, Error,
    checklist::{self, Options},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

type Answers = Arc<dyn Fn(&str, &Value) -> Option<Value> + Send + Sync>;

/// What a sound node answers.
fn sound(method: &str, slot: u64) -> Value {
    let hash = bs58::encode([7; 32]).into_string();
    match method {
        "getGenesisHash" => json!(hash),
        "getIdentity" => json!({"identity": hash}),
        "getVersion" => json!({"solana-core": "4.2.2", "feature-set": 1}),
        "getHealth" => json!("ok"),
        "getSlot" => json!(slot),
        "getFirstAvailableBlock" | "minimumLedgerSlot" => json!(0),
        "getLatestBlockhash" => {
            json!({"context": {"slot": slot}, "value": {"blockhash": hash, "lastValidBlockHeight": 150}})
        }
        "isBlockhashValid" => json!({"context": {"slot": slot}, "value": true}),
        "getAccountInfo" => json!({"context": {"slot": slot}, "value": {
            "lamports": 1, "owner": hash, "executable": true, "rentEpoch": 0, "space": 3, "data": ["AAAA", "base64"],
        }}),
        "simulateTransaction" => json!({"context": {"slot": slot}, "value": {"err": null, "logs": []}}),
        other => panic!("unexpected call {other}"),
    }
}

/// A node whose slot moves on with each question, and that answers `answers` where that gives something.
async fn node(answers: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static) -> Client {
    let answers: Answers = Arc::new(answers);
    let slot = Arc::new(AtomicU64::new(100));
    let raw = move |body: &[u8]| {
        let request: Value = serde_json::from_slice(body).unwrap();
        let method = request["method"].as_str().unwrap();
        let now = slot.fetch_add(1, Ordering::Relaxed);
        let result = answers(method, &request["params"]).unwrap_or_else(|| sound(method, now));
        json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string().into_bytes()
    };
    raw_node(raw).await
}

/// A node that answers each POST with what `answer` makes of its body.
async fn raw_node(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&answer)));
        }
    });
    Client::from_url(&url).unwrap().with_timeout(Duration::from_secs(2))
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn(&[u8]) -> Vec<u8>>) {
    let mut seen = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8_lossy(&seen[..head]).to_lowercase();
        let length: usize =
            text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        while seen.len() < head + length {
            stream.read_buf(&mut seen).await.unwrap();
        }
        let body = answer(&seen[head..head + length]);
        seen.drain(..head + length);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    }
}

fn options() -> Options {
    Options { deadline: Instant::now() + Duration::from_millis(400), version: None, moves_on: true }
}

/// The line of the failure of a node that answers `method` with `value`, next to a sound one.
async fn failure(method: &'static str, value: Value) -> String {
    let new = node(move |asked, _| (asked == method).then(|| value.clone())).await;
    let old = node(|_, _| None).await;
    checklist::full(&new, Some(&old), &options()).await.expect_err("the node passed").line()
}

#[tokio::test]
async fn a_sound_node_passes_alone_and_beside_its_peer() {
    let new = node(|_, _| None).await;
    let alone = checklist::full(&new, None, &options()).await.unwrap();
    assert_eq!(alone.summary(), "genesis, version, health, slot, blockhash, reads");
    let old = node(|_, _| None).await;
    let beside = checklist::full(&new, Some(&old), &options()).await.unwrap();
    assert_eq!(beside.summary(), "genesis, version, health, slot, blockhash, ledger, reads");
}

#[tokio::test]
async fn another_genesis_is_told_with_both_hashes() {
    let other = bs58::encode([9; 32]).into_string();
    assert_eq!(failure("getGenesisHash", json!(other)).await, "getGenesisHash differs: cGfHi… is not US517…");
}

#[tokio::test]
async fn each_lie_is_found() {
    assert!(failure("getHealth", json!("behind")).await.contains("getHealth"));
    assert!(failure("getVersion", json!({})).await.contains("no solana-core"));
    assert!(failure("getSlot", json!(100)).await.contains("does not move on: 100"));
    assert!(failure("getSlot", json!(3)).await.contains("behind the serving instance"));
    assert!(failure("getFirstAvailableBlock", json!(50)).await.contains("history from 0"));
    assert!(failure("minimumLedgerSlot", json!(1)).await.contains("history from 0"));
    assert!(failure("getGenesisHash", json!("short")).await.contains("not 32 bytes"));
    let denied = json!({"context": {"slot": 1}, "value": false});
    assert!(failure("isBlockhashValid", denied).await.contains("denies"));
    let gone = json!({"context": {"slot": 1}, "value": null});
    assert_eq!(failure("getAccountInfo", gone).await, "getAccountInfo differs: no account is not 3 bytes");
    let failed = json!({"context": {"slot": 1}, "value": {"err": "AccountNotFound"}});
    assert!(failure("simulateTransaction", failed).await.contains("simulateTransaction differs"));
}

#[tokio::test]
async fn a_wanted_version_is_enforced() {
    let new = node(|_, _| None).await;
    let wanted = Options { version: Some("4.2.3".to_owned()), ..options() };
    let failed = checklist::full(&new, None, &wanted).await.unwrap_err();
    assert_eq!(failed.line(), "getVersion differs: 4.2.2 is not 4.2.3");
}

#[tokio::test]
async fn an_entry_on_its_way_is_waited_for() {
    let asked = AtomicU64::new(0);
    let new = node(move |method, _| {
        let late = method == "isBlockhashValid" && asked.fetch_add(1, Ordering::Relaxed) < 3;
        late.then(|| json!({"context": {"slot": 1}, "value": false}))
    })
    .await;
    let old = node(|_, _| None).await;
    checklist::full(&new, Some(&old), &options()).await.unwrap();
}

#[tokio::test]
async fn garbage_is_told_as_such() {
    for garbage in ["<html>", "", "{}", "{\"jsonrpc\":\"2.0\",\"id\":999,\"result\":1}", "\u{7}\u{7}"] {
        let new = raw_node(move |_| garbage.as_bytes().to_vec()).await;
        let failed = checklist::full(&new, None, &options()).await.unwrap_err();
        assert!(
            failed.line().starts_with("getGenesisHash was answered with what is not JSON-RPC"),
            "{}",
            failed.line()
        );
    }
}

#[tokio::test]
async fn a_peer_that_is_gone_is_not_the_nodes_fault() {
    let new = node(|_, _| None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = Client::from_url(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let failed = checklist::full(&new, Some(&gone), &options()).await.unwrap_err();
    assert!(matches!(failed, checklist::Failed::Peer(Error::Connect { .. })), "{failed:?}");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::from_url(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        // Each connection answers once and is closed without a word.
        for id in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let body = json!({"jsonrpc": "2.0", "id": id, "result": 5}).to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    for _ in 0..20 {
        assert_eq!(client.slot().await.unwrap(), 5);
    }
}

#[tokio::test]
async fn an_instance_is_asked_over_hybrid_vsock() {
    let folder = std::env::temp_dir().join(format!("osvm-solana-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let uds = folder.join("i.sock");
    let guest = osvm_vsock::Guest::bind(&uds).await.unwrap();
    let mut incoming = guest.listen(8899).unwrap();
    tokio::spawn(async move {
        let mut stream = incoming.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        let body = r#"{"jsonrpc":"2.0","id":1,"result":"ok"}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
    });
    let endpoint = osvm_model::Endpoint::Vsock { uds, port: 8899 };
    Client::from_endpoint(&endpoint).health().await.unwrap();
    drop(guest);
    std::fs::remove_dir_all(folder).unwrap();
}
