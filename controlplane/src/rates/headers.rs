//! How somebody stands, as headers of draft-ietf-httpapi-ratelimit-headers-03.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::bucket::Standing;

static LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Those that say how somebody stands.
pub(crate) static HEADERS: [&HeaderName; 4] = [&LIMIT, &POLICY, &REMAINING, &RESET];

impl Standing {
    /// Writes it to the headers of an answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(LIMIT.clone(), HeaderValue::from(self.limit));
        headers.insert(REMAINING.clone(), HeaderValue::from(self.remaining));
        headers.insert(RESET.clone(), HeaderValue::from(self.reset_s));
        if let Ok(policy) = HeaderValue::from_str(&format!("{};w={}", self.limit, self.window_s)) {
            headers.insert(POLICY.clone(), policy);
        }
    }
}
