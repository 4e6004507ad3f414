//! `/metrics` as Prometheus reads it.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use lab::exposition::Samples;
use lab::http;

use crate::stage::{Site, cannot_run};

/// The exposition after a bit of everything: successes, errors, retries, a refusal.
fn text_after_some_traffic() -> String {
    let site = Site::new(&["--error-share", "0.3"], "");
    site.run_client(&["--closed", "--requests", "100", "--connections", "4"]);
    let unknown = http::ask(site.proxy.app, "GET", "http://elsewhere/", &[("host", "elsewhere")], "");
    assert_eq!(unknown.expect("a response").status, 421);
    let response = http::get(site.proxy.admin, "/metrics").expect("a response");
    let kind = response.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
    response.text()
}

#[test]
fn promtool_finds_no_fault() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        return cannot_run("promtool check metrics", "promtool is not installed (Debian: prometheus)");
    };
    let text = text_after_some_traffic();
    let stdin = promtool.stdin.take().expect("it is piped");
    { stdin }.write_all(text.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
}

/// What promtool does not see.
#[test]
fn no_series_is_there_twice_and_every_histogram_ends_with_infinity() {
    let samples = Samples::parse(&text_after_some_traffic()).expect("valid");
    let mut series = HashSet::new();
    for sample in samples.iter() {
        let mut labels = sample.labels.clone();
        labels.sort();
        assert!(series.insert((&sample.name, labels)), "twice: {sample:?}");
    }
    let counts = samples.iter().filter(|sample| sample.name.ends_with("_seconds_count"));
    let mut histograms = 0;
    for count in counts {
        let bucket = count.name.replace("_count", "_bucket");
        let labels: Vec<_> = count.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let infinite = samples.sum(&bucket, &[&labels[..], &[("le", "+Inf")]].concat());
        assert_eq!(infinite, count.value, "{bucket} {labels:?}");
        histograms += 1;
    }
    assert!(histograms >= 2, "requests and attempts have one each, there are {histograms}");
}
