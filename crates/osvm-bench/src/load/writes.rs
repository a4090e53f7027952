//! Writers: transfers, each written down when it is sent and when it is acknowledged.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;

use crate::{
    rpc,
    wallet::{Signed, Wallet},
};

use super::{Shared, client::Client, record::Kind, turn};

/// Between two tries of a patient load.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A patient load gives a request up after so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends one transfer after the other until the load ends.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut client: Client,
    mut pace: Option<tokio::time::Interval>,
    mut wallet: Wallet,
) {
    let kind = if matches!(client, Client::Http1 { .. }) { Kind::WriteHttp1 } else { Kind::WriteHttp2 };
    while !turn(&mut pace, &shared).await {
        let signed = wallet.transfer(&shared.blockhash.borrow());
        send(&shared, &mut client, kind, &signed).await;
    }
}

/// Sends a transaction and notes what came of it.
pub(crate) async fn send(shared: &Shared, client: &mut Client, kind: Kind, signed: &Signed) -> bool {
    let call =
        json!({"jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": rpc::send_params(&signed.wire)});
    let body = Bytes::from(call.to_string());
    shared.recorder.sent(&signed.signature);
    let began = shared.recorder.now_us();
    let outcome = patiently(shared, client, &body).await.and_then(|result| {
        if result.trim_matches('"') == signed.signature {
            Ok(())
        } else {
            Err(format!("answered {result}, not the signature"))
        }
    });
    // A patient client that asks again is told so when the first try had arrived: that too says that it is done.
    let done = outcome.is_ok() || (shared.args.patient && outcome.as_ref().is_err_and(|why| is_already_processed(why)));
    if done {
        shared.recorder.acknowledged(&signed.signature);
    }
    let outcome = if done { Ok(()) } else { outcome.map_err(|why| format!("{kind:?}: {why}")) };
    shared.recorder.sample(kind, began, outcome);
    done
}

/// One call; a patient load makes it again until an instance has answered, whatever the answer says.
pub(crate) async fn patiently(shared: &Shared, client: &mut Client, body: &Bytes) -> Result<String, String> {
    let first = client.call(body).await;
    if !shared.args.patient {
        return first;
    }
    let give_up = tokio::time::Instant::now() + PATIENCE;
    let mut outcome = first;
    while let Err(why) = &outcome {
        // A JSON-RPC error is an answer.
        if why.starts_with('{') || tokio::time::Instant::now() > give_up {
            break;
        }
        shared.recorder.retried();
        tokio::time::sleep(RETRY_PAUSE).await;
        outcome = client.call(body).await;
    }
    outcome
}

fn is_already_processed(why: &str) -> bool {
    why.contains("AlreadyProcessed") || why.contains("already been processed")
}
