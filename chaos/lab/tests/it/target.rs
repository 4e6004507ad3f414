//! How an app says where a request is to go.

use lab::http;

use crate::stage::{Folder, Site, config, programs};
use crate::stub::Stub;

#[test]
fn the_whole_url_in_the_request_line_is_what_a_proxy_gets() {
    let site = Site::new(&[], "");
    let response =
        http::ask(site.proxy.app, "GET", "http://backend/a?b=c", &[("host", "backend")], "").expect("a response");
    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn a_host_that_is_not_known_is_refused_with_those_that_are() {
    let site = Site::new(&[], "");
    let response =
        http::ask(site.proxy.app, "GET", "http://elsewhere/", &[("host", "elsewhere")], "").expect("a response");
    assert_eq!(response.status, 421, "{}", response.text());
    assert!(response.text().contains("elsewhere") && response.text().contains("backend"), "{}", response.text());
    assert!(response.header("proxy-status").is_some_and(|status| status.starts_with("outrigger; error=")));
    assert_eq!(site.backend.received().expect("the control port responds").requests, 0);
}

#[test]
fn an_app_whose_base_url_is_the_proxy_reaches_the_only_upstream_under_the_upstreams_name() {
    let (programs, folder) = (programs(), Folder::new());
    let stub = Stub::responding("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    let path = folder.write("config.toml", &config(&format!("\"{}\"", stub.address), ""));
    let proxy = programs.proxy(&path).unwrap_or_else(|error| panic!("{error}"));
    let response = http::get(proxy.app, "/orders?n=1").expect("a response");
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    let heads = stub.heads();
    let head = heads.first().expect("one request").to_ascii_lowercase();
    assert!(head.starts_with("get /orders?n=1 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", stub.address)), "{head}");
}
