//! `osvm program show ADDR`.

use osvm_model::number;
use serde::Serialize;
use solana_sdk_ids::bpf_loader_upgradeable;

use crate::{
    cli::ShowArgs,
    cluster,
    failure::Failure,
    loader::{self, State},
    output::{Printer, SCHEMA, sol},
    sender::COMMITMENT,
};

#[derive(Debug, Serialize)]
struct Shown {
    schema: &'static str,
    /// `program`, `buffer` or `program-data`.
    kind: &'static str,
    address: String,
    authority: Option<String>,
    program_data: Option<String>,
    last_deployed_slot: Option<u64>,
    bytes: usize,
    lamports: u64,
}

pub(crate) async fn run(printer: Printer, args: &ShowArgs) -> Result<(), Failure> {
    let client = cluster::client(args.url.as_deref())?;
    let address = args.address.to_string();
    let none = |what: &str| Failure::new(format!("{what} at {}", client.target()));
    let account =
        client.account(&address, COMMITMENT).await?.ok_or_else(|| none(&format!("there is no account {address}")))?;
    let no_program =
        || Failure::new(format!("{address} is no account of the upgradeable loader (owner {})", account.owner));
    if account.owner != bpf_loader_upgradeable::id().to_string() {
        return Err(no_program());
    }
    let mut shown = Shown {
        schema: SCHEMA,
        kind: "buffer",
        address: address.clone(),
        authority: None,
        program_data: None,
        last_deployed_slot: None,
        bytes: 0,
        lamports: account.lamports,
    };
    match loader::read(&account.data).ok_or_else(no_program)? {
        State::Buffer { authority, bytes } => {
            (shown.authority, shown.bytes) = (authority.map(|key| key.to_string()), bytes.len());
        }
        State::ProgramData { slot, authority, bytes } => {
            shown.kind = "program-data";
            (shown.authority, shown.bytes) = (authority.map(|key| key.to_string()), bytes.len());
            shown.last_deployed_slot = Some(slot);
        }
        State::Program { program_data } => {
            let closed = || none(&format!("program {address} was closed"));
            let data = client.account(&program_data.to_string(), COMMITMENT).await?.ok_or_else(closed)?;
            let Some(State::ProgramData { slot, authority, bytes }) = loader::read(&data.data) else {
                return Err(closed());
            };
            shown.kind = "program";
            (shown.authority, shown.bytes) = (authority.map(|key| key.to_string()), bytes.len());
            (shown.last_deployed_slot, shown.program_data) = (Some(slot), Some(program_data.to_string()));
            shown.lamports += data.lamports;
        }
        State::Uninitialized => return Err(no_program()),
    }
    if printer.is_json() {
        return printer.json(&shown);
    }
    printer.labelled(shown.kind, &address)?;
    if let Some(data) = &shown.program_data {
        printer.labelled("data", data)?;
    }
    printer.labelled("authority", shown.authority.as_deref().unwrap_or("none: nobody may change it"))?;
    if let Some(slot) = shown.last_deployed_slot {
        printer.labelled("deployed", &format!("last in slot {}", number(slot)))?;
    }
    printer.labelled("size", &format!("{} bytes", number(shown.bytes as u64)))?;
    printer.labelled("holds", &sol(shown.lamports))
}
