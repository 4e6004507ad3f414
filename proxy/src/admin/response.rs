//! What all responses of the admin port have in common.

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use http_body_util::Full;

/// A response, whole in memory.
pub(super) type Response = http::Response<Full<Bytes>>;

/// The content type of plain sentences.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// Keeps pages of other sites from embedding our responses, even as a script or a picture.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A response with `body`; its fields keep it out of caches and of other sites' pages.
pub(super) fn reply(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Response {
    let mut builder = http::Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
    builder = match status {
        StatusCode::METHOD_NOT_ALLOWED => builder.header(header::ALLOW, "GET, HEAD"),
        StatusCode::SERVICE_UNAVAILABLE => builder.header(header::RETRY_AFTER, "1"),
        _ => builder,
    };
    builder
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(RESOURCE_POLICY, "same-origin")
        .body(Full::new(body.into()))
        .expect("the fields above are valid")
}
