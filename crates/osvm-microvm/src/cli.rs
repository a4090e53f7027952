//! The command line of `osvm microvm`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use osvm_microvm::Wanted;
use osvm_model::parse_size;

/// Programs in Linux guests of their own, each in a microVM.
#[derive(Debug, Parser)]
#[command(name = "osvm microvm", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Where guests, images and the kernel are kept; by default `osvm` in the XDG state folder
    #[arg(long, value_name = "DIR", env = "OSVM_HOME", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Boots a guest, runs one program in it with this terminal's input and output, and ends the guest with it
    Run(Run),
    /// Runs another program in a guest that runs
    Exec(Exec),
    /// Copies a file into a guest or out of it; the side in the guest is NAME:/PATH
    Cp {
        /// What is copied
        from: String,
        /// The file that it becomes
        to: String,
    },
    /// Lists the guests that run
    Ls,
    /// Makes, lists and removes images
    #[command(subcommand)]
    Image(Image),
    /// Installs a kernel for guests
    #[command(subcommand)]
    Kernel(Kernel),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The image whose files are the guest's root (osvm microvm image build)
    #[arg(long, value_name = "NAME")]
    pub(crate) image: String,
    /// The guest's name, for exec and cp; without one it is made of this process's number
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The guest's memory, its root's files included: bytes, or with K, M, G
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = parse_size)]
    pub(crate) memory: u64,
    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) cpus: u8,
    /// auto (Firecracker on hardware KVM, else QEMU, which emulates and is slow; printed), firecracker or qemu
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) driver: DriverName,
    /// Refuses to start where no hardware isolates the guest
    #[arg(long)]
    pub(crate) require_hardware: bool,
    #[command(flatten)]
    pub(crate) program: Program,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The guest's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) program: Program,
}

#[derive(Debug, Args)]
pub(crate) struct Program {
    /// Sets a variable of its environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Its working directory in the guest
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) cwd: PathBuf,
    /// The program, by its path in the guest or by name, and its arguments
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Makes an image of all that a folder holds; no root is needed, and all belongs to root in the guest
    Build {
        /// The folder
        from: PathBuf,
        /// The image's name
        #[arg(long)]
        name: String,
    },
    /// Lists images with their digests and sizes
    Ls,
    /// Removes an image's name, and its files if no other name has them
    Rm {
        /// The image's name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Kernel {
    /// Unpacks a kernel for guests, in place of the one before; this machine's own kernel is not touched
    Install {
        /// A Debian package of a kernel; without one, Debian's newest cloud kernel is fetched with apt
        package: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DriverName {
    Auto,
    Firecracker,
    Qemu,
}

impl From<DriverName> for Wanted {
    fn from(name: DriverName) -> Self {
        match name {
            DriverName::Auto => Self::Auto,
            DriverName::Firecracker => Self::Firecracker,
            DriverName::Qemu => Self::Qemu,
        }
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a variable is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
