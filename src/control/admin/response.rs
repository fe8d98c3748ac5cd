//! Responses of the admin listener, each with headers that keep browsers from doing more than showing it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
pub use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use serde::Serialize;

use crate::os::printable::json;

/// A whole response.
pub type Whole = Response<Full<Bytes>>;

/// The media type of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// The media type of JSON.
const JSON: &str = "application/json";

/// Neither scripts nor styles nor requests, and in no frame.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// No page of another site may load it.
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Creates a response. Nothing stores it, because it may name a sender.
#[must_use]
pub fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Whole {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, NOTHING),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns the response with this content security policy.
pub(super) fn with_policy(mut response: Whole, policy: &'static str) -> Whole {
    let policy = HeaderValue::from_static(policy);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    response
}

/// Creates the response to a request that cannot be served.
#[must_use]
pub fn failure(status: StatusCode, text: &str) -> Whole {
    response(status, TEXT, format!("{text}\n"))
}

/// Creates a response with a value as JSON.
#[must_use]
pub fn as_json(value: &impl Serialize) -> Whole {
    let mut text = Vec::new();
    match json::write(value, &mut text) {
        Ok(()) => {
            text.push(b'\n');
            response(StatusCode::OK, JSON, text)
        }
        // A bug.
        Err(_) => internal_error(),
    }
}

/// Creates the response to a request that a bug prevents from being served.
pub(super) fn internal_error() -> Whole {
    failure(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
}
