//! What clients noticed of a rollout, as the gateway measured it.

use super::Rollout;
use crate::gateway::pool_name;

/// Figures since the rollout began. None where the gateway does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) longest_wait_us: Option<u64>,
    pub(super) failed_requests: Option<u64>,
}

impl Figures {
    /// `clients waited at most 22.1 ms, 0 requests failed`
    pub(super) fn told(&self) -> String {
        match (self.longest_wait_us, self.failed_requests) {
            (Some(wait), Some(failed)) => {
                format!("clients waited at most {:.1} ms, {failed} requests failed", wait as f64 / 1000.0)
            }
            _ => "the gateway does not say how long clients waited".to_owned(),
        }
    }
}

impl Rollout<'_> {
    /// The pools of the service's ports.
    pub(super) fn pools(&self) -> Vec<String> {
        self.to.spec.ports.iter().map(|port| pool_name(&self.service, port)).collect()
    }

    /// Starts the gateway's counts anew.
    pub(super) async fn reset_figures(&self) {
        for pool in self.pools() {
            if let Err(error) = self.ctx.gateway.admin().reset(&pool).await {
                tracing::warn!(pool, error = crate::error::chain(&error), "cannot reset the gateway's counts");
            }
        }
    }

    pub(super) async fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for pool in self.pools() {
            let Ok(stats) = self.ctx.gateway.admin().pool(&pool).await else { return Figures::default() };
            let longest = figures.longest_wait_us.unwrap_or(0).max(stats.longest_wait_us);
            figures.longest_wait_us = Some(longest);
            figures.failed_requests = Some(figures.failed_requests.unwrap_or(0) + stats.failures.total());
        }
        figures
    }
}
