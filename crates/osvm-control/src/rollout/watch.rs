//! Watching the new instance while the old one is ready to take over.

use std::time::Duration;

use osvm_model::handover::{ALONE_AFTER, Role};

use super::Rollout;
use crate::{
    Purpose, Subject,
    contract::{self, Pipe},
    error::chain,
    events::Note,
    service::live::Live,
};
use osvm_model::EventKind;

/// Pause between two rounds of checks.
const INTERVAL: Duration = Duration::from_millis(250);
/// Rounds in a row that may fail, but for failures that will stay.
const FAILURES: u32 = 3;
/// Pause between two looks at whether the old instance follows.
const LOOK: Duration = Duration::from_millis(100);
/// When a stream ends, the death of an instance that caused it is noticed within this time.
pub(super) const DEATH_NOTICE: Duration = Duration::from_millis(200);
/// An old instance that follows no more is given up before the new one acknowledges what it does not have. What is left is for looking
/// and for ending it.
const _: () = assert!(LOOK.as_millis() + DEATH_NOTICE.as_millis() < ALONE_AFTER.as_millis());

impl Rollout<'_> {
    /// Makes the checks again and again, and returns why they fail if they do. `rounds` counts those that passed.
    ///
    /// An old instance that does not follow any more cannot take over: it is ended, which the caller sees as its death.
    pub(super) async fn watch(&mut self, rounds: &mut u32) -> String {
        let (Some(new), old) = (self.new.clone(), self.old.clone()) else { return "it is gone".to_owned() };
        let subject = Subject {
            spec: self.to.spec.clone(),
            purpose: Purpose::Watch,
            new: new.target(),
            old: old.as_ref().map(Live::target),
        };
        let follows = async {
            if let (Some(old), Some(pipe)) = (&old, &mut self.pipe) {
                let why = stops_following(&new, pipe).await;
                let message = format!(
                    "revision {} does not follow any more ({why}) and is ended: there is nothing to go back to",
                    old.record.revision
                );
                let note = Note::new(EventKind::Instance, message).service(&old.record.service);
                self.ctx.events.note(note.instance(old.record.revision, old.record.generation));
                old.process.kill().await;
            }
            std::future::pending::<String>().await
        };
        let checks = async {
            let mut failures = 0;
            loop {
                match self.ctx.checker.check(&subject).await {
                    Ok(_) => {
                        failures = 0;
                        *rounds += 1;
                    }
                    Err(failure) => {
                        failures += 1;
                        if failure.fatal || failures == FAILURES {
                            return failure.message;
                        }
                    }
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            why = checks => why,
            never = follows => never,
        }
    }
}

/// Returns when the new leader has no follower any more.
async fn stops_following(new: &Live, pipe: &mut Pipe) -> String {
    let asked = async {
        loop {
            // An instance that does not answer is the checks' matter. One that leads is followed from the token on.
            if let Ok(status) = contract::status(&new.uds).await
                && status.role == Role::Leader
                && !status.in_sync
            {
                return "it fell behind".to_owned();
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        why = asked => why,
        () = pipe.parted() => {
            // If one of the two died, that is what is told.
            tokio::time::sleep(DEATH_NOTICE).await;
            "the replication stream ended".to_owned()
        }
    }
}

/// An error as the reason of a failure.
pub(super) fn why(what: &str, error: &dyn std::error::Error) -> String {
    format!("{what}: {}", chain(error))
}
