//! What the gateway promises to clients with Solana subscriptions.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    Gateway,
    node::{Node, WsClient},
};
use futures_util::SinkExt;
use http::StatusCode;
use osvm_model::{BackendRole::*, ListenerProtocol::SolanaPubsub};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

fn slot_of(news: &Value) -> u64 {
    news["params"]["result"]["slot"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_stay_and_no_slot_is_lost_or_told_twice_over_twenty_shifts() {
    const SHIFTS: u64 = 20;
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    // All nodes see the same slots, the later one a little later, as a standby does.
    let nodes: Arc<Mutex<Vec<Arc<Node>>>> = Arc::new(Mutex::new(vec![Arc::new(Node::start(0).await)]));
    let first = nodes.lock().unwrap()[0].addr;
    gateway.route(&[(0, first, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    let account = client.call("accountSubscribe", json!(["key"])).await["result"].clone();
    let slots = client.call("slotSubscribe", json!([])).await["result"].clone();
    assert!(account.is_u64() && slots.is_u64() && account != slots);
    let done = CancellationToken::new();
    let (all, stop) = (Arc::clone(&nodes), done.clone());
    let clock = tokio::spawn(async move {
        let mut slot = 1000u64;
        while !stop.is_cancelled() {
            for node in all.lock().unwrap().iter() {
                node.tell("slot", &json!({ "parent": slot - 1, "root": 0, "slot": slot }));
                node.tell("account", &json!({ "context": { "slot": slot }, "value": slot }));
            }
            slot += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        slot - 1
    });
    let (slot_id, account_id) = (slots.clone(), account.clone());
    let reader = tokio::spawn(async move {
        let (mut told, mut last_account) = (Vec::new(), 0);
        loop {
            let news = client.next().await;
            if news["id"] == "end" {
                return told;
            }
            if news["method"] == "slotNotification" {
                assert_eq!(news["params"]["subscription"], slot_id);
                told.push(slot_of(&news));
                if *told.last().unwrap() % 50 == 0 {
                    client.send(json!({ "jsonrpc": "2.0", "id": 1, "method": "getVersion" })).await;
                }
            } else if news["method"] == "accountNotification" {
                assert_eq!(news["params"]["subscription"], account_id);
                let slot = news["params"]["result"]["context"]["slot"].as_u64().unwrap();
                assert!(last_account == 0 || slot == last_account + 1, "{slot} after {last_account}");
                last_account = slot;
            } else {
                assert_eq!(news["result"]["echo"], "getVersion");
            }
            if told.last().is_some_and(|slot| *slot == u64::MAX) {
                return told;
            }
        }
    });
    for shift in 1..=SHIFTS {
        let new = Arc::new(Node::start(shift * 1000).await);
        let old = Arc::clone(&nodes.lock().unwrap()[0]);
        nodes.lock().unwrap().push(Arc::clone(&new));
        let applied = gateway.route(&[(shift - 1, old.addr, Active), (shift, new.addr, Prepare)]).await;
        let prepared = applied.prepared[common::POOL];
        assert!(prepared.complete && prepared.clients == 1 && prepared.subscriptions == 2, "{prepared:?}");
        gateway.route(&[(shift - 1, old.addr, Drain), (shift, new.addr, Active)]).await;
        let (status, left) = gateway.drained(shift - 1, 5000).await;
        assert_eq!(status, StatusCode::OK, "{left:?}");
        gateway.route(&[(shift, new.addr, Active)]).await;
        nodes.lock().unwrap().remove(0);
    }
    done.cancel();
    let last = clock.await.unwrap();
    nodes.lock().unwrap()[0].tell("slot", &json!({ "slot": u64::MAX }));
    let told = reader.await.unwrap();
    assert_eq!(told[told.len() - 2], last);
    for pair in told[..told.len() - 1].windows(2) {
        assert_eq!(pair[1], pair[0] + 1, "a slot was lost or told twice");
    }
    assert_eq!(gateway.stats().await.failures.total(), 0);
}

#[tokio::test]
async fn a_dead_instance_is_followed_by_the_next_under_the_same_ids() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let node = Node::start(10).await;
    gateway.route(&[(1, node.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    let id = client.call("slotSubscribe", json!([])).await["result"].clone();
    node.tell("slot", &json!({ "slot": 5 }));
    assert_eq!(slot_of(&client.next().await), 5);
    drop(node);
    gateway.until(|stats| stats.generations[0].tunnels == 0).await;
    // Asked while nobody is there.
    client.send(json!({ "jsonrpc": "2.0", "id": "late", "method": "accountSubscribe", "params": ["key"] })).await;
    let next = Node::start(90).await;
    gateway.route(&[(2, next.addr, Active)]).await;
    let answer = client.next().await;
    assert_eq!(answer["id"], "late");
    gateway.until(|stats| stats.subscriptions == 2).await;
    while next.subscriptions() < 2 {
        tokio::task::yield_now().await;
    }
    next.tell("slot", &json!({ "slot": 5 }));
    next.tell("slot", &json!({ "slot": 6 }));
    let news = client.next().await;
    assert_eq!((slot_of(&news), &news["params"]["subscription"]), (6, &id), "slot 5 was told before");
}

#[tokio::test]
async fn a_subscription_under_way_is_asked_again_elsewhere() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let mute = Node::mute().await;
    gateway.route(&[(1, mute.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    client.send(json!({ "jsonrpc": "2.0", "id": 7, "method": "logsSubscribe", "params": ["all"] })).await;
    gateway.until(|stats| stats.generations[0].tunnels == 1).await;
    let next = Node::start(90).await;
    drop(mute);
    gateway.route(&[(2, next.addr, Active)]).await;
    let answer = client.next().await;
    assert!(answer["id"] == 7 && answer["result"].is_u64(), "{answer}");
}

#[tokio::test]
async fn a_signature_is_told_once_and_is_then_gone() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let (old, new) = (Node::start(0).await, Node::start(1000).await);
    gateway.route(&[(1, old.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    client.call("signatureSubscribe", json!(["sig"])).await;
    client.call("slotSubscribe", json!([])).await;
    gateway.route(&[(1, old.addr, Active), (2, new.addr, Prepare)]).await;
    let done = json!({ "context": { "slot": 9 }, "value": { "err": null } });
    new.tell("signature", &done);
    old.tell("signature", &done);
    assert_eq!(client.next().await["method"], "signatureNotification");
    gateway.until(|stats| stats.subscriptions == 1).await;
    gateway.route(&[(1, old.addr, Drain), (2, new.addr, Active)]).await;
    assert_eq!(gateway.drained(1, 5000).await.0, StatusCode::OK);
    new.tell("slot", &json!({ "slot": 10 }));
    assert_eq!(client.next().await["method"], "slotNotification");
}

#[tokio::test]
async fn what_only_the_next_instance_said_before_the_shift_is_not_lost() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let (old, new) = (Node::start(0).await, Node::start(1000).await);
    gateway.route(&[(1, old.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    client.call("logsSubscribe", json!(["all"])).await;
    gateway.route(&[(1, old.addr, Active), (2, new.addr, Prepare)]).await;
    let log = |slot: u64, text: &str| json!({ "context": { "slot": slot }, "value": text });
    old.tell("logs", &log(5, "a"));
    for text in ["a", "b"] {
        new.tell("logs", &log(5, text));
    }
    new.tell("logs", &log(6, "c"));
    assert_eq!(client.next().await["params"]["result"]["value"], "a");
    drop(old);
    gateway.route(&[(2, new.addr, Active)]).await;
    for text in ["b", "c"] {
        assert_eq!(client.next().await["params"]["result"]["value"], text);
    }
}

#[tokio::test]
async fn a_shift_that_is_taken_back_leaves_the_client_with_the_old_instance() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let (old, new) = (Node::start(0).await, Node::start(1000).await);
    gateway.route(&[(1, old.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    let id = client.call("slotSubscribe", json!([])).await["result"].clone();
    gateway.route(&[(1, old.addr, Active), (2, new.addr, Prepare)]).await;
    gateway.route(&[(1, old.addr, Drain), (2, new.addr, Active)]).await;
    assert_eq!(gateway.drained(1, 5000).await.0, StatusCode::OK);
    drop(new);
    gateway.route(&[(1, old.addr, Active)]).await;
    while old.subscriptions() == 0 {
        tokio::task::yield_now().await;
    }
    old.tell("slot", &json!({ "slot": 3 }));
    let news = client.next().await;
    assert_eq!((slot_of(&news), &news["params"]["subscription"]), (3, &id));
}

#[tokio::test]
async fn an_instance_that_cannot_be_prepared_does_not_hold_up_the_table() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let (old, mute) = (Node::start(0).await, Node::mute().await);
    gateway.route(&[(1, old.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    client.call("slotSubscribe", json!([])).await;
    let began = std::time::Instant::now();
    let applied = gateway.route(&[(1, old.addr, Active), (2, mute.addr, Prepare)]).await;
    assert!(!applied.prepared[common::POOL].complete);
    assert!(began.elapsed() < Duration::from_secs(5));
    old.tell("slot", &json!({ "slot": 3 }));
    assert_eq!(slot_of(&client.next().await), 3);
}

#[tokio::test]
async fn an_end_of_a_subscription_and_errors_are_answered() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let node = Node::start(50).await;
    gateway.route(&[(1, node.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    let id = client.call("accountSubscribe", json!(["key"])).await["result"].clone();
    assert_eq!(client.call("accountSubscribe", json!(["bad"])).await["error"]["message"], "bad");
    assert_eq!(client.call("accountUnsubscribe", json!([id])).await["result"], true);
    assert_eq!(client.call("accountUnsubscribe", json!([id])).await["error"]["code"], -32602);
    assert_eq!(client.call("accountUnsubscribe", json!("x")).await["error"]["code"], -32602);
    client.socket.send(Message::text("{nonsense")).await.unwrap();
    assert_eq!(client.next().await["error"]["code"], -32600);
    while node.subscriptions() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_batch_is_answered_as_one() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let node = Node::start(50).await;
    gateway.route(&[(1, node.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    let call = |id: u64, method: &str| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": [] });
    client.send(json!([call(1, "slotSubscribe"), 7, call(2, "getVersion"), call(3, "slotUnsubscribe")])).await;
    let answers = client.next().await;
    let mut seen: Vec<_> = answers.as_array().unwrap().iter().map(|one| one["id"].as_u64()).collect();
    seen.sort();
    assert_eq!(seen, [None, Some(1), Some(2), Some(3)]);
    client.send(json!([])).await;
    assert_eq!(client.next().await["error"]["code"], -32600);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_with_1013() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let node = Node::start(50).await;
    gateway.route(&[(1, node.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    client.call("blockSubscribe", json!(["all"])).await;
    let block = json!({ "context": { "slot": 1 }, "value": "x".repeat(1 << 20) });
    for _ in 0..100 {
        node.tell("block", &block);
    }
    gateway.until(|stats| stats.pubsub_clients == 0).await;
    assert_eq!(client.closed().await, 1013);
}

#[tokio::test]
async fn the_end_of_the_gateway_closes_with_1001() {
    let mut gateway = Gateway::start(SolanaPubsub, &["--announce-ms", "1"]).await;
    let node = Node::start(50).await;
    gateway.route(&[(1, node.addr, Active)]).await;
    let mut client = WsClient::connect(gateway.addr).await;
    client.call("slotSubscribe", json!([])).await;
    gateway.begin_end();
    assert_eq!(client.closed().await, 1001);
    gateway.ended().await;
}
