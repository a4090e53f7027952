//! `--program-id`: against a node of the tests' own that answers getAccountInfo.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use common::{Said, audit, vault};
use serde_json::{Value, json};

const LOADER: &str = "BPFLoaderUpgradeab1e11111111111111111111111";
const PROGRAM: [u8; 32] = [3; 32];
const DATA: [u8; 32] = [4; 32];

type Accounts = HashMap<String, (String, Vec<u8>)>;

/// Answers until the test ends.
fn node(accounts: Accounts) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut input = BufReader::new(stream.try_clone().unwrap());
            while let Some(request) = request(&mut input) {
                let address = request["params"][0].as_str().unwrap();
                let account = accounts.get(address).map(|(owner, data)| {
                    let data = [BASE64_STANDARD.encode(data), "base64".to_owned()];
                    json!({ "lamports": 1, "owner": owner, "executable": true, "rentEpoch": 0, "data": data })
                });
                let result = json!({ "context": { "slot": 1 }, "value": account });
                let body = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    url
}

fn request(input: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(number) = lower.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn elf(more: &[u8]) -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 247;
    elf.extend(more);
    elf
}

fn cluster(authority: Option<[u8; 32]>, elf: &[u8]) -> String {
    let program = [&[2, 0, 0, 0], DATA.as_slice()].concat();
    let mut data = [&[3, 0, 0, 0][..], &77_u64.to_le_bytes()].concat();
    data.push(u8::from(authority.is_some()));
    data.extend(authority.unwrap_or_default());
    data.extend(elf);
    data.extend([0; 100]);
    let address = |key: [u8; 32]| bs58::encode(key).into_string();
    let accounts = [(address(PROGRAM), (LOADER.to_owned(), program)), (address(DATA), (LOADER.to_owned(), data))];
    node(accounts.into_iter().collect())
}

fn ask(url: &str, more: &[&str]) -> Said {
    let id = bs58::encode(PROGRAM).into_string();
    let folder = vault();
    fs::write(folder.path().join("same.so"), elf(b"code")).unwrap();
    fs::write(folder.path().join("other.so"), elf(b"Code")).unwrap();
    audit(
        folder.path(),
        &[&["--only", "OSVM-097", "--format", "json", "--program-id", &id, "--url", url], more].concat(),
    )
}

fn key() -> [u8; 32] {
    ed25519_dalek::SigningKey::from_bytes(&[42; 32]).verifying_key().to_bytes()
}

fn deployed_rules(said: &Said) -> Vec<String> {
    said.rules().into_iter().filter(|rule| rule.starts_with("OSVM-1")).collect()
}

#[test]
fn who_may_replace_a_program_and_what_it_is_are_told() {
    let url = cluster(Some(key()), &elf(b"code"));
    let said = ask(&url, &["--build", "same.so"]);
    let json = said.json();
    let deployed = &json["deployed"];
    assert_eq!(deployed["authority"], bs58::encode(key()).into_string());
    assert_eq!(deployed["authority_is_key"], true);
    assert_eq!((&deployed["slot"], &deployed["bytes"], &deployed["sbpf"]), (&json!(77), &json!(68), &json!("v0")));
    assert_eq!(deployed["equals_build"], true);
    assert_eq!(deployed_rules(&said), ["OSVM-101", "OSVM-103"]);
    assert_eq!(said.code, 0);
    let said = ask(&url, &["--build", "other.so"]);
    assert_eq!(said.json()["deployed"]["equals_build"], false);
    assert_eq!(deployed_rules(&said), ["OSVM-101", "OSVM-102", "OSVM-103"]);
    assert_eq!(said.code, 1);
}

#[test]
fn a_program_that_nobody_or_only_a_program_may_replace_is_no_finding() {
    let text = b"=======BEGIN SECURITY.TXT V1=======\0name\0Vault\0=======END SECURITY.TXT V1=======\0";
    let said = ask(&cluster(None, &elf(text)), &[]);
    assert_eq!(deployed_rules(&said), Vec::<String>::new());
    assert_eq!(said.json()["deployed"]["security_txt"]["name"], "Vault");
    // 2 is no y of a point on the curve.
    let mut off_curve = [0; 32];
    off_curve[0] = 2;
    let said = ask(&cluster(Some(off_curve), &elf(text)), &[]);
    assert_eq!(said.json()["deployed"]["authority_is_key"], false);
    assert_eq!(deployed_rules(&said), Vec::<String>::new());
}

#[test]
fn a_library_with_a_known_hole_is_found_in_the_file_itself() {
    let path = b"\0/root/.cargo/registry/src/index.crates.io-6f17d22bba15001f/leaky-1.1.0/src/lib.rs\0";
    let said = ask(&cluster(None, &elf(path)), &[]);
    assert_eq!(deployed_rules(&said), ["OSVM-103", "OSVM-104"]);
    assert_eq!(said.json()["deployed"]["libraries"], json!(["leaky 1.1.0"]));
}

#[test]
fn what_is_no_program_is_not_analysed_and_a_node_that_does_not_answer_is_2() {
    let said = ask(&cluster(None, b"no elf"), &["--strict"]);
    assert_eq!(said.code, 4);
    assert!(said.json()["not_analysed"][0]["reason"].as_str().unwrap().contains("no ELF"));
    let said = ask(&node(HashMap::new()), &["--strict"]);
    assert!(said.json()["not_analysed"][0]["reason"].as_str().unwrap().contains("there is no account"));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = ask(&format!("http://{closed}"), &[]);
    assert_eq!(said.code, 2);
    let said = ask("http://127.0.0.1:1", &["--program-id", "nonsense"]);
    assert_eq!(said.code, 2);
}
