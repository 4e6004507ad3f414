//! The hot functions, each called so many times: what `bench counts` counts instructions of.
//!
//! Each call adds the same number of instructions to a run, so the difference of two runs does not contain start and end.
//! Between two calls time moves on as between two requests of a loaded proxy. The rng has a fixed seed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use outrigger::clock::Rng;
use outrigger::config::Config;
use outrigger::exchange::forward;
use outrigger::live::Live;
use outrigger::path::RequestPath;
use outrigger::telemetry::metrics::Metrics;
use outrigger::upstream::resolve::Addresses;
use outrigger_http1::head::{RequestHead, ResponseHead};
use outrigger_http1::parse::{Heads, Limits, RequestKind};
use outrigger_policy::balance;
use outrigger_policy::breaker::Breaker;
use outrigger_policy::budget::Budget;
use outrigger_policy::call::{Call, Scene, Step};
use outrigger_policy::deadline::Deadline;
use outrigger_policy::endpoint::Endpoint;
use outrigger_policy::observe::Context;
use outrigger_policy::outcome::{Class, Outcome, Pushback};
use outrigger_policy::retry::{Ask, Verdict};
use outrigger_policy::upload::Upload;
use rand::SeedableRng as _;

/// Between two calls.
const STEP: Duration = Duration::from_micros(20);
/// Routes of the configuration in which one is looked up.
const ROUTES: usize = 100;

/// The outcome of an attempt that succeeds.
const SUCCESS: Outcome = Outcome::Response { status: 200, pushback: Pushback::None };

/// What every function gets.
pub(crate) struct Stage {
    now: Instant,
    rng: Rng,
    live: Live,
}

/// A name and how to call it once, after what must be there before.
pub(crate) type Function = (&'static str, fn(Stage, u32));

/// All of them, by the names of the bounds.
pub(crate) const ALL: &[Function] = &[
    ("breaker_acquire_and_record", |mut stage, times| {
        let breaker = Breaker::new(stage.policies().breaker.expect("it is on"), stage.now);
        stage.repeat(times, |now, rng| {
            let permit = breaker.try_acquire(now).permit.expect("it stays closed");
            black_box(breaker.on_result(permit, Class::Success, now, rng));
        });
    }),
    ("budget_deposit", |mut stage, times| {
        let budget = Budget::new(stage.policies().budget, stage.now);
        stage.repeat(times, |now, _| budget.deposit(now));
    }),
    ("budget_deposit_and_withdraw", |mut stage, times| {
        let budget = Arc::new(Budget::new(stage.policies().budget, stage.now));
        stage.repeat(times, |now, _| {
            budget.deposit(now);
            // The budget allows only its share of them, as in an outage.
            if let Ok(withdrawal) = black_box(budget.withdraw(now)) {
                withdrawal.spend();
            }
        });
    }),
    ("choose_of_three", |mut stage, times| {
        let endpoints: Vec<_> = (0..3).map(|id| stage.endpoint(id)).collect();
        stage.repeat(times, |now, rng| {
            let mut cx = Context { now, rng, observer: &mut () };
            let lease = balance::choose(black_box(&endpoints), &[], &mut cx).expect("all admit");
            lease.settle(Class::Success, &mut cx);
        });
    }),
    ("call_with_one_attempt", |mut stage, times| {
        let endpoints = [stage.endpoint(0)];
        let route = Arc::clone(&stage.live.table.all()[0].default);
        stage.repeat(times, |now, rng| {
            let mut cx = Context { now, rng, observer: &mut () };
            let (policies, upload) = (&route.policies, &Upload::NONE);
            let scene = Scene { policies, endpoints: &endpoints, upload, forgiven: &|| Duration::ZERO };
            let mut call = Call::begin::<(), _, _>(&route.policies, true, &mut cx).expect("it is admitted");
            let Step::Attempt { number, lease } = call.poll(&scene, &mut cx) else { return };
            lease.settle(Class::Success, &mut cx);
            call.ended(number, SUCCESS, &scene, &mut cx);
            black_box(call.poll(&scene, &mut cx));
            call.into_admission().settle::<(), _, _>(Class::Success, &route.policies, &mut cx);
        });
    }),
    ("retry_decide_to_return", |stage, times| decide(stage, times, 200)),
    ("retry_decide_to_go_again", |stage, times| decide(stage, times, 503)),
    ("destination", |mut stage, times| {
        let head = request(&mut Heads::requests(Limits::default()));
        stage.repeat(times, |_, _| {
            black_box(forward::destination(black_box(&head)).is_ok());
        });
    }),
    ("forward_request_with_a_copy", |mut stage, times| {
        let head = request(&mut Heads::requests(Limits::default()));
        stage.repeat(times, |_, _| {
            let mut head = black_box(&head).clone();
            forward::forward_request(&mut head);
            black_box(head);
        });
    }),
    ("forward_response_with_a_copy", |mut stage, times| {
        let head = response(&mut Heads::responses(Limits::default()));
        stage.repeat(times, |_, _| {
            let mut head = black_box(&head).clone();
            black_box(forward::forward_response(&mut head));
            black_box(head);
        });
    }),
    ("parse_response", |mut stage, times| {
        let mut heads = Heads::responses(Limits::default());
        stage.repeat(times, |_, _| {
            black_box(response(&mut heads));
        });
    }),
    ("parse_request", |mut stage, times| {
        let mut heads = Heads::requests(Limits::default());
        stage.repeat(times, |_, _| {
            black_box(request(&mut heads));
        });
    }),
    ("route_lookup", |mut stage, times| {
        let (path, table) =
            (format!("/shop/r{}/items/7", ROUTES - 1), std::mem::replace(&mut stage.live, live()).table);
        stage.repeat(times, |_, _| {
            let found = table.by_name(black_box("backend")).expect("it is configured");
            black_box(found.routes.find(RequestPath::new(black_box(&path)), &Method::GET));
        });
    }),
];

/// Calls one of them.
///
/// # Errors
/// There is none of this name.
pub(crate) fn run(name: &str, times: u32) -> Result<(), String> {
    let function = ALL.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("{name}: no such function"))?;
    let stage = Stage { now: Instant::now(), rng: Rng::seed_from_u64(1), live: live() };
    function.1(stage, times);
    Ok(())
}

impl Stage {
    fn policies(&self) -> &outrigger::config::Policies {
        &self.live.config.upstreams[0].policies
    }

    fn endpoint(&self, id: u64) -> Arc<Endpoint<()>> {
        let config = self.live.config.upstreams[0].endpoint_breaker.expect("it is on");
        Arc::new(Endpoint::new(id, Some(Breaker::new(config, self.now)), ()))
    }

    fn repeat(&mut self, times: u32, mut call: impl FnMut(Instant, &mut Rng)) {
        for _ in 0..times {
            self.now += STEP;
            call(black_box(self.now), &mut self.rng);
        }
    }
}

fn decide(mut stage: Stage, times: u32, status: u16) {
    let retry = stage.policies().retry.clone();
    let budget = Arc::new(Budget::new(stage.policies().budget, stage.now));
    stage.repeat(times, |now, rng| {
        let ask = Ask {
            outcome: Outcome::Response { status, pushback: Pushback::None },
            attempts: 1,
            is_idempotent: true,
            is_replayable: true,
            deadline: Deadline::after(now, Duration::from_secs(30)),
            has_endpoint: true,
            waiting_limit: None,
        };
        // So that the budget has what a retry costs.
        (0..6).for_each(|_| budget.deposit(now));
        if let Verdict::Retry { withdrawal, .. } = black_box(retry.decide(black_box(&ask), &budget, now, rng)) {
            withdrawal.spend();
        }
    });
}

fn request(heads: &mut Heads) -> RequestHead {
    let bytes = b"GET /shop/r99/items/7?colour=red HTTP/1.1\r\nhost: backend:8080\r\naccept: */*\r\nuser-agent: bench\r\nconnection: keep-alive\r\nx-request-id: bench-1\r\n\r\n";
    heads.request(black_box(bytes)).expect("it is fine").expect("it is whole").head
}

fn response(heads: &mut Heads) -> ResponseHead {
    let bytes = b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 13:00:00 GMT\r\ncontent-type: text/plain\r\ncontent-length: 40\r\n\r\n";
    heads.expect_response(RequestKind::default());
    heads.response(black_box(bytes)).expect("it is fine").expect("it is whole").head
}

/// The defaults, with some routes.
fn live() -> Live {
    let routes =
        (0..ROUTES).map(|n| format!("[[upstreams.backend.routes]]\nname = \"r{n}\"\npath_prefix = \"/shop/r{n}\"\n"));
    let text = format!("[upstreams.backend]\nendpoints = [\"127.0.0.1:5001\"]\n{}", routes.collect::<String>());
    let config = Config::parse("bench.toml", &text).expect("it is valid");
    Live::build(config, None, &Addresses::new(), &Metrics::new(), Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_can_be_called() {
        for (name, _) in ALL {
            assert_eq!(run(name, 100), Ok(()), "{name}");
        }
        assert!(run("none", 1).is_err());
    }
}
