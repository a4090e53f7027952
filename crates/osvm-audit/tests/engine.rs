//! What the engine promises whatever the rules: nothing is passed over in silence, nothing hangs, names decide nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path, time::Instant};

use osvm_audit::{Error, Options, Report, Session};
use proptest::prelude::*;

fn crate_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn audit(dir: &Path) -> Report {
    osvm_audit::analyse(&Options::new(dir)).unwrap()
}

fn rules_of(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.rule).collect()
}

const MANIFEST: &str = "[package]\nname = \"p\"\n[dependencies]\nanchor-lang = \"0.31\"\n";

#[test]
fn what_is_no_rust_is_reported_as_not_analysed() {
    let dir =
        crate_with(&[("src/lib.rs", "fn broken( {"), ("src/fine.rs", "pub fn fine() {}"), ("src/bytes.rs", "\u{0}")]);
    fs::write(dir.path().join("src/latin.rs"), [b'/', b'/', 0xe4]).unwrap();
    let report = audit(dir.path());
    let files: Vec<&str> = report.not_analysed.iter().map(|part| part.file.as_str()).collect();
    assert_eq!(files, ["src/bytes.rs", "src/latin.rs", "src/lib.rs"]);
    assert_eq!(report.files, 4);
}

#[test]
fn a_root_that_is_not_there_and_an_unknown_rule_are_errors() {
    let missing = osvm_audit::analyse(&Options::new("/nowhere/at/all"));
    assert!(matches!(missing, Err(Error::Root { .. })));
    let mut options = Options::new(".");
    options.only = vec!["OSVM-999".to_owned()];
    assert!(matches!(osvm_audit::analyse(&options), Err(Error::NoSuchRule { .. })));
}

#[test]
fn deep_and_long_sources_end_soon_and_are_reported() {
    let deep = format!("fn f() {{ {}1{} }}", "(".repeat(50_000), ")".repeat(50_000));
    let chain = format!("fn f() -> bool {{ {}true }}", "!".repeat(100_000));
    let sum = format!("fn f() -> u64 {{ 1{} }}", " + 1".repeat(50_000));
    let elses = format!("fn f(a: u8) {{ if a == 0 {{}} {} }}", "else if a == 1 {} ".repeat(20_000));
    let nested = format!("{}{}", "mod a {".repeat(5_000), "}".repeat(5_000));
    let fine = format!("fn f(a: u64) -> u64 {{ a{} }}", ".min(1)".repeat(300));
    let files: Vec<(String, String)> = [deep, chain, sum, elses, nested, fine]
        .into_iter()
        .enumerate()
        .map(|(at, text)| (format!("src/f{at}.rs"), text))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let dir = crate_with(&files);
    let start = Instant::now();
    let report = audit(dir.path());
    assert!(start.elapsed().as_secs() < 30);
    let told: Vec<&str> = report.not_analysed.iter().map(|part| part.file.as_str()).collect();
    assert_eq!(told, ["src/f0.rs", "src/f1.rs", "src/f2.rs", "src/f3.rs", "src/f4.rs", "src/f5.rs"]);
}

#[test]
fn helpers_in_other_files_and_traits_are_followed() {
    let handler = "use crate::checks::Checks;\n\
        pub fn take(program_id: &Pubkey, accounts: &[AccountInfo], amount: u64) -> ProgramResult {\n\
        let [purse, owner, ..] = accounts else { return Err(ProgramError::NotEnoughAccountKeys) };\n\
        owner.must_sign()?;\n\
        crate::checks::owned(purse, program_id)?;\n\
        let state = Purse::unpack(&purse.try_borrow_data()?)?;\n\
        if state.owner != *owner.key { return Err(ProgramError::InvalidAccountData) }\n\
        **accounts[2].try_borrow_mut_lamports()? -= amount;\n\
        Ok(())\n}\n";
    let checks = "pub trait Checks { fn must_sign(&self) -> ProgramResult; }\n\
        impl Checks for AccountInfo<'_> { fn must_sign(&self) -> ProgramResult {\n\
        if !self.is_signer { return Err(ProgramError::MissingRequiredSignature) } Ok(()) } }\n\
        pub fn owned(account: &AccountInfo, by: &Pubkey) -> ProgramResult {\n\
        (account.owner == by).then_some(()).ok_or(ProgramError::IllegalOwner)?; assert_eq!(account.owner, by); Ok(()) }\n";
    let dir =
        crate_with(&[("src/lib.rs", "mod checks; mod take;"), ("src/take.rs", handler), ("src/checks.rs", checks)]);
    let report = audit(dir.path());
    assert_eq!(rules_of(&report), Vec::<&str>::new());
    let unchecked = checks.replace("if !self.is_signer { return Err(ProgramError::MissingRequiredSignature) }", "");
    let dir =
        crate_with(&[("src/lib.rs", "mod checks; mod take;"), ("src/take.rs", handler), ("src/checks.rs", &unchecked)]);
    assert_eq!(rules_of(&audit(dir.path())), ["OSVM-001"]);
}

#[test]
fn names_decide_nothing() {
    // The same program with every name of its own replaced says the same.
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/OSVM-001/bad_has_one.rs"))
        .unwrap();
    let renamed = text
        .replace("treasury", "secure_good")
        .replace("set_fee", "check_everything")
        .replace("settings", "verified")
        .replace("Settings", "Verified")
        .replace("manager", "x1")
        .replace("SetFee", "Validated");
    let dir = crate_with(&[("Cargo.toml", MANIFEST), ("src/lib.rs", &text)]);
    let other = crate_with(&[("Cargo.toml", MANIFEST), ("src/lib.rs", &renamed)]);
    let (one, two) = (audit(dir.path()), audit(other.path()));
    assert!(!one.findings.is_empty());
    assert_eq!(rules_of(&one), rules_of(&two));
}

#[test]
fn overflow_checks_of_the_workspace_silence_sums() {
    let program =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/OSVM-060/bad.rs")).unwrap();
    let workspace = |checks: &str| {
        let root = format!("[workspace]\nmembers = [\"programs/*\"]\n[profile.release]\noverflow-checks = {checks}\n");
        let dir = crate_with(&[
            ("Cargo.toml", &root),
            ("programs/a/Cargo.toml", MANIFEST),
            ("programs/a/src/lib.rs", &program),
        ]);
        audit(&dir.path().join("programs/a"))
    };
    assert!(rules_of(&workspace("false")).contains(&"OSVM-060"));
    assert!(!rules_of(&workspace("true")).contains(&"OSVM-060"));
}

#[test]
fn what_the_source_allows_is_counted_and_shown() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/OSVM-060/bad.rs")).unwrap();
    let text = text.replace(
        "        ctx.accounts.book.balance -= amount;",
        "        // osvm: allow(OSVM-060, reason = \"bounded by the caller\")\n        ctx.accounts.book.balance -= amount;",
    );
    let dir = crate_with(&[("Cargo.toml", MANIFEST), ("src/lib.rs", &text)]);
    let report = audit(dir.path());
    assert!(!rules_of(&report).contains(&"OSVM-060"));
    assert_eq!(report.suppressed.len(), 1);
    assert_eq!(report.suppressed[0].reason, "bounded by the caller");
}

#[test]
fn a_session_parses_again_only_what_changed_and_says_the_same() {
    let bad = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/OSVM-060/bad.rs")).unwrap();
    let good =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/OSVM-060/good.rs")).unwrap();
    let dir = crate_with(&[("Cargo.toml", MANIFEST), ("src/lib.rs", &bad)]);
    let mut session = Session::new();
    let options = Options::new(dir.path());
    let first = session.analyse(&options).unwrap();
    assert_eq!(first, session.analyse(&options).unwrap());
    fs::write(dir.path().join("src/lib.rs"), good).unwrap();
    let fixed = session.analyse(&options).unwrap();
    assert!(rules_of(&first).contains(&"OSVM-060") && !rules_of(&fixed).contains(&"OSVM-060"));
    // An editor's buffer stands in for the file.
    let mut shown = options.clone();
    shown.overlay = vec![(dir.path().join("src/lib.rs"), bad)];
    assert_eq!(rules_of(&session.analyse(&shown).unwrap()), rules_of(&first));
}

/// A package whose handlers lean on one another: helpers, constants, a stored bump, a trait, imports.
const LEANING: [(&str, &str); 4] = [
    (
        "src/lib.rs",
        "use anchor_lang::prelude::*;\nuse crate::checks::Checks;\nmod checks;\nmod state;\nuse state::*;\n\
         #[program]\npub mod p {\n    use super::*;\n\
         \x20   pub fn open(ctx: Context<Open>) -> Result<()> {\n        ctx.accounts.book.bump = ctx.bumps.book;\n        Ok(())\n    }\n\
         \x20   pub fn take(ctx: Context<Take>, amount: u64) -> Result<()> {\n        ctx.accounts.owner.must_sign()?;\n\
         \x20       crate::checks::owned(&ctx.accounts.purse, &ID)?;\n\
         \x20       require!(amount < LIMIT, Refused::TooMuch);\n\
         \x20       **ctx.accounts.purse.try_borrow_mut_lamports()? -= amount;\n        Ok(())\n    }\n}\n",
    ),
    (
        "src/accounts.rs",
        "use anchor_lang::prelude::*;\n#[derive(Accounts)]\npub struct Open<'info> {\n\
         \x20   #[account(init, payer = owner, space = 8 + 48, seeds = [owner.key().as_ref()], bump)]\n\
         \x20   pub book: Account<'info, Book>,\n    #[account(mut)]\n    pub owner: Signer<'info>,\n\
         \x20   pub system_program: Program<'info, System>,\n}\n#[derive(Accounts)]\npub struct Take<'info> {\n\
         \x20   #[account(has_one = owner, seeds = [owner.key().as_ref()], bump = book.bump)]\n    pub book: Account<'info, Book>,\n\
         \x20   /// CHECK: by hand\n    #[account(mut)]\n    pub purse: UncheckedAccount<'info>,\n\
         \x20   /// CHECK: by hand\n    pub owner: UncheckedAccount<'info>,\n}\n",
    ),
    (
        "src/checks.rs",
        "use anchor_lang::prelude::*;\npub trait Checks { fn must_sign(&self) -> Result<()>; }\n\
         impl Checks for UncheckedAccount<'_> { fn must_sign(&self) -> Result<()> {\n\
         if !self.is_signer { return Err(ProgramError::MissingRequiredSignature.into()) } Ok(()) } }\n\
         pub fn owned(account: &UncheckedAccount, by: &Pubkey) -> Result<()> {\n\
         require_keys_eq!(*account.owner, *by);\n Ok(()) }\n",
    ),
    (
        "src/state.rs",
        "use anchor_lang::prelude::*;\npub const LIMIT: u64 = 10;\n#[account]\npub struct Book {\n    pub owner: Pubkey,\n    pub bump: u8,\n}\n",
    ),
];

#[test]
fn a_session_follows_again_only_what_leads_to_a_change_and_says_the_same() {
    let dir = crate_with(&LEANING);
    fs::write(dir.path().join("Cargo.toml"), MANIFEST).unwrap();
    for number in 0..20 {
        let alone = format!("pub fn alone_{number}(a: u64) -> u64 {{ a / 2 }}\n");
        fs::write(dir.path().join(format!("src/alone_{number}.rs")), alone).unwrap();
    }
    let options = Options::new(dir.path());
    let mut session = Session::new();
    session.analyse(&options).unwrap();
    let all = session.runs();
    assert!(all >= 22, "handlers and what no handler calls: {all}");
    session.analyse(&options).unwrap();
    assert_eq!(session.runs(), 0, "nothing changed");
    // Each edit with the most that it may set going.
    let edits: [(&str, &str, &str, usize); 9] = [
        ("src/alone_3.rs", "a / 2", "a / 3", 1),
        ("src/checks.rs", "if !self.is_signer", "if self.is_signer && !self.is_signer", 3),
        ("src/checks.rs", "require_keys_eq!(*account.owner, *by);", "", 3),
        ("src/state.rs", "LIMIT: u64 = 10", "LIMIT: u64 = 11", 3),
        ("src/accounts.rs", "has_one = owner, ", "", 3),
        ("src/accounts.rs", "pub owner: Signer<'info>", "/// CHECK: none\n    pub owner: UncheckedAccount<'info>", 3),
        // No handler stores the canonical bump any more: whoever asked for that is followed again.
        ("src/lib.rs", "ctx.accounts.book.bump = ctx.bumps.book;", "", 3),
        // A second method of that name: neither is followed.
        ("src/alone_4.rs", "pub fn", "impl X { fn must_sign(&self) {} }\npub fn", 4),
        ("src/lib.rs", "use crate::checks::Checks;\n", "\n\n", 3),
    ];
    let mut differed = 0;
    let mut before = audit(dir.path());
    for (file, old, new, most) in edits {
        let path = dir.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{file} holds {old}");
        fs::write(&path, text.replace(old, new)).unwrap();
        let remembered = session.analyse(&options).unwrap();
        assert!(session.runs() <= most, "{file}, {old}: {} of {all} were run, not {most}", session.runs());
        let fresh = audit(dir.path());
        assert_eq!(remembered, fresh, "{file}, {old}");
        differed += usize::from(fresh.findings != before.findings);
        before = fresh;
    }
    assert!(differed >= 3, "the edits decide something: {differed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever lines are taken out one after the other, what is remembered never shows.
    #[test]
    fn a_session_says_what_a_fresh_audit_says(cuts in proptest::collection::vec((0_usize..4, 0_usize..60, any::<bool>()), 1..6)) {
        let dir = crate_with(&LEANING);
        fs::write(dir.path().join("Cargo.toml"), MANIFEST).unwrap();
        let options = Options::new(dir.path());
        let mut session = Session::new();
        session.analyse(&options).unwrap();
        for (file, line, doubled) in cuts {
            let path = dir.path().join(LEANING[file].0);
            let text = fs::read_to_string(&path).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            let line = line % lines.len().max(1);
            if doubled { lines.insert(line, lines[line]); } else { lines.remove(line); }
            fs::write(&path, lines.join("\n") + "\n").unwrap();
            prop_assert_eq!(session.analyse(&options).unwrap(), audit(dir.path()));
        }
    }
}

#[test]
fn a_text_alone_is_audited_like_a_file() {
    let bad = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/OSVM-060/bad.rs")).unwrap();
    let report = osvm_audit::analyse_text(&bad).unwrap();
    assert!(rules_of(&report).contains(&"OSVM-060"));
    assert_eq!(osvm_audit::analyse_text("fn (").unwrap().not_analysed.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is cut out of a program, the audit ends and says something of each file.
    #[test]
    fn any_piece_of_a_program_is_read_or_reported(from in 0_usize..3_000, len in 0_usize..3_000, noise in "[ -~]{0,12}") {
        let text = include_str!("fixtures/OSVM-002/bad_pinocchio.rs");
        let cut: String = text.chars().skip(from % text.len()).take(len).collect();
        let dir = crate_with(&[("src/lib.rs", &format!("{cut}{noise}"))]);
        let report = audit(dir.path());
        prop_assert_eq!(report.files, 1);
    }
}
