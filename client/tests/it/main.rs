//! The client as a process against raw servers on loopback, each misbehaving in one way.

mod server;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use report::run::{Failure, Report};
use server::{Reply, Server};

/// Where a test writes; named after it, so that tests do not meet.
fn scratch(test: &str, file: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder).expect("a folder to write to");
    folder.join(file)
}

fn client() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
    // What the machine's environment says about proxies is not meant for loopback.
    command.env_remove("http_proxy");
    command
}

/// What a run left behind.
struct Run {
    report: Report,
    /// The fields of each line, in the order of n.
    rows: Vec<Vec<String>>,
    output: Output,
}

fn run(test: &str, url: &str, args: &[&str]) -> Run {
    let (json, csv) = (scratch(test, "run.json"), scratch(test, "run.csv"));
    let mut command = client();
    command.args(["run", url, "--quiet"]).args(args).arg("--json").arg(&json).arg("--csv").arg(&csv);
    let output = command.output().expect("the client starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&csv).expect("a CSV file");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("n,id,due_unix_ms,latency_ms,status,error"));
    let mut rows: Vec<Vec<String>> = lines.map(|line| line.split(',').map(str::to_owned).collect()).collect();
    rows.sort_by_key(|row| row[0].parse::<u64>().expect("a number"));
    Run { report: Report::read(&json).expect("a report"), rows, output }
}

#[test]
fn each_way_to_fail_has_its_name() {
    let check = |name: &str, url: &str, expected: Failure, status: &str| {
        let run = run(name, url, &["--closed", "--connections", "1", "--requests", "3", "--timeout", "1s"]);
        let errors = &run.report.counts.errors;
        assert_eq!(errors.get(&expected), Some(&3), "{name}: {:?}", run.report.counts);
        assert_eq!((errors.len(), run.rows.len()), (1, 3), "{name}");
        assert!(run.rows.iter().all(|row| row[5] == expected.name()), "{name}: {:?}", run.rows);
        assert!(run.rows.iter().all(|row| row[4] == status), "{name}: {:?}", run.rows);
    };
    let refuses = server::refuses();
    check("refuses", &refuses.url(), Failure::Refused, "");
    let misbehave = |reply: Reply| Server::start(move |_| reply);
    check("resets", &misbehave(Reply::Reset).url(), Failure::Reset, "");
    check("closes", &misbehave(Reply::Close).url(), Failure::Closed, "");
    check("hangs", &misbehave(Reply::Hang).url(), Failure::Timeout, "");
    check("talks nonsense", &misbehave(Reply::Nonsense).url(), Failure::Protocol, "");
    check("truncates", &misbehave(Reply::Truncate).url(), Failure::Truncated, "200");
    check("truncates chunks", &misbehave(Reply::TruncateChunks).url(), Failure::Truncated, "200");
}

#[test]
fn a_connection_reset_within_the_response_is_a_reset() {
    let server = Server::start(|_| Reply::ResetDuring);
    let run = run("resets_during", &server.url(), &["--requests", "2", "--closed", "--connections", "1"]);
    assert_eq!(run.report.counts.errors.get(&Failure::Reset), Some(&2), "{:?}", run.report.counts);
}

#[test]
fn what_waits_behind_a_stall_shows_the_stall() {
    const STALL: Duration = Duration::from_millis(400);
    let server = Server::start(|n| if n == 0 { Reply::OkAfter(STALL) } else { Reply::Ok });
    let run = run("stalls", &server.url(), &["--rate", "100", "--connections", "1", "--requests", "20"]);
    assert_eq!(run.report.counts.succeeded, 20);
    assert_eq!(run.rows.len(), 20);
    for (n, row) in (0_u32..).zip(&run.rows) {
        let latency: f64 = row[3].parse().expect("a number");
        // Request n was due 10 n ms after the first and could not be sent before the stall was over.
        let waited = STALL.saturating_sub(Duration::from_millis(10) * n);
        assert!(latency >= waited.as_secs_f64() * 1_000.0, "request {n}: {latency} ms");
    }
}

#[test]
fn what_finds_the_queue_full_is_counted_and_not_sent() {
    let server = Server::start(|_| Reply::Hang);
    let args = ["--rate", "200", "--connections", "1", "--queue", "1", "--requests", "10", "--timeout", "1s"];
    let run = run("overload", &server.url(), &args);
    let errors = &run.report.counts.errors;
    let (overload, timeout) = (errors[&Failure::Overload], errors[&Failure::Timeout]);
    // One under way and one waiting; if the first was taken late, it was also the one waiting.
    assert!((8..=9).contains(&overload) && overload + timeout == 10, "{errors:?}");
    assert!(server.requests().len() as u64 <= timeout);
    assert_eq!(run.rows.len(), 10);
    assert!(run.rows.iter().all(|row| (row[5] == "overload") == row[3].is_empty()), "{:?}", run.rows);
}

#[test]
fn through_a_proxy_the_request_line_has_the_whole_url() {
    let proxy = Server::start(|_| Reply::Ok);
    let args =
        ["--proxy", &proxy.url(), "--requests", "1", "--header", "x-a: b", "--method", "POST", "--body", "hello"];
    let run = run("proxy", "http://backend.test:81/x?y=1", &args);
    let head = proxy.requests().concat();
    assert!(head.starts_with("POST http://backend.test:81/x?y=1 HTTP/1.1\r\n"), "{head}");
    for header in ["host: backend.test:81\r\n", "x-a: b\r\n", "content-length: 5\r\n"] {
        assert!(head.contains(header), "{header}: {head}");
    }
    assert_eq!(run.report.setting.via.as_deref(), Some(proxy.url().as_str()));
}

#[test]
fn the_environment_names_a_proxy_and_an_empty_name_is_none() {
    let (proxy, direct) = (Server::start(|_| Reply::Ok), Server::start(|_| Reply::Ok));
    for (named, expected) in [(proxy.url(), (1, 0)), (String::new(), (1, 1))] {
        let output = client().env("http_proxy", named).args(["run", &direct.url(), "--requests", "1"]).output();
        assert!(output.expect("the client starts").status.success());
        assert_eq!((proxy.requests().len(), direct.requests().len()), expected);
    }
    assert!(direct.requests()[0].starts_with("GET / HTTP/1.1\r\n"));
}

#[test]
fn each_id_is_sent_once_whatever_becomes_of_it() {
    let server = Server::start(|n| match n % 4 {
        0 => Reply::Close,
        1 => Reply::Reset,
        2 => Reply::OkAndClose,
        _ => Reply::Ok,
    });
    let run = run("ids", &server.url(), &["--closed", "--connections", "4", "--requests", "200", "--id-prefix", "t"]);
    let sent: Vec<String> = server.requests().iter().filter_map(|head| server::header(head, "x-request-id")).collect();
    let distinct: BTreeSet<&String> = sent.iter().collect();
    assert_eq!(distinct.len(), sent.len(), "an id was sent twice");
    assert_eq!(run.report.counts.requests, 200);
    let ids: BTreeSet<String> = run.rows.iter().map(|row| row[1].clone()).collect();
    assert_eq!(ids, (0..200).map(|n| format!("t-{n}")).collect());
    assert!(distinct.iter().all(|id| ids.contains(*id)));
    // A request may die with a connection that the server was just closing; every response belongs to one that was sent.
    let answered = run.rows.iter().filter(|row| !row[4].is_empty());
    assert!(answered.clone().count() >= 90 && answered.into_iter().all(|row| distinct.contains(&row[1])));
}

#[test]
fn a_connection_that_the_response_closes_is_replaced() {
    let server = Server::start(|_| Reply::OkAndClose);
    let run = run("replaces", &server.url(), &["--closed", "--connections", "1", "--requests", "20"]);
    assert_eq!((run.report.counts.succeeded, server.connections()), (20, 20));
}

#[test]
fn a_connection_that_stays_open_is_used_again() {
    let server = Server::start(|_| Reply::Ok);
    let run = run("reuses", &server.url(), &["--closed", "--connections", "1", "--requests", "20"]);
    assert_eq!((run.report.counts.succeeded, server.connections()), (20, 1));
    let table = String::from_utf8(run.output.stdout).expect("text");
    assert!(table.contains("succeeded   20 (100 %)"), "{table}");
}

#[test]
fn sigterm_ends_an_endless_run_with_its_report() {
    let server = Server::start(|_| Reply::Ok);
    let json = scratch("forever", "run.json");
    let mut command = client();
    command.args(["run", &server.url(), "--forever", "--rate", "20", "--json"]).arg(&json);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the client starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line each second");
    assert!(line.contains("100 % ok"), "{line}");
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(kill.success());
    let table: Vec<String> = stdout.lines().collect::<Result<_, _>>().expect("text");
    assert!(child.wait().expect("it ends").success());
    assert!(table.iter().any(|line| line.starts_with("succeeded")), "{table:?}");
    let report = Report::read(&json).expect("a report");
    assert_eq!(report.counts.requests, server.requests().len() as u64);
}

#[test]
fn reports_of_two_runs_make_one_page() {
    let server = Server::start(|n| if n % 3 == 0 { Reply::Unavailable } else { Reply::Ok });
    let run = run("compare", &server.url(), &["--requests", "9", "--rate", "500"]);
    assert_eq!(run.report.counts.statuses.get(&503), Some(&3));
    assert_eq!(run.report.attempts_by_proxy.get(&3), Some(&3));
    let (json, html) = (scratch("compare", "run.json"), scratch("compare", "both.html"));
    let output = client().arg("compare").args([&json, &json]).arg("--html").arg(&html).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.contains("66.66 %"), "{table}");
    let page = std::fs::read_to_string(html).expect("a page");
    assert!(page.contains("Two runs compared") && page.contains("Run B: outcomes over time"));
}

#[test]
fn wrong_usage_is_2_and_what_cannot_run_is_1() {
    let check = |args: &[&str], code: i32, expected: &str| {
        let output = client().args(args).output().expect("the client starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    };
    check(&["run", "ftp://host/"], 2, "must begin with http://");
    check(&["run", "--json", "/does/not/exist.json"], 1, "/does/not/exist.json");
    check(&["compare", "/does/not/a.json", "/does/not/b.json"], 1, "/does/not/a.json");
}
