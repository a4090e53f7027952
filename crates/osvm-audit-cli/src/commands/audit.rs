//! `osvm audit [PATH]`.

use std::path::Path;

use osvm_audit::Severity;

use super::watch;
use crate::{
    ai,
    audit::{self, Audit, Setup},
    baseline, chain,
    cli::{AuditArgs, Bar, Format},
    failure::{CLEAN, FINDINGS, Failure, NOT_ANALYSED},
    output,
};

/// The bar where neither the command line nor the settings name one.
const BAR: Bar = Bar::High;

/// Audits, writes the report, and returns the exit code.
pub(crate) fn run(args: &AuditArgs) -> Result<u8, Failure> {
    if args.watch {
        return watch::run(args);
    }
    let setup = Setup::new(args)?;
    let mut audit = audit::run(&setup)?;
    if let (Some(id), Some(url)) = (&args.program_id, &args.url) {
        chain::check(&mut audit, id, url, args.build.as_deref(), args.db.as_deref())?;
    }
    if args.ai.ai_analysis {
        ai::analyse(&mut audit, &args.ai)?;
    }
    write(&audit, format(args), args.out.as_deref())?;
    let gated = args.ai.ai_gate && audit.ai.as_ref().is_some_and(|ai| !ai.findings.is_empty());
    Ok(exit(&audit, bar(args, &setup), args.strict || setup.config.strict, gated))
}

/// What to write.
pub(super) fn format(args: &AuditArgs) -> Format {
    let json = std::env::var_os("OSVM_OUTPUT").is_some_and(|value| value == "json");
    args.format.unwrap_or(if json { Format::Json } else { Format::Text })
}

fn bar(args: &AuditArgs, setup: &Setup) -> Option<Severity> {
    args.fail_on.or(setup.config.fail_on).unwrap_or(BAR).severity()
}

fn exit(audit: &Audit, bar: Option<Severity>, strict: bool, gated: bool) -> u8 {
    if audit.fails(bar) || gated {
        FINDINGS
    } else if strict && !audit.not_analysed.is_empty() {
        NOT_ANALYSED
    } else {
        CLEAN
    }
}

fn write(audit: &Audit, format: Format, out: Option<&Path>) -> Result<(), Failure> {
    let text = output::render(audit, format, out.is_none() && output::colour())?;
    let Some(file) = out else { return output::print(&text) };
    baseline::write_whole(file, text.as_bytes())
        .map_err(|error| Failure::new(format!("cannot write the report {}", file.display())).because(&error))?;
    eprint!("{}", output::summary(audit));
    eprintln!("report {}", file.display());
    Ok(())
}
