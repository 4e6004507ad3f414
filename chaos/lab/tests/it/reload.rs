//! Another configuration while requests go on.

use std::fs;
use std::os::unix::fs::symlink;

use lab::http;
use lab::process::Signal;
use lab::programs::Proxy;
use report::run::Report;

use crate::stage::{Dead, Folder, Site, WAIT_MAX, check_none, config, programs, start_client, wait_until};

const FOUR: &str = "[upstreams.backend.retry]\nmax_attempts = 4\n";

fn max_attempts(proxy: &Proxy) -> u32 {
    proxy.status().expect("the admin port responds").upstreams[0].routes[0].max_attempts
}

#[test]
fn sighup_reloads_even_a_file_that_looks_the_same() {
    let mut site = Site::new(&[], "");
    site.proxy.process.signal(Signal::HUP);
    site.wait_for_generation(2);
    assert_eq!(site.get().status, 200);
    assert_eq!(site.count("outrigger_config_reloads_total", &[("result", "accepted")]), 1);
    assert_eq!(site.count("outrigger_config_generation", &[]), 2);
}

#[test]
fn a_file_that_is_renamed_into_place_is_noticed() {
    let site = Site::new(&[], "");
    let next = site.folder.write("next.toml", &config(&format!("\"{}\"", site.backend.data), FOUR));
    fs::rename(next, site.folder.file("config.toml")).expect("one file system");
    site.wait_for_generation(2);
    assert_eq!(max_attempts(&site.proxy), 4);
    assert_eq!(site.get().status, 200);
}

#[test]
fn the_swap_of_a_config_map_is_noticed() {
    let (programs, folder) = (programs(), Folder::new());
    let backend = programs.backend(&[]).unwrap_or_else(|error| panic!("{error}"));
    let endpoint = format!("\"{}\"", backend.data);
    // As the kubelet does it: config.toml → ..data/config.toml, ..data → a folder of the moment; only ..data is ever swapped.
    for (moment, policies) in [("..first", ""), ("..second", FOUR)] {
        fs::create_dir(folder.file(moment)).expect("a folder");
        folder.write(&format!("{moment}/config.toml"), &config(&endpoint, policies));
    }
    symlink("..first", folder.file("..data")).expect("a link");
    symlink("..data/config.toml", folder.file("config.toml")).expect("a link");
    let proxy = programs.proxy(&folder.file("config.toml")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(max_attempts(&proxy), 3);

    symlink("..second", folder.file("..data_tmp")).expect("a link");
    fs::rename(folder.file("..data_tmp"), folder.file("..data")).expect("one file system");
    wait_until("the new configuration", || max_attempts(&proxy) == 4);
}

#[test]
fn an_invalid_file_changes_nothing_but_a_metric_and_a_log_line() {
    let mut site = Site::new(&[], FOUR);
    site.rewrite("[upstreams.backend.retry]\nmax_attempts = 0\nattemps = 3\n");
    site.proxy.process.signal(Signal::HUP);
    wait_until("a log line", || site.proxy.log().iter().any(|line| line.message == "config rejected"));

    let log = site.proxy.log();
    let rejected = log.iter().find(|line| line.message == "config rejected").expect("just seen");
    let faults = rejected.text("faults");
    assert!(faults.contains("max_attempts") && faults.contains("attemps"), "{faults}");
    let metrics = site.proxy.metrics().expect("the admin port responds");
    assert_eq!(metrics.count("outrigger_config_reloads_total", &[("result", "rejected")]), 1);
    check_none(&site.proxy, "outrigger_config_last_reload_successful", &[]);
    let status = site.proxy.status().expect("the admin port responds");
    assert_eq!((status.generation, max_attempts(&site.proxy), site.get().status), (1, 4, 200));
}

#[test]
fn a_hundred_reloads_under_load_fail_nothing_and_lose_no_breaker() {
    let nobody = Dead::new();
    let policies = format!(
        "[upstreams.dead]\nendpoints = [\"{}\"]\nretry = {{ max_attempts = 1 }}\n\
         [upstreams.dead.endpoint_breaker]\nconsecutive_failures = 3\nopen_base = \"1h\"\nopen_cap = \"1h\"\n",
        nobody.address()
    );
    let mut site = Site::new(&[], &policies);
    let dead = |site: &Site| http::ask(site.proxy.app, "GET", "/", &[("host", "dead")], "").expect("a response").status;
    wait_until("an open breaker", || dead(&site) == 503);
    let moves = site.count("outrigger_breaker_transitions_total", &[]);

    let json = site.folder.file("client.json");
    let mut client = start_client(&site.programs, &site.proxy, &json, &["--rate", "200", "--duration", "1m"]);
    for generation in 2..=101 {
        site.proxy.process.signal(Signal::HUP);
        site.wait_for_generation(generation);
    }
    client.signal(Signal::INT);
    client.wait(WAIT_MAX).unwrap_or_else(|error| panic!("{error}"));
    let counts = Report::read(&json).expect("a report").counts;
    assert!(counts.requests > 50 && counts.succeeded == counts.requests, "{counts:?}");
    assert_eq!(site.count("outrigger_config_reloads_total", &[("result", "accepted")]), 100);
    assert_eq!((dead(&site), site.count("outrigger_breaker_transitions_total", &[])), (503, moves));
    let connects = site.count("outrigger_connects_total", &[("upstream", "dead")]);
    assert_eq!(connects, 3, "the breaker has let nothing through");
}

#[test]
fn an_upstream_that_gets_other_names_under_load_fails_nothing_and_leaves_no_series() {
    let mut site = Site::new(&[], "");
    let present = config(&format!("\"{}\"", site.backend.data), "");
    let json = site.folder.file("client.json");
    let mut client = start_client(&site.programs, &site.proxy, &json, &["--rate", "200", "--duration", "1m"]);
    for generation in 2..=41 {
        let name = format!("[upstreams.backend-{generation}]\nhosts = [\"backend\"]");
        site.folder.write("config.toml", &present.replace("[upstreams.backend]", &name));
        site.proxy.process.signal(Signal::HUP);
        site.wait_for_generation(generation);
    }
    let requests = |name: &str| site.count("outrigger_requests_total", &[("upstream", name)]);
    wait_until("requests under the last name", || requests("backend-41") > 0);
    wait_until("the end of the series of the name before", || requests("backend-40") == 0);
    assert_eq!((requests("backend"), requests("backend-2")), (0, 0));
    client.signal(Signal::INT);
    client.wait(WAIT_MAX).unwrap_or_else(|error| panic!("{error}"));
    let counts = Report::read(&json).expect("a report").counts;
    assert!(counts.requests > 50 && counts.succeeded == counts.requests, "{counts:?}");
}

#[test]
fn an_open_breaker_stays_open_through_an_unrelated_reload() {
    let policies =
        "[upstreams.backend.endpoint_breaker]\nconsecutive_failures = 3\nopen_base = \"1h\"\nopen_cap = \"1h\"\n";
    let mut site = Site::new(&[], policies);
    site.backend.process.signal(Signal::KILL);
    site.backend.process.wait(WAIT_MAX).expect("it is dead");
    wait_until("an open breaker", || site.get().status == 503);

    site.rewrite(&format!("{policies}[upstreams.backend.retry]\nmax_attempts = 4\n"));
    site.proxy.process.signal(Signal::HUP);
    site.wait_for_generation(2);
    assert_eq!(max_attempts(&site.proxy), 4);
    let metrics = site.proxy.metrics().expect("the admin port responds");
    assert_eq!(metrics.sum("outrigger_breaker_state", &[("scope", "endpoint")]), 2.0);
    let connects = site.count("outrigger_connects_total", &[]);
    assert_eq!(site.get().status, 503);
    assert_eq!(site.count("outrigger_connects_total", &[]), connects, "nothing was sent");
}
