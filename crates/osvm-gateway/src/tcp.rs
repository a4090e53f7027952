//! Raw TCP: bytes both ways, each direction closed by itself.

use tokio::io::copy_bidirectional;

use crate::{
    backend::Use,
    connection::{Client, ClientStream},
    pool::{Unavailable, Wait},
    stats::Failure,
};

/// Copies until both sides have ended, or the instance left the table.
pub(crate) async fn serve<S: ClientStream>(client: Client, mut stream: S) {
    let plan = client.listening.plan.load_full();
    let Some(pool) = plan.route(None, "") else { return };
    pool.counters.request();
    let limits = &client.gateway.limits;
    let mut wait = Wait::default();
    // Nothing has been sent yet, so each failed try may be repeated.
    let reached = loop {
        let lease = match pool.acquire(Use::Tunnel, limits, &mut wait).await {
            Ok(lease) => lease,
            Err(why) => break Err::<_, Unavailable>(why),
        };
        match lease.backend.dial(limits).await {
            Ok(upstream) => {
                wait.reached();
                break Ok((lease, upstream));
            }
            Err(_) => {
                wait.begin();
                pool.mark_down(&lease.backend, limits);
            }
        }
    };
    wait.end(&pool.counters);
    let Ok((lease, mut upstream)) = reached else {
        pool.counters.failure(Failure::Unavailable);
        return;
    };
    lease.count();
    tokio::select! {
        // How it ended is the clients' affair: both sides see it.
        _ = copy_bidirectional(&mut stream, &mut upstream) => {}
        () = lease.backend.gone.cancelled() => {}
    }
}
