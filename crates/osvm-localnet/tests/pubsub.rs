//! Subscriptions of each kind, their levels and their limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Node, PATIENCE, SOL, funded, node, options, transfer};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio_tungstenite::tungstenite::{self, protocol::frame::coding::CloseCode};

const SYSTEM: &str = "11111111111111111111111111111111";

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_told_at_each_level_with_the_state_of_that_slot() {
    let node = node().await;
    let key = Keypair::new().pubkey();
    let mut ws = node.ws().await;
    let mut ids = Vec::new();
    for level in ["processed", "confirmed", "finalized"] {
        let config = json!({ "commitment": level, "encoding": "base64" });
        ids.push(ws.subscribe("accountSubscribe", json!([key.to_string(), config])).await);
    }
    node.rpc.airdrop(&key, SOL).await;
    let mut slots = Vec::new();
    for id in ids {
        let told = ws.next_of(id).await;
        let expected = json!({
            "data": ["", "base64"], "executable": false, "lamports": SOL, "owner": SYSTEM, "rentEpoch": u64::MAX, "space": 0
        });
        assert_eq!(told["value"], expected);
        slots.push(told["context"]["slot"].as_u64().unwrap());
    }
    assert!(slots.iter().all(|slot| *slot == slots[0]), "all three are about the slot of the change: {slots:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_with_two_changes_is_told_once_when_confirmed_and_nothing_without_a_change() {
    let mut options = options(None);
    options.bank.slot = Duration::from_millis(400);
    let node = Node::start(options).await;
    let from = funded(&node.rpc, 5).await;
    let to = Keypair::new().pubkey();
    let slot = node.rpc.ok("getSlot", json!([{ "commitment": "processed" }])).await.as_u64().unwrap();
    node.rpc.past("processed", slot).await;
    let mut ws = node.ws().await;
    let id = ws.subscribe("accountSubscribe", json!([to.to_string(), { "commitment": "confirmed" }])).await;
    let blockhash = node.rpc.blockhash().await;
    for lamports in [SOL, SOL + 1] {
        assert!(node.rpc.send(&transfer(&from, &to, lamports, blockhash)).await["result"].is_string());
    }
    assert_eq!(ws.next_of(id).await["value"]["lamports"], 2 * SOL + 1);
    assert!(ws.silent(Duration::from_millis(900)).await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_told_once_even_if_it_is_done_already() {
    let node = node().await;
    let from = funded(&node.rpc, 5).await;
    let mut ws = node.ws().await;
    let transaction = transfer(&from, &Keypair::new().pubkey(), SOL, node.rpc.blockhash().await);
    let signature = transaction.signatures[0].to_string();
    let config = json!({ "commitment": "confirmed", "enableReceivedNotification": true });
    let before = ws.subscribe("signatureSubscribe", json!([signature, config])).await;
    node.rpc.send(&transaction).await;
    assert_eq!(ws.next_of(before).await["value"], "receivedSignature");
    assert_eq!(ws.next_of(before).await["value"], json!({ "err": null }));
    let after = ws.subscribe("signatureSubscribe", json!([signature, { "commitment": "confirmed" }])).await;
    assert_eq!(ws.next_of(after).await["value"], json!({ "err": null }));
    let last = ws.subscribe("signatureSubscribe", json!([signature])).await;
    assert_eq!(ws.next_of(last).await["value"], json!({ "err": null }));
    assert!(ws.silent(Duration::from_millis(200)).await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_told_to_those_who_name_an_address_of_the_transaction() {
    let node = node().await;
    let from = funded(&node.rpc, 5).await;
    let mut ws = node.ws().await;
    let level = json!({ "commitment": "processed" });
    let all = ws.subscribe("logsSubscribe", json!(["all", level])).await;
    let mine = ws.subscribe("logsSubscribe", json!([{ "mentions": [from.pubkey().to_string()] }, level])).await;
    let other = Keypair::new().pubkey().to_string();
    let theirs = ws.subscribe("logsSubscribe", json!([{ "mentions": [other] }, level])).await;
    let transaction = transfer(&from, &Keypair::new().pubkey(), SOL, node.rpc.blockhash().await);
    node.rpc.send(&transaction).await;
    let (mut seen, signature) = (Vec::new(), transaction.signatures[0].to_string());
    for _ in 0..2 {
        let told = ws.next().await;
        assert_eq!(told["result"]["value"]["signature"], signature.as_str());
        assert!(told["result"]["value"]["logs"][0].as_str().unwrap().contains("invoke [1]"));
        seen.push(told["subscription"].as_u64().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, [all, mine]);
    assert!(ws.silent(Duration::from_millis(100)).await, "{theirs} was told");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programs_accounts_are_told_if_they_pass_the_filters() {
    let node = node().await;
    let mut ws = node.ws().await;
    let config =
        |size: u64| json!({ "commitment": "processed", "encoding": "base64", "filters": [{ "dataSize": size }] });
    let empty = ws.subscribe("programSubscribe", json!([SYSTEM, config(0)])).await;
    let _large = ws.subscribe("programSubscribe", json!([SYSTEM, config(1_000_000)])).await;
    let key = Keypair::new().pubkey();
    node.rpc.airdrop(&key, SOL).await;
    loop {
        let told = ws.next().await;
        assert_eq!(told["subscription"], empty);
        if told["result"]["value"]["pubkey"] == key.to_string() {
            assert_eq!(told["result"]["value"]["account"]["lamports"], SOL);
            break;
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_roots_and_updates_go_on_one_by_one() {
    let node = node().await;
    node.rpc.past("finalized", 1).await;
    let mut ws = node.ws().await;
    let slot = ws.subscribe("slotSubscribe", json!([])).await;
    let root = ws.subscribe("rootSubscribe", json!([])).await;
    let updates = ws.subscribe("slotsUpdatesSubscribe", json!([])).await;
    let (mut slots, mut roots, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    while slots.len() < 3 || roots.len() < 3 {
        let told = ws.next().await;
        let result = &told["result"];
        if told["subscription"] == slot {
            assert_eq!(result["parent"].as_u64().unwrap() + 1, result["slot"].as_u64().unwrap());
            slots.push(result["slot"].as_u64().unwrap());
        } else if told["subscription"] == root {
            roots.push(result.as_u64().unwrap());
        } else {
            assert_eq!(told["subscription"], updates);
            kinds.push(result["type"].as_str().unwrap().to_owned());
        }
    }
    assert!(slots.windows(2).all(|two| two[0] + 1 == two[1]), "{slots:?}");
    assert!(roots.windows(2).all(|two| two[0] + 1 == two[1]), "{roots:?}");
    for kind in ["frozen", "optimisticConfirmation", "createdBank", "root"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind} was not told");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_told_whole() {
    let node = node().await;
    let mut ws = node.ws().await;
    let key = Keypair::new().pubkey();
    let config = json!({ "commitment": "confirmed", "encoding": "json", "maxSupportedTransactionVersion": 0, "showRewards": true });
    let id = ws.subscribe("blockSubscribe", json!([{ "mentionsAccountOrProgram": key.to_string() }, config])).await;
    let signature = node.rpc.airdrop(&key, SOL).await;
    let told = ws.next_of(id).await;
    assert_eq!(told["value"]["slot"], told["context"]["slot"]);
    assert_eq!(told["value"]["block"]["transactions"][0]["transaction"]["signatures"][0], signature.as_str());
    assert!(told["value"]["block"]["blockhash"].is_string());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_unsubscribed_is_silent_and_wrong_ids_are_errors() {
    let node = node().await;
    let mut ws = node.ws().await;
    let id = ws.subscribe("slotSubscribe", json!([])).await;
    ws.next_of(id).await;
    assert_eq!(ws.call("rootUnsubscribe", json!([id])).await["error"]["code"], -32602);
    assert_eq!(ws.call("slotUnsubscribe", json!([id])).await["result"], true);
    ws.waiting.clear();
    assert!(ws.silent(Duration::from_millis(150)).await);
    let again = ws.call("slotUnsubscribe", json!([id])).await;
    assert_eq!(again["error"]["message"], "Invalid subscription id.");
    assert_eq!(ws.call("nothingSubscribe", json!([])).await["error"]["code"], -32601);
    assert!(ws.subscribe("voteSubscribe", json!([])).await > id);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_subscriptions_and_messages_are_kept() {
    let mut options = options(None);
    options.limits.subscriptions_per_connection = 2;
    let node = Node::start(options).await;
    let mut ws = node.ws().await;
    ws.subscribe("voteSubscribe", json!([])).await;
    ws.subscribe("voteSubscribe", json!([])).await;
    let refused = ws.call("voteSubscribe", json!([])).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("limit 2"), "{refused}");
    let large = " ".repeat(osvm_localnet::limits::WS_MESSAGE_BYTES + 1);
    ws.socket.send(tungstenite::Message::Text(large.into())).await.unwrap();
    assert_eq!(closed(&mut ws).await, Some(CloseCode::Size));
    node.stop().await;
}

async fn closed(ws: &mut common::Ws) -> Option<CloseCode> {
    let wait = async {
        loop {
            match ws.socket.next().await {
                Some(Ok(tungstenite::Message::Close(frame))) => return frame.map(|frame| frame.code),
                Some(Ok(_)) => {}
                _ => return None,
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it was not closed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_closed_and_others_go_on() {
    let mut options = options(None);
    options.limits.ws_queue = 8;
    let node = Node::start(options).await;
    let mut slow = node.ws().await;
    // More answers at once than the queue holds: the connection's own task is not running while it reads them all.
    for _ in 0..200 {
        slow.subscribe("programSubscribe", json!([SYSTEM, { "commitment": "processed" }])).await;
    }
    let mut other = node.ws().await;
    let id = other.subscribe("slotSubscribe", json!([])).await;
    node.rpc.airdrop(&Keypair::new().pubkey(), SOL).await;
    assert_eq!(closed(&mut slow).await, Some(CloseCode::Again));
    for _ in 0..3 {
        other.next_of(id).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_goodbye() {
    let node = node().await;
    let mut ws = node.ws().await;
    ws.subscribe("voteSubscribe", json!([])).await;
    let (code, ()) = tokio::join!(closed(&mut ws), node.stop());
    assert_eq!(code, Some(CloseCode::Away));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_answered_and_keep_the_connection() {
    let node = node().await;
    let mut ws = node.ws().await;
    for text in ["{", "1", "[]", "[1", r#"{"jsonrpc":"2.0","id":4}"#, "\u{0}"] {
        ws.socket.send(tungstenite::Message::Text(text.into())).await.unwrap();
        let message = ws.socket.next().await.unwrap().unwrap();
        let answer: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert!(answer["error"]["code"].is_i64(), "{text}: {answer}");
    }
    assert!(ws.subscribe("slotSubscribe", json!([])).await < u64::MAX);
    node.stop().await;
}
