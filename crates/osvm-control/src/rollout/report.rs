//! Telling how a rollout goes: to the store, to events, and to whoever asked for it.

use std::{sync::Arc, time::Instant};

use osvm_model::{EventKind, Phase, PhaseReport, RolloutId, ServiceName, api::Progress};
use tokio::sync::mpsc;

use crate::{context::Context, error::chain, events::Note};

/// The phases of one rollout.
pub(super) struct Reports {
    ctx: Arc<Context>,
    id: RolloutId,
    service: ServiceName,
    progress: mpsc::Sender<Progress>,
    current: Option<(Phase, Instant)>,
    details: Vec<String>,
    ended: Vec<PhaseReport>,
}

impl Reports {
    pub(super) fn new(
        ctx: &Arc<Context>,
        id: RolloutId,
        service: ServiceName,
        progress: mpsc::Sender<Progress>,
    ) -> Self {
        Self { ctx: Arc::clone(ctx), id, service, progress, current: None, details: Vec::new(), ended: Vec::new() }
    }

    /// Adds to what is told of the phase under way.
    pub(super) fn say(&mut self, detail: impl Into<String>) {
        self.details.push(detail.into());
    }

    /// Notes that a phase is about to begin, unless it is under way.
    pub(super) fn begin(&mut self, phase: Option<Phase>) {
        let Some(phase) = phase else { return };
        if self.current.is_some_and(|(current, _)| current == phase) {
            return;
        }
        if let Err(error) = self.ctx.store.begin_phase(self.id, phase) {
            tracing::error!(error = chain(&error), "cannot note the phase");
        }
        self.tell(Progress::Began(phase));
        self.current = Some((phase, Instant::now()));
    }

    /// Notes how the phase under way ended, unless it is the one that goes on. With an error it did not do what it is there for.
    pub(super) fn end_unless(&mut self, goes_on: Option<Phase>, error: Option<&str>) {
        let Some((phase, since)) = self.current else { return };
        if goes_on == Some(phase) {
            return;
        }
        self.current = None;
        let told = std::mem::take(&mut self.details);
        let report = PhaseReport {
            phase,
            detail: error.map_or_else(|| told.join("; "), str::to_owned),
            duration_us: since.elapsed().as_micros() as u64,
            ok: error.is_none(),
        };
        if let Err(error) = self.ctx.store.end_phase(self.id, &report) {
            tracing::error!(error = chain(&error), "cannot note the phase");
        }
        let note = Note::new(EventKind::Phase, format!("{}: {}", phase.as_str(), report.detail))
            .service(&self.service)
            .rollout(self.id)
            .field("duration_us", report.duration_us)
            .field("ok", report.ok);
        self.ctx.events.note(note);
        self.tell(Progress::Phase(report.clone()));
        self.ended.push(report);
    }

    /// The phases that ended.
    pub(super) fn into_ended(self) -> Vec<PhaseReport> {
        self.ended
    }

    /// A client that does not listen, or not fast enough, holds nothing up.
    fn tell(&self, progress: Progress) {
        let _ = self.progress.try_send(progress);
    }
}
