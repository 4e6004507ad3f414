//! What all responses of the admin port have in common.

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use http_body_util::{Either, Full};

use super::text::Reader;

/// A response: a sentence, or a text that it shares with other responses.
pub(super) type Response = http::Response<Either<Full<Bytes>, Reader>>;

/// The content type of plain sentences.
const TEXT: &str = "text/plain; charset=utf-8";
/// Keeps pages of other sites from embedding our responses, even as a script or a picture.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A response with a sentence for a person.
pub(super) fn reply(status: StatusCode, sentence: &'static str) -> Response {
    respond(status, TEXT, Either::Left(Full::from(sentence)))
}

/// A response with a shared text.
pub(super) fn share(content_type: &'static str, text: Reader) -> Response {
    respond(StatusCode::OK, content_type, Either::Right(text))
}

/// A response whose fields keep it out of caches and of other sites' pages.
fn respond(status: StatusCode, content_type: &'static str, body: Either<Full<Bytes>, Reader>) -> Response {
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
        .body(body)
        .expect("the fields above are valid")
}
