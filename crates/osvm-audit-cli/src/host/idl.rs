//! An IDL that is checked in against the handlers of the code: clients are built from the IDL.

use std::collections::BTreeSet;

use osvm_audit::{Confidence, Finding, Program, Rule, Severity};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    Host, finding,
    tree::{Tree, file_name, folder},
};

/// The IDL and the code name different instructions.
pub(crate) const DRIFT: Rule = Rule {
    id: "OSVM-105",
    class: "idl-drift",
    title: "the IDL is not of this code",
    severity: Severity::Low,
    cwe: 1059,
    explanation: "Clients are made from the IDL. One that names instructions which the program does not have, lacks some that it \
        has, or gives one another discriminator is of another state of the code, and so is whatever was reviewed with it.",
    limits: "Compares the names of instructions and their discriminators in JSON files of folders called `idl`, for Anchor \
        programs of the same name. Accounts, arguments and types are not compared. A discriminator may be set by hand.",
    fix: "Build the IDL again (anchor idl build) and check it in.",
};

/// Bytes in front of an instruction's data.
const DISCRIMINATOR: usize = 8;

/// What is read of an IDL, of the form of Anchor 0.30 and of the one before.
#[derive(Deserialize)]
struct Idl {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
    instructions: Vec<Instruction>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Instruction {
    name: String,
    #[serde(default)]
    discriminator: Option<Vec<u8>>,
}

/// Compares each IDL with the program that it names.
pub(super) fn check(tree: &Tree<'_>, programs: &[Program], host: &mut Host) {
    let in_folder = |file: &&String| file.ends_with(".json") && format!("/{}", folder(file)).ends_with("/idl/");
    let built = std::fs::read_dir(tree.root.join("target/idl")).into_iter().flatten().flatten();
    let built = built.map(|entry| format!("target/idl/{}", entry.file_name().to_string_lossy()));
    let files: BTreeSet<String> = tree.files.iter().filter(in_folder).cloned().chain(built).collect();
    for file in files.iter().filter(|file| file_name(file).ends_with(".json")) {
        // Other files may lie there as well; what is no IDL is none of ours.
        let Ok(text) = tree.text(file) else { continue };
        let Ok(idl) = serde_json::from_str::<Idl>(&text) else { continue };
        host.findings.extend(compare(file, &idl, programs));
    }
}

fn compare(file: &str, idl: &Idl, programs: &[Program]) -> Option<Finding> {
    let name = idl.metadata.as_ref().and_then(|metadata| metadata.name.as_ref()).or(idl.name.as_ref())?;
    let is_it = |program: &&Program| program.framework == "anchor" && snake(&program.name) == snake(name);
    let program = programs.iter().find(is_it).filter(|program| !program.handlers.is_empty())?;
    let last = |handler: &String| snake(handler.rsplit("::").next().unwrap_or(handler));
    let code: BTreeSet<String> = program.handlers.iter().map(last).collect();
    let said: BTreeSet<String> = idl.instructions.iter().map(|instruction| snake(&instruction.name)).collect();
    let list = |names: Vec<&String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut differences = Vec::new();
    let only_said: Vec<&String> = said.difference(&code).collect();
    if !only_said.is_empty() {
        differences.push(format!("it names {}, which the code does not have", list(only_said)));
    }
    let only_code: Vec<&String> = code.difference(&said).collect();
    if !only_code.is_empty() {
        differences.push(format!("it lacks {}", list(only_code)));
    }
    let other = |instruction: &&Instruction| {
        let expected = &Sha256::digest(format!("global:{}", snake(&instruction.name)))[..DISCRIMINATOR];
        instruction.discriminator.as_ref().is_some_and(|given| given != expected)
    };
    let others: Vec<&String> = idl.instructions.iter().filter(other).map(|instruction| &instruction.name).collect();
    if !others.is_empty() {
        differences.push(format!("the discriminator of {} is not the one of its name", list(others)));
    }
    if differences.is_empty() {
        return None;
    }
    let message = format!("{file} is not of the code of `{}`: {}", program.name, differences.join("; "));
    let help = "build the IDL again and check it in".to_owned();
    Some(finding::build(&DRIFT, Confidence::Medium, finding::whole_file(file), message, help))
}

/// `initializeVault` and `initialize-vault` as `initialize_vault`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            if !snake.is_empty() && !snake.ends_with('_') {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        } else {
            snake.push(if c == '-' { '_' } else { c });
        }
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(handlers: &[&str]) -> Vec<Program> {
        let handlers = handlers.iter().map(|&handler| handler.to_owned()).collect();
        vec![Program { name: "my-vault".into(), path: String::new(), framework: "anchor", handlers }]
    }

    fn said(idl: &str, handlers: &[&str]) -> Option<String> {
        let idl: Idl = serde_json::from_str(idl).unwrap();
        compare("idl/my_vault.json", &idl, &programs(handlers)).map(|finding| finding.message)
    }

    #[test]
    fn both_forms_of_an_idl_are_compared_with_the_handlers() {
        let old = r#"{"version":"0.1.0","name":"my_vault","instructions":[{"name":"depositAll"},{"name":"gone"}]}"#;
        assert_eq!(said(old, &["deposit_all", "gone"]), None);
        let message = said(old, &["my_vault::deposit_all", "my_vault::withdraw"]).unwrap();
        assert!(message.contains("it names `gone`") && message.contains("it lacks `withdraw`"), "{message}");
        let digest = Sha256::digest("global:deposit")[..8].to_vec();
        let new = format!(
            r#"{{"metadata":{{"name":"my_vault"}},"instructions":[{{"name":"deposit","discriminator":{digest:?}}}]}}"#
        );
        assert_eq!(said(&new, &["deposit"]), None);
        let other = new.replace(&format!("{digest:?}"), "[1,2,3,4,5,6,7,8]");
        assert!(said(&other, &["deposit"]).unwrap().contains("discriminator of `deposit`"));
        assert_eq!(said(&new.replace("my_vault", "another"), &["other"]), None);
        assert_eq!(said(&new, &[]), None, "nothing is said where no handler was seen");
    }
}
