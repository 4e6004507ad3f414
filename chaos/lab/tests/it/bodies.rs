//! Every byte of every body, in both directions, while the proxy is reloaded and then drained.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use lab::bodies::{Account, Endpoint, Ledger, SLOW_FROM, Traffic};
use lab::clock::Deadline;
use lab::process::Signal;

use crate::stage::{Folder, WAIT_MAX, config, programs, wait_until};

const CLIENTS: usize = 24;
const LASTS: Duration = Duration::from_secs(2);
const RELOADS: Duration = Duration::from_millis(150);

fn check(account: &Account) {
    assert_eq!(account.broken, Vec::<String>::new());
    let Account { exchanges, succeeded, early, bytes, .. } = account;
    assert!(*exchanges > 50 && *succeeded > exchanges / 2 && *early > 5, "{account:?}");
    assert!(bytes.0 > 500_000 && bytes.1 > 500_000, "{account:?}");
}

#[test]
fn no_byte_is_lost_or_mixed_up_by_early_responses_reloads_and_a_drain() {
    let (programs, folder, ledger) = (programs(), Folder::new(), Arc::new(Ledger::default()));
    let endpoints: Vec<_> = (0..2).map(|_| Endpoint::start(&ledger).expect("a free port")).collect();
    let endpoints = endpoints.iter().map(|endpoint| format!("\"{}\"", endpoint.address)).collect::<Vec<_>>().join(", ");
    let text = |idle_max: u32| {
        let policies = "breaker = { enabled = false }\nendpoint_breaker = { enabled = false }\n";
        config(&endpoints, &format!("{policies}pool = {{ idle_max = {idle_max} }}\n"))
    };
    let path = folder.write("config.toml", &text(64));
    let mut proxy = programs.proxy(&path).unwrap_or_else(|error| panic!("{error}"));
    let start = |first| Traffic::start(proxy.app, "backend", &ledger, (CLIENTS, first)).expect("threads");

    let traffic = start(0);
    let over = Deadline::after(LASTS);
    for idle_max in (1..64).cycle() {
        if over.left().is_zero() {
            break;
        }
        fs::write(&path, text(idle_max)).expect("a writable file");
        proxy.process.signal(Signal::HUP);
        lab::clock::pause(RELOADS);
    }
    let account = traffic.finish();
    check(&account);
    let requests = || proxy.metrics().expect("the admin port responds").count("outrigger_requests_total", &[]);
    let is_counted = Deadline::after(WAIT_MAX).poll(|| (requests() == account.exchanges).then_some(()));
    assert!(is_counted.is_some(), "{} requests, {} counted", account.exchanges, requests());

    let traffic = start(SLOW_FROM);
    wait_until("traffic", || traffic.under_way() == CLIENTS as u64);
    traffic.stop();
    // Long enough for the early responses, and less than any of the requests takes.
    lab::clock::pause(LASTS / 4);
    proxy.process.signal(Signal::TERM);
    assert_eq!(traffic.finish().broken, Vec::<String>::new());
    assert_eq!(proxy.process.wait(WAIT_MAX).expect("it ends").code(), Some(0));
    let log = proxy.log();
    let drained = log.iter().find(|line| line.message == "drained").expect("it says so");
    assert_eq!(drained.number("cut_off"), Some(0.0));
}
