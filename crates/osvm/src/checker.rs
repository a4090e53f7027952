//! Joins the control plane, which asks whether an instance may take traffic, and the Solana checklist, which knows.

use std::time::Duration;

use osvm_control::{
    Basic, CheckFailure, Checker, Passed, Purpose, Subject,
    check::{BoxFuture, Target},
};
use osvm_model::service::HealthCheck;
use osvm_solana::{
    Client, Error,
    checklist::{self, ANSWER_TIMEOUT, Failed, Options},
};
use tokio::time::Instant;

/// How long one round of checks waits for what takes a moment: a slot, an entry on its way.
const PATIENCE: Duration = Duration::from_secs(3);

/// All checks that osvm knows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AllChecks;

impl Checker for AllChecks {
    fn check<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Passed, CheckFailure>> {
        match &subject.spec.health {
            HealthCheck::Solana { port } => Box::pin(solana(subject, port)),
            _ => Basic.check(subject),
        }
    }
}

async fn solana(subject: &Subject, port: &str) -> Result<Passed, CheckFailure> {
    let client = |target: &Target| match target.endpoint(&subject.spec, port) {
        Some(endpoint) => Ok(Client::from_endpoint(&endpoint).with_timeout(ANSWER_TIMEOUT)),
        None => Err(CheckFailure::fatal(format!("the health check names port {port:?}, which the service has not"))),
    };
    let new = client(&subject.new)?;
    let options = Options {
        deadline: Instant::now() + PATIENCE,
        version: None,
        // A node that was just started may serve before its first slot is over; a follower shows that it follows.
        moves_on: subject.purpose == Purpose::TakeOver,
    };
    // While it is watched the old instance may be gone, which is not the new one's fault: it is judged by itself.
    let old = match (subject.purpose, &subject.old) {
        (Purpose::TakeOver, Some(old)) => Some(client(old)?),
        _ => None,
    };
    match checklist::full(&new, old.as_ref(), &options).await {
        Ok(passed) => Ok(passed.names().iter().map(|name| (*name).to_owned()).collect()),
        Err(failed) if is_final(&failed) => Err(CheckFailure::fatal(failed.line())),
        Err(failed) => Err(CheckFailure::not_yet(failed.line())),
    }
}

/// Whether asking again cannot help: another chain, or a program that does not speak JSON-RPC.
fn is_final(failed: &Failed) -> bool {
    matches!(failed, Failed::Differs { .. } | Failed::Asked(Error::Garbage { .. } | Error::TooLong { .. }))
}
