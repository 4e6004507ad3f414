//! Traffic whose every byte is checked, in both directions: what a client sent and what an endpoint received, what an endpoint sent and what the client got.
//!
//! An exchange is known by its number. Client and endpoint draw from it what they do ([`script`]), so both know each byte that the other must send, and a byte
//! of another exchange shows at once. Endpoints respond early, read slowly, refuse at first or stop reading; clients pause; all of it while a test reloads or
//! drains the proxy. [`Traffic::finish`] returns what must hold and did not.

mod app;
mod endpoint;
mod script;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::app::Seen;
use self::endpoint::Received;
pub use self::endpoint::{Endpoint, Ledger};
pub use self::script::SLOW_FROM;
use self::script::{Responds, Script};
use crate::clock::Deadline;

/// For the last bytes to arrive after the clients have ended.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// Clients that send one exchange after the other until they are told to finish.
#[derive(Debug)]
pub struct Traffic {
    clients: Vec<JoinHandle<Vec<Seen>>>,
    is_over: Arc<AtomicBool>,
    under_way: Arc<AtomicU64>,
    ledger: Arc<Ledger>,
}

/// What the traffic has come to.
#[derive(Debug, Default)]
pub struct Account {
    /// Exchanges whose request was sent, or a part of it.
    pub exchanges: u64,
    /// Those with a whole response of 2xx.
    pub succeeded: u64,
    /// Those of them whose endpoint had responded before it had read the body.
    pub early: u64,
    /// Bytes of request bodies that endpoints received, and of response bodies that clients got.
    pub bytes: (u64, u64),
    /// A sentence for each promise that was broken.
    pub broken: Vec<String>,
}

impl Traffic {
    /// Starts `clients` of them. They number their exchanges from `first` on and send them to `host` through `proxy`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        proxy: SocketAddr,
        host: &'static str,
        ledger: &Arc<Ledger>,
        (clients, first): (usize, u64),
    ) -> io::Result<Self> {
        let (is_over, under_way) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let next = Arc::new(AtomicU64::new(first));
        let client = |_| {
            let (is_over, under_way, next) = (Arc::clone(&is_over), Arc::clone(&under_way), Arc::clone(&next));
            let numbers = std::iter::repeat_with(move || next.fetch_add(1, SeqCst));
            let numbers = numbers.take_while(move |_| !is_over.load(SeqCst));
            thread::Builder::new().spawn(move || app::run(proxy, host, numbers, &under_way))
        };
        let clients = (0..clients).map(client).collect::<io::Result<_>>()?;
        Ok(Self { clients, is_over, under_way, ledger: Arc::clone(ledger) })
    }

    /// Exchanges under way now.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.under_way.load(SeqCst)
    }

    /// Begins no further exchange. Those under way go on.
    pub fn stop(&self) {
        self.is_over.store(true, SeqCst);
    }

    /// Stops, waits for the exchanges under way, and holds both sides against each other.
    ///
    /// # Panics
    /// A client panicked.
    #[must_use]
    pub fn finish(self) -> Account {
        self.stop();
        let seen: Vec<Seen> = self.clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect();
        // An endpoint may still be reading what it was sent after its early response.
        let settled = Deadline::after(SETTLE_MAX).poll(|| (self.ledger.open() == 0).then_some(()));
        let mut account = account(&seen, &self.ledger.received());
        if settled.is_none() {
            account.broken.push(format!("{} requests have no end at their endpoint", self.ledger.open()));
        }
        account
    }
}

/// What must hold between the two sides.
fn account(seen: &[Seen], received: &BTreeMap<u64, Received>) -> Account {
    let mut account = Account { exchanges: seen.len() as u64, ..Account::default() };
    for Seen { number, status, is_whole, wrong, was_taken, got, hung } in seen {
        let (script, none) = (Script::of(*number), Received::default());
        let there = received.get(number).unwrap_or(&none);
        let succeeded = *is_whole && status.is_some_and(|status| (200..300).contains(&status));
        account.succeeded += u64::from(succeeded);
        account.early += u64::from(succeeded && script.responds == Responds::AtHead);
        account.bytes = (account.bytes.0 + there.bytes, account.bytes.1 + got);
        let mut broke = |what: String| account.broken.push(format!("exchange {number} ({script:?}): {what}"));
        if let Some(at) = wrong {
            broke(format!("byte {at} of the response is another's"));
        }
        if let Some(at) = there.wrong {
            broke(format!("byte {at} of the request is another's"));
        }
        if *hung {
            broke("the client has waited for too long".to_owned());
        }
        if script.is_post && there.times > 1 {
            broke(format!("a POST arrived {} times", there.times));
        }
        if succeeded && !there.is_whole && script.responds != Responds::AtHeadAndStops {
            let taken = if *was_taken { "taken from the client" } else { "cut off" };
            let (length, arrived) = (script.request.length, there.bytes);
            broke(format!("{status:?}, and {arrived} bytes of a request of {length} arrived, which was {taken}"));
        }
        if succeeded && *got != script.response.length {
            broke(format!("a response of {} bytes ended well after {got}", script.response.length));
        }
    }
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of an exchange of this kind with a body.
    fn number(responds: Responds, is_post: bool) -> u64 {
        let is_it =
            |script: &Script| (script.responds, script.is_post) == (responds, is_post) && script.request.length > 0;
        (0..).find(|number| is_it(&Script::of(*number))).expect("there are some of each kind")
    }

    fn broken(responds: Responds, is_post: bool, change: impl FnOnce(&mut Seen, &mut Received)) -> Vec<String> {
        let number = number(responds, is_post);
        let Script { request, response, .. } = Script::of(number);
        let got = response.length;
        let mut seen =
            Seen { number, status: Some(200), is_whole: true, wrong: None, was_taken: true, got, hung: false };
        let mut received = Received { times: 1, bytes: request.length, is_whole: true, ..Received::default() };
        change(&mut seen, &mut received);
        account(&[seen], &BTreeMap::from([(number, received)])).broken
    }

    #[test]
    fn each_side_is_held_against_the_other() {
        assert_eq!(broken(Responds::AtHead, true, |_, _| {}), Vec::<String>::new());
        let one =
            |found: Vec<String>, wanted: &str| assert!(found.len() == 1 && found[0].contains(wanted), "{found:?}");
        one(broken(Responds::AtHead, true, |_, there| there.is_whole = false), "taken from the client");
        let cut = |seen: &mut Seen, there: &mut Received| (seen.was_taken, there.is_whole) = (false, false);
        one(broken(Responds::AtHead, true, cut), "cut off");
        one(broken(Responds::AtEnd, true, |_, there| there.times = 2), "arrived 2 times");
        one(broken(Responds::AtEnd, false, |_, there| there.wrong = Some(7)), "byte 7 of the request");
        one(broken(Responds::AtEnd, false, |seen, _| seen.wrong = Some(8)), "byte 8 of the response");
        one(broken(Responds::AtEnd, false, |seen, _| seen.hung = true), "for too long");
        one(broken(Responds::AtEnd, false, |seen, _| seen.got += 1), "ended well after");
        // What the endpoint chose not to read is not owed.
        let stopped = |_: &mut Seen, there: &mut Received| there.is_whole = false;
        assert_eq!(broken(Responds::AtHeadAndStops, true, stopped), Vec::<String>::new());
    }
}
