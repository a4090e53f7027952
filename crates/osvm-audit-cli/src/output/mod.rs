//! An audit as bytes, in each format. The same audit gives the same bytes.

#[cfg(test)]
mod golden;
mod html;
mod markdown;
mod sarif;
mod svg;
mod text;
mod wording;

use std::io::{self, IsTerminal, Write};

pub(crate) use text::summary;
pub(crate) use wording::plain;

use crate::{audit::Audit, cli::Format, failure::Failure, sources::Sources};

/// Writes the audit in `format`.
pub(crate) fn render(audit: &Audit, format: Format, colour: bool) -> Result<String, Failure> {
    let sources = Sources::new(audit.folder.clone());
    Ok(match format {
        Format::Text => text::render(audit, &sources, colour),
        Format::Sarif => pretty(&sarif::log(audit, &sources))?,
        Format::Json => pretty(audit)?,
        Format::Markdown => markdown::render(audit),
        Format::Html => html::render(audit, &sources),
    })
}

/// Whether what goes to stdout may have colour: on a terminal, unless NO_COLOR says otherwise.
pub(crate) fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes text to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// JSON with a newline at its end.
pub(crate) fn pretty(value: &impl serde::Serialize) -> Result<String, Failure> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::new("cannot write JSON").because(&error))?;
    text.push('\n');
    Ok(text)
}
