//! The control port: faults that change while requests come, counts, refusals.

use serde_json::json;

use crate::wire::{Broken, Wire, ask, start};

#[tokio::test]
async fn faults_are_put_read_and_deleted() {
    let backend = start("{}").await;
    let (data, control) = (backend.data_address(), backend.control_address());

    let put = ask(control, "PUT /faults", r#"{"errors":{"share":1,"statuses":[503]}}"#).await.expect("a response");
    assert_eq!((put.status, put.header("content-type")), (200, Some("application/json")));
    assert_eq!(put.json()["errors"], json!({"share": 1.0, "statuses": [503], "retry_after": null}));
    assert_eq!(put.json()["slow_body"], json!({"share": 0.0, "over_ms": 1000}));
    assert_eq!(ask(control, "GET /faults", "").await.expect("a response").json(), put.json());
    assert_eq!(ask(data, "GET /", "").await.expect("a response").status, 503);

    ask(control, "PUT /faults", r#"{"reset_before":{"share":1}}"#).await.expect("a response");
    assert_eq!(ask(data, "GET /", "").await.expect_err("no response"), Broken::Reset);

    let deleted = ask(control, "DELETE /faults", "").await.expect("a response");
    assert_eq!(deleted.json()["reset_before"], json!({"share": 0.0}));
    assert_eq!(ask(data, "GET /", "").await.expect("a response").status, 200);
}

#[tokio::test]
async fn new_faults_do_not_touch_the_generator_unless_they_bring_a_seed() {
    let faults = r#"{"errors":{"share":0.5}}"#;
    let backend = start(faults).await;
    let control = backend.control_address();
    let statuses = async || {
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(ask(backend.data_address(), "GET /", "").await.expect("a response").status);
        }
        statuses
    };
    let first = statuses().await;
    ask(control, "PUT /faults", faults).await.expect("a response");
    assert_ne!(statuses().await, first);
    ask(control, "PUT /faults?seed=1", faults).await.expect("a response");
    assert_eq!(statuses().await, first);
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_message_and_change_nothing() {
    let backend = start(r#"{"truncate":{"share":0.25}}"#).await;
    let control = backend.control_address();
    let rows = [
        ("PUT /faults", "{", 400, "faults: EOF while parsing an object at line 1 column 1"),
        ("PUT /faults", r#"{"hangs":{}}"#, 400, "faults: unknown field `hangs`, expected one of"),
        ("PUT /faults", r#"{"hang":{"share":7}}"#, 400, "hang.share: 7 is not between 0 and 1"),
        ("PUT /faults?seed=x", "{}", 400, r#"query: seed: "x" is not a whole number"#),
        ("PUT /faults?sed=7", "{}", 400, "query: sed: unknown key"),
        ("GET /received?ids=no", "", 400, r#"query: ids: "no" is not true or false"#),
        ("POST /faults", "{}", 405, "POST /faults: method not allowed, allowed are GET, PUT, DELETE"),
        ("PUT /received", "", 405, "PUT /received: method not allowed, allowed are GET, DELETE"),
        ("GET /fault", "", 404, "/fault: no such path, there are /faults, /received and /livez"),
    ];
    for (request, body, status, expected) in rows {
        let response = ask(control, request, body).await.expect("a response");
        assert_eq!(response.status, status, "{request}");
        let message = response.json()["error"].as_str().expect("a message").to_owned();
        assert!(message.contains(expected), "{request} gave: {message}");
    }
    let huge = " ".repeat(70_000);
    let response = ask(control, "PUT /faults", &huge).await.expect("a response");
    assert_eq!(response.json()["error"], "body: cut off, or larger than 65536 bytes");
    let faults = ask(control, "GET /faults", "").await.expect("a response").json();
    assert_eq!(faults["truncate"]["share"], 0.25);
}

#[tokio::test]
async fn requests_are_counted_by_method_fate_and_id() {
    let backend = start("{}").await;
    let control = backend.control_address();
    let mut wire = Wire::to(backend.data_address()).await;
    for (method, id) in [("GET", "a"), ("GET", "b"), ("POST", "a"), ("GET", "a")] {
        wire.send(&format!("{method} / HTTP/1.1\r\nhost: backend\r\nx-request-id: {id}\r\n\r\n")).await;
        wire.response().await.expect("a response");
    }
    let mut expected = json!({
        "requests": 4, "connections": 1, "in_flight": 0,
        "by_method": {"GET": 3, "POST": 1},
        "by_fate": {"answered": 4, "error": 0, "hang": 0, "slow_body": 0, "reset_before": 0,
            "reset_during": 0, "truncate": 0},
        "ids_dropped": 0,
        "ids": {"a": 3, "b": 1},
    });
    let received =
        async |query: &str| ask(control, &format!("GET /received{query}"), "").await.expect("a response").json();
    assert_eq!(received("").await, expected);
    expected["ids"] = json!({"a": 3});
    assert_eq!(received("?repeated=true").await, expected);
    expected.as_object_mut().expect("an object").remove("ids");
    assert_eq!(received("?ids=false").await, expected);

    let zero = ask(control, "DELETE /received", "").await.expect("a response").json();
    assert_eq!((&zero["requests"], &zero["connections"], &zero["ids"]), (&json!(0), &json!(0), &json!({})));
    wire.send("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
    let response = wire.response().await.expect("a response");
    assert_eq!(response.header("x-backend-seq"), Some("5"), "the arrival number goes on");
    assert_eq!(received("").await["requests"], 1);
}

#[tokio::test]
async fn livez_says_ok() {
    let backend = start(r#"{"hang":{"share":1}}"#).await;
    let response = ask(backend.control_address(), "GET /livez", "").await.expect("a response");
    assert_eq!((response.status, response.body.as_str()), (200, "ok\n"));
}
