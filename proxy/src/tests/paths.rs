//! Requests whose path, method or key the endpoint may read in another way than the proxy: which route they get, and how often they are sent.

use super::*;

const ROUTES: &str = r#"
[upstreams.backend]
endpoints = ["10.0.0.1:80"]
retry = { max_attempts = 2 }
endpoint_breaker = { enabled = false }
breaker = { enabled = false }
budget = { ratio = 1 }
[[upstreams.backend.routes]]
name = "orders-get"
path_prefix = "/orders"
methods = ["GET"]
[[upstreams.backend.routes]]
name = "strict"
path_prefix = "/search/strict"
[[upstreams.backend.routes]]
name = "search"
path_prefix = "/search"
retry = { idempotent = true }
[[upstreams.backend.routes]]
name = "pay"
path_prefix = "/pay"
[[upstreams.backend.routes]]
name = "cafe"
path_prefix = "/caf%C3%A9"
retry = { idempotent = true }
[[upstreams.backend.routes]]
name = "project"
path_prefix = "/projects/a%2Fb"
retry = { idempotent = true }
[[upstreams.backend.routes]]
name = "keyed"
path_prefix = "/keyed"
retry = { idempotency_key = true }
[[upstreams.backend.routes]]
name = "orders"
path_prefix = "/orders"
methods = ["POST", "GET"]
retry = { idempotent = true }
"#;

/// One route, the default one, whose requests may all be repeated.
const REPEATABLE: &str = r#"
[upstreams.backend]
endpoints = ["10.0.0.1:80"]
retry = { max_attempts = 2, idempotent = true }
endpoint_breaker = { enabled = false }
breaker = { enabled = false }
budget = { ratio = 1 }
"#;

/// A request: its first line without the version and perhaps its first fields, the route it gets, and how often it is sent to an endpoint that always fails.
type Row = (&'static str, &'static str, usize);

fn check(config: &str, rows: &[Row]) {
    let config = config.to_owned();
    let rows = rows.to_vec();
    paused(async move {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        let bench = Bench::new(&net, &config).await;
        for (request, route, times) in rows {
            let (line, fields) = request.split_once('\n').unwrap_or((request, ""));
            let before = requests(&bench, route);
            let mut client = bench.connect();
            client.say(&format!("{line} HTTP/1.1\r\nhost: backend\r\n{fields}content-length: 1\r\n\r\nx")).await;
            let is_head = line.starts_with("HEAD ");
            let seen = if is_head { client.response_to_head().await } else { client.response().await };
            assert_eq!(seen.expect("a response").status, 500, "{request}");
            settle().await;
            let sent = line.replace(" http://backend", " ");
            assert_eq!(net.arrived(), vec![format!("{A} {sent} x"); times], "{request}: as it came, {times} times");
            assert_eq!(requests(&bench, route) - before, 1.0, "{request}: the route {route}");
            net.forget();
        }
    });
}

fn requests(bench: &Bench, route: &str) -> f64 {
    let text = bench.shared.metrics.text();
    let label = format!("route=\"{route}\"");
    let lines = text.lines().filter(|line| line.starts_with("outrigger_requests_total") && line.contains(&label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn a_post_is_repeated_only_if_every_reading_of_its_path_may_be() {
    check(
        ROUTES,
        &[
            ("POST /search", "search", 2),
            ("POST /search/", "search", 2),
            ("POST /search/a/7?q=/../pay", "search", 2),
            ("POST /search/Apples", "search", 2),
            ("POST http://backend/search/a", "search", 2),
            ("POST /pay", "pay", 1),
            ("POST /search/../pay", "pay", 1),
            ("POST http://backend/search/../pay", "pay", 1),
            ("POST /search/%2e%2e/pay", "pay", 1),
            ("POST /search/.%2E/pay", "pay", 1),
            ("POST /search/%252e%252e/pay", "search", 1),
            ("POST /search/..;/pay", "search", 1),
            ("POST /search/..%3b/pay", "search", 1),
            ("POST /search\\..\\..\\pay", "default", 1),
            ("POST /search/..\\pay", "search", 1),
            ("POST /search/..%5cpay", "search", 1),
            ("POST /search/..%2Fpay", "search", 1),
            ("POST /search/x/../../pay", "pay", 1),
            ("POST /./pay", "pay", 1),
            ("POST //pay", "pay", 1),
            ("POST //search/x", "search", 1),
            ("POST /%70ay", "pay", 1),
            ("POST /%73earch", "search", 1),
            ("POST /PAY", "default", 1),
            ("POST /pay;x=1", "default", 1),
            ("POST /pay/", "pay", 1),
            ("POST /search/strict", "strict", 1),
            ("POST /search/STRICT", "search", 1),
            ("POST /search/strict;x/y", "search", 1),
            ("POST /search//strict", "strict", 1),
            ("POST /search/x/..", "search", 1),
            ("POST /search/.%09./pay", "search", 1),
            ("POST /search/.%00%0a%0d./pay", "search", 1),
            ("POST /search/%E2%80%A5/pay", "search", 1),
            ("POST /search/.%80./pay", "search", 1),
            ("POST /search/strict.json", "search", 1),
            ("POST /search/index.php/strict", "search", 1),
            ("POST /search/app.min.js", "search", 2),
            ("POST /search/v1.0/a", "search", 2),
        ],
    );
}

#[test]
fn a_path_that_leads_to_routes_of_one_word_only_is_repeated_however_odd_it_is() {
    let one_word = ROUTES.replace("name = \"strict\"", "name = \"strict\"\nretry = { idempotent = true }");
    check(
        &one_word,
        &[
            ("POST /search/a%20b/c", "search", 2),
            ("POST /search/a/caf%C3%A9", "search", 2),
            ("POST /search/caf%C3%A9", "search", 1),
            ("POST /search/a%2Fb", "search", 2),
            ("POST /search/a//b/./c", "search", 2),
            ("POST /search/a/../b", "search", 2),
            ("POST /search/a/..;/b", "search", 2),
            ("POST /search/a;b=c/d", "search", 2),
            ("POST /search/a\\b", "search", 2),
            ("POST /search/STRICT", "search", 2),
            ("POST /search//strict", "strict", 2),
            ("POST /search/a/../../pay", "pay", 1),
        ],
    );
    check(REPEATABLE, &[("POST /../..;/\\%2e%2e//A", "default", 2), ("POST http://backend/?x=/", "default", 2)]);
}

#[test]
fn a_strict_route_in_a_repeatable_upstream_is_found_by_every_reading() {
    let config = format!(
        "{REPEATABLE}[[upstreams.backend.routes]]\nname = \"pay\"\npath_prefix = \"/Pay\"\nmethods = [\"POST\"]\n\
         retry = {{ idempotent = false }}\n"
    );
    check(
        &config,
        &[
            ("POST /Pay/7", "pay", 1),
            ("POST /pay", "default", 1),
            ("POST /PAY/", "default", 1),
            ("POST /pay.", "default", 1),
            ("POST /x;/../Pay", "pay", 1),
            ("POST /x\\..\\Pay", "default", 1),
            ("POST //x/Pay", "default", 1),
            ("POST /Payments", "default", 2),
            ("POST /pay.json", "default", 1),
            ("POST /pay%2Ephp", "default", 1),
            ("POST /index.php/pay", "default", 1),
            ("POST /pay%80", "default", 1),
            ("POST /pa%C2%ADy", "default", 1),
            ("POST /paper.json", "default", 2),
            ("post /Pay", "default", 1),
            ("Post /Pay", "default", 1),
            ("FOO /Pay", "default", 1),
            ("FOO /x", "default", 2),
            ("PATCH /Pay", "default", 2),
            ("PATCH /Pay\nX-HTTP-Method-Override: POST\r\n", "default", 1),
            ("PUT /Pay\nx_method: POST\r\n", "default", 1),
            ("GET /Pay\nX-HTTP-Method_Override: POST\r\n", "default", 1),
            ("GET /x\nX-HTTP-Method_Override: POST\r\n", "default", 2),
            ("POST /x\nX-Original-URL: /Pay\r\n", "default", 1),
            ("POST /x\nX-Rewrite-URL: /Pay\r\n", "default", 1),
            ("POST /x/Pay\nSCRIPT_NAME: /x\r\n", "default", 1),
            ("POST /x\nPath_Info: /Pay\r\n", "default", 1),
            ("POST /x/Pay\nX-Forwarded-Prefix: /x\r\n", "default", 1),
            ("PUT /x\nX-Original-URL: /Pay\r\n", "default", 2),
            ("PUT /Pay", "default", 2),
            ("GET /Pay", "default", 2),
        ],
    );
}

#[test]
fn routes_by_method_and_routes_with_escapes_have_the_same_law() {
    check(
        ROUTES,
        &[
            ("GET /orders/7", "orders-get", 2),
            ("GET //orders/7", "orders-get", 2),
            ("POST /orders/7", "orders", 2),
            ("POST /ORDERS/7", "default", 1),
            ("PATCH /orders/7", "default", 1),
            // A stricter route stands before it.
            ("POST /caf%C3%A9/7", "cafe", 1),
            // A server that compares escapes as text takes this for another path.
            ("POST /caf%c3%a9/7", "cafe", 1),
            ("POST /projects/a%2Fb/7", "project", 2),
            ("POST /projects/a%2Fb/7/../8", "project", 2),
            ("POST /projects/a%2Fb/..;/8", "project", 1),
            ("POST /projects/a/b", "default", 1),
            ("OPTIONS *", "default", 2),
        ],
    );
}

#[test]
fn a_route_with_one_attempt_is_found_by_every_reading_whatever_the_method() {
    let config = format!(
        "{REPEATABLE}[[upstreams.backend.routes]]\nname = \"pay\"\npath_prefix = \"/pay\"\nretry = {{ max_attempts = 1 }}\n"
    );
    check(
        &config,
        &[
            ("PUT /pay/7", "pay", 1),
            ("PUT //pay/7", "pay", 1),
            ("PUT /PAY/7", "default", 1),
            ("DELETE /x/..;/pay", "default", 1),
            ("POST /pay;x=1", "default", 1),
            ("GET /payments", "default", 2),
            ("POST /search/Apples", "default", 2),
        ],
    );
}

#[test]
fn a_route_that_retries_fewer_outcomes_is_found_by_every_reading() {
    let config = format!(
        "{REPEATABLE}[[upstreams.backend.routes]]\nname = \"pay\"\npath_prefix = \"/pay\"\nmethods = [\"GET\", \"PUT\"]\n\
         retry = {{ reset = false, attempt_timeout = false, statuses = [] }}\n"
    );
    check(
        &config,
        &[
            ("PUT /pay", "pay", 1),
            ("PUT /PAY", "default", 1),
            ("PUT /x/..;/pay", "default", 1),
            ("PUT /pay.php", "default", 1),
            ("GET /a/caf%C3%A9", "default", 1),
            ("GET /a/logo.png", "default", 2),
            ("PUT /x", "default", 2),
        ],
    );
}

#[test]
fn a_route_with_letters_beyond_ascii_keeps_its_word_if_no_stricter_one_stands_before_it() {
    let config = REPEATABLE.replace("idempotent = true", "idempotent = false")
        + "[[upstreams.backend.routes]]\nname = \"cafe\"\npath_prefix = \"/caf%C3%A9\"\nretry = { idempotent = true }\n\
           [[upstreams.backend.routes]]\nname = \"pay\"\npath_prefix = \"/pay\"\n";
    check(
        &config,
        &[
            ("POST /caf%C3%A9/7", "cafe", 2),
            ("POST /caf%C3%A9/%E2%80%A5/7", "cafe", 1),
            ("POST /caf%C3%A9/..;/pay", "cafe", 1),
        ],
    );
}

#[test]
fn a_head_request_also_counts_as_a_get() {
    let config = format!(
        "{REPEATABLE}[[upstreams.backend.routes]]\nname = \"pay\"\npath_prefix = \"/pay\"\nmethods = [\"GET\"]\n\
         retry = {{ max_attempts = 1 }}\n"
    );
    check(&config, &[("GET /pay", "pay", 1), ("PUT /pay", "default", 2), ("OPTIONS /pay", "default", 2)]);
    check(&config, &[("HEAD /pay", "default", 1), ("HEAD /x", "default", 2)]);
}

#[test]
fn a_method_that_a_field_may_override_promises_nothing() {
    check(
        ROUTES,
        &[
            ("PUT /pay", "pay", 2),
            ("PUT /pay\nx-http-method-override: PATCH\r\n", "pay", 1),
            ("GET /pay\nX-HTTP-Method: POST\r\n", "pay", 1),
            ("DELETE /pay\nX-Method-Override: POST\r\n", "pay", 1),
            ("GET /search\nX-HTTP-Method-Override: POST\r\n", "search", 2),
        ],
    );
}

#[test]
fn a_key_counts_only_if_it_is_one_key_and_every_reading_leads_to_a_route_that_takes_keys() {
    check(
        ROUTES,
        &[
            ("POST /keyed", "keyed", 1),
            ("POST /keyed\nidempotency-key: 7\r\n", "keyed", 2),
            ("POST /keyed\nidempotency-key: \"7\"\r\n", "keyed", 2),
            ("POST /keyed\nidempotency-key:\r\n", "keyed", 1),
            ("POST /keyed\nidempotency-key: \t \r\n", "keyed", 1),
            ("POST /keyed\nidempotency-key: \"\"\r\n", "keyed", 1),
            ("POST /keyed\nidempotency-key: a, b\r\n", "keyed", 1),
            ("POST /keyed\nidempotency-key: 7\r\nidempotency-key: 7\r\n", "keyed", 1),
            ("POST /keyed/..;/pay\nidempotency-key: 7\r\n", "keyed", 1),
            ("POST /search/7\nidempotency-key:\r\n", "search", 2),
        ],
    );
}
