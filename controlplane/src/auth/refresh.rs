//! Refresh tokens: what a session is gone on with. One is taken once; it gives the next.
//!
//! `gr_` and 75 characters of base64url over
//!
//! ```text
//! session UUID 16 octets ┆ number of the exchange u64 ┆ HMAC-SHA-256 of the two 32 octets
//! ```
//!
//! The database has the number of exchanges alone. A token whose number has passed was genuine once, and is in two hands: its
//! session ends. A token that was made up cannot end any.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use uuid::Uuid;

const PREFIX: &str = "gr_";
const OCTETS: usize = 16 + 8 + 32;

/// What makes them and knows them again.
pub(crate) struct RefreshKey(hmac::Key);

impl std::fmt::Debug for RefreshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshKey")
    }
}

/// What a genuine one says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refresh {
    pub(crate) session: Uuid,
    /// How often the session's token was exchanged before this one was made.
    pub(crate) exchanges: i64,
}

impl RefreshKey {
    /// Of 32 octets that nobody knows.
    pub(crate) fn of(secret: &[u8]) -> RefreshKey {
        RefreshKey(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// As text: for the one who shall go on with the session, and for nobody else.
    pub(crate) fn reveal(&self, refresh: Refresh) -> String {
        let mut octets = said(refresh);
        let tag = hmac::sign(&self.0, &octets);
        octets.extend_from_slice(tag.as_ref());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(octets))
    }

    /// Reads one; `None` when it was not made with this key.
    pub(crate) fn read(&self, text: &str) -> Option<Refresh> {
        let octets = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let octets: [u8; OCTETS] = octets.try_into().ok()?;
        let (said, tag) = octets.split_at(24);
        hmac::verify(&self.0, said, tag).ok()?;
        let (session, exchanges) = said.split_at(16);
        Some(Refresh {
            session: Uuid::from_slice(session).ok()?,
            exchanges: i64::from_be_bytes(exchanges.try_into().ok()?),
        })
    }
}

fn said(refresh: Refresh) -> Vec<u8> {
    let mut octets = refresh.session.as_bytes().to_vec();
    octets.extend_from_slice(&refresh.exchanges.to_be_bytes());
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_with_the_key_is_read() {
        let key = RefreshKey::of(&[7; 32]);
        let refresh = Refresh { session: Uuid::now_v7(), exchanges: 5 };
        let text = key.reveal(refresh);
        assert_eq!(text.len(), 3 + 75);
        assert_eq!(key.read(&text), Some(refresh));
        assert_eq!(RefreshKey::of(&[8; 32]).read(&text), None);
        let mut octets = URL_SAFE_NO_PAD.decode(&text[3..]).unwrap();
        for at in 0..octets.len() {
            octets[at] ^= 1;
            assert_eq!(key.read(&format!("gr_{}", URL_SAFE_NO_PAD.encode(&octets))), None, "octet {at}");
            octets[at] ^= 1;
        }
        for text in ["", "gr_", &text[3..], &text[..77], &format!("{text}A"), &text.replace("gr_", "gw_")] {
            assert_eq!(key.read(text), None, "{text}");
        }
    }
}
