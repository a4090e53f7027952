//! The service that `osvm rpc local` declares.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use osvm_model::{
    ListenerProtocol, PortSpec, RolloutPolicy, ServiceSpec, defaults::RPC_PORT, route::ReplayPolicy,
    service::HealthCheck,
};
use osvm_runtime::companion;

use super::LocalArgs;
use crate::failure::Failure;

/// The port of JSON-RPC, by name.
pub(super) const RPC: &str = "rpc";
/// The port of subscriptions, by name.
pub(super) const WS: &str = "ws";

/// The declaration; the isolation is known to be available and all files to be there.
pub(super) fn of(args: &LocalArgs) -> Result<ServiceSpec, Failure> {
    if let Err(refused) = osvm_runtime::choose(args.isolation) {
        let error = format!("level {} is not available on this host", refused.level);
        let causes = vec![refused.reason];
        return Err(Failure { exit: REFUSED, causes, ..Failure::new(error) }.help(refused.help));
    }
    let port = |name: &str, inside: u16, outside: u16, protocol, replay| PortSpec {
        name: name.to_owned(),
        port: u32::from(inside),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, outside)),
        protocol,
        tls: None,
        replay,
    };
    Ok(ServiceSpec {
        name: args.name.clone(),
        artifact: artifact(args.artifact.as_deref())?,
        args: node_args(args)?,
        env: Default::default(),
        isolation: args.isolation,
        read: files(args)?,
        memory: args.memory,
        ports: vec![
            port(RPC, RPC_PORT, args.port, ListenerProtocol::Http, ReplayPolicy::SolanaRpc),
            port(WS, RPC_PORT + 1, args.port + 1, ListenerProtocol::SolanaPubsub, ReplayPolicy::Unsent),
        ],
        health: HealthCheck::Solana { port: RPC.to_owned() },
        handover: true,
        rollout: RolloutPolicy::default(),
    })
}

/// The exit code of a refused isolation level.
const REFUSED: u8 = 3;

fn artifact(named: Option<&Path>) -> Result<PathBuf, Failure> {
    match named {
        Some(path) => existing(path, "the node's program"),
        None => companion("localnet").ok_or_else(|| {
            Failure::new("no osvm-localnet beside osvm or in PATH")
                .help("build it: cargo build --release -p osvm-localnet; or name it: --artifact PATH")
        }),
    }
}

/// The absolute path of a file that is there: the node has another working folder.
fn existing(path: &Path, what: &str) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path)
        .map_err(|error| Failure::new(format!("cannot read {what} {}", path.display())).because(&error))
}

/// The files and folders that the node's arguments name.
fn files(args: &LocalArgs) -> Result<Vec<PathBuf>, Failure> {
    let accounts = args.account.chunks_exact(2).map(|pair| (PathBuf::from(&pair[1]), "the account file"));
    let folders = args.account_dir.iter().map(|dir| (dir.clone(), "the account folder"));
    let programs = args.bpf_program.chunks_exact(2).chain(args.upgradeable_program.chunks_exact(3));
    let programs = programs.map(|words| (PathBuf::from(&words[1]), "the program file"));
    let all = accounts.chain(folders).chain(programs).chain(args.read.iter().map(|path| (path.clone(), "the file")));
    all.map(|(path, what)| existing(&path, what)).collect()
}

/// The node's arguments, with absolute paths.
fn node_args(args: &LocalArgs) -> Result<Vec<String>, Failure> {
    let file = |path: &str, what: &str| -> Result<String, Failure> {
        let path = existing(Path::new(path), what)?;
        path.into_os_string().into_string().map_err(|path| {
            Failure::new(format!("the path {} is not UTF-8", path.display())).help("rename it, or copy it elsewhere")
        })
    };
    let mut words = Vec::new();
    let mut push = |flag: &str, values: &[String]| {
        words.push(flag.to_owned());
        words.extend_from_slice(values);
    };
    for (flag, number) in
        [("--slot-ms", args.slot_ms), ("--finality-slots", args.finality_slots), ("--faucet-sol", args.faucet_sol)]
    {
        if let Some(number) = number {
            push(flag, &[number.to_string()]);
        }
    }
    if let Some(mint) = &args.mint {
        push("--mint", std::slice::from_ref(mint));
    }
    for pair in args.account.chunks_exact(2) {
        push("--account", &[pair[0].clone(), file(&pair[1], "the account file")?]);
    }
    for dir in &args.account_dir {
        push("--account-dir", &[file(&dir.to_string_lossy(), "the account folder")?]);
    }
    for pair in args.bpf_program.chunks_exact(2) {
        push("--bpf-program", &[pair[0].clone(), file(&pair[1], "the program file")?]);
    }
    for triple in args.upgradeable_program.chunks_exact(3) {
        let elf = file(&triple[1], "the program file")?;
        push("--upgradeable-program", &[triple[0].clone(), elf, triple[2].clone()]);
    }
    words.extend(args.node_args.iter().cloned());
    Ok(words)
}
