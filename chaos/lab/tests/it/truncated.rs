//! Nothing truncated is delivered as whole.

use lab::http::{self, End, Response};

use crate::stage::{Folder, config, programs};
use crate::stub::Stub;

const BY_LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it";
const BY_CHUNKS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf of it\r\n";

/// What comes through the proxy to a client of this HTTP version, and how often the upstream was asked.
fn through_proxy(response: &'static str, version: &str) -> (Response, usize) {
    let (programs, folder, stub) = (programs(), Folder::new(), Stub::responding(response));
    let path = folder.write("config.toml", &config(&format!("\"{}\"", stub.address), ""));
    let proxy = programs.proxy(&path).unwrap_or_else(|error| panic!("{error}"));
    let request = format!("GET / {version}\r\nhost: backend\r\n\r\n");
    let response = http::exchange(proxy.app, &request).expect("a head");
    (response, stub.heads().len())
}

#[test]
fn a_response_cut_off_before_its_length_is_cut_off_for_the_client() {
    let (response, asked) = through_proxy(BY_LENGTH, "HTTP/1.1");
    assert_eq!((response.status, response.text().as_str(), asked), (200, "half of it", 1));
    assert_ne!(response.end, End::Whole);
}

#[test]
fn a_response_cut_off_before_its_last_chunk_is_cut_off_for_the_client() {
    let (response, asked) = through_proxy(BY_CHUNKS, "HTTP/1.1");
    assert_eq!((response.status, asked), (200, 1));
    assert_ne!(response.end, End::Whole);
}

#[test]
fn a_client_who_knows_the_end_only_by_the_connection_gets_a_reset() {
    let (response, asked) = through_proxy(BY_CHUNKS, "HTTP/1.0");
    assert_eq!((response.status, asked, response.end), (200, 1, End::Reset));
}
