//! Readers: the calls that wallets make most.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Shared, client::Client, record::Kind, turn, writes::patiently};

/// Sends one read after the other until the load ends.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut client: Client,
    mut pace: Option<tokio::time::Interval>,
    accounts: Arc<[String]>,
    index: usize,
) {
    let kind = if matches!(client, Client::Http1 { .. }) { Kind::ReadHttp1 } else { Kind::ReadHttp2 };
    let mut number = index;
    while !turn(&mut pace, &shared).await {
        number += 1;
        let body = Bytes::from(call(number, &accounts).to_string());
        let began = shared.recorder.now_us();
        let outcome = patiently(&shared, &mut client, &body).await;
        shared.recorder.sample(kind, began, outcome.as_ref().map(drop).map_err(|why| format!("{kind:?}: {why}")));
    }
}

fn call(number: usize, accounts: &[String]) -> Value {
    let account = accounts.get(number / 5 % accounts.len().max(1));
    let (method, params) = match number % 5 {
        0 => ("getSlot", json!([])),
        1 => ("getBalance", json!([account])),
        2 => ("getAccountInfo", json!([account, {"encoding": "base64"}])),
        3 => ("getLatestBlockhash", json!([])),
        _ => ("getMultipleAccounts", json!([accounts.iter().take(4).collect::<Vec<_>>(), {"encoding": "base64"}])),
    };
    json!({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
}
