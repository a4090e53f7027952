//! A service's task.
//!
//! Nothing it must know is only here: what is wanted, which revision serves and which instances live is in the store, and a new
//! daemon's task begins by adopting those.

use std::{sync::Arc, time::Duration};

use osvm_model::{
    BackendRole, EventKind, InstanceState, IsolationRequest, RolloutOutcome, RolloutPolicy, ServiceName, api::Progress,
    defaults, handover::Role,
};
use osvm_runtime::{Exit, choose};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    handle::{Command, Gate, Handle, Permit},
    live::{Live, STOP_GRACE, admit, note},
    state::Condition,
};
use crate::{
    Passed, Purpose, Subject,
    context::Context,
    error::chain,
    events::Note,
    failure::Failure,
    gateway::ServiceRoutes,
    rollout::{self, Plan},
    store::{InstanceRecord, NewInstance, Revision, Service, StoreError},
};

/// Commands that wait.
const QUEUE: usize = 16;
/// An instance that was ready for so long is sound: when it dies the back-off begins anew.
const SOUND_AFTER: Duration = Duration::from_secs(10);

/// Starts the task of a service that an earlier daemon had. What that left is adopted first.
pub(crate) fn spawn(ctx: Arc<Context>, name: ServiceName) -> Handle {
    make(ctx, name, true)
}

/// Starts the task of a service that was just declared. It waits for the command to start.
pub(crate) fn spawn_new(ctx: Arc<Context>, name: ServiceName) -> Handle {
    make(ctx, name, false)
}

fn make(ctx: Arc<Context>, name: ServiceName, adopts: bool) -> Handle {
    let (commands, inbox) = mpsc::channel(QUEUE);
    // Whoever asks before the task adopted what there is must not be told that the service is stopped.
    let wanted = adopts && matches!(ctx.store.service(&name), Ok(Some(service)) if service.wanted);
    let (condition, watched) = watch::channel(Condition { wanted, ..Condition::default() });
    let gate = Gate::default();
    let handle = Handle::new(name.clone(), commands, watched, gate.clone());
    let actor = Actor {
        ctx,
        name,
        inbox,
        condition,
        gate,
        live: None,
        admission: None,
        again: None,
        pause: defaults::RESTART_PAUSE,
        restarts: 0,
        ready_since: None,
    };
    tokio::spawn(actor.run(adopts));
    handle
}

struct Actor {
    ctx: Arc<Context>,
    name: ServiceName,
    inbox: mpsc::Receiver<Command>,
    condition: watch::Sender<Condition>,
    gate: Gate,
    live: Option<Live>,
    /// The checks of an instance that starts.
    admission: Option<JoinHandle<Result<Passed, String>>>,
    /// When an instance is started again.
    again: Option<Instant>,
    pause: Duration,
    restarts: u32,
    ready_since: Option<Instant>,
}

enum Wake {
    Command(Command),
    Died(Exit),
    Admitted(Result<Passed, String>),
    Again,
    End,
}

impl Actor {
    async fn run(mut self, adopts: bool) {
        if adopts && let Err(error) = self.adopt().await {
            self.trouble("cannot be adopted", error.message());
        }
        loop {
            match self.wake().await {
                Wake::Command(Command::Remove { reply }) => {
                    let removed = self.remove().await;
                    let done = removed.is_ok();
                    let _ = reply.send(removed);
                    if done {
                        return;
                    }
                }
                Wake::Command(command) => self.obey(command).await,
                Wake::Died(exit) => self.died(exit).await,
                Wake::Admitted(outcome) => self.admitted(outcome).await,
                Wake::Again => self.start_again().await,
                Wake::End => return,
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let process = self.live.as_ref().map(|live| live.process.clone());
        let died = async {
            match process {
                Some(process) => process.exited().await,
                None => std::future::pending().await,
            }
        };
        let admitted = async {
            match &mut self.admission {
                Some(admission) => admission.await.unwrap_or_else(|_| Err("the checks broke off".to_owned())),
                None => std::future::pending().await,
            }
        };
        let again = async {
            match self.again {
                Some(when) => tokio::time::sleep_until(when).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            exit = died => Wake::Died(exit),
            command = self.inbox.recv() => command.map_or(Wake::End, Wake::Command),
            outcome = admitted => Wake::Admitted(outcome),
            () = again => Wake::Again,
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Start { reply } => drop(reply.send(self.start().await)),
            Command::Stop { reply } => drop(reply.send(self.stop().await)),
            Command::Restart { reply } => drop(reply.send(self.restart().await)),
            Command::Swap { to, policy, progress, permit } => self.swap(*to, policy, progress, permit).await,
            // `run` takes it.
            Command::Remove { .. } => {}
        }
    }

    // ---- commands ----

    async fn start(&mut self) -> Result<(), Failure> {
        if self.live.is_some() {
            return Ok(());
        }
        let (_, revision) = self.service()?;
        let addrs = revision.spec.ports.iter().map(|port| port.listen).collect();
        self.ctx.gateway.reserve(&self.name, addrs).await?;
        self.ctx.store.set_wanted(&self.name, true)?;
        (self.restarts, self.pause, self.again) = (0, defaults::RESTART_PAUSE, None);
        self.condition.send_replace(Condition { wanted: true, ..Condition::default() });
        match self.start_instance() {
            Ok(()) => {}
            Err(error) => {
                self.ctx.store.set_wanted(&self.name, false)?;
                self.condition
                    .send_replace(Condition { failure: Some(error.message().to_owned()), ..Default::default() });
                // Gives the ports back.
                let _ = self.ctx.gateway.apply(&self.name, None).await;
                return Err(error);
            }
        }
        if let Err(error) = self.route(false).await {
            self.end_instance().await?;
            self.ctx.store.set_wanted(&self.name, false)?;
            let _ = self.ctx.gateway.apply(&self.name, None).await;
            return Err(error);
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), Failure> {
        let was_wanted = self.ctx.store.service(&self.name)?.is_some_and(|service| service.wanted);
        self.ctx.store.set_wanted(&self.name, false)?;
        self.condition.send_replace(Condition::default());
        self.again = None;
        // First no more requests, then the instance.
        if let Err(error) = self.ctx.gateway.apply(&self.name, None).await {
            self.trouble("cannot be taken off the gateway", &chain(&error));
        }
        self.end_instance().await?;
        if was_wanted {
            self.note(EventKind::Service, "stopped".to_owned());
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        if self.live.is_none() {
            return self.start().await;
        }
        self.condition.send_replace(Condition { wanted: true, ..Condition::default() });
        // Requests wait at the gateway meanwhile.
        self.unroute().await;
        self.end_instance().await?;
        self.start().await
    }

    async fn remove(&mut self) -> Result<(), Failure> {
        self.stop().await?;
        self.ctx.store.remove_service(&self.name)?;
        self.ctx.store.sync().await?;
        let folder = self.ctx.paths.service(&self.name);
        if let Err(error) = tokio::fs::remove_dir_all(&folder).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.trouble("left files behind", &format!("{}: {error}", folder.display()));
        }
        crate::artifacts::collect(&self.ctx);
        self.note(EventKind::Service, "removed with its state".to_owned());
        Ok(())
    }

    async fn swap(&mut self, to: Revision, policy: RolloutPolicy, progress: mpsc::Sender<Progress>, permit: Permit) {
        let plan = match self.plan(to, policy).await {
            Ok(plan) => plan,
            Err(failure) => {
                let _ = progress.send(Progress::Refused(failure.body())).await;
                return;
            }
        };
        let ended = rollout::run(&self.ctx, plan, &progress, &permit.cancel).await;
        self.after_rollout(ended.live).await;
        // Whoever hears of the end may ask for the next one.
        drop(permit);
        let last = match ended.status {
            Ok(status) => Progress::Ended(Box::new(status)),
            Err(failure) => Progress::Refused(failure.body()),
        };
        let _ = progress.send(last).await;
    }

    /// Whether the swap may begin: there must be an instance that serves and, if there is a state, can hand it over.
    async fn plan(&mut self, to: Revision, policy: RolloutPolicy) -> Result<Plan, Failure> {
        let (service, from) = self.service()?;
        let name = &self.name;
        let live = match &self.live {
            Some(live) if live.record.state == InstanceState::Ready => live,
            _ if !service.wanted => {
                return Err(Failure::conflict(
                    format!("{name} is stopped: there is nothing to replace"),
                    format!("start it first: osvm start {name}"),
                ));
            }
            _ => {
                return Err(Failure::conflict(
                    format!("{name} has no healthy instance: there is nobody to take over from"),
                    format!("see why: osvm logs {name}; then osvm restart {name}"),
                ));
            }
        };
        if from.spec.handover {
            let leads = crate::contract::status(&live.uds).await;
            let trouble = match leads {
                Ok(status) if status.role == Role::Leader => None,
                Ok(_) => Some("does not lead".to_owned()),
                Err(error) => Some(format!("does not say who leads ({})", chain(&error))),
            };
            if let Some(trouble) = trouble {
                return Err(Failure::conflict(
                    format!("the only instance of {name} {trouble}: a swap could lose its state"),
                    format!("start it again on its state first: osvm restart {name}"),
                ));
            }
        }
        let live = live.clone();
        self.live = None;
        Ok(Plan { from, to, old: live, previous: service.previous, policy })
    }

    async fn after_rollout(&mut self, live: Option<Live>) {
        self.live = live;
        match &self.live {
            Some(_) => {
                self.ready_since = Some(Instant::now());
                self.restarts = 0;
                self.condition.send_replace(Condition { ready: true, wanted: true, failure: None });
            }
            None => self.again = Some(Instant::now()),
        }
    }

    // ---- what happens by itself ----

    /// Takes over what an earlier daemon left.
    async fn adopt(&mut self) -> Result<(), Failure> {
        let (service, revision) = self.service()?;
        let mut lives = Vec::new();
        for record in self.ctx.store.live_instances(Some(&self.name))? {
            let spec = match self.ctx.store.revision(&self.name, record.revision)? {
                Some(revision) => revision.spec,
                None => revision.spec.clone(),
            };
            match Live::adopt(&self.ctx, record.clone(), spec)? {
                Some(live) => lives.push(live),
                None => self.gone(&record)?,
            }
        }
        let running =
            self.ctx.store.last_rollout(&self.name)?.filter(|it| it.status.outcome == RolloutOutcome::Running);
        if let Some(record) = running
            && let Ok(permit) = self.gate.enter()
        {
            let live = rollout::resume(&self.ctx, record, lives, &permit.cancel).await;
            self.after_rollout(live).await;
            return Ok(());
        }
        let mut serving = None;
        for mut live in lives {
            let newest = Some(live.record.volume) == service.volume && live.record.revision == service.revision;
            if service.wanted && newest && serving.is_none() {
                self.ctx.events.note(
                    note(
                        &live.record,
                        format!("revision {} goes on (process {})", live.record.revision, live.process.pid()),
                    )
                    .pid(live.process.pid()),
                );
                serving = Some(live);
            } else {
                live.end(&self.ctx, STOP_GRACE).await?;
            }
        }
        self.live = serving;
        if !service.wanted {
            return Ok(());
        }
        self.condition.send_replace(Condition { wanted: true, ..Condition::default() });
        let ready = self.live.as_ref().is_some_and(|live| live.record.state == InstanceState::Ready);
        if ready {
            self.ready_since = Some(Instant::now());
            self.condition.send_replace(Condition { ready: true, wanted: true, failure: None });
        }
        self.route(ready).await?;
        match &self.live {
            None => self.again = Some(Instant::now()),
            Some(_) if ready => {}
            Some(_) => self.begin_admission(),
        }
        Ok(())
    }

    fn gone(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        self.ctx.store.set_state(record.id, InstanceState::Failed, Some("ended while no daemon ran"))?;
        let message = format!("revision {} ended while no daemon ran", record.revision);
        self.ctx.events.note(note(record, message));
        Ok(())
    }

    async fn died(&mut self, exit: Exit) {
        let Some(mut live) = self.live.take() else { return };
        self.stop_admission();
        let told = live.died(&self.ctx, exit).unwrap_or_else(|error| chain(&error));
        self.unroute().await;
        self.failed(format!("revision {} ended: {told}", live.record.revision));
    }

    async fn admitted(&mut self, outcome: Result<Passed, String>) {
        self.admission = None;
        let Some(live) = &mut self.live else { return };
        match outcome {
            Ok(passed) => {
                let noted = live.set_state(&self.ctx, InstanceState::Ready);
                let (record, since) = (live.record.clone(), live.record.started_ms);
                if let Err(error) = noted {
                    self.trouble("is ready, which cannot be noted", &chain(&error));
                }
                if let Err(error) = self.route(true).await {
                    self.trouble("is ready, but the gateway does not route to it", error.message());
                }
                let took = crate::store::now_ms().saturating_sub(since);
                let message = format!("revision {} is ready in {took} ms: {}", record.revision, passed.join(", "));
                self.ctx.events.note(note(&record, message).field("duration_us", took * 1000));
                self.ready_since = Some(Instant::now());
                self.condition.send_replace(Condition { ready: true, wanted: true, failure: None });
            }
            Err(why) => {
                let revision = live.record.revision;
                self.ctx.events.note(note(&live.record, format!("revision {revision} is not healthy: {why}")));
                if let Err(error) = self.end_instance().await {
                    self.trouble("cannot note its end", &chain(&error));
                }
                self.failed(format!("revision {revision} is not healthy: {why}"));
            }
        }
    }

    /// Plans the next start after one that failed.
    fn failed(&mut self, why: String) {
        if self.ready_since.take().is_some_and(|since| since.elapsed() > SOUND_AFTER) {
            self.pause = defaults::RESTART_PAUSE;
        }
        self.again = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(defaults::RESTART_PAUSE_MAX);
        self.condition.send_replace(Condition { ready: false, wanted: true, failure: Some(why) });
    }

    async fn start_again(&mut self) {
        self.again = None;
        self.restarts += 1;
        match self.start_instance() {
            // The gateway was told that nobody is there; it is told of the new one once that is ready.
            Ok(()) => {
                if let Err(error) = self.route(false).await {
                    self.trouble("is not known to the gateway", error.message());
                }
            }
            Err(error) => {
                self.trouble("did not start again", error.message());
                self.failed(error.message().to_owned());
            }
        }
    }

    // ---- parts ----

    fn start_instance(&mut self) -> Result<(), Failure> {
        let (service, revision) = self.service()?;
        let level = choose(revision.spec.isolation)?;
        let new = NewInstance {
            service: self.name.clone(),
            revision: revision.number,
            level: level.level,
            volume: service.volume,
            restarts: self.restarts,
        };
        // A rollout that was undone ended the new instance, wherever the token was.
        let undone = |outcome| matches!(outcome, RolloutOutcome::Kept | RolloutOutcome::RolledBack);
        let sole = self.ctx.store.last_rollout(&self.name)?.is_some_and(|it| undone(it.status.outcome));
        let live = Live::start(&self.ctx, &new, &revision, Role::Leader, sole)?;
        if revision.spec.isolation == IsolationRequest::Auto && self.restarts == 0 {
            self.ctx.events.note(note(&live.record, level.why));
        }
        if service.volume != Some(live.record.volume) {
            self.ctx.store.set_serving(&self.name, service.revision, Some(live.record.volume), service.previous)?;
        }
        self.live = Some(live);
        self.begin_admission();
        Ok(())
    }

    fn begin_admission(&mut self) {
        let Some(live) = &self.live else { return };
        let subject = Subject { spec: live.spec.clone(), purpose: Purpose::Admit, new: live.target(), old: None };
        let limit = Duration::from_millis(live.spec.rollout.health_timeout_ms);
        let ctx = Arc::clone(&self.ctx);
        self.admission = Some(tokio::spawn(async move { admit(&ctx, &subject, limit).await }));
    }

    fn stop_admission(&mut self) {
        if let Some(admission) = self.admission.take() {
            admission.abort();
        }
    }

    async fn end_instance(&mut self) -> Result<(), StoreError> {
        self.stop_admission();
        self.ready_since = None;
        match self.live.take() {
            Some(mut live) => live.end(&self.ctx, STOP_GRACE).await,
            None => Ok(()),
        }
    }

    /// Tells the gateway of the service's ports, and of its instance if that may take traffic.
    async fn route(&self, ready: bool) -> Result<(), Failure> {
        let (_, revision) = self.service()?;
        let backend = |live: &Live| (live.record.generation, live.uds.clone(), BackendRole::Active);
        let backends = self.live.iter().filter(|_| ready).map(backend).collect();
        let routes = ServiceRoutes { ports: revision.spec.ports, backends, hold: false };
        self.ctx.gateway.apply(&self.name, Some(routes)).await?;
        Ok(())
    }

    /// Tells the gateway that nobody is there: requests wait.
    async fn unroute(&self) {
        if let Err(error) = self.route(false).await {
            self.trouble("is gone, which the gateway does not know", error.message());
        }
    }

    fn service(&self) -> Result<(Service, Revision), Failure> {
        let unknown = || Failure::unknown_service(&self.name);
        let service = self.ctx.store.service(&self.name)?.ok_or_else(unknown)?;
        let revision = self.ctx.store.revision(&self.name, service.revision)?.ok_or_else(unknown)?;
        Ok((service, revision))
    }

    fn note(&self, kind: EventKind, message: String) {
        self.ctx.events.note(Note::new(kind, message).service(&self.name));
    }

    fn trouble(&self, what: &str, why: &str) {
        self.note(EventKind::Service, format!("{what}: {why}"));
    }
}
