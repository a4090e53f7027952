//! `osvm program close BUFFER`: takes back what an abandoned deployment paid.

use serde_json::json;
use solana_loader_v3_interface::instruction;
use solana_signer::Signer;

use crate::{
    cli::CloseArgs,
    cluster::Cluster,
    failure::Failure,
    keys::{self, Key},
    loader::{self, State},
    output::{Printer, SCHEMA, sol},
    sender::COMMITMENT,
};

pub(crate) async fn run(printer: Printer, args: &CloseArgs) -> Result<(), Failure> {
    let cluster = Cluster::new(printer, &args.cluster)?;
    let buffer = Key::read(&args.buffer, "the buffer's key")?.address();
    let authority = match &args.authority {
        Some(path) => keys::read(path, "the authority's key")?,
        None => cluster.sender.payer.insecure_clone(),
    };
    let recipient = args.recipient.unwrap_or_else(|| cluster.sender.payer.pubkey());
    let address = buffer.to_string();
    let account = cluster.client().account(&address, COMMITMENT).await?;
    let account = account
        .ok_or_else(|| Failure::new(format!("there is no account {address} at {}", cluster.client().target())))?;
    match loader::read(&account.data) {
        Some(State::Buffer { authority: Some(holder), .. }) if holder == authority.pubkey() => {}
        Some(State::Buffer { authority: Some(holder), .. }) => {
            return Err(Failure::new(format!(
                "only {holder} may close {address}, and you sign as {}",
                authority.pubkey()
            ))
            .help("name its key: --authority FILE"));
        }
        Some(State::Buffer { authority: None, .. }) => return Err(Failure::new(format!("nobody may close {address}"))),
        _ => {
            return Err(Failure::new(format!("{address} is no buffer"))
                .help("this command only closes buffers: a program that is closed is gone for good"));
        }
    }
    let close = instruction::close(&buffer, &recipient, &authority.pubkey(), false);
    let (signature, slot) = cluster.sender.one(&[close], &[&authority]).await?;
    if cluster.client().account(&address, COMMITMENT).await?.is_some() {
        return Err(Failure::new(format!("transaction {signature} was confirmed, but {address} is still there")));
    }
    if printer.is_json() {
        return printer.json(&json!({
            "schema": SCHEMA, "closed": address, "lamports": account.lamports, "recipient": recipient.to_string(),
            "signature": signature, "slot": slot,
        }));
    }
    printer.labelled("closed", &format!("{address}  {} back to {recipient}", sol(account.lamports)))
}
