//! By what a receiver knows that a delivery is from us, and of now: HMAC-SHA256, with the secret of the webhook, over the time, the id
//! of the delivery and its body, with dots between.

use ring::hmac;
use uuid::Uuid;

use crate::hex;

/// The headers of a delivery that is sent at a time, in seconds since the epoch.
pub(super) fn headers(secret: &[u8], delivery: Uuid, at_s: i64, body: &str) -> Vec<(String, String)> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{at_s}.{delivery}.{body}").as_bytes());
    [
        ("content-type", "application/json".to_owned()),
        ("godwit-webhook-id", delivery.to_string()),
        ("godwit-webhook-timestamp", at_s.to_string()),
        ("godwit-webhook-signature", format!("v1={}", hex::encoded(tag.as_ref()))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '1700000000.00000000-0000-0000-0000-000000000007.{}' | openssl dgst -sha256 -hmac gwh_test`
    #[test]
    fn a_signature_is_what_others_compute() {
        let headers = headers(b"gwh_test", Uuid::from_u128(7), 1_700_000_000, "{}");
        assert_eq!(headers[1].1, "00000000-0000-0000-0000-000000000007");
        assert_eq!(headers[2].1, "1700000000");
        assert_eq!(headers[3].1, "v1=1d0a3e1407745e3d18d39a0d9d883f8f982c9656b284c63b24f0652a8a7f03a5");
    }
}
