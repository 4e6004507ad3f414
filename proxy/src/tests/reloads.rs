//! A reload publishes a generation as a whole, hands over the endpoints, and ends the series of what is gone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::live::Live;
use crate::telemetry::metrics::Metrics;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::resolve::Addresses;

/// An upstream with one endpoint, whose breaker opens at the second failure; and a route.
fn upstream(name: &str, endpoint: &str) -> String {
    format!(
        "[upstreams.{name}]\nendpoints = [\"{endpoint}\"]\nhosts = [\"{name}\"]\nretry.max_attempts = 1\nbreaker.enabled = false\n\
         endpoint_breaker = {{ consecutive_failures = 2, open_jitter = 0 }}\n\
         [[upstreams.{name}.routes]]\nname = \"pay\"\npath_prefix = \"/pay\"\n"
    )
}

fn endpoints(live: &Live, name: &str) -> Vec<Arc<Endpoint>> {
    let upstream = live.upstreams().find(|upstream| &*upstream.config.name == name).expect("it is configured");
    upstream.endpoints.load().to_vec()
}

async fn get(bench: &Bench, host: &str, path: &str) -> Seen {
    let mut client = bench.connect();
    client.say(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
    client.response().await.expect("a response")
}

/// Requests that a scrape counts under these labels.
fn requests(bench: &Bench, labels: &str) -> f64 {
    let text = bench.shared.metrics.text();
    let lines = text.lines().filter(|line| line.starts_with("outrigger_requests_total{") && line.contains(labels));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Series of the upstream in a scrape.
fn series(bench: &Bench, upstream: &str) -> usize {
    bench.shared.metrics.remove_unheld();
    let text = bench.shared.metrics.text();
    text.lines().filter(|line| line.contains(&format!("upstream=\"{upstream}\""))).count()
}

#[test]
fn a_generation_has_its_addresses_when_it_is_built() {
    let text = "[upstreams.backend]\nendpoints = [\"10.0.0.1:80\", \"[::1]:80\", \"known.test:81\", \"other.test:81\", \"unknown.test:80\"]\n";
    let config = Config::parse("test.toml", text).unwrap_or_else(|faults| panic!("{faults}"));
    let ips = Arc::from(["10.0.0.2".parse().expect("an address")]);
    let addresses = Addresses::from([("known.test".to_owned(), Arc::clone(&ips)), ("other.test".to_owned(), ips)]);
    let live = Live::build(config, None, &addresses, &Metrics::new(), clock::now());
    let at: Vec<String> = endpoints(&live, "backend").iter().map(|endpoint| endpoint.at.address.to_string()).collect();
    assert_eq!(at, ["10.0.0.1:80", "[::1]:80", "10.0.0.2:81"], "two names with one address are one endpoint");
}

#[test]
fn a_reload_waits_for_new_names_and_keeps_the_addresses_of_known_ones() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        net.responds(B, &[OK]);
        net.name("a.test", &["10.0.0.1"], Duration::from_millis(300));
        net.name("b.test", &["10.0.0.2"], Duration::from_millis(300));
        net.silent_name("dead.test", seconds(30));
        let bench = Bench::new(&net, &upstream("a", "a.test:80")).await;
        let started = clock::now();
        bench.reload(&format!("{}{}", upstream("renamed", "a.test:80"), upstream("b", "b.test:80"))).await;
        let took = clock::now() - started;
        assert!((Duration::from_millis(300)..Duration::from_millis(310)).contains(&took), "{took:?}");
        for host in ["renamed", "b"] {
            assert_eq!(get(&bench, host, "/").await.status, 200, "{host}");
        }
        let (started, begun) = (clock::now(), net.look_ups().1);
        bench.reload(&format!("{}{}", upstream("b", "a.test:80"), upstream("again", "b.test:80"))).await;
        assert_eq!((clock::now(), net.look_ups().1), (started, begun), "every name is known");
        bench.reload(&format!("{}{}", upstream("b", "b.test:80"), upstream("dead", "dead.test:80"))).await;
        let took = clock::now() - started;
        assert!(
            (seconds(1)..=seconds(1) + Duration::from_millis(2)).contains(&took),
            "{took:?}: no longer for a dead one"
        );
        assert_eq!(get(&bench, "b", "/").await.status, 200);
    });
}

#[test]
fn an_upstream_under_another_name_goes_on_with_its_breakers_and_connections() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        net.responds(B, &[OK]);
        let bench = Bench::new(&net, &format!("{}{}", upstream("a", A), upstream("b", B))).await;
        for _ in 0..2 {
            assert_eq!(get(&bench, "a", "/").await.status, 500);
        }
        assert_eq!(get(&bench, "b", "/").await.status, 200);
        let dialed = net.dialed();
        bench.reload(&format!("{}{}", upstream("a2", A), upstream("b2", B))).await;
        let seen = get(&bench, "a2", "/").await;
        assert!(seen.status == 503 && seen.body.contains("all_endpoints_open"), "{seen:?}");
        assert_eq!(get(&bench, "b2", "/").await.status, 200);
        assert_eq!(net.dialed(), dialed, "over the connection that was there");
    });
}

#[test]
fn an_endpoint_goes_to_its_own_upstream_first_and_to_one_upstream_only() {
    paused(async {
        let bench = Bench::new(&Net::default(), &format!("{}{}", upstream("a", A), upstream("b", A))).await;
        let before = bench.shared.live();
        let [a, b] = ["a", "b"].map(|name| endpoints(&before, name).remove(0));
        assert!(!Arc::ptr_eq(&a, &b), "each upstream has an opinion of its own");
        // The new ones come first in the file, and are built first.
        bench.reload(&format!("{}{}{}", upstream("x", A), upstream("y", A), upstream("b", A))).await;
        let live = bench.shared.live();
        let [x, y, same] = ["x", "y", "b"].map(|name| endpoints(&live, name).remove(0));
        assert!(Arc::ptr_eq(&same, &b), "b is still there");
        assert!(Arc::ptr_eq(&x, &a), "a is gone, and its endpoint goes to the first that wants it");
        assert!(!Arc::ptr_eq(&y, &a) && !Arc::ptr_eq(&y, &b));
        let other_numbers = upstream("b", A).replace("consecutive_failures = 2", "consecutive_failures = 3");
        bench.reload(&other_numbers).await;
        assert!(!Arc::ptr_eq(&endpoints(&bench.shared.live(), "b")[0], &b), "other numbers, another breaker");
    });
}

#[test]
fn reloads_that_follow_each_other_faster_than_the_interval_do_not_end_the_look_ups() {
    paused(async {
        let net = Net::default();
        net.name("a.test", &["10.0.0.1"], Duration::from_millis(20));
        let config = upstream("a", "a.test:80");
        let bench = Bench::new(&net, &config).await;
        net.name("a.test", &["10.0.0.2"], Duration::from_millis(20));
        for _ in 0..60 {
            pass(Duration::from_millis(100)).await;
            bench.reload(&config).await;
        }
        assert_eq!(endpoints(&bench.shared.live(), "a")[0].at.address.to_string(), B);
    });
}

/// Upstreams by name: their addresses, and after how many failures a breaker opens.
type Drawn = BTreeMap<u8, (BTreeSet<u8>, u32)>;

fn drawn(upstreams: &Drawn) -> Config {
    let text = upstreams.iter().map(|(name, (addresses, failures))| {
        let endpoints: Vec<String> = addresses.iter().map(|n| format!("\"10.0.0.{n}:80\"")).collect();
        let endpoints = endpoints.join(", ");
        format!("[upstreams.u{name}]\nendpoints = [{endpoints}]\nendpoint_breaker.consecutive_failures = {failures}\n")
    });
    Config::parse("test.toml", &text.collect::<String>()).unwrap_or_else(|faults| panic!("{faults}"))
}

proptest! {
    #[test]
    fn every_generation_is_whole_and_hands_each_endpoint_to_one_upstream(
        generations in prop::collection::vec(
            prop::collection::btree_map(0_u8..4, (prop::collection::btree_set(1_u8..5, 1..4), 3_u32..5), 1..4), 2..8,
        )
    ) {
        let (metrics, now) = (Metrics::new(), clock::now());
        let mut before: Option<(Drawn, Live)> = None;
        for upstreams in generations {
            let last = before.as_ref().map(|(_, live)| live);
            let live = Live::build(drawn(&upstreams), last, &Addresses::new(), &metrics, now);
            let mut seen = HashSet::new();
            for (name, (addresses, failures)) in &upstreams {
                let name_now = format!("u{name}");
                let has = endpoints(&live, &name_now);
                let at: Vec<_> = has.iter().map(|endpoint| endpoint.at.address.to_string()).collect();
                let wanted: Vec<_> = addresses.iter().map(|n| format!("10.0.0.{n}:80")).collect();
                prop_assert_eq!(at, wanted);
                prop_assert!(has.iter().all(|endpoint| seen.insert(endpoint.id)), "one endpoint in two places");
                let Some((old, old_live)) = &before else { continue };
                if old.get(name).is_some_and(|(_, old_failures)| old_failures == failures) {
                    for kept in endpoints(old_live, &name_now) {
                        let is_wanted = has.iter().any(|endpoint| endpoint.at.address == kept.at.address);
                        prop_assert_eq!(is_wanted, has.iter().any(|endpoint| Arc::ptr_eq(endpoint, &kept)));
                    }
                }
            }
            before = Some((upstreams, live));
        }
    }
}

#[test]
fn what_a_name_resolves_to_after_a_reload_is_no_concern_of_the_generation_before() {
    paused(async {
        let net = Net::default();
        net.name("a.test", &["10.0.0.1"], Duration::ZERO);
        let bench = Bench::new(&net, &upstream("a", "a.test:80")).await;
        let before = bench.shared.live();
        bench.reload(&upstream("a", "a.test:80")).await;
        net.name("a.test", &["10.0.0.2"], Duration::ZERO);
        pass(seconds(6)).await;
        let at = |live: &Live| endpoints(live, "a")[0].at.address.to_string();
        assert_eq!((at(&before), at(&bench.shared.live())), (A.to_owned(), B.to_owned()));
    });
}

#[test]
fn the_series_of_an_upstream_end_with_it_and_those_of_one_that_stays_go_on() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let config = |n: usize| format!("{}{}", upstream("kept", A), upstream(&format!("u{n}"), A));
        let bench = Bench::new(&net, &config(0)).await;
        let mut sizes = Vec::new();
        for n in 0..20 {
            for (host, path) in [("kept", "/"), (&format!("u{n}"), "/"), (&format!("u{n}"), "/pay")] {
                assert_eq!(get(&bench, host, path).await.status, 200);
            }
            settle().await;
            assert!(series(&bench, &format!("u{n}")) > 40);
            sizes.push(bench.shared.metrics.text().lines().count());
            bench.reload(&config(n + 1)).await;
            settle().await;
            assert_eq!(series(&bench, &format!("u{n}")), 0, "generation {n}");
        }
        assert!(sizes[1..].iter().all(|size| *size == sizes[1]), "{sizes:?}");
        assert_eq!(requests(&bench, "upstream=\"kept\""), 20.0, "no counter has restarted");
        assert_eq!(requests(&bench, ""), 20.0);
    });
}

#[test]
fn the_series_of_a_route_end_with_it() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, &upstream("backend", A)).await;
        for path in ["/pay", "/"] {
            assert_eq!(bench.get(path).await.status, 200);
        }
        settle().await;
        let of_pay = || requests(&bench, "route=\"pay\"");
        assert_eq!(of_pay(), 1.0);
        bench.reload(upstream("backend", A).split("[[").next().expect("the upstream")).await;
        settle().await;
        bench.shared.metrics.remove_unheld();
        assert_eq!(of_pay(), 0.0);
        assert!(!bench.shared.metrics.text().contains("route=\"pay\""));
        assert_eq!(requests(&bench, "route=\"default\""), 1.0);
        assert_eq!(
            bench.metric("outrigger_attempts_total", &[]),
            2.0,
            "the upstream's own series are those of both routes"
        );
    });
}

#[test]
fn a_request_under_way_keeps_the_series_of_its_upstream_until_it_is_counted() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            pass(seconds(5)).await;
            peer.say(OK).await;
        });
        net.responds(B, &[OK]);
        let bench = Bench::new(&net, &upstream("old", A)).await;
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: old\r\n\r\n").await;
        settle().await;
        bench.reload(&upstream("new", B)).await;
        assert_eq!(get(&bench, "new", "/").await.status, 200);
        assert!(series(&bench, "old") > 0, "it is under way");
        bench.reload(&upstream("newer", B)).await;
        bench.reload(&format!("{}{}", upstream("newer", B), upstream("old", A))).await;
        assert_eq!(client.response().await.expect("a response").status, 200);
        settle().await;
        let counted = || requests(&bench, "upstream=\"old\"");
        assert_eq!(counted(), 1.0, "the name is back, and its count goes on");
        assert_eq!(get(&bench, "old", "/").await.status, 200);
        settle().await;
        assert_eq!(counted(), 2.0);
        bench.reload(&upstream("newer", B)).await;
        settle().await;
        assert_eq!(series(&bench, "old"), 0);
        pass(seconds(2)).await;
        assert_eq!(
            (series(&bench, "old"), bench.shared.workers[0].ended.load(Relaxed)),
            (0, 3),
            "nothing makes them anew"
        );
    });
}

#[test]
fn a_refusal_without_an_upstream_has_a_series_that_no_reload_ends() {
    paused(async {
        let bench = Bench::new(&Net::default(), &upstream("a", A)).await;
        assert_eq!(bench.get("http://elsewhere/").await.status, 421);
        bench.reload(&upstream("b", A)).await;
        settle().await;
        bench.shared.metrics.remove_unheld();
        assert_eq!(requests(&bench, "upstream=\"\""), 1.0);
    });
}
