//! The actions of a rollout, one function each.

use std::time::{Duration, Instant};

use osvm_model::{
    BackendRole, InstanceState,
    gateway::{Drained, RoutesApplied},
    handover::Role,
};
use osvm_runtime::choose;

use super::{
    Rollout,
    machine::Action,
    machine::Event,
    watch::{DEATH_NOTICE, why},
};
use crate::{
    Purpose, Subject,
    contract::{self, NotHandedOver, Pipe},
    error::chain,
    exchange::ExchangeError,
    failure::Failure,
    gateway::{GatewayError, ServiceRoutes},
    service::live::{Live, STOP_GRACE, admit},
    store::NewInstance,
};

/// Pause between two looks at how far the state went over.
const SYNC_LOOK: Duration = Duration::from_millis(5);

impl Rollout<'_> {
    pub(super) async fn perform(&mut self, action: Action) -> Event {
        let done = match action {
            Action::Start => self.start(),
            Action::Join => self.join().await,
            Action::Check => self.check().await,
            Action::Prepare => self.prepare().await,
            Action::Hold => self.hold().await,
            Action::HandOver => self.hand_over().await,
            Action::AskNew => return self.ask_new().await,
            Action::Shift => self.shift().await,
            Action::Drain => self.drain().await,
            Action::Watch => self.watch_window().await,
            Action::Retire => self.retire().await,
            Action::HoldBack => self.hold_back().await,
            Action::EndNew => self.end_new().await,
            Action::Lead => self.lead().await,
            Action::RouteOld => self.route_old().await,
            Action::LeaveOld => self.leave_old().await,
        };
        match done {
            Ok(()) => Event::Done,
            Err(why) => {
                self.fail(why);
                Event::Failed
            }
        }
    }

    // ---- forward ----

    fn start(&mut self) -> Result<(), String> {
        let number = self.to.number;
        let failed = |error: Failure| format!("revision {number} does not start: {}", error.message());
        let level = choose(self.to.spec.isolation).map_err(|refused| failed(refused.into()))?.level;
        let new = NewInstance { service: self.service.clone(), revision: number, level, volume: None, restarts: 0 };
        let role = if self.handover { Role::Standby } else { Role::Leader };
        let live = Live::start(self.ctx, &new, &self.to, role, false).map_err(|error| failed(error.into()))?;
        self.new_volume = Some(live.record.volume);
        self.new = Some(live);
        self.reports.say(format!("revision {number} in parallel"));
        Ok(())
    }

    /// Joins the replication streams and waits until the new instance has the state. It may take as long as the state is large, but
    /// something has to come over within each health timeout.
    async fn join(&mut self) -> Result<(), String> {
        let (Some(old), Some(new)) = (self.old.clone(), self.new.clone()) else {
            return Err("an instance is gone".into());
        };
        let limit = Duration::from_millis(self.policy.health_timeout_ms);
        let mut last_step = Instant::now();
        let mut far = (0, 0);
        let mut trouble = "it says nothing".to_owned();
        while last_step.elapsed() < limit {
            match self.look(&old, &new).await {
                Ok(status) if status.in_sync => {
                    self.new_state(InstanceState::Standby);
                    return Ok(());
                }
                Ok(status) => {
                    trouble = format!("{} accounts came over, then nothing", status.accounts);
                    let now = (status.accounts, status.applied);
                    if now != far {
                        (far, last_step) = (now, Instant::now());
                    }
                }
                Err(error @ ExchangeError::Shape { .. }) => {
                    return Err(why(&format!("revision {} answers garbage", self.to.number), &error));
                }
                Err(error) => trouble = chain(&error),
            }
            tokio::time::sleep(SYNC_LOOK).await;
        }
        Err(format!("revision {} does not take over the state: {trouble}", self.to.number))
    }

    /// What the new instance says of itself; joins the streams if they are not.
    async fn look(&mut self, old: &Live, new: &Live) -> Result<osvm_model::handover::NodeStatus, ExchangeError> {
        let status = contract::status(&new.uds).await?;
        if self.pipe.as_ref().is_none_or(Pipe::is_parted) {
            self.pipe = Some(Pipe::join(&old.uds, &new.uds).await?);
        }
        if !status.in_sync {
            return Ok(status);
        }
        // The leader decides: it is what would refuse to hand over.
        let leader = contract::status(&old.uds).await?;
        Ok(osvm_model::handover::NodeStatus { in_sync: leader.in_sync, ..status })
    }

    async fn check(&mut self) -> Result<(), String> {
        let Some(new) = &self.new else { return Err("an instance is gone".into()) };
        let subject = Subject {
            spec: self.to.spec.clone(),
            purpose: if self.handover { Purpose::TakeOver } else { Purpose::Admit },
            new: new.target(),
            old: self.old.as_ref().map(Live::target),
        };
        let limit = Duration::from_millis(self.policy.health_timeout_ms);
        let passed = admit(self.ctx, &subject, limit).await?;
        self.reports.say(passed.join(", "));
        Ok(())
    }

    async fn prepare(&mut self) -> Result<(), String> {
        let applied = self.route(&[(false, BackendRole::Active), (true, BackendRole::Prepare)], false).await?;
        self.subscriptions = applied.prepared.values().map(|prepared| prepared.subscriptions).sum();
        Ok(())
    }

    async fn hold(&mut self) -> Result<(), String> {
        self.route(&[(false, BackendRole::Active), (true, BackendRole::Prepare)], true).await.map(drop)
    }

    async fn hand_over(&mut self) -> Result<(), String> {
        let Some(old) = &self.old else { return Err("an instance is gone".into()) };
        match contract::hand_over(&old.uds).await {
            Ok(moved) => {
                self.reports.say(format!(
                    "slot {}, {} accounts, {} pending",
                    thousands(moved.slot),
                    thousands(moved.accounts),
                    moved.pending
                ));
                Ok(())
            }
            Err(error) => {
                if matches!(error, NotHandedOver::Unclear(_)) {
                    // If one of the two died, that is what is told and acted on.
                    tokio::time::sleep(DEATH_NOTICE).await;
                }
                Err(chain(&error))
            }
        }
    }

    async fn ask_new(&mut self) -> Event {
        match &self.new {
            Some(new) => match contract::status(&new.uds).await {
                Ok(status) if status.role == Role::Leader => {
                    self.reports.say("the old instance did not say so, but the new one leads");
                    self.error = None;
                    Event::Leads(true)
                }
                _ => Event::Leads(false),
            },
            None => Event::Leads(false),
        }
    }

    async fn shift(&mut self) -> Result<(), String> {
        self.route(&[(true, BackendRole::Active), (false, BackendRole::Drain)], false).await?;
        self.reports.say(match self.subscriptions {
            0 => "route changed".to_owned(),
            1 => "route changed, 1 subscription moved".to_owned(),
            count => format!("route changed, {} subscriptions moved", thousands(count)),
        });
        self.new_state(InstanceState::Ready);
        self.old_state(InstanceState::Draining);
        self.serve_new()
    }

    async fn drain(&mut self) -> Result<(), String> {
        let Some(old) = &self.old else { return Ok(()) };
        let (generation, number) = (old.record.generation, old.record.revision);
        let limit = Duration::from_millis(self.policy.drain_timeout_ms);
        let pools = self.pools();
        let gateway = self.ctx.gateway.clone();
        let drained = async {
            let busy = gateway.drained(&pools, generation, Duration::ZERO).await;
            let left = match in_flight(&busy) {
                0 => busy.clone(),
                _ => gateway.drained(&pools, generation, limit).await,
            };
            (in_flight(&busy), in_flight(&left))
        };
        let mut rounds = 0;
        let (busy, left) = tokio::select! {
            drained = drained => drained,
            why = self.watch(&mut rounds) => return Err(why),
        };
        self.reports.say(match left {
            0 => format!("revision {number}: {busy} requests in flight"),
            left => format!("revision {number}: {left} of {busy} requests in flight are cut off"),
        });
        Ok(())
    }

    async fn watch_window(&mut self) -> Result<(), String> {
        if self.handover {
            self.old_state(InstanceState::Standby);
        }
        let window = Duration::from_millis(self.policy.watch_ms);
        let mut rounds = 0;
        match tokio::time::timeout(window, self.watch(&mut rounds)).await {
            Ok(why) => Err(format!("revision {} fails its checks: {why}", self.to.number)),
            Err(_) => {
                self.reports.say(format!("checks passed {rounds} times in {:.1} s", window.as_secs_f64()));
                Ok(())
            }
        }
    }

    async fn retire(&mut self) -> Result<(), String> {
        // Done already, unless the shift failed or an earlier daemon died in it.
        self.serve_new()?;
        if let Err(error) = self.route(&[(true, BackendRole::Active)], false).await {
            // The gateway gets the table once it takes one again.
            tracing::warn!(error, "cannot take the old instance off the gateway");
        }
        self.reports.say(format!("revision {} ended", self.from.number));
        // The new leader must not wait for an old instance that is ending, and will not lead any more.
        if self.handover
            && let Some(new) = &self.new
        {
            contract::alone(&new.uds).await;
        }
        self.pipe = None;
        if let Some(mut old) = self.old.take() {
            let ended = old.end(self.ctx, STOP_GRACE).await;
            ended.map_err(|error| why("cannot note the old instance's end", &error))?;
        }
        // What says which state serves must be on the disk before the other is gone.
        self.ctx.store.sync().await.map_err(|error| why("cannot write the store to the disk", &error))?;
        self.remove_volume(self.old_volume).await;
        Ok(())
    }

    // ---- undo ----

    async fn hold_back(&mut self) -> Result<(), String> {
        self.route(&[(false, BackendRole::Drain)], true).await.map(drop)
    }

    async fn end_new(&mut self) -> Result<(), String> {
        // If the old one leads, the token never left it, and it does not wait for a standby that is ending. If not, it says so.
        let old = self.old.as_ref().filter(|_| self.handover).map(|old| old.uds.clone());
        let alone = async {
            if let Some(old) = old {
                contract::alone(&old).await;
            }
        };
        let new = self.new.take();
        let end = async {
            let Some(mut new) = new else { return Ok(()) };
            // An instance that may lead is not asked: it must not acknowledge anything more.
            let grace = if self.handover { Duration::ZERO } else { STOP_GRACE };
            new.end(self.ctx, grace).await
        };
        let ((), ended) = tokio::join!(alone, end);
        self.pipe = None;
        ended.map_err(|error| why("cannot note the new instance's end", &error))
    }

    async fn lead(&mut self) -> Result<(), String> {
        let Some(old) = &self.old else { return Err("an instance is gone".into()) };
        let leads = contract::lead(&old.uds).await;
        leads.map(drop).map_err(|error| why("the old instance does not take over again", &error))
    }

    async fn route_old(&mut self) -> Result<(), String> {
        self.old_state(InstanceState::Ready);
        self.serve_old()?;
        self.route(&[(false, BackendRole::Active)], false).await.map(drop)
    }

    async fn leave_old(&mut self) -> Result<(), String> {
        if let Some(mut old) = self.old.take() {
            let ended = old.end(self.ctx, Duration::ZERO).await;
            ended.map_err(|error| why("cannot note the old instance's end", &error))?;
        }
        self.serve_old()?;
        self.route(&[], false).await.map(drop)
    }

    // ---- parts ----

    /// Notes that the new revision and its state serve.
    fn serve_new(&mut self) -> Result<(), String> {
        let previous = Some(self.from.number);
        let noted = self.ctx.store.set_serving(&self.service, self.to.number, self.new_volume, previous);
        noted.map_err(|error| why("cannot note that the new revision serves", &error))
    }

    /// Notes that the old revision and its state serve.
    fn serve_old(&mut self) -> Result<(), String> {
        let volume = Some(self.old_volume);
        let noted = self.ctx.store.set_serving(&self.service, self.from.number, volume, self.previous);
        noted.map_err(|error| why("cannot note that the old revision serves", &error))
    }

    /// Tells the gateway who takes requests; `true` means the new instance.
    async fn route(&self, roles: &[(bool, BackendRole)], hold: bool) -> Result<RoutesApplied, String> {
        let backend = |(is_new, role): &(bool, BackendRole)| {
            let live = if *is_new { &self.new } else { &self.old };
            live.as_ref().map(|live| (live.record.generation, live.uds.clone(), *role))
        };
        let ports = self.to.spec.ports.clone();
        let routes = ServiceRoutes { ports, backends: roles.iter().filter_map(backend).collect(), hold };
        let applied = self.ctx.gateway.apply(&self.service, Some(routes)).await;
        applied.map_err(|error: GatewayError| chain(&error))
    }

    fn new_state(&mut self, state: InstanceState) {
        if let Some(new) = &mut self.new
            && let Err(error) = new.set_state(self.ctx, state)
        {
            tracing::error!(error = chain(&error), "cannot note the instance's state");
        }
    }

    fn old_state(&mut self, state: InstanceState) {
        if let Some(old) = &mut self.old
            && let Err(error) = old.set_state(self.ctx, state)
        {
            tracing::error!(error = chain(&error), "cannot note the instance's state");
        }
    }

    /// Removes the new instance's state, which nothing needs once it is on the disk that the old one's serves.
    pub(super) async fn remove_new_volume(&self) {
        let Some(volume) = self.new_volume.filter(|volume| *volume != self.old_volume) else { return };
        match self.ctx.store.sync().await {
            Ok(()) => self.remove_volume(volume).await,
            Err(error) => tracing::error!(error = chain(&error), "cannot write the store to the disk"),
        }
    }

    async fn remove_volume(&self, volume: u64) {
        let path = self.ctx.paths.volume(&self.service, volume);
        if let Err(error) = tokio::fs::remove_dir_all(&path).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a state that nothing needs");
        }
    }
}

fn in_flight(drained: &[Drained]) -> u64 {
    drained.iter().map(|left| left.in_flight + left.tunnels).sum()
}

/// `18,204`
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn figures_have_a_comma_every_three_digits() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (18204, "18,204"), (1234567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
