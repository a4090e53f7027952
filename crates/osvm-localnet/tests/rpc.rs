//! JSON-RPC over HTTP: the shapes that clients depend on, the errors, the limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::OnceLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use common::{Node, Rpc, SOL, encode, funded, http, node, options, transfer};
use proptest::prelude::*;
use serde_json::{Value, json};
use solana_keypair::Keypair;
use solana_signer::Signer;

const SYSTEM: &str = "11111111111111111111111111111111";

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_agaves_shape_in_each_encoding() {
    let node = node().await;
    let key = funded(&node.rpc, 2).await.pubkey().to_string();
    for (encoding, data) in [
        (Value::Null, json!("")),
        (json!("base58"), json!(["", "base58"])),
        (json!("base64"), json!(["", "base64"])),
        (json!("base64+zstd"), json!(["KLUv/SAAAQAA", "base64+zstd"])),
        (json!("jsonParsed"), json!(["", "base64"])),
    ] {
        let answer =
            node.rpc.ok("getAccountInfo", json!([key, { "encoding": encoding, "commitment": "processed" }])).await;
        assert_eq!(answer["context"]["apiVersion"], "4.2.2");
        assert!(answer["context"]["slot"].is_u64());
        let expected = json!({
            "data": data, "executable": false, "lamports": 2 * SOL, "owner": SYSTEM, "rentEpoch": u64::MAX, "space": 0
        });
        assert_eq!(answer["value"], expected, "{encoding}");
    }
    let none = node.rpc.ok("getAccountInfo", json!([Keypair::new().pubkey().to_string()])).await;
    assert!(none["value"].is_null());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_account_is_refused_in_base58_and_sliced_otherwise() {
    let node = node().await;
    let program = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
    let (code, message) = node
        .rpc
        .err(
            "getAccountInfo",
            json!(["SysvarRecentB1ockHashes11111111111111111111", { "encoding": "base58", "commitment": "processed" }]),
        )
        .await;
    assert_eq!(code, -32600);
    assert_eq!(message, "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding.");
    let config = json!({ "encoding": "base64", "dataSlice": { "offset": 0, "length": 4 }, "commitment": "processed" });
    let answer = node.rpc.ok("getAccountInfo", json!([program, config])).await;
    let data = BASE64_STANDARD.decode(answer["value"]["data"][0].as_str().unwrap()).unwrap();
    assert_eq!(data.len(), 4);
    assert_eq!(answer["value"]["executable"], true);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_answered_when_it_is_done_and_found_at_each_level() {
    let node = node().await;
    let from = funded(&node.rpc, 5).await;
    let to = Keypair::new().pubkey();
    let transaction = transfer(&from, &to, SOL, node.rpc.blockhash().await);
    let signature = node.rpc.send(&transaction).await["result"].as_str().unwrap().to_owned();
    assert_eq!(signature, transaction.signatures[0].to_string());
    // The answer says that it is done: no waiting.
    assert_eq!(node.rpc.balance(&to, "processed").await, SOL);
    let status = node.rpc.ok("getSignatureStatuses", json!([[signature]])).await["value"][0].clone();
    assert_eq!(status["err"], Value::Null);
    assert_eq!(status["status"], json!({ "Ok": null }));
    node.rpc.reached(&signature, "confirmed").await;
    assert_eq!(node.rpc.balance(&to, "confirmed").await, SOL);
    node.rpc.reached(&signature, "finalized").await;
    assert_eq!(node.rpc.balance(&to, "finalized").await, SOL);

    let found = node
        .rpc
        .ok("getTransaction", json!([signature, { "encoding": "jsonParsed", "maxSupportedTransactionVersion": 0 }]))
        .await;
    let parsed = &found["transaction"]["message"]["instructions"][0]["parsed"];
    assert_eq!(parsed["type"], "transfer");
    assert_eq!(parsed["info"]["lamports"], SOL);
    assert_eq!(found["version"], "legacy");
    assert_eq!(found["meta"]["fee"], 5000);
    assert!(found["blockTime"].is_i64());
    let block = node.rpc.ok("getBlock", json!([found["slot"], { "maxSupportedTransactionVersion": 0 }])).await;
    assert!(
        block["transactions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|tx| tx["transaction"]["signatures"][0] == signature.as_str())
    );
    for key in ["blockHeight", "blockTime", "blockhash", "parentSlot", "previousBlockhash", "rewards"] {
        assert!(!block[key].is_null(), "{key} is missing");
    }
    let signatures =
        node.rpc.ok("getBlock", json!([found["slot"], { "transactionDetails": "signatures", "rewards": false }])).await;
    assert!(signatures["signatures"].as_array().unwrap().contains(&json!(signature)));
    assert!(signatures.get("transactions").is_none());
    let lines = node.rpc.ok("getSignaturesForAddress", json!([to.to_string()])).await;
    assert_eq!(lines[0]["signature"], signature.as_str());
    assert_eq!(lines[0]["confirmationStatus"], "finalized");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_before_it_is_sent_says_why_with_agaves_code() {
    let node = node().await;
    let from = funded(&node.rpc, 1).await;
    let to = Keypair::new().pubkey();
    let poor = transfer(&from, &to, 5 * SOL, node.rpc.blockhash().await);
    let error = node.rpc.send(&poor).await["error"].clone();
    assert_eq!(error["code"], -32002);
    assert_eq!(
        error["message"],
        "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    );
    assert_eq!(error["data"]["err"], json!({ "InstructionError": [0, { "Custom": 1 }] }));
    assert!(
        error["data"]["logs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line.as_str().unwrap().contains("insufficient lamports"))
    );

    let stale = transfer(&from, &to, 1, Default::default());
    let error = node.rpc.send(&stale).await["error"].clone();
    assert_eq!((&error["code"], &error["data"]["err"]), (&json!(-32002), &json!("BlockhashNotFound")));

    let good = transfer(&from, &to, SOL / 2, node.rpc.blockhash().await);
    assert!(node.rpc.send(&good).await["result"].is_string());
    let again = node.rpc.send(&good).await["error"].clone();
    assert_eq!((&again["code"], &again["data"]["err"]), (&json!(-32002), &json!("AlreadyProcessed")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_try_of_a_done_transaction_is_answered_as_done() {
    let node = node().await;
    let from = funded(&node.rpc, 1).await;
    let transaction = transfer(&from, &Keypair::new().pubkey(), SOL / 2, node.rpc.blockhash().await);
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": [encode(&transaction), { "encoding": "base64" }] }).to_string();
    let first = node.rpc.post("", &body).await.json();
    let second = node.rpc.post("x-osvm-retry: 1\r\n", &body).await.json();
    assert!(first["result"].is_string());
    assert_eq!(first["result"], second["result"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_none_are_answered_as_json_rpc_says() {
    let node = node().await;
    let rpc = node.rpc;
    assert_eq!(
        rpc.raw("{").await,
        json!({ "jsonrpc": "2.0", "error": { "code": -32700, "message": "Parse error" }, "id": null })
    );
    assert_eq!(rpc.raw("1").await["error"]["code"], -32600);
    assert_eq!(rpc.raw("[]").await["error"]["code"], -32600);
    assert_eq!(rpc.raw(r#"{"jsonrpc":"1.0","id":"a","method":"getSlot"}"#).await["error"]["code"], -32600);
    let unknown = rpc.raw(r#"{"jsonrpc":"2.0","id":"a","method":"getNothing"}"#).await;
    assert_eq!(
        unknown,
        json!({ "jsonrpc": "2.0", "error": { "code": -32601, "message": "Method not found" }, "id": "a" })
    );
    let wrong = rpc.call("getBalance", json!([])).await;
    assert_eq!(wrong["error"]["code"], -32602);
    assert_eq!(rpc.err("getBalance", json!(["x"])).await, (-32602, "Invalid param: WrongSize".to_owned()));
    assert_eq!(rpc.call("getHealth", json!(["x"])).await["error"]["code"], -32602);
    assert_eq!(rpc.post("", r#"{"jsonrpc":"2.0","method":"getSlot"}"#).await.body, "");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_its_order_without_notifications() {
    let node = node().await;
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"getHealth"},{"jsonrpc":"2.0","method":"getSlot"},7,
        {"jsonrpc":"2.0","id":"z","method":"getVersion"}]"#;
    let answers = node.rpc.raw(batch).await;
    let ids: Vec<_> = answers.as_array().unwrap().iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, [json!(1), Value::Null, json!("z")]);
    assert_eq!(answers[0]["result"], "ok");
    assert_eq!(answers[1]["error"]["code"], -32600);
    assert_eq!(answers[2]["result"]["solana-core"], "4.2.2");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_and_slots_that_cannot_be_served_are_refused() {
    let node = node().await;
    let rpc = node.rpc;
    let answer = rpc.call("getBalance", json!([SYSTEM, { "minContextSlot": 1u64 << 62 }])).await;
    assert_eq!(answer["error"]["code"], -32016);
    assert!(answer["error"]["data"]["contextSlot"].is_u64());
    let below = "Method does not support commitment below `confirmed`";
    for (method, params) in [
        ("getBlock", json!([1, { "commitment": "processed" }])),
        ("getBlocks", json!([1, { "commitment": "processed" }])),
        ("getSignaturesForAddress", json!([SYSTEM, { "commitment": "processed" }])),
    ] {
        assert_eq!(rpc.err(method, params).await, (-32602, below.to_owned()), "{method}");
    }
    assert_eq!(rpc.err("getBlock", json!([1u64 << 62])).await.0, -32004);
    assert_eq!(rpc.err("getHighestSnapshotSlot", json!([])).await, (-32008, "No snapshot".to_owned()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_answers_its_plainest_call() {
    let node = node().await;
    let rpc = node.rpc;
    rpc.past("finalized", 2).await;
    let mint = "So11111111111111111111111111111111111111112";
    for (method, params) in [
        ("getBlockCommitment", json!([1])),
        ("getBlockHeight", json!([])),
        ("getBlockProduction", json!([])),
        ("getBlocks", json!([0, 3])),
        ("getBlocksWithLimit", json!([0, 3])),
        ("getBlockTime", json!([1])),
        ("getClusterNodes", json!([])),
        ("getEpochInfo", json!([])),
        ("getEpochSchedule", json!([])),
        ("getFirstAvailableBlock", json!([])),
        ("getGenesisHash", json!([])),
        ("getIdentity", json!([])),
        ("getInflationGovernor", json!([])),
        ("getInflationRate", json!([])),
        ("getLargestAccounts", json!([])),
        ("getLatestBlockhash", json!([])),
        ("getLeaderSchedule", json!([])),
        ("getMaxRetransmitSlot", json!([])),
        ("getMaxShredInsertSlot", json!([])),
        ("getMinimumBalanceForRentExemption", json!([165])),
        ("getMultipleAccounts", json!([[SYSTEM, mint]])),
        ("getProgramAccounts", json!(["Vote111111111111111111111111111111111111111", { "encoding": "base64" }])),
        ("getRecentPerformanceSamples", json!([4])),
        ("getRecentPrioritizationFees", json!([])),
        ("getSlot", json!([])),
        ("getSlotLeader", json!([])),
        ("getSlotLeaders", json!([0, 3])),
        ("getStakeMinimumDelegation", json!([])),
        ("getSupply", json!([])),
        ("getTokenAccountsByOwner", json!([SYSTEM, { "mint": mint }])),
        ("getTokenAccountsByDelegate", json!([SYSTEM, { "mint": mint }, { "encoding": "jsonParsed" }])),
        ("getTokenLargestAccounts", json!([mint])),
        ("getTokenSupply", json!([mint])),
        ("getTransactionCount", json!([])),
        ("getVersion", json!([])),
        ("getVoteAccounts", json!([])),
        ("minimumLedgerSlot", json!([])),
    ] {
        let answer = rpc.ok(method, params).await;
        assert!(!answer.is_null(), "{method} answered null");
    }
    assert_eq!(rpc.ok("getMinimumBalanceForRentExemption", json!([165])).await, 2_039_280);
    assert_eq!(rpc.ok("getTokenSupply", json!([mint])).await["value"]["decimals"], 9);
    assert_eq!(rpc.ok("getVoteAccounts", json!([])).await["current"].as_array().unwrap().len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_shows_what_would_happen_and_changes_nothing() {
    let node = node().await;
    let from = funded(&node.rpc, 2).await;
    let to = Keypair::new().pubkey();
    let transaction = transfer(&from, &to, SOL, Default::default());
    let config = json!({
        "encoding": "base64", "replaceRecentBlockhash": true, "commitment": "processed", "innerInstructions": true,
        "accounts": { "encoding": "base64", "addresses": [to.to_string()] }
    });
    let answer = node.rpc.ok("simulateTransaction", json!([encode(&transaction), config])).await;
    let value = &answer["value"];
    assert_eq!(value["err"], Value::Null, "{value}");
    assert_eq!(value["accounts"][0]["lamports"], SOL);
    assert_eq!(value["fee"], 5000);
    assert!(value["replacementBlockhash"]["blockhash"].is_string());
    assert_eq!(node.rpc.balance(&to, "processed").await, 0);
    let both = json!({ "encoding": "base64", "sigVerify": true, "replaceRecentBlockhash": true });
    assert_eq!(node.rpc.err("simulateTransaction", json!([encode(&transaction), both])).await.0, -32602);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_and_others_find_the_http_side_of_agave() {
    let node = node().await;
    let address = node.rpc.address;
    let health = http(address, "GET", "/health", "", b"").await;
    assert_eq!((health.status, health.body.as_str()), (200, "ok"));
    assert_eq!(http(address, "GET", "/", "", b"").await.status, 405);
    assert_eq!(http(address, "POST", "/", "", b"{}").await.status, 415);
    let asked = "origin: http://a.example\r\naccess-control-request-method: POST\r\naccess-control-request-headers: content-type,solana-client\r\n";
    let preflight = http(address, "OPTIONS", "/", asked, b"").await;
    assert_eq!(preflight.status, 200);
    for line in [
        "access-control-allow-origin: *",
        "access-control-allow-headers: content-type,solana-client",
        "access-control-max-age: 86400",
    ] {
        assert!(preflight.head.contains(line), "{line} is missing in {}", preflight.head);
    }
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"getHealth"}"#;
    let posted = node.rpc.post("origin: http://a.example\r\n", body).await;
    assert!(posted.head.contains("access-control-allow-origin: *"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_a_limit_is_refused_with_the_limit_named() {
    let mut options = options(None);
    options.limits.body_bytes = 1_000;
    options.limits.batch = 2;
    options.limits.response_bytes = 2_000;
    let node = Node::start(options).await;
    let large = node.rpc.post("", &format!("[{}]", " ".repeat(2_000))).await;
    assert_eq!(large.status, 413);
    assert!(large.body.contains("--limit-body"), "{}", large.body);
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"getSlot"}"#;
    let batch = node.rpc.raw(&format!("[{call},{call},{call}]")).await;
    assert!(batch["error"]["message"].as_str().unwrap().contains("--limit-batch"));
    let (code, message) = node.rpc.err("getLeaderSchedule", json!([])).await;
    assert_eq!(code, -32012);
    assert!(message.contains("--limit-response"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_words_for_levels_still_work() {
    let node = node().await;
    for level in ["recent", "single", "singleGossip", "root", "max", "processed", "confirmed", "finalized"] {
        node.rpc.ok("getSlot", json!([{ "commitment": level }])).await;
    }
    assert_eq!(node.rpc.call("getSlot", json!([{ "commitment": "sure" }])).await["error"]["code"], -32602);
    node.stop().await;
}

/// One node for all cases: what is tested does not change it.
fn shared() -> &'static (tokio::runtime::Runtime, Rpc) {
    static NODE: OnceLock<(tokio::runtime::Runtime, Rpc)> = OnceLock::new();
    NODE.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let node = runtime.block_on(node());
        let rpc = node.rpc;
        std::mem::forget(node);
        (runtime, rpc)
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9+/=]{0,90}".prop_map(Value::from),
        Just(json!("11111111111111111111111111111111")),
        Just(json!("jsonParsed")),
        Just(json!("base64")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let keys = prop_oneof![
            Just("encoding"),
            Just("commitment"),
            Just("filters"),
            Just("dataSlice"),
            Just("offset"),
            Just("length"),
            Just("memcmp"),
            Just("bytes"),
            Just("dataSize"),
            Just("mint"),
            Just("limit"),
            Just("range"),
            Just("accounts"),
            Just("addresses"),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((keys, inner), 0..4).prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_body_gets_a_json_rpc_answer(body in "[\\[\\]{}\",:a-z0-9 .-]{0,60}") {
        let (runtime, rpc) = shared();
        let answer = runtime.block_on(rpc.raw(&format!(".{body}")));
        prop_assert_eq!(&answer["error"]["code"], -32700);
    }

    #[test]
    fn any_parameters_get_a_json_rpc_answer(index in 0usize..52, params in proptest::collection::vec(any_json(), 0..4)) {
        let (runtime, rpc) = shared();
        let methods: Vec<_> = osvm_localnet::method_names().collect();
        let answer = runtime.block_on(rpc.call(methods[index % methods.len()], Value::from(params)));
        prop_assert_eq!(&answer["jsonrpc"], "2.0");
        prop_assert!(answer.get("result").is_some() || answer["error"]["code"].is_i64());
        // A broken call must not be the node's own fault.
        prop_assert_ne!(&answer["error"]["code"], -32603);
    }
}
