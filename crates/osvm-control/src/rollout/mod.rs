//! Rollouts: carrying out what [`machine`] says, and telling how it goes.
//!
//! Each phase is in the store before it begins, so that the next daemon knows how far this one came.

mod actions;
mod figures;
mod machine;
mod report;
mod watch;

use std::sync::Arc;

use osvm_model::{
    EventKind, Generation, Phase, RevisionNumber, RolloutId, RolloutOutcome, RolloutPolicy, RolloutStatus, ServiceName,
    api::Progress, handover::Role,
};
use osvm_runtime::{Exit, Process};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    contract::{self, Pipe},
    error::chain,
    events::Note,
    failure::Failure,
    service::live::Live,
    store::{NewRollout, Revision, RolloutRecord, StoreError},
};
use machine::{Action, Event, State};
use report::Reports;

/// A swap that may begin.
pub(crate) struct Plan {
    pub(crate) from: Revision,
    pub(crate) to: Revision,
    /// The instance that serves.
    pub(crate) old: Live,
    /// Where a rollback would have gone before this swap.
    pub(crate) previous: Option<RevisionNumber>,
    pub(crate) policy: RolloutPolicy,
}

/// What a rollout left.
pub(crate) struct Ended {
    /// The instance that serves; none if it is to be started again.
    pub(crate) live: Option<Live>,
    /// How it ended.
    pub(crate) status: Result<RolloutStatus, Failure>,
}

/// A rollout under way.
struct Rollout<'a> {
    ctx: &'a Arc<Context>,
    id: RolloutId,
    service: ServiceName,
    from: Revision,
    to: Revision,
    /// What `previous` of the service goes back to if this is undone.
    previous: Option<RevisionNumber>,
    /// The volume of the old instance, which outlives it.
    old_volume: u64,
    /// The volume of the new instance, once that was started.
    new_volume: Option<u64>,
    old: Option<Live>,
    new: Option<Live>,
    pipe: Option<Pipe>,
    policy: RolloutPolicy,
    handover: bool,
    /// Subscriptions that the gateway opened on the new instance in advance.
    subscriptions: u64,
    /// Why it fails, from the first failure on.
    error: Option<String>,
    reports: Reports,
}

/// Replaces the instance. Always ends, and leaves one instance that serves or none.
pub(crate) async fn run(
    ctx: &Arc<Context>,
    plan: Plan,
    progress: &mpsc::Sender<Progress>,
    cancel: &CancellationToken,
) -> Ended {
    let Plan { from, to, old, previous, policy } = plan;
    let service = from.spec.name.clone();
    let new = NewRollout {
        service: service.clone(),
        from: (from.number, old.record.generation),
        // Only this service's task takes generations, and it is here.
        to: (to.number, next_generation(ctx, &service, &old)),
        previous,
    };
    let id = match ctx.store.add_rollout(&new) {
        Ok(id) => id,
        Err(error) => return Ended { live: Some(old), status: Err(error.into()) },
    };
    let message = format!("revision {} is to replace revision {}", to.number, from.number);
    ctx.events.note(Note::new(EventKind::Rollout, message).service(&service).rollout(id).revision(to.number));
    let handover = from.spec.handover && to.spec.handover;
    let mut rollout = Rollout {
        ctx,
        id,
        from,
        to,
        previous,
        old_volume: old.record.volume,
        new_volume: None,
        old: Some(old),
        new: None,
        pipe: None,
        policy,
        handover,
        subscriptions: 0,
        error: None,
        reports: Reports::new(ctx, id, service.clone(), progress.clone()),
        service,
    };
    rollout.reset_figures().await;
    let end = rollout.drive(State::begin(handover), cancel).await;
    rollout.end(end, new.from, new.to).await
}

fn next_generation(ctx: &Context, service: &ServiceName, old: &Live) -> Generation {
    match ctx.store.service(service) {
        Ok(Some(service)) => service.generation.next(),
        // The next write fails too and tells why.
        _ => old.record.generation.next(),
    }
}

/// Finishes or undoes a rollout that a dead daemon left.
pub(crate) async fn resume(
    ctx: &Arc<Context>,
    record: RolloutRecord,
    lives: Vec<Live>,
    cancel: &CancellationToken,
) -> Option<Live> {
    let RolloutRecord { status, phase, previous } = record;
    match resume_inner(ctx, &status, phase, previous, lives, cancel).await {
        Ok(ended) => ended.live,
        Err(error) => {
            let message = format!("cannot go on with a rollout that an earlier daemon began: {}", chain(&error));
            ctx.events.note(Note::new(EventKind::Rollout, message).service(&status.service).rollout(status.id));
            None
        }
    }
}

async fn resume_inner(
    ctx: &Arc<Context>,
    status: &RolloutStatus,
    phase: Phase,
    previous: Option<RevisionNumber>,
    lives: Vec<Live>,
    cancel: &CancellationToken,
) -> Result<Ended, StoreError> {
    let service = status.service.clone();
    let revision = |number| match ctx.store.revision(&service, number) {
        Ok(Some(revision)) => Ok(revision),
        Ok(None) => Err(StoreError::Missing(format!("revision {number} of {service}"))),
        Err(error) => Err(error),
    };
    let (from, to) = (revision(status.from.0)?, revision(status.to.0)?);
    let old_record = ctx.store.instance(&service, status.from.1)?;
    let old_record =
        old_record.ok_or_else(|| StoreError::Missing(format!("instance {} of {service}", status.from.1)))?;
    let new_record = ctx.store.instance(&service, status.to.1)?;
    let (mut old, mut new) = (None, None);
    for live in lives {
        if live.record.generation == status.from.1 {
            old = Some(live);
        } else if live.record.generation == status.to.1 {
            new = Some(live);
        }
    }
    let handover = from.spec.handover && to.spec.handover;
    let shifted = phase >= Phase::Shift;
    let new_leads = match &new {
        // The token had gone before this phase was noted: the state that new has is the one that counts, even if new is dead.
        _ if handover && shifted => true,
        None => false,
        Some(_) if !handover => shifted,
        Some(new) => contract::status(&new.uds).await.is_ok_and(|status| status.role == Role::Leader),
    };
    let (state, error) = if phase == Phase::Retire || (new_leads && new.is_none()) {
        (State::retire(handover, new.is_some()), None)
    } else if new_leads {
        (State::finish(handover, old.is_some()), None)
    } else {
        let state = State::undo(handover, old.is_some(), new.is_some(), shifted);
        (state, Some("the daemon ended during the rollout".to_owned()))
    };
    let what = if error.is_none() { "finished" } else { "undone" };
    let message = format!("a rollout that an earlier daemon began is {what}");
    ctx.events.note(Note::new(EventKind::Rollout, message).service(&service).rollout(status.id));
    // Nobody listens any more.
    let (progress, _) = mpsc::channel(1);
    let mut rollout = Rollout {
        ctx,
        id: status.id,
        policy: from.spec.rollout.clone(),
        from,
        to,
        previous,
        old_volume: old_record.volume,
        new_volume: new_record.map(|record| record.volume),
        old,
        new,
        pipe: None,
        handover,
        subscriptions: 0,
        error,
        reports: Reports::new(ctx, status.id, service.clone(), progress),
        service,
    };
    let end = rollout.drive(state, cancel).await;
    Ok(rollout.end(end, status.from, status.to).await)
}

impl Rollout<'_> {
    /// Goes from action to action until the rollout ended.
    async fn drive(&mut self, mut state: State, cancel: &CancellationToken) -> RolloutOutcome {
        while let Some(action) = state.action() {
            self.reports.begin(action.phase(self.handover));
            let event = self.next_event(action, state, cancel).await;
            if event == Event::Cancelled {
                self.fail("the service is being stopped".to_owned());
            }
            state = state.on(event);
            let next = state.action().and_then(|action| action.phase(self.handover));
            let goes_on = next.is_some() || state.outcome() == RolloutOutcome::Done;
            self.reports.end_unless(next, if goes_on { None } else { self.error.as_deref() });
        }
        state.outcome()
    }

    /// Carries out the action, unless a death or a wish to stop ends it early.
    async fn next_event(&mut self, action: Action, state: State, cancel: &CancellationToken) -> Event {
        if !action.interruptible() {
            return self.perform(action).await;
        }
        let old = self.old.as_ref().map(|live| live.process.clone());
        let new = self.new.as_ref().map(|live| live.process.clone());
        let cancelled = async { if state.hurried() { std::future::pending().await } else { cancel.cancelled().await } };
        tokio::select! {
            biased;
            exit = exited(new) => {
                self.new_died(exit);
                Event::NewDied
            }
            exit = exited(old) => {
                self.old_died(exit);
                Event::OldDied
            }
            () = cancelled => Event::Cancelled,
            event = self.perform(action) => event,
        }
    }

    /// Notes why the rollout fails. The first reason counts.
    fn fail(&mut self, why: String) {
        self.error.get_or_insert(why);
    }

    fn new_died(&mut self, exit: Exit) {
        let Some(mut live) = self.new.take() else { return };
        let told = live.died(self.ctx, exit).unwrap_or_else(|error| chain(&error));
        self.fail(format!("revision {} ended: {told}", self.to.number));
    }

    fn old_died(&mut self, exit: Exit) {
        let Some(mut live) = self.old.take() else { return };
        let told = live.died(self.ctx, exit).unwrap_or_else(|error| chain(&error));
        self.fail(format!("revision {} ended: {told}", self.from.number));
    }

    /// Writes down how it ended and tells everybody.
    async fn end(mut self, outcome: RolloutOutcome, from: End, to: End) -> Ended {
        let figures = self.figures().await;
        let (old, new) = (self.from.number, self.to.number);
        let why = self.error.take().unwrap_or_default();
        let message = match outcome {
            RolloutOutcome::Done if why.is_empty() => format!("revision {new} serves; {}", figures.told()),
            RolloutOutcome::Done => {
                format!("revision {new} serves, with nothing to go back to ({why}); {}", figures.told())
            }
            RolloutOutcome::Kept => format!("revision {old} serves, nothing changed: {why}"),
            RolloutOutcome::RolledBack | RolloutOutcome::Running => format!("revision {old} serves again: {why}"),
        };
        let error = Some(why).filter(|why| outcome != RolloutOutcome::Done && !why.is_empty());
        let noted = self
            .ctx
            .store
            .end_rollout(self.id, outcome, error.as_deref(), figures.longest_wait_us, figures.failed_requests)
            .and_then(|()| match outcome {
                RolloutOutcome::Done => self.ctx.store.prune_revisions(&self.service),
                _ => self.ctx.store.fail_revision(&self.service, new),
            });
        if outcome != RolloutOutcome::Done && noted.is_ok() {
            // Not before: a daemon that dies in an undo may leave the next one to finish on that state.
            self.remove_new_volume().await;
        }
        self.ctx.events.note(
            Note::new(EventKind::Rollout, message)
                .service(&self.service)
                .rollout(self.id)
                .revision(new)
                .field("outcome", serde_json::to_value(outcome).unwrap_or_default()),
        );
        let status = RolloutStatus {
            id: self.id,
            service: self.service.clone(),
            from,
            to,
            outcome,
            error,
            phases: self.reports.into_ended(),
            longest_wait_us: figures.longest_wait_us,
            failed_requests: figures.failed_requests,
        };
        let live = if outcome == RolloutOutcome::Done { self.new.take() } else { self.old.take() };
        Ended { live, status: noted.map(|()| status).map_err(Failure::from) }
    }
}

/// A revision and an instance of it.
type End = (RevisionNumber, Generation);

async fn exited(process: Option<Process>) -> Exit {
    match process {
        Some(process) => process.exited().await,
        None => std::future::pending().await,
    }
}
