//! `osvm program deploy FILE`: verify, write a buffer, deploy or upgrade, read back.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use osvm_solana::Account;
use serde::Serialize;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_loader_v3_interface::{get_program_data_address, instruction};
use solana_signer::Signer;

use osvm_model::number;

use crate::{
    cli::DeployArgs,
    cluster::Cluster,
    elf,
    failure::Failure,
    keys::{self, Key},
    loader::{self, State},
    output::{Printer, SCHEMA},
    sender::{COMMITMENT, LONGEST_TRANSACTION},
};

/// What a signature costs, in lamports.
const SIGNATURE_FEE: u64 = 5_000;
/// Transactions beside the writes: buffer, deployment or extension and upgrade. Each has at most three signatures.
const OTHER_SIGNATURES: u64 = 9;
/// A sample to measure how much of a transaction is not program.
const SAMPLE: usize = 1_000;
/// Between two looks at the slot, when the loader takes a program once a slot.
const SLOT_LOOK: Duration = Duration::from_millis(50);
/// For a slot to pass.
const SLOT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a deployment did.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    /// `deploy`, `upgrade`, or `none` where the program had these bytes already.
    action: &'static str,
    program_id: String,
    program_data: String,
    authority: String,
    /// The buffer that was used; it is gone after the deployment.
    buffer: Option<String>,
    bytes: usize,
    chunks_written: usize,
    chunks_present: usize,
    signature: Option<String>,
    slot: Option<u64>,
    url: String,
    duration_ms: u64,
}

/// What is to be done, known before anything is sent.
struct Plan {
    elf: Vec<u8>,
    program: Key,
    program_data: Address,
    authority: Keypair,
    /// Bytes of the program-data account's program, if there is one.
    deployed: Option<Account>,
    max_len: usize,
}

pub(crate) async fn run(printer: Printer, args: &DeployArgs) -> Result<(), Failure> {
    let began = Instant::now();
    let unreadable =
        |error: std::io::Error| Failure::new(format!("cannot read {}", args.file.display())).because(&error);
    let elf = fs::read(&args.file).map_err(unreadable)?;
    let version = elf::verify(&elf).map_err(|error| {
        Failure::new(format!("{} cannot be deployed", args.file.display()))
            .because(&error)
            .help("build it for Solana (cargo build-sbf) and name the .so file; nothing was sent")
    })?;
    printer.labelled(
        "elf",
        &format!("{}  {} bytes, {version}, verified", args.file.display(), number(elf.len() as u64)),
    )?;

    let cluster = Cluster::new(printer, &args.cluster)?;
    cluster.confirm("deploying to", args.yes).await?;
    let plan = plan(&cluster, args, elf).await?;
    let mut report = Report {
        schema: SCHEMA,
        action: if plan.deployed.is_some() { "upgrade" } else { "deploy" },
        program_id: plan.program.address().to_string(),
        program_data: plan.program_data.to_string(),
        authority: plan.authority.pubkey().to_string(),
        buffer: None,
        bytes: plan.elf.len(),
        chunks_written: 0,
        chunks_present: 0,
        signature: None,
        slot: None,
        url: cluster.client().target(),
        duration_ms: 0,
    };
    let same = plan.deployed.as_ref().is_some_and(
        |account| matches!(loader::read(&account.data), Some(State::ProgramData { bytes, .. }) if loader::holds(bytes, &plan.elf)),
    );
    if same {
        report.action = "none";
    } else {
        write_and_deploy(printer, args, &cluster, &plan, &mut report).await?;
    }
    report.duration_ms = began.elapsed().as_millis() as u64;
    tell(printer, &cluster, &report)
}

/// Everything from the first payment on. Whatever breaks it off, the buffer's key says how to go on.
async fn write_and_deploy(
    printer: Printer,
    args: &DeployArgs,
    cluster: &Cluster,
    plan: &Plan,
    report: &mut Report,
) -> Result<(), Failure> {
    let (buffer_path, made_here) = buffer_path(args)?;
    let (buffer, new) = keys::read_or_make(&buffer_path, "the buffer's key")?;
    let address = buffer.pubkey();
    report.buffer = Some(address.to_string());
    let paid = async {
        write_buffer(printer, cluster, plan, &buffer, report).await?;
        install(cluster, plan, &buffer, report).await
    };
    let outcome = tokio::select! {
        outcome = paid => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted")),
    };
    if let Err(failure) = outcome {
        let exists = cluster.client().account(&address.to_string(), COMMITMENT).await;
        if new && made_here && matches!(exists, Ok(None)) {
            // Nothing was paid into it: no trace is left.
            let _ = fs::remove_file(&buffer_path);
            return Err(failure);
        }
        return Err(failure
            .help(format!("resume: the same command again; the buffer's key is in {}", buffer_path.display()))
            .help(format!("or reclaim its SOL: osvm program close {}{}", buffer_path.display(), cluster.url_flag())));
    }
    if made_here {
        // The account is gone with the deployment, so the key has no further use.
        let _ = fs::remove_file(&buffer_path);
    }
    Ok(())
}

/// Reads what the cluster has and refuses what cannot succeed.
async fn plan(cluster: &Cluster, args: &DeployArgs, elf: Vec<u8>) -> Result<Plan, Failure> {
    let authority = match &args.upgrade_authority {
        Some(path) => keys::read(path, "the upgrade authority's key")?,
        None => cluster.sender.payer.insecure_clone(),
    };
    let program = match &args.program_id {
        Some(text) => Key::read(text, "the program's key")?,
        None => Key::Pair(keys::read_or_make(&keys::beside(&args.file, "keypair"), "the program's key")?.0),
    };
    let id = program.address();
    let program_data = get_program_data_address(&id);
    let present = cluster.client().account(&id.to_string(), COMMITMENT).await?;
    let deployed = match present {
        None => {
            if matches!(program, Key::Address(_)) {
                return Err(Failure::new(format!(
                    "there is no program {id} to upgrade at {}",
                    cluster.client().target()
                ))
                .help("a new program needs its key: --program-id KEYFILE, or leave the option out"));
            }
            None
        }
        Some(account) => Some(upgradeable(cluster, &account, &id, &program_data, &authority).await?),
    };
    let max_len = args.max_len.unwrap_or(elf.len());
    if max_len < elf.len() {
        let elf = number(elf.len() as u64);
        return Err(Failure::usage(format!(
            "--max-len {max_len} is less than the {elf} bytes of {}",
            args.file.display()
        )));
    }
    Ok(Plan { elf, program, program_data, authority, deployed, max_len })
}

/// The program-data account, if the authority may upgrade the program.
async fn upgradeable(
    cluster: &Cluster,
    account: &Account,
    id: &Address,
    program_data: &Address,
    authority: &Keypair,
) -> Result<Account, Failure> {
    let loader_id = solana_sdk_ids::bpf_loader_upgradeable::id();
    let is_program =
        account.owner == loader_id.to_string() && matches!(loader::read(&account.data), Some(State::Program { .. }));
    if !is_program {
        return Err(Failure::new(format!(
            "{id} is taken by an account that is no upgradeable program (owner {})",
            account.owner
        ))
        .help("choose another program id: --program-id KEYFILE"));
    }
    let gone = || {
        Failure::new(format!("program {id} was closed, and its id cannot be used again"))
            .help("choose another program id: --program-id KEYFILE")
    };
    let data = cluster.client().account(&program_data.to_string(), COMMITMENT).await?.ok_or_else(gone)?;
    let holder = match loader::read(&data.data) {
        Some(State::ProgramData { authority, .. }) => authority,
        _ => return Err(gone()),
    };
    match holder {
        Some(holder) if holder == authority.pubkey() => Ok(data),
        Some(holder) => {
            Err(Failure::new(format!("only {holder} may upgrade {id}, and you sign as {}", authority.pubkey()))
                .help("name its key: --upgrade-authority FILE"))
        }
        None => Err(Failure::new(format!("program {id} is final: nobody may upgrade it"))
            .help("deploy under another program id: --program-id KEYFILE")),
    }
}

/// The file of the buffer's key, and whether it is this command's own.
fn buffer_path(args: &DeployArgs) -> Result<(PathBuf, bool), Failure> {
    if let Some(path) = &args.buffer {
        return Ok((path.clone(), false));
    }
    let beside = keys::beside(&args.file, "buffer");
    let folder = beside.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let writable = beside.exists() || tempfile_in(folder);
    if writable {
        return Ok((beside, true));
    }
    // The file's folder cannot be written: the state folder can.
    let name = beside.file_name().unwrap_or_default().to_owned();
    Ok((keys::own_folder()?.join(name), true))
}

/// Whether a file can be made in `folder`.
fn tempfile_in(folder: &Path) -> bool {
    let probe = folder.join(format!(".osvm-program-{}", std::process::id()));
    let made = fs::OpenOptions::new().write(true).create_new(true).open(&probe).is_ok();
    let _ = fs::remove_file(&probe);
    made
}

/// Makes the buffer hold the program: creates it if it is not there, and writes the chunks that differ.
async fn write_buffer(
    printer: Printer,
    cluster: &Cluster,
    plan: &Plan,
    buffer: &Keypair,
    report: &mut Report,
) -> Result<(), Failure> {
    let (client, sender, authority) = (cluster.client(), &cluster.sender, &plan.authority);
    let (address, payer) = (buffer.pubkey(), sender.payer.pubkey());
    let chunk = chunk_length(cluster, plan, &address)?;
    let account = client.account(&address.to_string(), COMMITMENT).await?;
    let present = match &account {
        Some(account) => buffer_bytes(account, &address, plan)?.to_vec(),
        None => Vec::new(),
    };
    let offsets = {
        // A new buffer is all zeros.
        let mut expected = present.clone();
        expected.resize(plan.elf.len().max(present.len()), 0);
        loader::missing(&plan.elf, &expected, chunk)
    };
    let rent = client.rent_for(loader::BUFFER_HEADER + plan.elf.len()).await?;
    cluster.fund(printer, needed(cluster, plan, rent, offsets.len(), account.is_some()).await?).await?;
    if account.is_none() {
        let create = instruction::create_buffer(&payer, &address, &authority.pubkey(), rent, plan.elf.len())
            .map_err(|error| Failure::new("cannot make the buffer's instructions").because(&error))?;
        sender.one(&create, &[buffer]).await?;
    }
    let total = plan.elf.len().div_ceil(chunk);
    (report.chunks_written, report.chunks_present) = (offsets.len(), total - offsets.len());
    let bar = printer.progress("buffer", offsets.len() as u64);
    let writes = offsets.iter().map(|&offset| {
        let bytes = plan.elf[offset..(offset + chunk).min(plan.elf.len())].to_vec();
        // An account holds 10 MiB, so its offsets fit.
        instruction::write(&address, &authority.pubkey(), offset as u32, bytes)
    });
    let sent = sender.many(writes.collect(), &[authority], &mut |done| bar.set_position(done as u64)).await;
    bar.finish_and_clear();
    sent?;
    let written = client.account(&address.to_string(), COMMITMENT).await?;
    let whole = written.as_ref().and_then(|account| buffer_bytes(account, &address, plan).ok());
    if whole.is_none_or(|bytes| !loader::holds(bytes, &plan.elf)) {
        return Err(Failure::new(format!("buffer {address} was written, but reads back differently")));
    }
    let were = if report.chunks_present > 0 {
        format!(", {} needed no write", number(report.chunks_present as u64))
    } else {
        String::new()
    };
    printer.labelled("buffer", &format!("{address}  {} chunks written{were}, read back", number(offsets.len() as u64)))
}

/// The program's part of a buffer that is fit for this program.
fn buffer_bytes<'a>(account: &'a Account, address: &Address, plan: &Plan) -> Result<&'a [u8], Failure> {
    let other = |why: String| {
        Failure::new(format!("the buffer {address} cannot be used: {why}"))
            .help("use another: --buffer FILE, or move its key file away")
    };
    match loader::read(&account.data) {
        Some(State::Buffer { authority: Some(holder), bytes }) if holder == plan.authority.pubkey() => {
            if bytes.len() < plan.elf.len() {
                Err(other(format!("it holds {} bytes, the program has {}", bytes.len(), plan.elf.len())))
            } else if bytes.len() > plan.elf.len() && plan.deployed.is_none() && bytes.len() > plan.max_len {
                Err(other(format!("it holds {} bytes, more than the program may have ({})", bytes.len(), plan.max_len)))
            } else {
                Ok(bytes)
            }
        }
        Some(State::Buffer { authority: Some(holder), .. }) => Err(other(format!("only {holder} may write it"))),
        Some(State::Buffer { authority: None, .. }) => Err(other("nobody may write it".to_owned())),
        _ => Err(other("it is no buffer".to_owned())),
    }
}

/// How much of the program fits into a transaction: less with more signers.
fn chunk_length(cluster: &Cluster, plan: &Plan, buffer: &Address) -> Result<usize, Failure> {
    let sample = instruction::write(buffer, &plan.authority.pubkey(), 0, vec![0; SAMPLE]);
    let overhead = cluster.sender.length(&sample, &[&plan.authority])? - SAMPLE;
    Ok(LONGEST_TRANSACTION - overhead)
}

/// The most that the payer has to have at one time.
async fn needed(
    cluster: &Cluster,
    plan: &Plan,
    buffer_rent: u64,
    writes: usize,
    has_buffer: bool,
) -> Result<u64, Failure> {
    let client = cluster.client();
    let signers = if plan.authority.pubkey() == cluster.sender.payer.pubkey() { 1 } else { 2 };
    let fees = SIGNATURE_FEE * (writes as u64 * signers + OTHER_SIGNATURES);
    // The buffer's rent comes back before the program's is paid.
    let buffer = if has_buffer { 0 } else { buffer_rent };
    let program = match &plan.deployed {
        Some(_) => 0,
        None => {
            let data = client.rent_for(loader::PROGRAM_DATA_HEADER + plan.max_len).await?;
            data + client.rent_for(loader::PROGRAM_LEN).await?
        }
    };
    let extension = match extension(plan) {
        Some(bytes) => {
            let length = plan.deployed.as_ref().map_or(0, |account| account.data.len());
            let (now, then) = (client.rent_for(length).await?, client.rent_for(length + bytes as usize).await?);
            then.saturating_sub(now)
        }
        None => 0,
    };
    Ok(fees + buffer.max(program) + extension)
}

/// By how many bytes the present program's account is too short.
fn extension(plan: &Plan) -> Option<u32> {
    let length = plan.deployed.as_ref()?.data.len().checked_sub(loader::PROGRAM_DATA_HEADER)?;
    let short = plan.elf.len().max(plan.max_len).checked_sub(length).filter(|short| *short > 0)?;
    Some(u32::try_from(short).ok()?.max(loader::LEAST_EXTENSION))
}

/// Makes the buffer's content the program, and reads it back.
async fn install(cluster: &Cluster, plan: &Plan, buffer: &Keypair, report: &mut Report) -> Result<(), Failure> {
    let (client, sender, authority) = (cluster.client(), &cluster.sender, &plan.authority);
    let (id, payer) = (plan.program.address(), sender.payer.pubkey());
    let (signature, slot) = match (&plan.deployed, &plan.program) {
        (Some(account), _) => {
            if let Some(bytes) = extension(plan) {
                let (_, slot) = sender.one(&[instruction::extend_program(&id, Some(&payer), bytes)], &[]).await?;
                slot_after(cluster, slot).await?;
            } else if let Some(State::ProgramData { slot, .. }) = loader::read(&account.data) {
                slot_after(cluster, slot).await?;
            }
            let upgrade = instruction::upgrade(&id, &buffer.pubkey(), &authority.pubkey(), &payer, true);
            sender.one(&[upgrade], &[authority]).await?
        }
        (None, Key::Pair(program)) => {
            let rent = client.rent_for(loader::PROGRAM_LEN).await?;
            let deploy = instruction::deploy_with_max_program_len(
                &payer,
                &id,
                &buffer.pubkey(),
                &authority.pubkey(),
                rent,
                plan.max_len,
                true,
            )
            .map_err(|error| Failure::new("cannot make the deployment's instructions").because(&error))?;
            sender.one(&deploy, &[program, authority]).await?
        }
        (None, Key::Address(_)) => return Err(Failure::new(format!("the key of {id} is missing"))),
    };
    let account = client.account(&plan.program_data.to_string(), COMMITMENT).await?;
    let holds = account.as_ref().is_some_and(
        |account| matches!(loader::read(&account.data), Some(State::ProgramData { bytes, .. }) if loader::holds(bytes, &plan.elf)),
    );
    if !holds {
        return Err(Failure::new(format!(
            "transaction {signature} was confirmed, but {id} does not hold the file's bytes"
        )));
    }
    (report.signature, report.slot) = (Some(signature), Some(slot));
    Ok(())
}

/// The loader changes a program at most once a slot.
async fn slot_after(cluster: &Cluster, slot: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + SLOT_TIMEOUT;
    while cluster.client().slot().await? <= slot {
        if Instant::now() >= deadline {
            return Err(Failure::new(format!("slot {slot} does not pass; is the node alive?")));
        }
        tokio::time::sleep(SLOT_LOOK).await;
    }
    Ok(())
}

fn tell(printer: Printer, cluster: &Cluster, report: &Report) -> Result<(), Failure> {
    if printer.is_json() {
        return printer.json(report);
    }
    let id = &report.program_id;
    match (report.action, report.slot) {
        ("none", _) => {
            printer.labelled("done", &format!("program {id} holds these bytes already; nothing was sent"))?
        }
        (action, slot) => {
            let word = if action == "upgrade" { "upgraded" } else { "deployed" };
            let slot = slot.map_or_else(String::new, |slot| format!(" in slot {}", number(slot)));
            printer.labelled(
                "done",
                &format!("program {id} {word}{slot}, read back, {} ms", number(report.duration_ms)),
            )?;
        }
    }
    printer.labelled("show", &format!("osvm program show {id}{}", cluster.url_flag()))
}
