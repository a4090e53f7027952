//! How the rest of the daemon speaks to a service's task.

use std::sync::{Arc, Mutex, PoisonError};

use osvm_model::{RolloutPolicy, ServiceName, api::Progress};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::state::Condition;
use crate::{failure::Failure, store::Revision};

/// What a service's task is told.
pub(crate) enum Command {
    /// Run. Answered once a process was started, or could not be.
    Start { reply: oneshot::Sender<Result<(), Failure>> },
    /// End the instances.
    Stop { reply: oneshot::Sender<Result<(), Failure>> },
    /// End the instance and start another.
    Restart { reply: oneshot::Sender<Result<(), Failure>> },
    /// End everything and forget it.
    Remove { reply: oneshot::Sender<Result<(), Failure>> },
    /// Replace the instance by one of that revision.
    Swap { to: Box<Revision>, policy: RolloutPolicy, progress: mpsc::Sender<Progress>, permit: Permit },
}

/// A rollout is under way.
#[derive(Debug)]
pub(crate) struct Busy;

/// Whether a rollout is under way, and how to hurry it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Mutex<Option<CancellationToken>>>);

impl Gate {
    /// Takes the one place for a rollout.
    pub(crate) fn enter(&self) -> Result<Permit, Busy> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_some() {
            return Err(Busy);
        }
        let cancel = CancellationToken::new();
        *place = Some(cancel.clone());
        Ok(Permit { gate: self.clone(), cancel })
    }

    fn busy(&self) -> Result<(), Busy> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(_) => Err(Busy),
            None => Ok(()),
        }
    }

    fn cancel(&self) {
        if let Some(cancel) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            cancel.cancel();
        }
    }
}

/// The place of the one rollout; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Gate,
    /// Cancelled when the service is to be stopped.
    pub(crate) cancel: CancellationToken,
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.gate.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A handle on a service's task.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    name: ServiceName,
    commands: mpsc::Sender<Command>,
    condition: watch::Receiver<Condition>,
    gate: Gate,
}

impl Handle {
    pub(super) fn new(
        name: ServiceName,
        commands: mpsc::Sender<Command>,
        condition: watch::Receiver<Condition>,
        gate: Gate,
    ) -> Self {
        Self { name, commands, condition, gate }
    }

    /// Refuses while a rollout is under way.
    pub(crate) fn not_busy(&self) -> Result<(), Failure> {
        self.gate.busy().map_err(|Busy| Failure::busy(&self.name))
    }

    pub(crate) async fn start(&self) -> Result<(), Failure> {
        self.not_busy()?;
        self.ask(|reply| Command::Start { reply }).await
    }

    pub(crate) async fn restart(&self) -> Result<(), Failure> {
        self.not_busy()?;
        self.ask(|reply| Command::Restart { reply }).await
    }

    /// Stops it; a rollout under way is hurried to its end first.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        self.gate.cancel();
        self.ask(|reply| Command::Stop { reply }).await
    }

    /// Removes it; a rollout under way is hurried to its end first.
    pub(crate) async fn remove(&self) -> Result<(), Failure> {
        self.gate.cancel();
        self.ask(|reply| Command::Remove { reply }).await
    }

    /// Takes the place for a rollout, before anything of it is prepared.
    pub(crate) fn permit(&self) -> Result<Permit, Failure> {
        self.gate.enter().map_err(|Busy| Failure::busy(&self.name))
    }

    /// Replaces the instance.
    pub(crate) async fn swap(
        &self,
        to: Revision,
        policy: RolloutPolicy,
        progress: mpsc::Sender<Progress>,
        permit: Permit,
    ) -> Result<(), Failure> {
        self.send(Command::Swap { to: Box::new(to), policy, progress, permit }).await
    }

    /// What those who wait look at.
    pub(crate) fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.clone()
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Result<(), Failure>>) -> Command) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.unwrap_or_else(|_| Err(Failure::gone(&self.name)))
    }

    async fn send(&self, command: Command) -> Result<(), Failure> {
        self.commands.send(command).await.map_err(|_| Failure::gone(&self.name))
    }
}
