//! Answers are compressed (gzip, RFC 9110 §8.4.1) for who asks for it, where it is worth its while and tells nobody anything.
//!
//! How long a compressed answer is says something about what stands in it. Who can have a browser ask again and again, put
//! something of theirs into the answer and see its length on the way, finds a secret that stands beside it (BREACH). So:
//!
//! - only answers to `GET` with a token in `Authorization`: no page of others can have a browser send that, as it can a cookie;
//! - never what holds tokens, passwords or codes, or is about somebody: that is answered to other methods, or below
//!   `/users/me` and `/auth`;
//! - nobody who has not said who they are: compressing costs more than asking for it.
//!
//! Events are never compressed (they would wait until a block is full), nor what is short. An `ETag` names octets (RFC 9110
//! §8.8.3.3): that of a compressed answer says so behind the version, and is as good in `If-Match`.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, COOKIE, ETAG};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::Body as _;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, NotForContentType, Predicate as _, SizeAbove};

use super::pieces::Pieces;

/// Shorter answers fit a packet or two as they are.
const LEAST_OCTETS: u64 = 1_400;
/// What is compressed at once of an answer that is written while it is sent.
const PIECE_OCTETS: usize = 64 << 10;
/// What stands behind the version in the tag of a compressed answer.
const MARK: &str = "-gzip";

/// Compresses what [`around`] lets it.
pub(super) fn layer() -> CompressionLayer<And<SizeAbove, NotForContentType>> {
    // Most of what can be won, for a third of the work.
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(LEAST_OCTETS).and(NotForContentType::SSE))
}

/// Answers that are written while they are sent, as the compressor takes them: it asks on after their end.
pub(super) async fn ended(response: Response) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(Pieces::of(body, PIECE_OCTETS)))
}

/// See the module.
pub(super) async fn around(mut request: Request, next: Next) -> Response {
    if !may(&request) {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    let mut response = next.run(request).await;
    if response.headers().contains_key(CONTENT_ENCODING)
        && let Some(tag) = response.headers().get(ETAG).and_then(marked)
    {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn may(request: &Request) -> bool {
    let (headers, path) = (request.headers(), request.uri().path());
    let is_private =
        ["/api/v1/users/me", "/api/v1/auth", "/api/v1/events"].iter().any(|place| path.starts_with(place));
    *request.method() == Method::GET
        && headers.contains_key(AUTHORIZATION)
        && !headers.contains_key(COOKIE)
        && !is_private
}

fn marked(tag: &HeaderValue) -> Option<HeaderValue> {
    let opaque = tag.to_str().ok()?.strip_suffix('"')?;
    HeaderValue::from_str(&format!("{opaque}{MARK}\"")).ok()
}

/// What a tag says without the mark.
pub(super) fn unmarked(opaque: &[u8]) -> &[u8] {
    opaque.strip_suffix(MARK.as_bytes()).unwrap_or(opaque)
}
