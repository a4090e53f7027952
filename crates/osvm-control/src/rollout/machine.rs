//! The order of a rollout as a pure state machine: no I/O, no clock. `actions.rs` does what it says and tells it what came of it.
//!
//! Two facts decide what an undo has to do: where the token may be ([`Token`]) and where requests go ([`Route`]). As long as
//! the old instance surely has the token, requests go back first and the new instance is ended afterwards. Otherwise the new one
//! is ended first, so that no two lead, and the old one is told to lead.

use osvm_model::{Phase, RolloutOutcome};

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Start the new instance.
    Start,
    /// Join the replication streams and wait until the new instance has the state.
    Join,
    /// Check the new instance.
    Check,
    /// Route: old takes requests, new is prepared.
    Prepare,
    /// Route: requests wait.
    Hold,
    /// Tell old to hand over.
    HandOver,
    /// Ask new whether it leads.
    AskNew,
    /// Route: new takes requests, old finishes what it has.
    Shift,
    /// Wait until old has finished.
    Drain,
    /// Watch new.
    Watch,
    /// End old, remove its state.
    Retire,
    /// Undo. Route: requests wait.
    HoldBack,
    /// Undo: end new, remove its state.
    EndNew,
    /// Undo: tell old to lead.
    Lead,
    /// Undo. Route: old takes requests, new is not there.
    RouteOld,
    /// Undo: leave old, which is dead, to be started again on its state. Route: nobody takes requests, and none is held.
    LeaveOld,
}

impl Action {
    /// The phase that it belongs to; none for an undo.
    pub(crate) fn phase(self, handover: bool) -> Option<Phase> {
        match self {
            Self::Start | Self::Join => Some(Phase::Start),
            Self::Check => Some(Phase::Check),
            Self::Prepare if !handover => Some(Phase::Shift),
            Self::Prepare | Self::Hold | Self::HandOver | Self::AskNew => Some(Phase::HandOver),
            Self::Shift => Some(Phase::Shift),
            Self::Drain => Some(Phase::Drain),
            Self::Watch => Some(Phase::Watch),
            Self::Retire => Some(Phase::Retire),
            Self::HoldBack | Self::EndNew | Self::Lead | Self::RouteOld | Self::LeaveOld => None,
        }
    }

    /// Whether a death, or a wish to stop, ends it early. The others are short and are done in any case.
    pub(crate) fn interruptible(self) -> bool {
        matches!(self, Self::Join | Self::Check | Self::HandOver | Self::AskNew | Self::Drain | Self::Watch)
    }
}

/// What came of an action, or came in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The action did what it is there for.
    Done,
    /// It did not.
    Failed,
    /// [`Action::AskNew`]: new leads, or does not.
    Leads(bool),
    /// New ended by itself.
    NewDied,
    /// Old ended by itself, or does not follow new any more.
    OldDied,
    /// The service is to be stopped: get it over with.
    Cancelled,
}

/// Who may have the right to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Token {
    Old,
    Unsure,
    New,
}

/// Where requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Route {
    Old,
    Changing,
    New,
}

/// A rollout under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    step: Step,
    handover: bool,
    token: Token,
    route: Route,
    old_alive: bool,
    /// What new acknowledges is on old too. Not so once the replication stream is gone, with the daemon that held it.
    old_follows: bool,
    new_alive: bool,
    /// Requests may have gone to new.
    shifted: bool,
    /// Nothing is watched any more: the old instance can no longer take over, or the service is to be stopped.
    hurry: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Doing(Action),
    Ended(RolloutOutcome),
}

impl State {
    /// A rollout that begins. With `handover`, the instances have a state and the right to write goes over.
    pub(crate) fn begin(handover: bool) -> Self {
        Self {
            step: Step::Doing(Action::Start),
            handover,
            token: Token::Old,
            route: Route::Old,
            old_alive: true,
            old_follows: true,
            new_alive: false,
            shifted: false,
            hurry: false,
        }
    }

    /// A rollout that a dead daemon left, to be finished: new leads (or, without hand-over, was found healthy).
    pub(crate) fn finish(handover: bool, old_alive: bool) -> Self {
        Self {
            step: Step::Doing(Action::Shift),
            token: if handover { Token::New } else { Token::Old },
            route: Route::Changing,
            old_alive,
            new_alive: true,
            shifted: true,
            old_follows: !handover,
            hurry: handover || !old_alive,
            ..Self::begin(handover)
        }
    }

    /// A rollout that a dead daemon left, to be undone.
    pub(crate) fn undo(handover: bool, old_alive: bool, new_alive: bool, shifted: bool) -> Self {
        let token = if handover { Token::Unsure } else { Token::Old };
        Self { token, route: Route::Changing, old_alive, new_alive, shifted, ..Self::begin(handover) }.undone()
    }

    /// A rollout that a dead daemon left with nothing to be done but to end old.
    pub(crate) fn retire(handover: bool, new_alive: bool) -> Self {
        Self { step: Step::Doing(Action::Retire), new_alive, ..Self::finish(handover, true) }
    }

    /// What is to be done now; none when it ended.
    pub(crate) fn action(&self) -> Option<Action> {
        match self.step {
            Step::Doing(action) => Some(action),
            Step::Ended(_) => None,
        }
    }

    /// How it ended.
    pub(crate) fn outcome(&self) -> RolloutOutcome {
        match self.step {
            Step::Doing(_) => RolloutOutcome::Running,
            Step::Ended(outcome) => outcome,
        }
    }

    /// Whether a wish to stop was heard already, or would change nothing.
    pub(crate) fn hurried(&self) -> bool {
        self.hurry
    }

    /// The state after an event.
    pub(crate) fn on(mut self, event: Event) -> Self {
        let Step::Doing(action) = self.step else { return self };
        match event {
            Event::Done => self.done(action),
            Event::Failed => self.failed(action),
            Event::Leads(true) if action == Action::AskNew => self.token_is_with_new(),
            Event::Leads(_) => self.failed(action),
            Event::NewDied => {
                self.new_alive = false;
                self.new_died(action)
            }
            Event::OldDied => {
                self.old_alive = false;
                self.old_died(action)
            }
            Event::Cancelled => self.cancelled(action),
        }
    }

    fn go(mut self, action: Action) -> Self {
        match action {
            Action::Prepare | Action::Hold => self.route = Route::Changing,
            Action::Shift => {
                self.route = Route::Changing;
                self.shifted = true;
            }
            Action::HandOver => self.token = Token::Unsure,
            _ => {}
        }
        self.step = Step::Doing(action);
        self
    }

    fn end(mut self, outcome: RolloutOutcome) -> Self {
        self.step = Step::Ended(outcome);
        self
    }

    fn done(mut self, action: Action) -> Self {
        match action {
            Action::Start => {
                self.new_alive = true;
                self.go(if self.handover { Action::Join } else { Action::Check })
            }
            Action::Join => self.go(Action::Check),
            Action::Check => self.go(Action::Prepare),
            Action::Prepare if self.handover => self.go(Action::Hold),
            Action::Prepare => self.go(Action::Shift),
            Action::Hold => self.go(Action::HandOver),
            Action::HandOver => self.token_is_with_new(),
            Action::AskNew => self.failed(action),
            Action::Shift => {
                self.route = Route::New;
                self.go(if self.old_alive { Action::Drain } else { Action::Retire })
            }
            Action::Drain if !self.hurry => self.go(Action::Watch),
            Action::Drain | Action::Watch => self.go(Action::Retire),
            Action::Retire => self.end(RolloutOutcome::Done),
            Action::HoldBack => self.go(Action::EndNew),
            Action::EndNew => {
                self.new_alive = false;
                if !self.old_alive {
                    self.go(Action::LeaveOld)
                } else if self.token != Token::Old {
                    self.go(Action::Lead)
                } else {
                    self.end(self.undo_outcome())
                }
            }
            Action::Lead => self.go(Action::RouteOld),
            // With the token at old, requests went back before new is ended.
            Action::RouteOld if self.token == Token::Old => {
                self.route = Route::Old;
                self.go(Action::EndNew)
            }
            Action::RouteOld | Action::LeaveOld => self.end(self.undo_outcome()),
        }
    }

    fn failed(mut self, action: Action) -> Self {
        match action {
            Action::HandOver if self.new_alive => self.go(Action::AskNew),
            Action::Retire => self.end(RolloutOutcome::Done),
            // An undo has no other way than on.
            Action::Lead => {
                self.old_alive = false;
                self.go(Action::LeaveOld)
            }
            Action::HoldBack | Action::EndNew | Action::RouteOld | Action::LeaveOld => self.done(action),
            _ => self.undone(),
        }
    }

    fn new_died(self, action: Action) -> Self {
        match action {
            // It cannot be undone any more: new is started again on its state, as any instance that dies.
            Action::Retire => self,
            Action::HoldBack | Action::EndNew | Action::Lead | Action::RouteOld | Action::LeaveOld => self,
            _ => self.undone(),
        }
    }

    fn old_died(mut self, action: Action) -> Self {
        match action {
            Action::HandOver => self.go(Action::AskNew),
            Action::Shift => {
                self.hurry = true;
                self
            }
            // Nothing to go back to: new goes on alone.
            Action::Drain | Action::Watch => self.go(Action::Retire),
            Action::Lead | Action::RouteOld if self.token != Token::Old || !self.new_alive => self.go(Action::LeaveOld),
            Action::AskNew | Action::Retire | Action::HoldBack | Action::EndNew | Action::LeaveOld => self,
            Action::RouteOld => self.go(Action::EndNew),
            _ => self.undone(),
        }
    }

    fn cancelled(mut self, action: Action) -> Self {
        match action {
            Action::Start | Action::Join | Action::Check | Action::Prepare | Action::Hold => self.undone(),
            Action::Drain | Action::Watch => self.go(Action::Retire),
            _ => {
                self.hurry = true;
                self
            }
        }
    }

    fn token_is_with_new(mut self) -> Self {
        self.token = Token::New;
        self.go(Action::Shift)
    }

    /// Begins the undo. Once new has the right to write and old does not have all that it acknowledged, there is none: the rollout is
    /// finished, and if new is dead it is started again on its state, as any instance that dies.
    fn undone(self) -> Self {
        if self.token == Token::New && !(self.old_alive && self.old_follows) {
            self.go(Action::Retire)
        } else if !self.old_alive {
            self.go(Action::EndNew)
        } else if self.token != Token::Old {
            self.go(Action::HoldBack)
        } else if self.route == Route::Old {
            self.go(Action::EndNew)
        } else {
            self.go(Action::RouteOld)
        }
    }

    /// An undo after requests went to new, or may have.
    fn undo_outcome(&self) -> RolloutOutcome {
        if self.shifted { RolloutOutcome::RolledBack } else { RolloutOutcome::Kept }
    }
}

#[cfg(test)]
mod tests;
