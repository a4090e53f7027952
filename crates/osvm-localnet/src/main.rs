//! The node's binary. Everything is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    osvm_localnet::cli::main()
}
