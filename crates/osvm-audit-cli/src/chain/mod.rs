//! A deployed program: who may change it, what its file is, and whether it is the one that was built here.

mod elf;
mod libraries;
mod loader;
mod security_txt;

use std::{collections::BTreeMap, fs, path::Path};

use ed25519_dalek::VerifyingKey;
use osvm_audit::{Confidence, NotAnalysed, Rule, Severity};
use osvm_model::hex;
use osvm_solana::Client;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    audit::{Audit, Item},
    failure::Failure,
    fingerprint, host,
    sources::Sources,
};

/// What is asked for is what the cluster will not take back.
const COMMITMENT: &str = "finalized";

/// The rules of this module, sorted by id.
pub(crate) static RULES: &[Rule] = &[AUTHORITY, DIFFERS, SECURITY_TXT, LIBRARY];

const AUTHORITY: Rule = Rule {
    id: "OSVM-101",
    class: "upgrade-authority",
    title: "one key may replace the program",
    severity: Severity::Medium,
    cwe: 654,
    explanation: "The upgrade authority is a plain key (a point on the curve, so somebody holds its secret). Who gets that key \
        replaces the program and takes what it holds.",
    limits: "An address off the curve belongs to a program, often a multisig; which one, and how many must agree, is not \
        looked at. The key may be held by several people together without the chain knowing.",
    fix: "Move the authority to a multisig, or give it up: solana program set-upgrade-authority.",
};

const DIFFERS: Rule = Rule {
    id: "OSVM-102",
    class: "build-mismatch",
    title: "the deployed program is not the local build",
    severity: Severity::High,
    cwe: 345,
    explanation: "The file that the cluster runs differs from the one given with --build, so what was audited here is not what \
        runs there. Compared without the zeros that the loader keeps behind the file, as solana-verify does.",
    limits: "Builds differ with compiler, path and flags; only a build in a pinned environment can be compared.",
    fix: "Build as the deployment was built (solana-verify build), or deploy what was audited.",
};

const SECURITY_TXT: Rule = Rule {
    id: "OSVM-103",
    class: "security-txt",
    title: "no security.txt in the deployed program",
    severity: Severity::Info,
    cwe: 1059,
    explanation: "A program that holds a security.txt (macro of the crate solana-security-txt) tells whom to call who finds a \
        hole in it.",
    limits: "Says nothing of a contact that is published elsewhere.",
    fix: "Add security_txt! with name, project_url, contacts and policy.",
};

const LIBRARY: Rule = Rule {
    id: "OSVM-104",
    class: "vulnerable-dependency",
    title: "the deployed program holds a library with a known vulnerability",
    severity: Severity::Critical,
    cwe: 1395,
    explanation: "Paths of panics in the program's file name the crates and versions it was built from, and RustSec has an \
        advisory for one of them.",
    limits: "Sees only crates whose panics kept their paths. Whether the code in question is in the program is not known.",
    fix: "Update the dependency and deploy again.",
};

/// What is known of a deployed program.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Deployed {
    /// Its address.
    pub(crate) program: String,
    /// The node that was asked.
    pub(crate) cluster: String,
    /// The loader that owns it.
    pub(crate) loader: String,
    /// Who may replace it; null if nobody may.
    pub(crate) authority: Option<String>,
    /// Whether the authority is a key that somebody holds, rather than an address of a program.
    pub(crate) authority_is_key: bool,
    /// The slot of the last deployment, where the loader keeps it.
    pub(crate) slot: Option<u64>,
    /// The file's size without the zeros behind it, in bytes.
    pub(crate) bytes: usize,
    /// SHA-256 of that, as solana-verify computes it.
    pub(crate) hash: String,
    /// The version of SBPF in its head.
    pub(crate) sbpf: String,
    /// Whether it equals --build; null if none was given.
    pub(crate) equals_build: Option<bool>,
    /// Its security.txt.
    pub(crate) security_txt: Option<BTreeMap<String, String>>,
    /// Crates and versions that it names itself.
    pub(crate) libraries: Vec<String>,
}

/// Asks the cluster, and adds what it says to the audit.
pub(crate) fn check(
    audit: &mut Audit,
    id: &str,
    url: &str,
    build: Option<&Path>,
    db: Option<&Path>,
) -> Result<(), Failure> {
    let address = bs58::decode(id).into_vec().ok().filter(|bytes| bytes.len() == 32);
    if address.is_none() {
        return Err(Failure::new(format!("{id:?} is no program id: write 32 bytes in base58")));
    }
    let build = build.map(|file| {
        fs::read(file).map_err(|error| Failure::new(format!("cannot read {}", file.display())).because(&error))
    });
    let build = build.transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("cannot start the async runtime").because(&error))?;
    let file = format!("deployed/{id}");
    let client = Client::from_url(url).map_err(|error| Failure::new(format!("cannot use {url}")).because(&error))?;
    let loaded = match runtime.block_on(loader::fetch(&client, id, COMMITMENT))? {
        Ok(loaded) => loaded,
        Err(reason) => {
            audit.not_analysed.push(NotAnalysed { file, reason, line: None });
            return Ok(());
        }
    };
    let elf = strip(&loaded.elf);
    let sbpf = match elf::sbpf_version(elf) {
        Ok(version) => version,
        Err(reason) => {
            audit.not_analysed.push(NotAnalysed { file, reason, line: None });
            return Ok(());
        }
    };
    let deployed = Deployed {
        program: id.to_owned(),
        cluster: client.target(),
        loader: loaded.loader.to_owned(),
        authority_is_key: loaded.authority.as_ref().is_some_and(is_key),
        authority: loaded.authority.map(|key| bs58::encode(key).into_string()),
        slot: loaded.slot,
        bytes: elf.len(),
        hash: hex(&Sha256::digest(elf)),
        sbpf,
        equals_build: build.as_ref().map(|build| strip(build) == elf),
        security_txt: security_txt::find(elf),
        libraries: libraries::find(elf).iter().map(|(name, version)| format!("{name} {version}")).collect(),
    };
    let mut findings = judge(&deployed, &file);
    findings.extend(known_holes(elf, &file, db)?);
    let mut items: Vec<Item> =
        findings.into_iter().map(|finding| Item { finding, fingerprint: String::new() }).collect();
    fingerprint::set(items.iter_mut(), &Sources::new(audit.folder.clone()));
    audit.findings.extend(items);
    audit.deployed = Some(deployed);
    Ok(())
}

fn judge(deployed: &Deployed, file: &str) -> Vec<osvm_audit::Finding> {
    let mut findings = Vec::new();
    let mut tell = |rule: &Rule, message: String, help: &str| {
        findings.push(host::build(rule, Confidence::High, host::whole_file(file), message, help.to_owned()));
    };
    if let Some(authority) = deployed.authority.as_ref().filter(|_| deployed.authority_is_key) {
        let message = format!("{authority} alone may replace the program {}", deployed.program);
        tell(&AUTHORITY, message, "move the authority to a multisig, or give it up");
    }
    if deployed.equals_build == Some(false) {
        let message =
            format!("the program at {} has the hash {}, the local build another", deployed.program, deployed.hash);
        tell(&DIFFERS, message, "build as the deployment was built, or deploy what was audited");
    }
    if deployed.security_txt.is_none() {
        let message = format!("the program at {} names nobody to call", deployed.program);
        tell(&SECURITY_TXT, message, "add security_txt! of the crate solana-security-txt");
    }
    findings
}

fn known_holes(elf: &[u8], file: &str, db: Option<&Path>) -> Result<Vec<osvm_audit::Finding>, Failure> {
    let Some(database) = host::Database::open(db)? else { return Ok(Vec::new()) };
    let mut findings = Vec::new();
    for (name, version) in libraries::find(elf) {
        let all = database.about(&name, &version).map_err(Failure::new)?;
        for advisory in
            all.iter().filter(|advisory| advisory.informational.as_deref().is_none_or(|kind| kind == "unsound"))
        {
            let message = format!("built from {name} {version}: {}, {}", advisory.id, advisory.title);
            let help = "update the dependency and deploy again".to_owned();
            let mut finding = host::build(&LIBRARY, Confidence::Medium, host::whole_file(file), message, help);
            finding.severity = host::severity(advisory);
            findings.push(finding);
        }
    }
    Ok(findings)
}

/// Without the zeros that the loader keeps behind a file.
fn strip(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    &bytes[..end]
}

/// Whether an address is a point on the curve: a program's address never is.
fn is_key(address: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(address).is_ok()
}

/// Reads any bytes as a program and as its account; for the property tests.
#[cfg(test)]
pub(crate) fn robust(bytes: &[u8]) {
    let _ = elf::sbpf_version(bytes);
    let _ = security_txt::find(bytes);
    let _ = libraries::find(bytes);
    loader::robust(bytes);
    assert!(strip(bytes).last() != Some(&0));
}
