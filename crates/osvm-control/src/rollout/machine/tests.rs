//! Walks through every order of events that two instances, a token and a gateway allow, and looks at what must never be.

use std::collections::HashSet;

use super::*;

/// What is really so, as opposed to what the rollout believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    handover: bool,
    /// The replication streams are joined.
    joined: bool,
    old_alive: bool,
    new_alive: bool,
    old_leads: bool,
    new_leads: bool,
    /// Requests go to (old, new); neither while they are held.
    to_old: bool,
    to_new: bool,
    held: bool,
    /// All that was acknowledged is on old's (new's) volume.
    old_whole: bool,
    new_whole: bool,
    old_volume: bool,
    new_volume: bool,
    new_checked: bool,
    /// Old was left to be started again on its state.
    old_left: bool,
}

const BEGIN: World = World {
    handover: true,
    joined: false,
    old_alive: true,
    new_alive: false,
    old_leads: true,
    new_leads: false,
    to_old: true,
    to_new: false,
    held: false,
    old_whole: true,
    new_whole: false,
    old_volume: true,
    new_volume: false,
    new_checked: false,
    old_left: false,
};

impl World {
    fn routed(self, to_old: bool, to_new: bool, held: bool) -> Self {
        Self { to_old, to_new, held, ..self }
    }

    /// A leader that is not followed acknowledges what nobody else has.
    fn after_a_while(self) -> Self {
        let alone = |other: bool| self.handover && !(other && self.joined);
        Self {
            old_whole: self.old_whole && !(self.new_leads && self.to_new && alone(self.old_alive)),
            new_whole: self.new_whole && !(self.old_leads && self.to_old && alone(self.new_alive)),
            ..self
        }
    }

    fn old_dies(self) -> Self {
        Self { old_alive: false, old_leads: false, ..self }
    }

    fn new_dies(self) -> Self {
        Self { new_alive: false, new_leads: false, ..self }
    }

    fn token_moved(self) -> Self {
        Self { old_leads: false, new_leads: self.new_alive, ..self }
    }

    /// What may come of an action: the event, and the world after it.
    fn outcomes(self, action: Action, handover: bool) -> Vec<(Event, World)> {
        let done = |world| (Event::Done, world);
        let failed = |world| (Event::Failed, world);
        match action {
            Action::Start => vec![
                done(Self { new_alive: true, new_volume: true, new_leads: !handover, new_whole: !handover, ..self }),
                failed(self),
            ],
            Action::Join => vec![done(Self { new_whole: true, joined: true, ..self }), failed(self)],
            Action::Check => vec![done(Self { new_checked: true, ..self }), failed(self)],
            Action::Prepare => vec![done(self), failed(self)],
            Action::Hold => {
                vec![done(self.routed(false, false, true)), failed(self), failed(self.routed(false, false, true))]
            }
            Action::HandOver => vec![
                done(self.token_moved()),
                // Refused; or the answer is lost; or the token is lost on its way.
                failed(self),
                failed(self.token_moved()),
                failed(Self { old_leads: false, ..self }),
            ],
            Action::AskNew => vec![(Event::Leads(self.new_leads), self), (Event::Leads(false), self)],
            Action::Shift => {
                let shifted = self.routed(false, true, false);
                vec![done(shifted), failed(self), failed(shifted)]
            }
            Action::Drain | Action::Watch => vec![done(self), failed(self)],
            Action::Retire => {
                assert!(!self.handover || !self.old_leads, "old is ended while it leads: {self:?}");
                assert!(self.handover || self.to_new, "old is ended before requests go to new: {self:?}");
                assert!(self.new_whole && self.new_volume, "the only whole state is removed: {self:?}");
                let gone = Self { old_volume: false, ..self.routed(false, true, false) };
                vec![done(gone.old_dies()), failed(gone.old_dies())]
            }
            Action::HoldBack => vec![done(self.routed(false, false, true)), failed(self)],
            Action::EndNew => {
                assert!(self.old_whole && self.old_volume, "the only whole state is removed: {self:?}");
                let gone = Self { new_volume: false, ..self.new_dies() };
                vec![done(gone), failed(gone)]
            }
            Action::Lead => {
                assert!(!self.new_alive, "old is told to lead while new may lead: {self:?}");
                assert!(self.old_whole, "old leads without what was acknowledged: {self:?}");
                let leads = Self { old_leads: self.old_alive, ..self };
                if self.old_alive { vec![done(leads), failed(self), failed(leads)] } else { vec![failed(self)] }
            }
            Action::RouteOld => {
                let back = self.routed(true, false, false);
                vec![done(back), failed(back)]
            }
            Action::LeaveOld => {
                assert!(!self.new_alive, "old is left while new lives: {self:?}");
                let left = Self { old_left: true, old_alive: false, old_leads: false, ..self };
                vec![done(left.routed(false, false, false))]
            }
        }
    }

    fn holds(&self, state: &State, handover: bool) {
        if handover {
            assert!(!(self.old_leads && self.new_leads), "two lead: {state:?} {self:?}");
        }
        if !self.held && (self.to_old || self.to_new) {
            assert!(!self.to_new || self.new_checked, "unchecked new takes requests: {state:?} {self:?}");
        }
        if state.action().is_some() {
            return;
        }
        assert!(!self.held, "the hold is never lifted: {state:?} {self:?}");
        match state.outcome() {
            RolloutOutcome::Done => {
                assert!(self.to_new && self.new_volume && !self.old_alive && self.new_whole, "{state:?} {self:?}");
            }
            RolloutOutcome::Kept | RolloutOutcome::RolledBack => {
                assert!(!self.new_alive && self.old_volume && self.old_whole, "{state:?} {self:?}");
                let serves = self.to_old && !self.to_new;
                assert!(serves || self.old_left, "nobody serves: {state:?} {self:?}");
                if self.old_alive && handover {
                    assert!(self.old_leads, "old serves and does not lead: {state:?} {self:?}");
                }
            }
            RolloutOutcome::Running => panic!("{state:?}"),
        }
    }
}

/// Visits all that can follow, and returns the outcomes that were seen and how many states there are.
fn explore(start: Vec<(State, World)>, handover: bool) -> (HashSet<RolloutOutcome>, usize) {
    let mut seen = HashSet::new();
    let mut outcomes = HashSet::new();
    let mut todo = start;
    while let Some((state, world)) = todo.pop() {
        if !seen.insert((state, world)) {
            continue;
        }
        world.holds(&state, handover);
        let Some(action) = state.action() else {
            outcomes.insert(state.outcome());
            continue;
        };
        let mut next = world.outcomes(action, handover);
        if action.interruptible() {
            // Whatever the action would have done may have happened before the event, or not.
            let done_or_not: Vec<World> =
                next.iter().map(|(_, world)| *world).chain([world]).collect::<HashSet<_>>().into_iter().collect();
            for world in done_or_not {
                if world.new_alive {
                    next.push((Event::NewDied, world.new_dies()));
                }
                if world.old_alive {
                    next.push((Event::OldDied, world.old_dies()));
                }
                if !state.hurried() {
                    next.push((Event::Cancelled, world));
                }
            }
        }
        for (event, world) in next {
            todo.push((state.on(event), world.after_a_while()));
        }
    }
    (outcomes, seen.len())
}

#[test]
fn in_no_order_of_events_do_two_lead_or_is_an_acknowledged_write_lost_or_the_hold_kept() {
    let (outcomes, states) = explore(vec![(State::begin(true), BEGIN)], true);
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    assert!(states > 100, "{states}");
}

#[test]
fn a_service_without_hand_over_always_has_somebody_who_serves() {
    let (outcomes, states) = explore(vec![(State::begin(false), World { handover: false, ..BEGIN })], false);
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    assert!(states > 20, "{states}");
}

#[test]
fn what_a_dead_daemon_left_is_finished_or_undone_whatever_it_finds() {
    let standby = World { new_alive: true, new_volume: true, new_whole: true, new_checked: true, ..BEGIN };
    let led = World { old_leads: false, new_leads: true, ..standby };
    let on_its_way = World { old_leads: false, ..standby };
    let mut start = Vec::new();
    let routes = [(true, false, false), (false, false, true), (false, true, false)];
    for (to_old, to_new, held) in routes {
        let at = |world: World| world.routed(to_old, to_new, held).after_a_while();
        if to_new {
            // The phase that was noted says that the token had gone.
            start.push((State::retire(true, false), at(led).new_dies()));
            start.push((State::retire(true, true), at(led)));
        } else {
            start.push((State::undo(true, true, true, false), at(standby)));
            start.push((State::undo(true, true, true, false), at(on_its_way)));
            start.push((State::undo(true, false, true, false), at(standby).old_dies()));
            start.push((State::undo(true, true, false, false), at(led).new_dies()));
            start.push((State::undo(true, false, false, false), at(led).new_dies().old_dies()));
        }
        if !to_old {
            start.push((State::finish(true, true), at(led)));
            start.push((State::finish(true, false), at(led.old_dies())));
        }
    }
    let (outcomes, _) = explore(start, true);
    assert_eq!(outcomes, HashSet::from([RolloutOutcome::Done, RolloutOutcome::Kept]));
}
