//! One timer for all the waits of a connection.
//!
//! A wait that ends in time leaves the timer as it is; only one that would end sooner than the timer's present end moves it. So a
//! request costs a look at the clock, not an entry in the runtime's timer wheel.

use std::{future::poll_fn, pin::Pin, pin::pin, task::Poll, time::Duration};

use tokio::time::{Instant, Sleep, sleep};

pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    pub(super) fn new(first: Duration) -> Self {
        Self { sleep: Box::pin(sleep(first)) }
    }

    /// What the work comes to; none if it takes longer than `limit`.
    pub(super) async fn within<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        self.until(Instant::now() + limit, work).await
    }

    /// The same with the moment at which it is given up.
    pub(super) async fn until<T>(&mut self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        if self.sleep.deadline() > deadline {
            self.sleep.as_mut().reset(deadline);
        }
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            while self.sleep.as_mut().poll(cx).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                self.sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn each_wait_has_its_own_limit_whatever_came_before() {
        let mut timer = Timer::new(Duration::from_secs(10));
        assert_eq!(timer.within(Duration::from_secs(60), ready(1)).await, Some(1));
        for limit in [10, 60, 5, 5, 100] {
            let (began, limit) = (Instant::now(), Duration::from_millis(limit));
            assert_eq!(timer.within(limit, pending::<()>()).await, None);
            assert!(began.elapsed() >= limit);
        }
        // The one before ended sooner.
        let long = timer.within(Duration::from_secs(60), tokio::time::sleep(Duration::from_millis(150)));
        assert_eq!(long.await, Some(()));
    }
}
