//! The data port: every fate as the client sees it, and what is counted of it.

use std::collections::BTreeMap;
use std::time::Duration;

use backend::received::IdFilter;
use tokio::time::Instant;

use crate::wire::{Broken, MESSAGE, Wire, ask, start, until};

const GET: &str = "GET / HTTP/1.1\r\nhost: backend\r\n\r\n";

#[tokio::test]
async fn every_method_and_path_gets_the_message() {
    let backend = start("{}").await;
    for request in ["GET /", "POST /orders", "PUT /a/b?c=d", "DELETE /x", "OPTIONS *", "BREW /pot"] {
        let response = ask(backend.data_address(), request, "some body").await.expect("a response");
        assert_eq!((response.status, response.body.as_str()), (200, MESSAGE), "{request}");
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
    let head = ask(backend.data_address(), "HEAD /", "").await.expect("a response");
    assert_eq!(head.header("content-length"), Some("36"));
}

#[tokio::test]
async fn good_responses_and_errors_keep_the_connection() {
    let backend = start(r#"{"errors":{"share":0.5,"statuses":[503],"retry_after":"2"}}"#).await;
    let mut wire = Wire::to(backend.data_address()).await;
    let mut seen = BTreeMap::new();
    for n in 1..=50 {
        wire.send(GET).await;
        let response = wire.response().await.expect("a response");
        assert_eq!(response.header("x-backend-seq"), Some(n.to_string().as_str()));
        assert_eq!(response.header("retry-after"), (response.status == 503).then_some("2"));
        *seen.entry(response.status).or_insert(0) += 1;
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [200, 503]);
    let report = backend.received(IdFilter::Omit);
    assert_eq!((report.connections, report.requests, report.by_fate["error"]), (1, 50, seen[&503]));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = start("{}").await;
    let mut wire = Wire::to(backend.data_address()).await;
    wire.send(&GET.repeat(3)).await;
    for n in ["1", "2", "3"] {
        assert_eq!(wire.response().await.expect("a response").header("x-backend-seq"), Some(n));
    }
}

#[tokio::test]
async fn a_request_is_counted_before_its_body_and_answered_after_it() {
    let backend = start("{}").await;
    let mut wire = Wire::to(backend.data_address()).await;
    wire.send("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 4\r\n\r\nha").await;
    until(&backend, "the head is counted", |report| report.requests == 1).await;
    assert!(wire.is_silent().await);
    wire.send("lf").await;
    assert_eq!(wire.response().await.expect("a response").body, MESSAGE);
}

#[tokio::test]
async fn latency_and_tail_are_waited_out() {
    let backend = start(r#"{"latency":{"kind":"fixed","ms":30},"slow":{"share":1,"by_ms":40}}"#).await;
    let started = Instant::now();
    ask(backend.data_address(), "GET /", "").await.expect("a response");
    assert!(started.elapsed() >= Duration::from_millis(70));
}

#[tokio::test]
async fn a_hanging_request_stays_open_until_its_client_leaves() {
    let backend = start(r#"{"hang":{"share":1}}"#).await;
    let mut wire = Wire::to(backend.data_address()).await;
    wire.send(GET).await;
    until(&backend, "it hangs", |report| report.by_fate["hang"] == 1).await;
    assert!(wire.is_silent().await);
    assert_eq!(backend.received(IdFilter::Omit).in_flight, 1);
    drop(wire);
    until(&backend, "it is over", |report| report.in_flight == 0).await;
}

#[tokio::test]
async fn a_reset_before_the_response_is_a_reset_and_no_byte() {
    let backend = start(r#"{"reset_before":{"share":1}}"#).await;
    let response = ask(backend.data_address(), "POST /", "read to its end").await;
    assert_eq!(response.expect_err("no response"), Broken::Reset);
    assert_eq!(backend.received(IdFilter::Omit).by_fate["reset_before"], 1);
}

#[tokio::test]
async fn a_reset_during_the_response_comes_after_half_of_the_body() {
    let backend = start(r#"{"reset_during":{"share":1}}"#).await;
    for _ in 0..50 {
        let response = ask(backend.data_address(), "GET /", "").await.expect("a head");
        assert_eq!((response.status, response.header("content-length")), (200, Some("36")));
        assert_eq!((response.body.as_str(), response.broken_by), (&MESSAGE[..18], Some(Broken::Reset)));
    }
}

#[tokio::test]
async fn a_truncated_response_ends_cleanly_after_half_of_the_body() {
    let backend = start(r#"{"truncate":{"share":1}}"#).await;
    let response = ask(backend.data_address(), "GET /", "").await.expect("a head");
    assert_eq!((response.status, response.header("content-length")), (200, Some("36")));
    assert_eq!(response.header("x-backend-seq"), Some("1"));
    assert_eq!((response.body.as_str(), response.broken_by), (&MESSAGE[..18], Some(Broken::Eof)));
}

/// Bytes that nobody has read turn a close into a reset; pipelined requests leave such bytes.
#[tokio::test]
async fn a_truncated_response_ends_cleanly_even_with_more_requests_behind_it() {
    let backend = start(r#"{"truncate":{"share":1}}"#).await;
    let mut wire = Wire::to(backend.data_address()).await;
    wire.send(&GET.repeat(1000)).await;
    let response = wire.response().await.expect("a head");
    assert_eq!(response.broken_by, Some(Broken::Eof));
    assert!(wire.is_unharmed());
    assert_eq!(backend.received(IdFilter::Omit).requests, 1);
}

#[tokio::test]
async fn a_cut_leaves_the_responses_before_it_whole() {
    for (fate, broken) in [("truncate", Broken::Eof), ("reset_during", Broken::Reset)] {
        let backend = start("{}").await;
        let mut wire = Wire::to(backend.data_address()).await;
        wire.send(GET).await;
        assert_eq!(wire.response().await.expect("a response").body, MESSAGE);
        let plan = backend::Plan::from_json(format!(r#"{{"{fate}":{{"share":1}}}}"#).as_bytes());
        backend.set_plan(plan.expect("the test's faults are valid"), None);
        wire.send(GET).await;
        assert_eq!(wire.response().await.expect("a head").broken_by, Some(broken), "{fate}");
    }
}

#[tokio::test]
async fn a_cut_response_to_head_has_no_body() {
    let backend = start(r#"{"truncate":{"share":1}}"#).await;
    let mut wire = Wire::to(backend.data_address()).await;
    wire.send("HEAD / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
    let response = wire.response_to("HEAD").await.expect("a head");
    assert_eq!(response.header("content-length"), Some("36"));
    assert_eq!(wire.end().await, Broken::Eof);
}

#[tokio::test]
async fn a_slow_body_takes_its_time_comes_whole_and_keeps_the_connection() {
    let backend = start(r#"{"slow_body":{"share":1,"over_ms":200}}"#).await;
    let mut wire = Wire::to(backend.data_address()).await;
    for _ in 0..2 {
        let started = Instant::now();
        wire.send(GET).await;
        let response = wire.response().await.expect("a response");
        assert_eq!((response.body.as_str(), response.broken_by), (MESSAGE, None));
        // The gaps are whole nanoseconds and may miss a few of them in sum.
        assert!(started.elapsed() >= Duration::from_millis(199), "{:?}", started.elapsed());
    }
    until(&backend, "both are over", |report| report.in_flight == 0).await;
    assert_eq!(backend.received(IdFilter::Omit).connections, 1);
}

#[tokio::test]
async fn a_slow_body_counts_as_in_flight_while_it_drips() {
    let backend = start(r#"{"slow_body":{"share":1,"over_ms":3600000}}"#).await;
    let mut wire = Wire::to(backend.data_address()).await;
    wire.send(GET).await;
    let head = wire.head().await.expect("a head comes before the first piece");
    assert!(head.contains("content-length: 36"), "{head}");
    assert_eq!(backend.received(IdFilter::Omit).in_flight, 1);
    drop(wire);
    until(&backend, "it is over", |report| report.in_flight == 0).await;
}

#[tokio::test]
async fn dropping_the_backend_ends_its_connections() {
    let backend = start(r#"{"hang":{"share":1}}"#).await;
    let mut wire = Wire::to(backend.data_address()).await;
    wire.send(GET).await;
    until(&backend, "it hangs", |report| report.in_flight == 1).await;
    drop(backend);
    assert_eq!(wire.end().await, Broken::Eof);
}
