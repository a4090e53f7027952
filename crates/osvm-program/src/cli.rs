//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use solana_address::Address;

use crate::output::Format;

/// Deploys Solana programs
#[derive(Debug, Parser)]
#[command(name = "osvm program", bin_name = "osvm program", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Form of the output
    #[arg(long, global = true, value_enum, default_value_t, env = "OSVM_OUTPUT", value_name = "FORM")]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Deploy a program, or upgrade it if its id is taken by one of yours
    Deploy(DeployArgs),
    /// Show a program or a buffer
    Show(ShowArgs),
    /// Take the SOL back that a buffer holds
    Close(CloseArgs),
}

/// Where to, and who pays.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// The node: a URL, or localhost, devnet, testnet, mainnet [default: localhost]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Key file of who pays [default: ~/.config/solana/id.json; where that is missing and the node is local, a key that osvm
    /// keeps in its state folder and funds by airdrop]
    #[arg(long, value_name = "FILE")]
    pub(crate) keypair: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// The program, an sBPF ELF file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// The program's id: a key file, or the address of a program to upgrade [default: NAME-keypair.json beside FILE, made if missing]
    #[arg(long, value_name = "KEY|ADDR")]
    pub(crate) program_id: Option<String>,

    /// Key file of who may upgrade the program [default: who pays]
    #[arg(long, value_name = "FILE")]
    pub(crate) upgrade_authority: Option<PathBuf>,

    /// Key file of the buffer [default: NAME-buffer.json beside FILE, made if missing and removed at the end]
    #[arg(long, value_name = "FILE")]
    pub(crate) buffer: Option<PathBuf>,

    /// Bytes that the program may grow to without being extended [default: the file's]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_len: Option<usize>,

    /// Do not ask before deploying to the main network
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The program or buffer
    #[arg(value_name = "ADDR")]
    pub(crate) address: Address,

    /// The node: a URL, or localhost, devnet, testnet, mainnet [default: localhost]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    /// The buffer's address or its key file
    #[arg(value_name = "BUFFER")]
    pub(crate) buffer: String,

    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// Key file of who may write the buffer [default: who pays]
    #[arg(long, value_name = "FILE")]
    pub(crate) authority: Option<PathBuf>,

    /// Who gets the SOL [default: who pays]
    #[arg(long, value_name = "ADDR")]
    pub(crate) recipient: Option<Address>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
