//! The command line of `osvm audit`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use osvm_audit::Severity;

/// Audit Solana programs (Anchor, native, Pinocchio) and the host code around them
///
/// Reads sources, manifests and Cargo.lock; runs and builds nothing, and opens no connection but for `db update`, `--program-id` and `--ai-analysis`.
/// Exit codes: 0 clean, 1 findings at or over --fail-on, 2 the audit could not be made, 4 something was not analysed (--strict).
#[derive(Debug, Parser)]
#[command(name = "osvm audit", bin_name = "osvm audit", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) audit: AuditArgs,
}

/// What to audit and how to tell it.
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditArgs {
    /// A crate, a workspace, a folder or one file
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// How to write the report [default: text, or json under `osvm --output json`]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write the report to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Exit with 1 when a finding is at least this severe [default: high, or what osvm.audit.toml says]
    #[arg(long, value_enum, value_name = "SEVERITY")]
    pub(crate) fail_on: Option<Bar>,
    /// Exit with 4 when something could not be analysed
    #[arg(long)]
    pub(crate) strict: bool,
    /// Findings in this file are known: told apart, and not counted
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Only findings whose place or path touches lines changed since this git revision
    #[arg(long, value_name = "REV")]
    pub(crate) since: Option<String>,
    /// Only these rules, as OSVM-001,OSVM-002
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Settings [default: osvm.audit.toml in PATH or a folder above it, up to the repository's]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The folder of the RustSec advisories [default: where `db update` puts them]
    #[arg(long, value_name = "DIR", env = "OSVM_ADVISORY_DB")]
    pub(crate) db: Option<PathBuf>,
    /// Audit again after each change, until Ctrl-C
    #[arg(long, conflicts_with_all = ["out", "program_id", "ai_analysis"])]
    pub(crate) watch: bool,
    /// Audit this deployed program too: its upgrade authority, ELF, SBF version, security.txt
    #[arg(long, value_name = "ID", requires = "url")]
    pub(crate) program_id: Option<String>,
    /// The cluster of --program-id: a URL, or localhost, devnet, testnet, mainnet
    #[arg(long, value_name = "URL", requires = "program_id")]
    pub(crate) url: Option<String>,
    /// A local build that the deployed program must equal, byte for byte
    #[arg(long, value_name = "FILE.so", requires = "program_id")]
    pub(crate) build: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) ai: crate::ai::AiArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the rules
    Rules {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Explain a rule: what it looks for, what it cannot see, what mends it
    Explain {
        /// As OSVM-001
        rule: String,
    },
    /// Mend what can be mended mechanically, and check that it is mended
    Fix(FixArgs),
    /// Keep a file of known findings
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// The local copy of the RustSec advisories
    #[command(subcommand)]
    Db(DbCommand),
    /// Serve diagnostics to an editor over stdio (language server protocol)
    Lsp,
    /// Print the JSON schema of --format json
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct FixArgs {
    /// Only these rules, as OSVM-001; all if none
    pub(crate) rules: Vec<String>,
    /// A crate, a workspace, a folder or one file
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
    /// Print the changes as a unified diff and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BaselineCommand {
    /// Write all findings of now into the baseline
    Update {
        /// A crate, a workspace, a folder or one file
        #[arg(default_value = ".")]
        path: PathBuf,
        /// The baseline [default: what osvm.audit.toml says, or osvm.audit.baseline.json in PATH]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Settings [default: osvm.audit.toml in PATH or a folder above it, up to the repository's]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The folder of the RustSec advisories [default: where `db update` puts them]
        #[arg(long, value_name = "DIR", env = "OSVM_ADVISORY_DB")]
        db: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Fetch the advisories with git
    Update {
        /// A git repository with the layout of RustSec's advisory-db
        #[arg(long, value_name = "URL", default_value = crate::commands::db::UPSTREAM)]
        from: String,
        /// Where to keep them [default: osvm/advisory-db in the user's cache folder]
        #[arg(long, value_name = "DIR", env = "OSVM_ADVISORY_DB")]
        db: Option<PathBuf>,
    },
    /// Say which copy is there
    Show {
        /// Where it is kept [default: osvm/advisory-db in the user's cache folder]
        #[arg(long, value_name = "DIR", env = "OSVM_ADVISORY_DB")]
        db: Option<PathBuf>,
    },
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a terminal, with the source
    Text,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// With a schema: osvm audit schema
    Json,
    /// For a pull request
    Markdown,
    /// One file that needs nothing else
    Html,
}

/// A severity on the command line and in osvm.audit.toml, or no bar at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bar {
    /// Any finding
    Info,
    /// Low or worse
    Low,
    /// Medium or worse
    Medium,
    /// High or worse
    High,
    /// Critical
    Critical,
    /// Never
    Never,
}

impl Bar {
    /// The least severity that is at or over the bar.
    pub(crate) fn severity(self) -> Option<Severity> {
        match self {
            Self::Info => Some(Severity::Info),
            Self::Low => Some(Severity::Low),
            Self::Medium => Some(Severity::Medium),
            Self::High => Some(Severity::High),
            Self::Critical => Some(Severity::Critical),
            Self::Never => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_path_and_a_command_are_told_apart() {
        let cli = Cli::try_parse_from(["osvm audit", "programs/vault", "--format", "sarif"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!((cli.audit.path, cli.audit.format), (PathBuf::from("programs/vault"), Some(Format::Sarif)));
        let cli = Cli::try_parse_from(["osvm audit", "explain", "OSVM-001"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Explain { .. })));
        let cli = Cli::try_parse_from(["osvm audit", "./rules"]).unwrap();
        assert!(cli.command.is_none());
    }
}
