//! Names of endpoints: when they are looked up, and what a name that no server answers holds up.

use std::rc::Rc;

use super::*;
use crate::upstream::names::{POOL_THREADS, Resolver};
use crate::upstream::resolve;

/// glibc's resolver gives up after ten seconds for each name server and search domain.
const GIVES_UP: Duration = Duration::from_secs(30);

/// Endpoints on port 80 of these names, looked up every second.
fn named(names: &[&str]) -> String {
    let endpoints: Vec<String> = names.iter().map(|name| format!("\"{name}:80\"")).collect();
    format!(
        "[upstreams.backend]\nresolve_interval = \"1s\"\nendpoints = [{}]\nretry.max_attempts = 1\n",
        endpoints.join(", ")
    )
}

fn addresses(bench: &Bench) -> Vec<String> {
    let live = bench.shared.live();
    let upstream = live.upstreams().next().expect("one upstream");
    upstream.endpoints.load().iter().map(|endpoint| endpoint.at.address.to_string()).collect()
}

/// How long it takes until the upstream has this one endpoint.
async fn until_at(bench: &Bench, address: &str) -> Duration {
    let started = clock::now();
    while addresses(bench) != [address] {
        assert!(clock::now() - started < seconds(120), "{address} is never found; there is {:?}", addresses(bench));
        pass(Duration::from_millis(10)).await;
    }
    clock::now() - started
}

#[test]
fn a_name_that_no_server_answers_holds_up_no_other_name_of_its_upstream() {
    paused(async {
        let net = Net::default();
        net.name("live.test", &["10.0.0.1"], Duration::from_millis(20));
        for name in ["dead1.test", "dead2.test"] {
            net.silent_name(name, GIVES_UP);
        }
        let started = clock::now();
        let bench = Bench::new(&net, &named(&["dead1.test", "dead2.test", "live.test"])).await;
        assert_eq!(addresses(&bench), [A]);
        assert!(clock::now() - started <= seconds(1) + Duration::from_millis(2), "the start waits no longer");
        for (ip, address) in [("10.0.0.2", B), ("10.0.0.1", A)].repeat(5) {
            net.name("live.test", &[ip], Duration::from_millis(20));
            let took = until_at(&bench, address).await;
            assert!(took < Duration::from_millis(1_100), "{took:?}");
        }
    });
}

#[test]
fn four_hundred_dead_names_leave_a_living_one_its_look_ups() {
    paused(async {
        let net = Net::default();
        let dead: Vec<String> = (0..400).map(|n| format!("dead{n}.test")).collect();
        dead.iter().for_each(|name| net.silent_name(name, GIVES_UP));
        net.name("live.test", &["10.0.0.1"], Duration::from_millis(20));
        let names: Vec<&str> = dead.iter().map(String::as_str).chain(["live.test"]).collect();
        let started = clock::now();
        let bench = Bench::new(&net, &named(&names)).await;
        // As many as may be under way at once hold up the rest for a second.
        let first = until_at(&bench, A).await;
        assert!(first < seconds(7), "{first:?}");
        pass(seconds(7)).await;
        let mut most = 0;
        for (ip, address) in [("10.0.0.2", B), ("10.0.0.1", A)].repeat(20) {
            net.name("live.test", &[ip], Duration::from_millis(20));
            let took = until_at(&bench, address).await;
            assert!(took < Duration::from_millis(1_100), "{took:?}");
            pass(seconds(3)).await;
            if clock::now() - started > GIVES_UP + seconds(10) {
                most = most.max(net.look_ups().0);
            }
        }
        // They have all been slow once. Now they wait for each other.
        assert!((60..=65).contains(&most), "{most} look-ups at once");
    });
}

#[test]
fn a_name_has_one_look_up_under_way_whoever_asks_for_it() {
    paused(async {
        let net = Net::default();
        net.silent_name("dead.test", GIVES_UP);
        let two = |n: usize| {
            format!(
                "default_upstream = \"a{n}\"\n[upstreams.a{n}]\nendpoints = [\"dead.test:80\"]\n[upstreams.b]\nendpoints = [\"dead.test:81\"]\n"
            )
        };
        let bench = Bench::new(&net, &two(0)).await;
        for n in 1..20 {
            assert_eq!(bench.get("/").await.status, 502);
            bench.reload(&two(n)).await;
        }
        assert_eq!(net.look_ups(), (1, 1));
    });
}

#[test]
fn an_answer_counts_however_late_it_comes() {
    paused(async {
        let net = Net::default();
        net.name("slow.test", &["10.0.0.1"], seconds(18));
        let bench = Bench::new(&net, &named(&["slow.test"])).await;
        assert!(addresses(&bench).is_empty());
        let waited = until_at(&bench, A).await;
        assert!((Duration::from_millis(16_900)..Duration::from_millis(17_100)).contains(&waited), "{waited:?}");
        let counted = |result: &str| bench.metric("outrigger_name_lookups_total", &[&format!("result=\"{result}\"")]);
        assert_eq!((counted("failed"), counted("ok")), (1.0, 1.0), "late, and then there");
    });
}

#[test]
fn an_answer_that_comes_just_as_the_start_waits_no_longer_is_not_missed() {
    for millis in 995..1_006 {
        paused(async move {
            let net = Net::default();
            net.name("late.test", &["10.0.0.1"], Duration::from_millis(millis));
            let bench = Bench::new(&net, &named(&["late.test"]).replace("\"1s\"", "\"1h\"")).await;
            let waited = until_at(&bench, A).await;
            assert!(waited <= Duration::from_millis(20), "{millis} ms: {waited:?}");
        });
    }
}

#[test]
fn a_name_that_is_needed_no_more_takes_no_place_from_one_that_is() {
    paused(async {
        let net = Net::default();
        let dead: Vec<String> = (0..400).map(|n| format!("dead{n}.test")).collect();
        dead.iter().for_each(|name| net.silent_name(name, GIVES_UP));
        net.name("live.test", &["10.0.0.1"], Duration::ZERO);
        let names: Vec<&str> = dead.iter().map(String::as_str).collect();
        let bench = Bench::new(&net, &named(&names)).await;
        let started = clock::now();
        bench.reload(&named(&["live.test"])).await;
        until_at(&bench, A).await;
        assert!(clock::now() - started <= Duration::from_millis(1_100), "{:?}", clock::now() - started);
        pass(seconds(2)).await;
        assert!(net.look_ups().1 < 200, "{} look-ups", net.look_ups().1);
    });
}

#[test]
fn a_failed_look_up_takes_no_address_away() {
    paused(async {
        let net = Net::default();
        net.name("live.test", &["10.0.0.1"], Duration::ZERO);
        let bench = Bench::new(&net, &named(&["live.test"])).await;
        for fault in ["silent", "empty"] {
            match fault {
                "silent" => net.silent_name("live.test", Duration::ZERO),
                _ => net.name("live.test", &[], Duration::ZERO),
            }
            pass(seconds(5)).await;
            assert_eq!(addresses(&bench), [A], "{fault}");
        }
        let counted = |result: &str| bench.metric("outrigger_name_lookups_total", &[&format!("result=\"{result}\"")]);
        assert!(counted("failed") >= 9.0 && counted("ok") == 1.0, "{} {}", counted("failed"), counted("ok"));
    });
}

#[test]
fn dead_names_never_have_more_look_ups_than_there_are_places() {
    for places in [8, 32, 128, POOL_THREADS] {
        paused(async move {
            let net = Net::default();
            let resolver = Resolver::new(Box::new(net.clone()), places);
            let mut answers = Vec::new();
            for n in 0..600 {
                let host = format!("dead{n}.test");
                net.silent_name(&host, GIVES_UP);
                answers.push(resolver.look_up(&resolver.name(&host)));
            }
            let mut most = 0;
            for _ in 0..20 {
                pass(seconds(1)).await;
                most = most.max(net.look_ups().0);
            }
            assert!(most <= places && most >= places / 2, "{most} of {places}");
        });
    }
}

#[test]
fn a_look_up_that_fails_again_and_again_is_news_once_until_it_changes() {
    let mut said = Ok(());
    for (answer, is_news) in
        [(Ok(()), false), (Err("a"), true), (Err("a"), false), (Err("b"), true), (Ok(()), false), (Err("b"), true)]
    {
        assert_eq!(resolve::is_news(&mut said, &answer.map_err(Into::into)), is_news, "{answer:?}");
    }
}

#[test]
fn names_that_are_needed_no_more_are_forgotten() {
    paused(async {
        let resolver = Resolver::new(Box::new(Net::default()), 8);
        let kept = resolver.name("kept.test");
        let gone = resolver.name("gone.test");
        let under_way = resolver.name("under-way.test");
        let answer = resolver.look_up(&under_way);
        resolver.keep_only(&["kept.test"].into());
        assert!(Rc::ptr_eq(&kept, &resolver.name("kept.test")));
        assert!(!Rc::ptr_eq(&gone, &resolver.name("gone.test")));
        assert!(Rc::ptr_eq(&under_way, &resolver.name("under-way.test")), "or there could be a second look-up of it");
        assert!(answer.await.is_err());
    });
}
