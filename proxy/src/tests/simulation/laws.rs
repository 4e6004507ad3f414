//! What must be true at any time, and at the end of a run, when nothing happens any more.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::net::Bench;
use super::World;
use super::scenario::Scenario;
use crate::clock;

/// Longer than any limit of a run lasts: connections that idle, bodies that stand still, endpoints that say nothing.
const QUIET: Duration = Duration::from_secs(10);

/// Each attempt belongs to a request that has a slot, and neither slots nor places to wait are ever more than their limit.
pub(super) fn at_any_time(world: &World, bench: &Bench) {
    let ((requests, attempts), waiting) = (bench.under_way(), bench.waiting());
    let max = world.scenario.in_flight_max;
    if attempts > requests || requests > max || waiting > max {
        world
            .violation(format!("{attempts} attempts, {requests} requests in flight and {waiting} that wait, of {max}"));
    }
}

pub(super) async fn when_all_is_quiet(world: &World, bench: &Bench) {
    let live = bench.shared.live();
    clock::sleep(Duration::from_millis(1)).await;
    for upstream in live.upstreams() {
        for endpoint in upstream.endpoints.load().iter() {
            let idle = endpoint.at.idle.load(Relaxed);
            if idle > world.scenario.idle_max {
                world.violation(format!("{} idle connections to {}", idle, endpoint.at.address));
            }
        }
    }
    clock::sleep(QUIET).await;
    let mut left = vec![
        ("connections of the app", bench.shared.connections() as u64),
        ("requests", bench.shared.requests().1),
        ("bytes kept", bench.shared.replay.kept() as u64),
        ("clients' requests", u64::from(world.under_way.get())),
    ];
    let (requests, attempts) = bench.under_way();
    left.extend([("slots", u64::from(requests)), ("attempts", u64::from(attempts))]);
    left.push(("places to wait", u64::from(bench.waiting())));
    for upstream in live.upstreams() {
        for endpoint in upstream.endpoints.load().iter() {
            left.push(("idle connections", u64::from(endpoint.at.idle.load(Relaxed))));
            left.push(("connections to endpoints", u64::from(endpoint.at.connections.load(Relaxed))));
        }
    }
    check_budget(world, bench);
    check_success(world);
    check_uploads(world);
    // The worker's own task ends only with a drain.
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64;
    let worker = u64::from(!world.is_draining.get());
    left.push(("tasks", tasks.saturating_sub(worker)));
    for (what, count) in left.into_iter().filter(|(_, count)| *count > 0) {
        world.violation(format!("{count} {what} are left"));
    }
}

/// Checks the law of `outrigger_policy::budget`: retries withdraw no more than requests have deposited, plus the floor. A retry of an attempt that sent nothing
/// is free.
fn check_budget(world: &World, bench: &Bench) {
    const WINDOW_SECONDS: f64 = 10.0;
    let free = bench.metric("outrigger_retries_total", &["reason=\"unsent\""]);
    let paid = bench.metric("outrigger_retries_total", &[]) - free;
    let requests = bench.metric("outrigger_requests_total", &[]);
    let seconds = (clock::now() - world.started).as_secs_f64() + WINDOW_SECONDS;
    let most = world.scenario.budget_ratio * requests + f64::from(world.scenario.budget_floor) * seconds;
    if paid > most {
        world.violation(format!("{paid} retries where the budget allows {most}"));
    }
}

/// What was answered with success has arrived whole, however early the response came.
fn check_uploads(world: &World) {
    let received = world.received.borrow();
    for (number, sent) in world.sent.borrow().iter() {
        // Other endpoints read the request before they respond, or stop reading.
        let Some(arrived) = received.get(number) else { continue };
        if arrived.as_ref() != Some(sent) {
            let arrived = arrived.as_ref().map_or("a part".to_owned(), |body| format!("{} bytes", body.len()));
            world.violation(format!("response {number}: {} bytes were sent, {arrived} arrived", sent.len()));
        }
    }
}

/// Where nothing goes wrong and there is room for all, requests succeed.
fn check_success(world: &World) {
    let Scenario { faults, in_flight_max, drains, .. } = world.scenario;
    let (awaited, succeeded) = (world.awaited.get(), world.succeeded.get());
    if faults == 0 && in_flight_max >= world.scenario.clients && !drains && succeeded < awaited {
        world.violation(format!("{succeeded} of {awaited} requests succeeded in a world without faults"));
    }
}
