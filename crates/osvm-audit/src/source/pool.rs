//! Parsing on several threads, with a bound on each file.
//!
//! A thread whose file takes too long is left behind and another one goes on; the file is reported.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{File, allow, fingerprint};
use crate::{Error, syntax};

/// What one file may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked after.
const TICK: Duration = Duration::from_millis(250);
/// Holds the deepest nesting that `syntax` lets through, also without optimisation.
pub(crate) const STACK: usize = 256 << 20;

pub(super) struct Job {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) text: String,
}

struct Shared {
    jobs: Vec<Job>,
    next: AtomicUsize,
    /// What each worker is at, and since when.
    at: Mutex<Vec<Option<(usize, Instant)>>>,
}

/// Parses all jobs; results in no order.
pub(super) fn parse(jobs: Vec<Job>, threads: usize) -> Result<Vec<(usize, u64, File)>, Error> {
    let count = jobs.len();
    if count == 0 {
        return Ok(Vec::new());
    }
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if threads == 0 { cores } else { threads }.min(count);
    let shared = Arc::new(Shared { jobs, next: AtomicUsize::new(0), at: Mutex::new(vec![None; threads]) });
    let (tell, told) = mpsc::channel();
    for worker in 0..threads {
        start(&shared, worker, &tell)?;
    }
    let mut done: Vec<Option<(u64, File)>> = Vec::with_capacity(count);
    done.resize_with(count, || None);
    let mut left = count;
    while left > 0 {
        if let Ok((job, hash, file)) = told.recv_timeout(TICK) {
            let slot: &mut Option<(u64, File)> = &mut done[job];
            if slot.is_none() {
                *slot = Some((hash, file));
                left -= 1;
            }
            continue;
        }
        let mut at = shared.at.lock().unwrap_or_else(PoisonError::into_inner);
        let late: Vec<(usize, usize)> = at
            .iter()
            .enumerate()
            .filter_map(|(worker, at)| at.filter(|(_, since)| since.elapsed() > LIMIT).map(|(job, _)| (worker, job)))
            .collect();
        for (worker, job) in late {
            at[worker] = None;
            if done[job].is_none() {
                let reason = format!("took longer than {} s", LIMIT.as_secs());
                done[job] = Some((0, unread(&shared.jobs[job], reason)));
                left -= 1;
            }
            at.push(None);
            let worker = at.len() - 1;
            start(&shared, worker, &tell)?;
        }
    }
    Ok(done
        .into_iter()
        .zip(&shared.jobs)
        .filter_map(|(done, job)| done.map(|(hash, file)| (job.index, hash, file)))
        .collect())
}

fn start(shared: &Arc<Shared>, worker: usize, tell: &mpsc::Sender<(usize, u64, File)>) -> Result<(), Error> {
    let (shared, tell) = (Arc::clone(shared), tell.clone());
    let body = move || {
        loop {
            let job = shared.next.fetch_add(1, Ordering::Relaxed);
            let Some(work) = shared.jobs.get(job) else { return };
            mark(&shared, worker, Some((job, Instant::now())));
            let file = one(work);
            mark(&shared, worker, None);
            // Nobody listens any more if the audit was given up.
            let _ = tell.send((job, fingerprint(&work.text), file));
        }
    };
    thread::Builder::new()
        .name("osvm-audit".to_owned())
        .stack_size(STACK)
        .spawn(body)
        .map(drop)
        .map_err(|source| Error::Thread { source })
}

fn mark(shared: &Shared, worker: usize, what: Option<(usize, Instant)>) {
    let mut at = shared.at.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(slot) = at.get_mut(worker) {
        *slot = what;
    }
}

fn one(job: &Job) -> File {
    match catch_unwind(AssertUnwindSafe(|| syntax::parse(&job.text))) {
        Ok(unit) => {
            File { name: job.name.clone(), lines: job.text.lines().count(), unit, allows: allow::find(&job.text) }
        }
        Err(_) => unread(job, "the parser failed".to_owned()),
    }
}

fn unread(job: &Job, reason: String) -> File {
    File { name: job.name.clone(), lines: job.text.lines().count(), unit: Err((reason, None)), allows: Vec::new() }
}
