//! One instance that runs: starting it, adopting it, checking it, ending it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use osvm_model::{
    EventKind, InstanceState, ServiceSpec,
    handover::{ENV_SOLE, Role},
};
use osvm_runtime::{Exit, Process, StartSpec};

use crate::{
    CheckFailure, Passed, Subject, Target,
    context::Context,
    error::chain,
    events::Note,
    store::{InstanceRecord, NewInstance, Revision, StoreError},
};

/// For an instance to end by itself when it is stopped.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(10);
/// First pause between two rounds of checks of an instance that starts; it doubles up to [`CHECK_PAUSE_MAX`].
const CHECK_PAUSE: Duration = Duration::from_millis(2);
/// Longest pause between two rounds of checks.
const CHECK_PAUSE_MAX: Duration = Duration::from_millis(100);
/// Lines of its log that are told when an instance ends by itself.
const LAST_WORDS: usize = 1;
/// The most that is told of one such line, in characters.
const LINE_LIMIT: usize = 300;

/// Why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveError {
    #[error(transparent)]
    Refused(#[from] osvm_runtime::Refused),
    #[error(transparent)]
    Start(#[from] osvm_runtime::StartError),
    #[error("instance {0} cannot be taken over")]
    Adopt(osvm_model::Generation, #[source] osvm_runtime::AdoptError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A running instance.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) record: InstanceRecord,
    pub(crate) spec: ServiceSpec,
    pub(crate) uds: PathBuf,
    pub(crate) process: Process,
}

impl Live {
    /// Starts an instance of the revision. `sole`: no other instance can lead, so that it may go on with a state that was handed over.
    pub(crate) fn start(
        ctx: &Context,
        new: &NewInstance,
        revision: &Revision,
        role: Role,
        sole: bool,
    ) -> Result<Self, LiveError> {
        let driver = osvm_runtime::driver(new.level)?;
        let record = ctx.store.add_instance(new)?;
        let uds = ctx.paths.instance_socket(record.id);
        let mut env = revision.spec.env.clone();
        if sole {
            env.insert(ENV_SOLE.to_owned(), "true".to_owned());
        }
        let start = StartSpec {
            program: ctx.paths.artifact(&revision.digest),
            args: revision.spec.args.clone(),
            env,
            uds: uds.clone(),
            state: ctx.paths.volume(&record.service, record.volume),
            generation: record.generation,
            role,
            log: ctx.paths.log(&record.service, record.generation),
            read: revision.spec.read.clone(),
            memory: revision.spec.memory,
        };
        let process = match driver.start(&start) {
            Ok(process) => process,
            Err(error) => {
                ctx.store.set_state(record.id, InstanceState::Failed, Some(&chain(&error)))?;
                return Err(error.into());
            }
        };
        ctx.store.set_process(record.id, process.pid(), process.start_time())?;
        let (pid, level) = (process.pid(), record.level);
        let message = format!("revision {} started as process {pid}, level {level}", record.revision);
        ctx.events.note(note(&record, message).pid(pid));
        let record = InstanceRecord { process: Some((pid, process.start_time())), ..record };
        Ok(Self { record, spec: revision.spec.clone(), uds, process })
    }

    /// Takes over an instance that an earlier daemon started; none if it is gone.
    pub(crate) fn adopt(ctx: &Context, record: InstanceRecord, spec: ServiceSpec) -> Result<Option<Self>, LiveError> {
        let Some((pid, start_time)) = record.process else { return Ok(None) };
        let driver = osvm_runtime::driver(record.level)?;
        let generation = record.generation;
        let adopted = driver.adopt(pid, start_time).map_err(|error| LiveError::Adopt(generation, error))?;
        let uds = ctx.paths.instance_socket(record.id);
        Ok(adopted.map(|process| Self { record, spec, uds, process }))
    }

    pub(crate) fn target(&self) -> Target {
        Target { generation: self.record.generation, revision: self.record.revision, uds: self.uds.clone() }
    }

    /// Notes where it is in its life.
    pub(crate) fn set_state(&mut self, ctx: &Context, state: InstanceState) -> Result<(), StoreError> {
        self.record.state = state;
        ctx.store.set_state(self.record.id, state, None)
    }

    /// Ends it on purpose, and notes that.
    pub(crate) async fn end(&mut self, ctx: &Context, grace: Duration) -> Result<(), StoreError> {
        let began = Instant::now();
        let exit = self.process.terminate(grace).await;
        self.ended(ctx, InstanceState::Stopped, &exit.to_string())?;
        let note = note(&self.record, format!("revision {} ended ({exit})", self.record.revision));
        ctx.events.note(note.field("duration_us", began.elapsed().as_micros() as u64));
        Ok(())
    }

    /// Notes that it ended by itself. Returns how, with its last words, in one line.
    pub(crate) fn died(&mut self, ctx: &Context, exit: Exit) -> Result<String, StoreError> {
        let told = format!("{exit}{}", self.last_words(ctx));
        self.ended(ctx, InstanceState::Failed, &told)?;
        ctx.events.note(note(&self.record, format!("revision {} ended by itself: {told}", self.record.revision)));
        Ok(told)
    }

    fn ended(&mut self, ctx: &Context, state: InstanceState, how: &str) -> Result<(), StoreError> {
        self.record.state = state;
        ctx.store.set_state(self.record.id, state, Some(how))?;
        // It removes its socket itself if it ends well. The folder is its own.
        if let Some(folder) = self.uds.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
        Ok(())
    }

    /// `: the last line of its log`, or nothing if it said nothing.
    fn last_words(&self, ctx: &Context) -> String {
        let log = ctx.paths.log(&self.record.service, self.record.generation);
        let (lines, _) = osvm_runtime::log::tail(&log, LAST_WORDS).unwrap_or_default();
        let cut = |line: &String| line.chars().take(LINE_LIMIT).collect::<String>();
        let lines: Vec<String> = lines.iter().map(cut).collect();
        if lines.is_empty() { String::new() } else { format!(": {}", lines.join(" | ")) }
    }
}

/// An event about the instance.
pub(crate) fn note(record: &InstanceRecord, message: String) -> Note {
    Note::new(EventKind::Instance, message).service(&record.service).instance(record.revision, record.generation)
}

/// Makes the checks again and again until they pass, cannot pass any more, or the time is over.
pub(crate) async fn admit(ctx: &Context, subject: &Subject, limit: Duration) -> Result<Passed, String> {
    let mut last: Option<CheckFailure> = None;
    let mut pause = CHECK_PAUSE;
    let rounds = async {
        loop {
            match ctx.checker.check(subject).await {
                Ok(passed) => return Ok(passed),
                Err(failure) if failure.fatal => return Err(failure.message),
                Err(failure) => last = Some(failure),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CHECK_PAUSE_MAX);
        }
    };
    let outcome = tokio::time::timeout(limit, rounds).await;
    outcome.unwrap_or_else(|_| {
        let why = last.map_or_else(|| "no answer".to_owned(), |failure| failure.message);
        Err(format!("not healthy within {} ms: {why}", limit.as_millis()))
    })
}
