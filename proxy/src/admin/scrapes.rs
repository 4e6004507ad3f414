//! The expensive requests: `/metrics` and `/status`. Each costs the machine as much as a few proxied requests, so they share a rate and a limit of their own.
//!
//! The stack is tower's. Requests beyond the limit are shed at once; the others wait until the rate admits them. A rate limit has one owner but each connection
//! needs a handle, so there is a buffer between them. It is as long as the limit, so it never sheds or waits by itself.

use std::convert::Infallible;
use std::time::Duration;

use tower::{BoxError, Service, ServiceBuilder};

use super::response::Response;

/// How many scrapes may wait or be in progress. Fewer than there are connections, so that probes always find one.
pub(super) const SCRAPES_MAX: usize = 40;
/// Twenty a second, in steps so small that the control thread never does more than a few in a row.
pub(super) const RATE: (u64, Duration) = (5, Duration::from_millis(250));

/// What a scrape asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scrape {
    /// Every metric, for Prometheus.
    Metrics,
    /// The state of everything, for people.
    Status,
}

/// A service that responds to scrapes, or fails with the reason why it does not.
pub(super) trait Scrapes: Service<Scrape, Response = Response, Error = BoxError> + Clone + 'static {}

impl<S> Scrapes for S where S: Service<Scrape, Response = Response, Error = BoxError> + Clone + 'static {}

/// The service that calls `respond` for scrapes. Clones share its limits.
pub(super) fn limited(respond: impl Fn(Scrape) -> Response + Clone + Send + 'static) -> impl Scrapes {
    // The buffer's task ends with the last handle.
    ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(SCRAPES_MAX)
        .buffer(SCRAPES_MAX)
        .rate_limit(RATE.0, RATE.1)
        .service_fn(move |scrape| {
            let respond = respond.clone();
            async move { Ok::<_, Infallible>(respond(scrape)) }
        })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tokio::task::JoinSet;
    use tower::ServiceExt as _;
    use tower::load_shed::error::Overloaded;

    use super::super::response::{TEXT, reply};
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn scrapes_go_at_their_rate_and_those_beyond_the_bound_are_shed_at_once() {
        let scrapes = limited(|_| reply(StatusCode::OK, TEXT, String::new()));
        let start = clock::now();
        let local = tokio::task::LocalSet::new();
        let (mut served, mut shed) = (Vec::new(), 0);
        let mut tasks = JoinSet::new();
        for _ in 0..SCRAPES_MAX + 3 {
            let asked = scrapes.clone().oneshot(Scrape::Status);
            tasks.spawn_local_on(async move { asked.await.map(|_| clock::now() - start) }, &local);
        }
        local
            .run_until(async {
                while let Some(ended) = tasks.join_next().await {
                    match ended.expect("it does not panic") {
                        Ok(after) => served.push(after),
                        Err(error) => {
                            assert!(error.is::<Overloaded>() && clock::now() == start, "{error}");
                            shed += 1;
                        }
                    }
                }
            })
            .await;
        assert_eq!((served.len(), shed), (SCRAPES_MAX, 3));
        let per_step = usize::try_from(RATE.0).expect("a few");
        for (n, after) in served.into_iter().enumerate() {
            let due = RATE.1 * u32::try_from(n / per_step).expect("a few");
            // tokio's timers are exact to the millisecond.
            assert!(after >= due && after <= due + Duration::from_millis(20), "{n}: {after:?}, due after {due:?}");
        }
        assert!(scrapes.oneshot(Scrape::Metrics).await.is_ok(), "there is room again");
    }
}
