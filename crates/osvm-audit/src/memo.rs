//! What a session remembers of each root that was run, for as long as the same run would say the same.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Finding,
    fingerprint::Ready,
    interp::Framework,
    lookup::{Answers, Asked, answers, changed},
    source::Sources,
    whole::{Ask, Whole},
};

/// Of more changes than this nothing is kept.
const MOST_CHANGES: usize = 4_000;

/// One root's run, without the run.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What it asked for.
    pub(crate) asked: Asked,
    pub(crate) framework: Framework,
    /// Functions that were run in place, by id.
    pub(crate) followed: Vec<u64>,
    /// What it says about the package.
    pub(crate) learnt: Whole,
    /// What its rules asked about the package, and were told.
    pub(crate) heard: Vec<(Ask, bool)>,
    pub(crate) findings: Vec<Arc<Finding>>,
    pub(crate) handlers: Vec<String>,
}

impl Entry {
    /// Whether its rules would be told the same again.
    pub(crate) fn holds(&self, whole: &Whole) -> bool {
        self.heard.iter().all(|(ask, answer)| whole.answer(ask) == *answer)
    }
}

/// Roots by id.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    only: Vec<String>,
    answers: Answers,
    entries: HashMap<u64, Arc<Entry>, Ready>,
}

impl Memo {
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Entry>> {
        self.entries.get(&id).cloned()
    }

    /// Forgets what a change of the sources, or another choice of rules, makes doubtful.
    pub(crate) fn turn_to(&mut self, sources: &Sources, only: &[String]) {
        let now = answers(sources);
        let changes = changed(&self.answers, &now);
        if self.only != only || changes.len() > MOST_CHANGES {
            self.entries.clear();
        }
        self.entries.retain(|_, entry| !changes.iter().any(|change| entry.asked.binary_search(change).is_ok()));
        self.only = only.to_vec();
        self.answers = now;
    }

    /// Keeps these and nothing else.
    pub(crate) fn keep(&mut self, entries: Vec<(u64, Arc<Entry>)>) {
        self.entries = entries.into_iter().collect();
    }
}
