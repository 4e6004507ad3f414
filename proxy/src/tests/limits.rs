//! The limits on the size of messages, from both sides.

use super::*;

const CHUNKED: &str = "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";

/// Sends `request`; the status of the response, if it came whole.
async fn ask(bench: &Bench, request: &str) -> Option<u16> {
    let mut client = bench.connect();
    client.say(request).await;
    client.response().await.map(|seen| seen.status)
}

#[test]
fn a_request_may_be_as_large_as_the_configuration_says() {
    paused(async {
        let long = "x".repeat(2_000);
        let fields = "a: b\r\n".repeat(6);
        let rows = [
            ("request_line_bytes_max = \"1KiB\"", format!("GET /{long} HTTP/1.1\r\nhost: backend\r\n\r\n"), 414),
            ("header_bytes_max = \"1KiB\"", format!("GET / HTTP/1.1\r\nhost: backend\r\nx: {long}\r\n\r\n"), 431),
            ("headers_max = 5", format!("GET / HTTP/1.1\r\nhost: backend\r\n{fields}\r\n"), 431),
            (
                "trailer_bytes_max = \"1KiB\"",
                format!("POST / HTTP/1.1\r\nhost: backend\r\n{CHUNKED}0\r\nx: {long}\r\n\r\n"),
                400,
            ),
            ("trailers_max = 5", format!("POST / HTTP/1.1\r\nhost: backend\r\n{CHUNKED}0\r\n{fields}\r\n"), 400),
            (
                "chunk_extension_bytes_max = \"1KiB\"",
                format!("POST / HTTP/1.1\r\nhost: backend\r\n{CHUNKED}2;{long}\r\nho\r\n0\r\n\r\n"),
                400,
            ),
        ];
        for (limit, request, status) in rows {
            let net = Net::default();
            net.raw_requests(A, "\r\n\r\n", &[OK]);
            let bench = Bench::new(&net, ONE).await;
            assert_eq!(ask(&bench, &request).await, Some(200), "the default allows what {limit} does not");
            let bench = Bench::new(&net, &format!("listen.{limit}\n{ONE}")).await;
            assert_eq!(ask(&bench, &request).await, Some(status), "{limit}");
            assert_eq!(bench.metric("outrigger_breaker_transitions_total", &[]), 0.0);
        }
    });
}

#[test]
fn a_response_may_be_as_large_as_the_configuration_says_and_a_reload_counts_from_the_next_request() {
    paused(async {
        let long = "x".repeat(2_000);
        let fields = "a: b\r\n".repeat(6);
        let ok = "HTTP/1.1 200 OK\r\n";
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(3);
        let rows = [
            (
                "head_bytes_max = \"8KiB\"",
                format!("{ok}{}content-length: 0\r\n\r\n", format!("a: {long}\r\n").repeat(5)),
                Some(502),
            ),
            ("header_bytes_max = \"1KiB\"", format!("{ok}x: {long}\r\ncontent-length: 0\r\n\r\n"), Some(502)),
            ("header_bytes_max = \"1KiB\"", format!("HTTP/1.1 200 {long}\r\ncontent-length: 0\r\n\r\n"), Some(502)),
            ("headers_max = 5", format!("{ok}{fields}content-length: 0\r\n\r\n"), Some(502)),
            ("informational_max = 2", format!("{hints}{OK}"), Some(502)),
            ("trailer_bytes_max = \"1KiB\"", format!("{ok}{CHUNKED}0\r\nx: {long}\r\n\r\n"), None),
            ("trailers_max = 5", format!("{ok}{CHUNKED}0\r\n{fields}\r\n"), None),
            ("chunk_extension_bytes_max = \"1KiB\"", format!("{ok}{CHUNKED}2;{long}\r\nho\r\n0\r\n\r\n"), None),
        ];
        for (limit, response, status) in rows {
            // An HTTP/1.0 client gets no informational responses, but it cannot see where a chunked response ends.
            let version = if response.starts_with(&hints) { "0" } else { "1" };
            let request = &format!("GET / HTTP/1.{version}\r\nhost: backend\r\n\r\n");
            let net = Net::default();
            net.responds(A, &[&response]);
            let bench = Bench::new(&net, ONE).await;
            assert_eq!(ask(&bench, request).await, Some(200), "the default allows what {limit} does not");
            settle().await;
            let dialed = net.dialed();
            let once = "[upstreams.backend.retry]\nmax_attempts = 1";
            bench.reload(&format!("{ONE}\n{once}\n[upstreams.backend.response]\n{limit}\n")).await;
            assert_eq!(ask(&bench, request).await, status, "{limit}");
            assert_eq!(net.dialed(), dialed, "{limit}: over the connection that was there");
        }
    });
}
