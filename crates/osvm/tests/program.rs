//! `osvm program`, from osvm through the gateway to the real node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use common::{World, sibling};
use serde_json::Value;

/// For a deployment to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that is in every build of the node: read back from its account, so that no file of it need be here.
fn memo(world: &World, url: &str) -> Vec<u8> {
    let _ = world;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = osvm_solana::Client::from_url(url).unwrap();
    let address = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
    let account = runtime.block_on(client.account(address, "confirmed")).unwrap().expect("no memo program");
    // Held by the upgradeable loader as an address of the program's data, by an older loader as the program itself.
    match account.data.get(..4) {
        Some(b"\x7fELF") => account.data,
        _ => {
            let data = bs58_of(&account.data[4..36]);
            runtime.block_on(client.account(&data, "confirmed")).unwrap().unwrap().data[45..].to_vec()
        }
    }
}

fn bs58_of(bytes: &[u8]) -> String {
    bs58::encode(bytes).into_string()
}

fn deploy(world: &World, url: &str, file: &Path, more: &[&str]) -> Value {
    let file = file.to_str().unwrap();
    let args = [&["program", "deploy", file, "--url", url, "--output", "json"], more].concat();
    serde_json::from_str(&world.ok(&args)).unwrap()
}

#[test]
fn a_program_is_deployed_upgraded_and_shown() {
    sibling("osvm-program");
    let world = World::new();
    let ready = world.node();
    let url = ready["rpc_url"].as_str().unwrap();
    let file = world.path("memo.so");
    fs::write(&file, memo(&world, url)).unwrap();

    let first = deploy(&world, url, &file, &[]);
    assert_eq!(first["action"], "deploy");
    assert!(first["signature"].is_string() && first["slot"].is_u64(), "{first}");
    assert!(world.path("memo-keypair.json").exists(), "the program's key is gone");
    assert!(!world.path("memo-buffer.json").exists(), "the buffer's key is left");

    let again = deploy(&world, url, &file, &[]);
    assert_eq!((again["action"].as_str(), &again["program_id"]), (Some("none"), &first["program_id"]));

    // Zeros behind an ELF file do not change what it means, but they do change its bytes' number.
    let mut longer = fs::read(&file).unwrap();
    longer.extend([1; 64]);
    fs::write(&file, longer).unwrap();
    let upgraded = deploy(&world, url, &file, &[]);
    assert_eq!((upgraded["action"].as_str(), &upgraded["program_id"]), (Some("upgrade"), &first["program_id"]));

    let id = first["program_id"].as_str().unwrap();
    let shown: Value =
        serde_json::from_str(&world.ok(&["program", "show", id, "--url", url, "--output", "json"])).unwrap();
    assert_eq!((shown["kind"].as_str(), &shown["authority"]), (Some("program"), &first["authority"]));
}

#[test]
fn what_is_no_program_is_refused_before_anything_is_sent() {
    sibling("osvm-program");
    let world = World::new();
    for (name, bytes, said) in [
        ("empty.so", &b""[..], "it is empty"),
        ("script.so", b"#!/bin/sh\n", "it is no ELF file"),
        ("torn.so", b"\x7fELF\x02\x01\x01", "the loader would refuse it"),
    ] {
        fs::write(world.path(name), bytes).unwrap();
        // Nobody listens there: the file is looked at first.
        let ended = world.osvm(&["program", "deploy", name, "--url", "http://127.0.0.1:1"]);
        assert_eq!(ended.code, 1);
        assert!(ended.err.contains(name) && ended.err.contains(said), "{}", ended.err);
        assert!(ended.err.contains("nothing was sent"), "{}", ended.err);
    }
    let ended = world.osvm(&["program", "deploy", env!("CARGO_BIN_EXE_osvm"), "--url", "http://127.0.0.1:1"]);
    assert!(ended.err.contains("cannot be deployed"), "{}", ended.err);
}

/// Starts a deployment of `name` and kills it once its buffer's account is there. The buffer's address.
fn broken_off(world: &World, url: &str, name: &str) -> String {
    let mut command = world.command(&["program", "deploy", &format!("{name}.so"), "--url", url]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let key = world.path(&format!("{name}-buffer.json"));
    let deadline = Instant::now() + PATIENCE;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = osvm_solana::Client::from_url(url).unwrap();
    let address = loop {
        assert!(Instant::now() < deadline, "no buffer came");
        // The file is whole or about to be: it holds the secret half and then the public half.
        let bytes: Vec<u8> =
            fs::read(&key).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let Some(public) = bytes.get(32..64) else { continue };
        let address = bs58_of(public);
        if runtime.block_on(client.account(&address, "confirmed")).unwrap().is_some() {
            break address;
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(key.exists(), "the deployment was over before it could be killed");
    address
}

#[test]
fn a_deployment_that_was_killed_is_resumed_by_the_same_command() {
    sibling("osvm-program");
    let world = World::new();
    let ready = world.node_with_slots_of("200");
    let url = ready["rpc_url"].as_str().unwrap();
    fs::write(world.path("big.so"), big(&world, url)).unwrap();
    let buffer = broken_off(&world, url, "big");
    let resumed = deploy(&world, url, &world.path("big.so"), &[]);
    assert_eq!((resumed["action"].as_str(), resumed["buffer"].as_str()), (Some("deploy"), Some(buffer.as_str())));
    assert!(!world.path("big-buffer.json").exists());
}

#[test]
fn what_a_killed_deployment_paid_is_reclaimed() {
    sibling("osvm-program");
    let world = World::new();
    let ready = world.node_with_slots_of("200");
    let url = ready["rpc_url"].as_str().unwrap();
    fs::write(world.path("big.so"), big(&world, url)).unwrap();
    let buffer = broken_off(&world, url, "big");
    let closed = world.ok(&["program", "close", "big-buffer.json", "--url", url, "--output", "json"]);
    let closed: Value = serde_json::from_str(&closed).unwrap();
    assert_eq!(closed["closed"].as_str(), Some(buffer.as_str()));
    assert!(closed["lamports"].as_u64().unwrap() > 1_000_000_000, "{closed}");
    let again = world.osvm(&["program", "close", &buffer, "--url", url]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("there is no account"), "{}", again.err);
}

/// The memo program with some hundred chunks of padding behind it, so that there is a middle to be killed in.
fn big(world: &World, url: &str) -> Vec<u8> {
    let mut bytes = memo(world, url);
    bytes.extend((0..400_000u32).map(|i| (i % 251) as u8 + 1));
    bytes
}

#[test]
fn only_an_id_with_its_key_can_be_deployed_to() {
    sibling("osvm-program");
    let world = World::new();
    let ready = world.node();
    let url = ready["rpc_url"].as_str().unwrap();
    fs::write(world.path("memo.so"), memo(&world, url)).unwrap();
    let nobody = bs58_of(&[5; 32]);
    let ended = world.osvm(&["program", "deploy", "memo.so", "--url", url, "--program-id", &nobody]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("there is no program") && ended.err.contains("--program-id KEYFILE"), "{}", ended.err);
    let token = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
    let ended = world.osvm(&["program", "deploy", "memo.so", "--url", url, "--program-id", token]);
    assert_eq!(ended.code, 1);
    let ended = world.osvm(&["program", "deploy", "memo.so", "--url", url, "--max-len", "5"]);
    assert_eq!(ended.code, 2, "{}", ended.err);
}
