//! What names a finding from run to run: its rule, file, handler, the code it points at, and which of equal ones it is.
//!
//! Lines may move and blanks may change without another name. Code that changes makes a new finding.

use std::collections::HashMap;

use osvm_model::hex;
use sha2::{Digest, Sha256};

use crate::{audit::Item, sources::Sources};

/// How many bytes of the hash are kept: 2^64 findings until two are likely to share one.
const BYTES: usize = 16;
/// Of a long place, so many lines are enough.
const LINES: u32 = 8;

/// Gives each item its fingerprint. The items come in the order of their places.
pub(crate) fn set<'a>(items: impl Iterator<Item = &'a mut Item>, sources: &Sources) {
    let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
    for item in items {
        let finding = &item.finding;
        let mut text = Vec::new();
        let handler = finding.handler.as_deref().unwrap_or_default();
        for part in [finding.rule, &finding.location.file, handler] {
            text.extend_from_slice(part.as_bytes());
            text.push(0);
        }
        let span = finding.location.span;
        match sources.get(&finding.location.file) {
            Some(source) if span.line > 0 => {
                let last = span.end_line.min(span.line.saturating_add(LINES));
                for line in (span.line..=last).filter_map(|number| source.line(number)) {
                    text.extend(line.split_whitespace().flat_map(|word| word.bytes().chain([b' '])));
                }
            }
            _ => text.extend_from_slice(finding.message.as_bytes()),
        }
        let equal = seen.entry(text.clone()).or_default();
        text.extend_from_slice(&equal.to_le_bytes());
        *equal += 1;
        item.fingerprint = hex(&Sha256::digest(&text)[..BYTES]);
    }
}
