//! Counters of a pool and the histogram of its waits. Counting is lock-free; reading may see one count before its neighbour.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use osvm_model::gateway::{Failures, PoolStats};
use parking_lot::Mutex;

/// Steps between two powers of two: a bucket is at most an eighth wide.
const STEPS_LOG2: u32 = 3;
const STEPS: usize = 1 << STEPS_LOG2;
/// Enough for 2^36 microseconds, which is 19 hours.
const BUCKETS: usize = STEPS * 34;

/// Durations in microseconds, by buckets that grow with the value.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64; BUCKETS]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new(std::array::from_fn(|_| AtomicU64::new(0))) }
    }
}

impl Histogram {
    fn bucket(micros: u64) -> usize {
        if micros < STEPS as u64 {
            return micros as usize;
        }
        let octave = micros.ilog2() - STEPS_LOG2;
        let step = (micros >> octave) as usize - STEPS;
        (STEPS * (octave as usize + 1) + step).min(BUCKETS - 1)
    }

    /// The largest value of a bucket.
    fn upper(bucket: usize) -> u64 {
        if bucket < STEPS {
            return bucket as u64;
        }
        let (octave, step) = (bucket / STEPS - 1, bucket % STEPS);
        (((STEPS + step + 1) as u64) << octave) - 1
    }

    pub(crate) fn record(&self, micros: u64) {
        self.buckets[Self::bucket(micros)].fetch_add(1, Relaxed);
    }

    /// The counts that are not in `base`, an earlier reading.
    fn since(&self, base: &[u64]) -> Vec<u64> {
        let base = base.iter().copied().chain(std::iter::repeat(0));
        self.buckets.iter().zip(base).map(|(now, then)| now.load(Relaxed).saturating_sub(then)).collect()
    }
}

/// The value that `share` of all counts do not exceed; 0 if there are none.
fn quantile(counts: &[u64], share: f64) -> u64 {
    let total: u64 = counts.iter().sum();
    let rank = ((total as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    for (bucket, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= rank {
            return Histogram::upper(bucket);
        }
    }
    0
}

/// How a request failed; see [`Failures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    BadGateway,
    Unavailable,
    Timeout,
    Broken,
}

/// What a pool counts. Counts only grow; [`Counters::reset`] remembers where they stood.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    waited: AtomicU64,
    replayed: AtomicU64,
    bad_gateway: AtomicU64,
    unavailable: AtomicU64,
    timeout: AtomicU64,
    broken: AtomicU64,
    longest_wait: AtomicU64,
    waits: Histogram,
    wait_sum: AtomicU64,
    base: Mutex<Base>,
}

#[derive(Debug, Default)]
struct Base {
    totals: Totals,
    waits: Vec<u64>,
    since_unix_ms: u64,
}

/// Counts since the gateway started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) waited: u64,
    pub(crate) replayed: u64,
    pub(crate) wait_sum_us: u64,
    pub(crate) failures: Failures,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self { base: Mutex::new(Base { since_unix_ms: unix_ms(), ..Base::default() }), ..Self::default() }
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn replay(&self) {
        self.replayed.fetch_add(1, Relaxed);
    }

    pub(crate) fn wait(&self, wait: Duration) {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(1, Relaxed);
        self.wait_sum.fetch_add(micros, Relaxed);
        self.waits.record(micros);
        self.longest_wait.fetch_max(micros, Relaxed);
    }

    pub(crate) fn failure(&self, failure: Failure) {
        let counter = match failure {
            Failure::BadGateway => &self.bad_gateway,
            Failure::Unavailable => &self.unavailable,
            Failure::Timeout => &self.timeout,
            Failure::Broken => &self.broken,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            requests: self.requests.load(Relaxed),
            waited: self.waited.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            wait_sum_us: self.wait_sum.load(Relaxed),
            failures: Failures {
                bad_gateway: self.bad_gateway.load(Relaxed),
                unavailable: self.unavailable.load(Relaxed),
                timeout: self.timeout.load(Relaxed),
                broken: self.broken.load(Relaxed),
            },
        }
    }

    /// The counts since the last reset; the caller adds what is known only now.
    pub(crate) fn since_reset(&self) -> PoolStats {
        let base = self.base.lock();
        let (now, then) = (self.totals(), base.totals);
        let waits = self.waits.since(&base.waits);
        let longest = self.longest_wait.load(Relaxed);
        PoolStats {
            since_unix_ms: base.since_unix_ms,
            requests: now.requests - then.requests,
            waited: now.waited - then.waited,
            longest_wait_us: longest,
            // A bucket's upper end may lie beyond the longest.
            wait_p50_us: quantile(&waits, 0.5).min(longest),
            wait_p99_us: quantile(&waits, 0.99).min(longest),
            replayed: now.replayed - then.replayed,
            failures: Failures {
                bad_gateway: now.failures.bad_gateway - then.failures.bad_gateway,
                unavailable: now.failures.unavailable - then.failures.unavailable,
                timeout: now.failures.timeout - then.failures.timeout,
                broken: now.failures.broken - then.failures.broken,
            },
            ..PoolStats::default()
        }
    }

    /// Lets the counts of [`Counters::since_reset`] begin anew.
    pub(crate) fn reset(&self) {
        let mut base = self.base.lock();
        *base = Base { totals: self.totals(), waits: self.waits.since(&[]), since_unix_ms: unix_ms() };
        self.longest_wait.store(0, Relaxed);
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_to_within_an_eighth(micros in 0u64..1 << 36) {
            let upper = Histogram::upper(Histogram::bucket(micros));
            prop_assert!(upper >= micros);
            prop_assert!(upper - micros <= micros / 8);
        }
    }

    #[test]
    fn quantiles_come_from_the_right_bucket() {
        let histogram = Histogram::default();
        for micros in [1, 2, 3, 4, 1000] {
            histogram.record(micros);
        }
        let counts = histogram.since(&[]);
        assert_eq!(quantile(&counts, 0.5), 3);
        assert!((1000..=1125).contains(&quantile(&counts, 0.99)));
        assert_eq!(quantile(&[], 0.5), 0);
    }

    #[test]
    fn a_reset_starts_the_counts_anew_and_keeps_the_totals() {
        let counters = Counters::new();
        counters.request();
        counters.wait(Duration::from_millis(5));
        counters.failure(Failure::Timeout);
        counters.reset();
        counters.request();
        counters.wait(Duration::from_millis(1));
        let stats = counters.since_reset();
        assert_eq!((stats.requests, stats.waited, stats.longest_wait_us), (1, 1, 1000));
        assert_eq!(stats.failures.total(), 0);
        assert_eq!(counters.totals().requests, 2);
        assert_eq!(counters.totals().failures.timeout, 1);
    }
}
