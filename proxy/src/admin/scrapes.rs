//! The expensive requests: `/metrics` and `/status`.
//!
//! A text is made on a thread of the runtime's blocking pool, never on the admin thread, so that a probe does not wait for it, however large the configuration.
//! One is made at a time. All who have asked by the moment it is begun share it; who asks later waits for the next one, so no response is older than its
//! request. After each text there is a pause. So scrapes take a bounded share of a core, whatever their number and pace.
//!
//! The limits of those who wait are tower's: requests beyond the limit are shed at once.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tower::{BoxError, Service, ServiceBuilder};

use super::response::{Response, share};
use super::text::{Pieces, Reader, Text, Texts};
use crate::clock;

/// How many scrapes may wait for their text.
pub(super) const SCRAPES_MAX: usize = 32;
/// The pause after a text, as a multiple of the time that it took: scrapes take a quarter of one core at most.
const PAUSE_RATIO: u32 = 3;
/// The least pause: texts are made twenty times a second at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause, so that on a slow machine a scrape has its text in time.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a scrape asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scrape {
    /// Every metric, for Prometheus.
    Metrics,
    /// The state of everything, for people.
    Status,
}

impl Scrape {
    fn content_type(self) -> &'static str {
        match self {
            // The text format that every Prometheus reads.
            Scrape::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Scrape::Status => "application/json",
        }
    }
}

/// A service that responds to scrapes, or fails with the reason why it does not.
pub(super) trait Scrapes: Service<Scrape, Response = Response, Error = BoxError> + Clone + 'static {}

impl<S> Scrapes for S where S: Service<Scrape, Response = Response, Error = BoxError> + Clone + 'static {}

/// A scrape that waits.
struct Asked {
    scrape: Scrape,
    respond: oneshot::Sender<Rc<Text>>,
}

/// The service that has texts made by `write`. Clones share its limits and texts.
pub(super) fn limited(write: impl Fn(Scrape) -> Pieces + Clone + Send + 'static) -> impl Scrapes {
    let (ask, asked) = mpsc::channel(SCRAPES_MAX);
    // The task ends with the last handle.
    tokio::task::spawn_local(make_texts(asked, write));
    ServiceBuilder::new().load_shed().concurrency_limit(SCRAPES_MAX).service_fn(move |scrape: Scrape| {
        let ask = ask.clone();
        async move {
            let (respond, text) = oneshot::channel();
            // If nobody receives it, it is dropped, and the wait below fails.
            let _ = ask.send(Asked { scrape, respond }).await;
            Ok::<_, BoxError>(share(scrape.content_type(), Reader::new(text.await?)))
        }
    })
}

/// Makes texts, one after the other, for as long as somebody may ask.
async fn make_texts(mut asked: mpsc::Receiver<Asked>, write: impl Fn(Scrape) -> Pieces + Clone + Send + 'static) {
    let (mut texts, mut waiting) = (Texts::default(), Vec::new());
    while asked.recv_many(&mut waiting, SCRAPES_MAX).await > 0 {
        let begun = clock::now();
        for scrape in [Scrape::Metrics, Scrape::Status] {
            let is_reader = |asked: &mut Asked| asked.scrape == scrape && !asked.respond.is_closed();
            let readers: Vec<_> = waiting.extract_if(.., is_reader).collect();
            if readers.is_empty() {
                continue;
            }
            let write = write.clone();
            // A panic is counted and logged like any other. Those who wait for this text get an error, the next ones their text.
            let Ok(written) = tokio::task::spawn_blocking(move || write(scrape)).await else { continue };
            let text = texts.share(written);
            for reader in readers {
                // It fails if the client has gone.
                let _ = reader.respond.send(Rc::clone(&text));
            }
        }
        waiting.clear();
        let took = clock::now().saturating_duration_since(begun);
        clock::sleep((took * PAUSE_RATIO).clamp(PAUSE_MIN, PAUSE_MAX)).await;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::{Arc, Mutex, PoisonError};

    use http_body_util::BodyExt as _;
    use tokio::task::{JoinHandle, LocalSet, spawn_local};
    use tower::ServiceExt as _;
    use tower::load_shed::error::Overloaded;

    use super::*;

    /// A writer of texts, each of which is its number, and what a test does to it.
    pub(in crate::admin) struct Held {
        begun: mpsc::UnboundedReceiver<u32>,
        go_on: std::sync::mpsc::Sender<()>,
    }

    impl Held {
        /// Waits until a text is begun; returns its number.
        pub(in crate::admin) async fn begun(&mut self) -> u32 {
            self.begun.recv().await.expect("the writer is there")
        }

        /// Lets so many texts be made, beginning with the one that was begun.
        pub(in crate::admin) fn go_on(&self, texts: usize) {
            (0..texts).for_each(|_| self.go_on.send(()).expect("the writer is there"));
        }
    }

    /// A writer that stands still in each text until it may go on.
    pub(in crate::admin) fn held() -> (impl Fn(Scrape) -> Pieces + Clone + Send + 'static, Held) {
        let ((begin, begun), (go_on, may_go_on)) = (mpsc::unbounded_channel(), std::sync::mpsc::channel());
        let (may_go_on, written) = (Arc::new(Mutex::new(may_go_on)), Arc::new(AtomicU32::new(0)));
        let write = move |_| {
            let number = written.fetch_add(1, Relaxed) + 1;
            // Either fails when the test has ended.
            let _ = begin.send(number);
            let _ = may_go_on.lock().unwrap_or_else(PoisonError::into_inner).recv();
            numbered(number)
        };
        (write, Held { begun, go_on })
    }

    fn numbered(number: u32) -> Pieces {
        let mut pieces = Pieces::default();
        write!(pieces, "text {number}").expect("memory");
        pieces
    }

    /// Asks, and reads the whole text.
    fn ask(scrapes: &impl Scrapes, scrape: Scrape) -> JoinHandle<Result<String, BoxError>> {
        let asked = scrapes.clone().oneshot(scrape);
        spawn_local(async move {
            let text = asked.await?.into_body().collect().await?.to_bytes();
            Ok(String::from_utf8(text.to_vec())?)
        })
    }

    async fn text(asked: JoinHandle<Result<String, BoxError>>) -> Result<String, String> {
        asked.await.expect("it does not panic").map_err(|error| error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_while_a_text_is_made_shares_the_next_one() {
        let test = async {
            let (write, mut held) = held();
            let scrapes = limited(write);
            let first = ask(&scrapes, Scrape::Metrics);
            assert_eq!(held.begun().await, 1);
            let second = ask(&scrapes, Scrape::Metrics);
            tokio::task::yield_now().await;
            let third = ask(&scrapes, Scrape::Metrics);
            tokio::task::yield_now().await;
            held.go_on(1);
            assert_eq!(text(first).await.as_deref(), Ok("text 1"));
            held.go_on(1);
            assert_eq!(text(second).await.as_deref(), Ok("text 2"), "the first text is older than this request");
            assert_eq!(text(third).await.as_deref(), Ok("text 2"), "they share it");
            let (metrics, status) = (ask(&scrapes, Scrape::Metrics), ask(&scrapes, Scrape::Status));
            held.go_on(2);
            assert_ne!(text(metrics).await, text(status).await, "they ask for different things");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_text_beyond_the_bound_and_a_text_for_nobody_is_not_made() {
        let test = async {
            let (write, mut held) = held();
            let (scrapes, start) = (limited(write), clock::now());
            let waiting: Vec<_> = (0..SCRAPES_MAX).map(|_| ask(&scrapes, Scrape::Status)).collect();
            held.begun().await;
            for _ in 0..3 {
                let shed = ask(&scrapes, Scrape::Metrics).await.expect("it does not panic");
                assert!(shed.is_err_and(|error| error.is::<Overloaded>()));
            }
            assert_eq!(clock::now(), start, "nobody has waited");
            held.go_on(1);
            for asked in waiting {
                assert_eq!(text(asked).await.as_deref(), Ok("text 1"));
            }
            let gone = ask(&scrapes, Scrape::Metrics);
            tokio::task::yield_now().await;
            gone.abort();
            assert!(gone.await.is_err());
            held.go_on(2);
            clock::sleep(PAUSE_MAX * 2).await;
            let asked = ask(&scrapes, Scrape::Metrics);
            assert_eq!(text(asked).await.as_deref(), Ok("text 2"));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn texts_are_made_no_faster_than_at_their_rate() {
        let test = async {
            let scrapes = limited(|_| numbered(0));
            let start = clock::now();
            for n in 0..10 {
                assert!(text(ask(&scrapes, Scrape::Status)).await.is_ok());
                let (after, due) = (clock::now() - start, PAUSE_MIN * n);
                // tokio's timers are exact to the millisecond.
                assert!(after >= due && after <= due + Duration::from_millis(20), "{n}: {after:?}, due after {due:?}");
            }
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_fails_those_who_wait_for_its_text_and_nobody_else() {
        let test = async {
            let written = Arc::new(AtomicU32::new(0));
            let scrapes = limited(move |_| {
                assert!(written.fetch_add(1, Relaxed) > 0, "on purpose");
                numbered(2)
            });
            assert!(text(ask(&scrapes, Scrape::Metrics)).await.is_err());
            assert_eq!(text(ask(&scrapes, Scrape::Metrics)).await.as_deref(), Ok("text 2"));
        };
        LocalSet::new().run_until(test).await;
    }
}
