//! What happened to each request, and the report made of it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use solana_address::Address;

use crate::{error::Error, stats::Spread};

/// Kinds of requests, told apart in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    ReadHttp1,
    ReadHttp2,
    WriteHttp1,
    WriteHttp2,
    /// A transfer whose signature a WebSocket waits for.
    WriteConfirmed,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ReadHttp1 => "read, HTTP/1.1",
            Self::ReadHttp2 => "read, HTTP/2",
            Self::WriteHttp1 => "sendTransaction, HTTP/1.1",
            Self::WriteHttp2 => "sendTransaction, HTTP/2",
            Self::WriteConfirmed => "sendTransaction, with signatureSubscribe",
        }
    }
}

/// The whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Tries of a patient load beyond the first.
    pub(crate) retries: u64,
    /// The first failures in words.
    pub(crate) failures: Vec<String>,
    pub(crate) kinds: BTreeMap<String, Spread>,
    pub(crate) windows: Vec<Window>,
    /// Requests that ended well and that failed, a [`BUCKET_MS`].
    pub(crate) timeline: Vec<(u32, u32)>,
    pub(crate) acknowledged: u64,
    /// The accounts whose lamports together change by fees alone.
    pub(crate) accounts: Vec<String>,
    pub(crate) sockets: Sockets,
    /// Whether every task ended when it was told to.
    pub(crate) ended: bool,
}

/// A stretch of the run between `begin` and `end`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) name: String,
    pub(crate) begin_us: u64,
    pub(crate) end_us: u64,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// The longest time in which no request at all was answered.
    pub(crate) longest_gap_us: u64,
    /// The longest that a request took.
    pub(crate) longest_request_us: u64,
}

/// What the WebSockets saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sockets {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    pub(crate) notifications: u64,
    /// Slots that slotSubscribe left out.
    pub(crate) slots_missed: u64,
    /// Slots that it told twice, or after a later one.
    pub(crate) slots_repeated: u64,
    /// Notifications with an id that no subscription has.
    pub(crate) unknown_ids: u64,
    pub(crate) confirmed: u64,
    pub(crate) unconfirmed: u64,
    /// What accountSubscribe told last, by address.
    pub(crate) last_lamports: BTreeMap<String, u64>,
}

/// The timeline's grain.
pub(crate) const BUCKET_MS: u64 = 100;
/// Failures that are kept in words.
const KEPT_FAILURES: usize = 40;

struct Sample {
    kind: Kind,
    began_us: u64,
    ended_us: u64,
    ok: bool,
}

#[derive(Default)]
struct Inner {
    samples: Vec<Sample>,
    failed: u64,
    retries: u64,
    acknowledged: u64,
    failures: Vec<String>,
    windows: Vec<Window>,
    accounts: Vec<String>,
    sockets: Sockets,
}

/// Takes notes from all tasks.
pub(crate) struct Recorder {
    start: Instant,
    inner: Mutex<Inner>,
    journal: Mutex<BufWriter<File>>,
}

impl Recorder {
    pub(crate) fn new(journal: &Path) -> Result<Self, Error> {
        let file =
            File::create(journal).map_err(|source| Error::io(format!("create {}", journal.display()), source))?;
        Ok(Self { start: Instant::now(), inner: Mutex::default(), journal: Mutex::new(BufWriter::new(file)) })
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    pub(crate) fn sample(&self, kind: Kind, began_us: u64, outcome: Result<(), String>) {
        let ended_us = self.now_us();
        let mut inner = self.lock();
        inner.samples.push(Sample { kind, began_us, ended_us, ok: outcome.is_ok() });
        if let Err(why) = outcome {
            note(
                &mut inner,
                format!("at {:.3} s, after {:.1} ms: {why}", ended_us as f64 / 1e6, (ended_us - began_us) as f64 / 1e3),
            );
        }
    }

    /// A failure of something that is not a request of the load's.
    pub(crate) fn failure(&self, why: String) {
        let at = self.now_us() as f64 / 1e6;
        note(&mut self.lock(), format!("at {at:.3} s: {why}"));
    }

    pub(crate) fn retried(&self) {
        self.lock().retries += 1;
    }

    pub(crate) fn account(&self, address: &Address) {
        self.lock().accounts.push(address.to_string());
    }

    pub(crate) fn sockets(&self, change: impl FnOnce(&mut Sockets)) {
        change(&mut self.lock().sockets);
    }

    pub(crate) fn sent(&self, signature: &str) {
        self.write("S", signature);
    }

    pub(crate) fn acknowledged(&self, signature: &str) {
        self.lock().acknowledged += 1;
        self.write("A", signature);
    }

    pub(crate) fn begin(&self, name: &str) {
        let begin_us = self.now_us();
        self.lock().windows.push(Window { name: name.to_owned(), begin_us, ..Window::default() });
    }

    pub(crate) fn end(&self, name: &str) {
        let now = self.now_us();
        if let Some(window) = self.lock().windows.iter_mut().rfind(|window| window.name == name) {
            window.end_us = now;
        }
    }

    pub(crate) fn count(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.samples.len() as u64, inner.failed)
    }

    pub(crate) fn report(&self, ended: bool) -> Result<Report, Error> {
        let flushed = self.journal.lock().unwrap_or_else(PoisonError::into_inner).flush();
        flushed.map_err(|source| Error::io("write the journal", source))?;
        let inner = &mut *self.lock();
        inner.samples.sort_by_key(|sample| sample.ended_us);
        let mut kinds: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
        let mut timeline = Vec::new();
        for sample in &inner.samples {
            kinds.entry(sample.kind).or_default().push(sample.ended_us - sample.began_us);
            let bucket = (sample.ended_us / 1000 / BUCKET_MS) as usize;
            if timeline.len() <= bucket {
                timeline.resize(bucket + 1, (0, 0));
            }
            if sample.ok { timeline[bucket].0 += 1 } else { timeline[bucket].1 += 1 }
        }
        for window in &mut inner.windows {
            fill(window, &inner.samples);
        }
        Ok(Report {
            seconds: self.start.elapsed().as_secs_f64(),
            requests: inner.samples.len() as u64,
            failed: inner.failed,
            retries: inner.retries,
            failures: inner.failures.clone(),
            kinds: kinds.into_iter().map(|(kind, mut took)| (kind.name().to_owned(), Spread::of(&mut took))).collect(),
            windows: inner.windows.clone(),
            timeline,
            acknowledged: inner.acknowledged,
            accounts: inner.accounts.clone(),
            sockets: inner.sockets.clone(),
            ended,
        })
    }

    fn write(&self, mark: &str, signature: &str) {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk shows when the journal is flushed at the end.
        let _ = writeln!(journal, "{mark} {signature} {unix_ms}");
    }

    /// No task panics while it holds the lock, and the notes are whole between any two calls.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(inner: &mut Inner, why: String) {
    inner.failed += 1;
    if inner.failures.len() < KEPT_FAILURES {
        inner.failures.push(why);
    }
}

/// Wants the samples in the order of their ends.
fn fill(window: &mut Window, samples: &[Sample]) {
    if window.end_us == 0 {
        return;
    }
    let mut last = window.begin_us;
    let from = samples.partition_point(|sample| sample.ended_us < window.begin_us);
    for sample in samples[from..].iter().take_while(|sample| sample.ended_us <= window.end_us) {
        window.requests += 1;
        window.failed += u64::from(!sample.ok);
        window.longest_request_us = window.longest_request_us.max(sample.ended_us - sample.began_us);
        if sample.ok {
            window.longest_gap_us = window.longest_gap_us.max(sample.ended_us - last);
            last = sample.ended_us;
        }
    }
    window.longest_gap_us = window.longest_gap_us.max(window.end_us - last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_knows_its_longest_silence_and_its_slowest_request() {
        let sample = |began_us, ended_us, ok| Sample { kind: Kind::ReadHttp1, began_us, ended_us, ok };
        let samples = [sample(0, 50, true), sample(90, 110, true), sample(100, 180, false), sample(120, 400, true)];
        let mut window = Window { begin_us: 100, end_us: 450, ..Window::default() };
        fill(&mut window, &samples);
        assert_eq!((window.requests, window.failed), (3, 1));
        assert_eq!(window.longest_gap_us, 290, "a failed answer does not end a silence");
        assert_eq!(window.longest_request_us, 280);
    }
}
