//! After the load: is everything there that was acknowledged, and do the lamports add up?

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde_json::json;

use crate::{error::Error, rpc::Rpc};

/// What the load wrote down, and what the node knows of it.
#[derive(Default, Debug)]
pub(crate) struct Ledger {
    /// Signatures that were acknowledged, with the time in milliseconds of Unix time.
    pub(crate) acknowledged: Vec<(String, u64)>,
    /// Acknowledged, but unknown to the node.
    pub(crate) missing: Vec<String>,
    /// Acknowledged, but the transaction failed.
    pub(crate) in_error: Vec<String>,
    /// Landed, acknowledged or not.
    pub(crate) landed: u64,
}

/// Signatures a call: agave's own limit.
const BATCH: usize = 256;
/// Whole transactions that are asked for, spread evenly.
const SAMPLED: usize = 200;

/// Looks at the last transaction before it counts as not confirmed, and the time between two: a slot takes 400 ms.
const CONFIRM_PROBES: usize = 100;
const CONFIRM_PAUSE: Duration = Duration::from_millis(50);

/// Asks the node for every signature of the journal, and for a sample of whole transactions.
pub(crate) async fn ledger(rpc: &mut Rpc, journal: &Path) -> Result<Ledger, Error> {
    let text =
        fs::read_to_string(journal).map_err(|source| Error::io(format!("read {}", journal.display()), source))?;
    let mut ledger = Ledger::default();
    let mut sent = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("S"), Some(signature), _) => sent.push(signature),
            (Some("A"), Some(signature), Some(unix_ms)) => {
                ledger.acknowledged.push((signature.to_owned(), unix_ms.parse().unwrap_or(0)));
            }
            _ => {}
        }
    }
    let acknowledged: BTreeSet<&str> = ledger.acknowledged.iter().map(|(signature, _)| signature.as_str()).collect();
    for batch in sent.chunks(BATCH) {
        let answer = rpc.call("getSignatureStatuses", json!([batch, {"searchTransactionHistory": true}])).await?;
        for (index, signature) in batch.iter().enumerate() {
            let status = &answer["value"][index];
            let known = !status.is_null();
            ledger.landed += u64::from(known);
            if acknowledged.contains(signature) {
                if !known {
                    ledger.missing.push((*signature).to_owned());
                } else if !status["err"].is_null() {
                    ledger.in_error.push((*signature).to_owned());
                }
            }
        }
    }
    // getTransaction knows confirmed ones only, and the last ones may have been acknowledged a moment ago.
    if let Some((last, _)) = ledger.acknowledged.last() {
        confirmed(rpc, last).await?;
    }
    let step = ledger.acknowledged.len().div_ceil(SAMPLED).max(1);
    for (signature, _) in ledger.acknowledged.iter().step_by(step) {
        let params =
            json!([signature, {"encoding": "json", "commitment": "confirmed", "maxSupportedTransactionVersion": 0}]);
        if rpc.call("getTransaction", params).await?["transaction"]["signatures"][0] != json!(signature) {
            ledger.missing.push(format!("{signature} (getTransaction)"));
        }
    }
    Ok(ledger)
}

/// Waits until a transaction's slot is sealed. One that never is shows as missing afterwards.
async fn confirmed(rpc: &mut Rpc, signature: &str) -> Result<(), Error> {
    for _ in 0..CONFIRM_PROBES {
        let answer = rpc.call("getSignatureStatuses", json!([[signature]])).await?;
        if matches!(answer["value"][0]["confirmationStatus"].as_str(), Some("confirmed" | "finalized")) {
            return Ok(());
        }
        tokio::time::sleep(CONFIRM_PAUSE).await;
    }
    Ok(())
}

/// Lamports of all these accounts together.
pub(crate) async fn lamports(rpc: &mut Rpc, accounts: &[String]) -> Result<u64, Error> {
    let mut sum = 0;
    for account in accounts {
        let answer = rpc.call("getBalance", json!([account, {"commitment": "processed"}])).await?;
        sum += answer["value"].as_u64().ok_or_else(|| Error::exchange("getBalance", &answer))?;
    }
    Ok(sum)
}
