//! The proxy repeats only what it may repeat. The matrix has every point at which an attempt can fail × what allows the request to be repeated × a fresh or a reused
//! connection × one fault or a fault each time. The endpoint counts the heads it saw.
//!
//! [`expected`] is written from the rule (RFC 9110 §9.2.2 and RELIABILITY's R8), not from the code of the policies. A request of which no byte left may always be
//! retried. A request of which a byte left may be retried only if it is repeatable. No request is retried once the head of its response has arrived whole.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use super::net::Peer;
use super::*;

const IDEMPOTENT: [&str; 5] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"];
const OTHERS: [&str; 3] = ["POST", "PATCH", "PROPFIND"];
/// Attempts of a request that may be repeated: the default of `retry.max_attempts`.
const ATTEMPTS_MAX: u32 = 3;
/// Without a body, since not every method may have one in its response.
const DONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// Where an attempt fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Point {
    Connecting(DialFault),
    /// The endpoint closes after the head, before the body.
    BetweenHeadAndBody,
    /// The endpoint closes after the whole request, without a response.
    AllWritten,
    /// The endpoint has the whole request and sends nothing until the attempt times out.
    NoResponse,
    /// The endpoint closes within the head of its response.
    PartialResponseHead,
    /// The endpoint closes within the body of its response.
    AfterTheHead,
    /// It sends a whole response whose status is retryable.
    Status503,
}

const POINTS: [Point; 10] = [
    Point::Connecting(DialFault::Refused),
    Point::Connecting(DialFault::Unreachable),
    Point::Connecting(DialFault::Silent),
    Point::Connecting(DialFault::DeadOnArrival),
    Point::BetweenHeadAndBody,
    Point::AllWritten,
    Point::NoResponse,
    Point::PartialResponseHead,
    Point::AfterTheHead,
    Point::Status503,
];

/// What client and route say about repeating the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Contract {
    /// The request carries a key, but the route does not honour keys.
    KeyUnknown,
    /// The route honours keys, but the request carries none.
    KeyMissing,
    /// The route honours keys and the request carries one.
    Key,
    /// The route says that all its methods may be repeated.
    Route,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Connection {
    Fresh,
    /// A connection that has served another request.
    Used,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Faults {
    One,
    Endless,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    method: &'static str,
    contract: Contract,
    point: Point,
    connection: Connection,
    faults: Faults,
}

/// How many heads the endpoint sees, and which status the client sees; `None` is a response that broke off.
fn expected(case: Case) -> (u32, Option<u16>) {
    let Case { method, contract, point, faults, .. } = case;
    let may_repeat = IDEMPOTENT.contains(&method) || matches!(contract, Contract::Key | Contract::Route);
    let failed = match point {
        Point::AfterTheHead => return (1, None),
        Point::Connecting(DialFault::Silent) | Point::NoResponse => 504,
        Point::Status503 => 503,
        _ => 502,
    };
    match (point, faults) {
        (Point::Connecting(_), Faults::One) => (1, Some(204)),
        (Point::Connecting(_), Faults::Endless) => (0, Some(failed)),
        (_, Faults::One) if may_repeat => (2, Some(204)),
        (_, Faults::Endless) if may_repeat => (ATTEMPTS_MAX, Some(failed)),
        _ => (1, Some(failed)),
    }
}

/// What the endpoint of one case does and saw.
struct Backend {
    point: Point,
    /// Heads of the request that the case is about.
    heads: Cell<u32>,
    faults_left: Cell<u32>,
    /// Notified when the endpoint must close the connection of the other request, because the case wants a fresh one next.
    leave: Notify,
}

impl Backend {
    async fn serve(&self, mut peer: Peer) {
        while let Some(head) = peer.head().await {
            if head.starts_with("GET /before ") {
                peer.say(DONE).await;
                if let Point::Connecting(_) = self.point {
                    return self.leave.notified().await;
                }
                continue;
            }
            self.heads.set(self.heads.get() + 1);
            let is_fault = self.faults_left.get() > 0;
            self.faults_left.set(self.faults_left.get().saturating_sub(1));
            if is_fault && self.point == Point::BetweenHeadAndBody {
                return;
            }
            if peer.body(&head).await.is_none() {
                return;
            }
            match self.point {
                _ if !is_fault => peer.say(DONE).await,
                Point::Status503 => peer.say("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await,
                Point::NoResponse => return peer.closed().await,
                Point::PartialResponseHead => return peer.say("HTTP/1.1 200 OK\r\ncontent-le").await,
                Point::AfterTheHead => return peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await,
                Point::AllWritten | Point::BetweenHeadAndBody | Point::Connecting(_) => return,
            }
        }
    }
}

/// Runs one case. Adds to `violations` what differs from [`expected`].
async fn run(case: Case, violations: &RefCell<Vec<String>>) {
    let faults = match case.faults {
        Faults::One => 1,
        Faults::Endless => 100,
    };
    let is_connecting = matches!(case.point, Point::Connecting(_));
    let net = Net::default();
    let backend = Rc::new(Backend {
        point: case.point,
        heads: Cell::new(0),
        faults_left: Cell::new(if is_connecting { 0 } else { faults }),
        leave: Notify::new(),
    });
    let serving = Rc::clone(&backend);
    net.endpoint(A, move |_, peer| {
        let backend = Rc::clone(&serving);
        async move { backend.serve(peer).await }
    });
    let contract = match case.contract {
        Contract::KeyUnknown => "",
        Contract::KeyMissing | Contract::Key => "idempotency_key = true",
        Contract::Route => "idempotent = true",
    };
    let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.retry]\n{contract}\n")).await;
    if case.connection == Connection::Used {
        assert_eq!(bench.get("/before").await.status, 204, "{case:?}");
        backend.leave.notify_one();
        settle().await;
    }
    if let Point::Connecting(fault) = case.point {
        net.next_dials(std::iter::repeat_n(fault, faults as usize));
    }
    let status = ask(&bench, case, &backend).await;
    settle().await;
    let came = (backend.heads.get(), status);
    let left = (bench.under_way(), bench.shared.replay.kept());
    if came != expected(case) || left != ((0, 0), 0) {
        violations.borrow_mut().push(format!("{case:?}: {came:?}, not {:?}; left behind {left:?}", expected(case)));
    }
}

/// Sends the request of `case`; the status of its response, if that came whole.
async fn ask(bench: &Bench, case: Case, backend: &Backend) -> Option<u16> {
    let Case { method, contract, point, .. } = case;
    let key = if matches!(contract, Contract::Key | Contract::KeyUnknown) { "idempotency-key: 7\r\n" } else { "" };
    let has_body = OTHERS.contains(&method) || method == "PUT" || point == Point::BetweenHeadAndBody;
    let (length, body) = if has_body { ("content-length: 5\r\n", "hello") } else { ("", "") };
    let mut client = bench.connect();
    settle().await;
    let head = format!("{method} / HTTP/1.1\r\nhost: backend\r\n{key}{length}\r\n");
    if point == Point::BetweenHeadAndBody {
        client.say(&head).await;
        settle().await;
        assert!(backend.heads.get() > 0, "a head does not wait for its body: {case:?}");
        client.say(body).await;
    } else {
        client.say(&(head + body)).await;
    }
    let seen = if method == "HEAD" { client.response_to_head().await } else { client.response().await };
    seen.map(|seen| seen.status)
}

fn run_all(methods: &[&'static str]) {
    let (violations, mut cases) = (Rc::default(), 0);
    for case in methods.iter().flat_map(|method| all(method)) {
        let violations = Rc::clone(&violations);
        paused(async move { run(case, &violations).await });
        cases += 1;
    }
    assert!(cases > 450, "{cases}");
    assert!(violations.borrow().is_empty(), "{:#?}", violations.borrow());
}

fn all(method: &'static str) -> Vec<Case> {
    let mut cases = Vec::new();
    for contract in [Contract::KeyUnknown, Contract::KeyMissing, Contract::Key, Contract::Route] {
        for point in POINTS {
            if (method, point) == ("HEAD", Point::AfterTheHead) {
                continue; // its response ends with the head
            }
            for connection in [Connection::Fresh, Connection::Used] {
                for faults in [Faults::One, Faults::Endless] {
                    cases.push(Case { method, contract, point, connection, faults });
                }
            }
        }
    }
    cases
}

#[test]
fn idempotent_methods_go_again_until_the_head_of_a_response_has_come() {
    run_all(&IDEMPOTENT);
}

#[test]
fn other_methods_go_again_only_if_no_byte_left_or_the_contract_allows_it() {
    run_all(&OTHERS);
}
