//! `osvm version`.

use osvm_model::api::SCHEMA;
use serde_json::json;

use crate::{failure::Failure, output::Printer};

/// This program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn run(printer: &Printer) -> Result<(), Failure> {
    if printer.is_json() {
        printer.json(&json!({"schema": SCHEMA, "name": "osvm", "version": VERSION}))
    } else {
        printer.line(&format!("osvm {VERSION}"))
    }
}
