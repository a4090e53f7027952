//! Two nodes whose replication streams are joined: state goes over, writes go with the token, subscriptions fire on who leads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Node, PATIENCE, SOL, encode, funded, http, options, transfer};
use osvm_bank::Role;
use osvm_model::handover::{HandedOver, NodeStatus, PATH_ALONE, PATH_HAND_OVER, PATH_LEAD, PATH_STATUS, Refusal};
use serde_json::{Value, json};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::{net::TcpStream, task::JoinHandle};

async fn standby() -> Node {
    let mut options = options(None);
    options.bank.role = Role::Standby;
    Node::start(options).await
}

/// What the control plane does: connects to both and copies.
async fn join(a: &Node, b: &Node) -> JoinHandle<()> {
    let mut one = TcpStream::connect(a.server.replication_address().unwrap()).await.unwrap();
    let mut other = TcpStream::connect(b.server.replication_address().unwrap()).await.unwrap();
    tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
    })
}

async fn status(node: &Node) -> NodeStatus {
    let answer = http(node.server.control_address().unwrap(), "GET", PATH_STATUS, "", b"").await;
    serde_json::from_str(&answer.body).unwrap()
}

async fn in_sync(node: &Node) {
    let wait = async {
        while !status(node).await.in_sync {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the standby does not catch up");
}

async fn hand_over(node: &Node) -> HandedOver {
    let answer = http(node.server.control_address().unwrap(), "POST", PATH_HAND_OVER, "", b"").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_keeps_state_history_and_blockhashes_and_moves_the_writes() {
    let old = common::node().await;
    let from = funded(&old.rpc, 10).await;
    let to = Keypair::new().pubkey();
    let first = transfer(&from, &to, SOL, old.rpc.blockhash().await);
    let signature = old.rpc.send(&first).await["result"].as_str().unwrap().to_owned();
    let new = standby().await;
    let _joined = join(&old, &new).await;
    in_sync(&new).await;
    in_sync(&old).await;
    assert_eq!(status(&new).await.role, Role::Standby);
    assert_eq!(status(&new).await.genesis_hash, status(&old).await.genesis_hash);
    assert_eq!(http(new.rpc.address, "GET", "/health", "", b"").await.body, "ok");

    let blockhash = old.rpc.blockhash().await;
    let moved = hand_over(&old).await;
    assert!(moved.accounts > 0);
    assert_eq!((status(&old).await.role, status(&new).await.role), (Role::Standby, Role::Leader));

    // What was told before is on the new one, and a blockhash from before is good there.
    assert_eq!(new.rpc.balance(&to, "processed").await, SOL);
    new.rpc.reached(&signature, "finalized").await;
    let second = transfer(&from, &to, 2 * SOL, blockhash);
    let answer = new.rpc.send(&second).await;
    assert!(answer["result"].is_string(), "{answer}");
    assert_eq!(new.rpc.balance(&to, "processed").await, 3 * SOL);

    // The old one takes no write and says so in the gateway's words; it goes on reading.
    let third = transfer(&from, &to, 4 * SOL, blockhash);
    let body = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "getSlot" },
        { "jsonrpc": "2.0", "id": 2, "method": "sendTransaction", "params": [encode(&third), { "encoding": "base64" }] }
    ]);
    for body in [body[1].to_string(), body.to_string()] {
        let refused = old.rpc.post("", &body).await;
        assert_eq!(refused.status, 503);
        assert!(refused.head.contains("x-osvm-not-processed: 1"), "{}", refused.head);
    }
    let wait = async {
        while old.rpc.balance(&to, "processed").await != 3 * SOL {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the old one does not follow");

    // And back again on the same stream.
    in_sync(&new).await;
    hand_over(&new).await;
    let answer = old.rpc.send(&third).await;
    assert!(answer["result"].is_string(), "{answer}");
    assert_eq!(old.rpc.balance(&to, "processed").await, 7 * SOL);
    old.stop().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_on_a_standby_are_silent_until_it_leads() {
    let old = common::node().await;
    let new = standby().await;
    let _joined = join(&old, &new).await;
    in_sync(&new).await;
    in_sync(&old).await;
    let key = Keypair::new().pubkey();
    let (mut before, mut after) = (old.ws().await, new.ws().await);
    let params = json!([key.to_string(), { "commitment": "processed" }]);
    let on_old = before.subscribe("accountSubscribe", params.clone()).await;
    let on_new = after.subscribe("accountSubscribe", params).await;
    let slots = after.subscribe("slotSubscribe", json!([])).await;
    old.rpc.airdrop(&key, SOL).await;
    assert_eq!(before.next_of(on_old).await["value"]["lamports"], SOL);
    assert!(after.silent(Duration::from_millis(200)).await, "a standby must not tell anything");

    let moved = hand_over(&old).await;
    let first = after.next_of(slots).await;
    assert!(first["parent"].as_u64().unwrap() > moved.slot, "told of {first} after {}", moved.slot);
    new.rpc.airdrop(&key, SOL).await;
    assert_eq!(after.next_of(on_new).await["value"]["lamports"], 2 * SOL);
    assert!(before.silent(Duration::from_millis(200)).await, "who does not lead must not tell anything");
    old.stop().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_before_the_hand_over_is_told_final_after_it() {
    let mut slow = options(None);
    slow.bank.finality_slots = 20;
    let old = Node::start(slow.clone()).await;
    slow.bank.role = Role::Standby;
    let new = Node::start(slow).await;
    let _joined = join(&old, &new).await;
    in_sync(&new).await;
    in_sync(&old).await;
    let key = Keypair::new().pubkey();
    let mut ws = new.ws().await;
    let account = ws.subscribe("accountSubscribe", json!([key.to_string(), { "commitment": "finalized" }])).await;
    let signature = old.rpc.airdrop(&key, SOL).await;
    let sent = ws.subscribe("signatureSubscribe", json!([signature, { "commitment": "finalized" }])).await;
    let logs =
        ws.subscribe("logsSubscribe", json!([{ "mentions": [key.to_string()] }, { "commitment": "finalized" }])).await;
    hand_over(&old).await;
    let mut told = std::collections::HashMap::new();
    while told.len() < 3 {
        let params = ws.next().await;
        told.insert(params["subscription"].as_u64().unwrap(), params["result"]["value"].clone());
    }
    assert_eq!(told[&account]["lamports"], SOL);
    assert_eq!(told[&sent], json!({ "err": null }));
    assert_eq!(told[&logs]["signature"], signature.as_str());
    old.stop().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_standby_a_hand_over_is_refused_and_a_standby_can_be_told_to_lead() {
    let old = common::node().await;
    let refused = http(old.server.control_address().unwrap(), "POST", PATH_HAND_OVER, "", b"").await;
    assert_eq!(refused.status, 409);
    let refusal: Refusal = serde_json::from_str(&refused.body).unwrap();
    assert!(refusal.error.contains("standby"), "{}", refusal.error);
    old.rpc.ok("getHealth", json!([])).await;

    let new = standby().await;
    let alone = http(new.server.control_address().unwrap(), "POST", PATH_LEAD, "", b"").await;
    assert_eq!(alone.status, 409, "a standby without state must not lead: {}", alone.body);
    assert_eq!(http(new.rpc.address, "GET", "/health", "", b"").await.body, "unknown");

    let joined = join(&old, &new).await;
    in_sync(&new).await;
    let key = Keypair::new().pubkey();
    in_sync(&old).await;
    old.rpc.airdrop(&key, SOL).await;
    old.stop().await;
    joined.abort();
    let led = http(new.server.control_address().unwrap(), "POST", PATH_LEAD, "", b"").await;
    assert_eq!(led.status, 200, "{}", led.body);
    assert_eq!(new.rpc.balance(&key, "processed").await, SOL);
    new.rpc.airdrop(&key, SOL).await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_told_to_go_on_alone_and_a_standby_refuses() {
    let (leader, follower) = (common::node().await, standby().await);
    let _joined = join(&leader, &follower).await;
    in_sync(&leader).await;
    in_sync(&follower).await;
    let told = |node: &Node| {
        let address = node.server.control_address().unwrap();
        async move { http(address, "POST", PATH_ALONE, "", b"").await }
    };
    let refused = told(&follower).await;
    assert_eq!(refused.status, 409);
    assert!(serde_json::from_str::<Refusal>(&refused.body).unwrap().error.contains("does not lead"));
    assert!(status(&leader).await.in_sync);
    let done = told(&leader).await;
    assert_eq!(done.status, 200, "{}", done.body);
    let now: NodeStatus = serde_json::from_str(&done.body).unwrap();
    assert!(now.role == Role::Leader && !now.in_sync);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_lost_or_done_twice_when_the_token_goes_over_under_load() {
    let (a, b) = (common::node().await, standby().await);
    let _joined = join(&a, &b).await;
    in_sync(&a).await;
    in_sync(&b).await;
    let from = funded(&a.rpc, 1_000).await;
    let to = Keypair::new().pubkey();
    let urls = [a.rpc, b.rpc];
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let (count, mut counted) = tokio::sync::watch::channel(0);
    let load = tokio::spawn(async move {
        let mut done = Vec::new();
        let mut leader = 0;
        for lamports in SOL.. {
            if *stopped.borrow_and_update() {
                break;
            }
            let blockhash = urls[leader].blockhash().await;
            let transaction = transfer(&from, &to, lamports, blockhash);
            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": [encode(&transaction), { "encoding": "base64" }] });
            loop {
                let answer = urls[leader].post("x-osvm-retry: 1\r\n", &body.to_string()).await;
                if answer.status == 200 {
                    let value: Value = answer.json();
                    assert!(value["result"].is_string(), "{value}");
                    done.push(lamports);
                    count.send_replace(done.len());
                    break;
                }
                assert!(answer.head.contains("x-osvm-not-processed: 1"));
                leader = 1 - leader;
            }
        }
        (done, to)
    });
    for round in 0..6 {
        let leader = if round % 2 == 0 { &a } else { &b };
        in_sync(leader).await;
        let before = *counted.borrow();
        counted.wait_for(|done| *done > before + 3).await.unwrap();
        hand_over(leader).await;
    }
    stop.send(true).unwrap();
    let (done, to) = load.await.unwrap();
    assert_eq!(a.rpc.balance(&to, "processed").await, done.iter().sum::<u64>());
    a.stop().await;
    b.stop().await;
}
