//! The benches: each starts what it measures, checks what it claims, prints a table and writes JSON.

pub(crate) mod audit;
pub(crate) mod fault;
pub(crate) mod gateway;
pub(crate) mod jail;
pub(crate) mod localnet;
pub(crate) mod mcp;
pub(crate) mod swap;
pub(crate) mod unikernel;

use std::fs;

use serde::Serialize;

use crate::{
    error::{Checks, Error},
    load::record::Report,
    product,
    stats::ms,
    verify::Ledger,
};

/// The fee of a transaction with one signature.
pub(crate) const FEE: u64 = 5000;

/// Writes a bench's JSON.
pub(crate) fn write(name: &str, report: &impl Serialize) -> Result<(), Error> {
    let path = product::out()?.join(name);
    let json = serde_json::to_vec_pretty(report).map_err(|error| Error::exchange("write JSON", error))?;
    fs::write(&path, json).map_err(|source| Error::io(format!("write {}", path.display()), source))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Prints what the load saw.
pub(crate) fn print_load(report: &Report) {
    println!("\n{:<42} {:>9} {:>10} {:>10} {:>10}", "requests", "count", "p50", "p99", "longest");
    for (kind, spread) in &report.kinds {
        println!(
            "{kind:<42} {:>9} {:>10} {:>10} {:>10}",
            spread.count,
            ms(spread.p50_us),
            ms(spread.p99_us),
            ms(spread.max_us)
        );
    }
    let sockets = &report.sockets;
    println!(
        "WebSockets: {} opened, {} closed, {} notifications, {} signatures told, {} slots left out, {} repeated\n",
        sockets.opened,
        sockets.closed,
        sockets.notifications,
        sockets.confirmed,
        sockets.slots_missed,
        sockets.slots_repeated
    );
    for failure in report.failures.iter().take(8) {
        println!("  failed {failure}");
    }
}

/// What holds after every run under load: nothing acknowledged is missing, and the lamports add up.
pub(crate) fn check_ledger(checks: &mut Checks, ledger: &Ledger, given: u64, found: u64) {
    let acknowledged = ledger.acknowledged.len();
    let example = |list: &[String]| list.first().map_or(String::new(), |first| format!(" ({first})"));
    checks.that(
        ledger.missing.is_empty() && acknowledged > 0,
        format!(
            "{} of {acknowledged} acknowledged transactions are missing{}",
            ledger.missing.len(),
            example(&ledger.missing)
        ),
    );
    checks.that(
        ledger.in_error.is_empty(),
        format!(
            "{} of {acknowledged} acknowledged transactions failed{}",
            ledger.in_error.len(),
            example(&ledger.in_error)
        ),
    );
    let expected = given.saturating_sub(ledger.landed * FEE);
    checks.that(
        found == expected,
        format!(
            "{found} lamports are there; {given} were given and {} transactions paid {FEE} each: {expected}",
            ledger.landed
        ),
    );
}
