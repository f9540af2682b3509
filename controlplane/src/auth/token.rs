//! Opaque tokens: `gw_` and 43 characters of base64url (RFC 4648 §5), 32 random octets. Only their SHA-256 is stored: with
//! 256 random bits there is nothing that a slow hash would protect.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "gw_";
const OCTETS: usize = 32;

/// A token as its holder has it. Its `Debug` shows nothing of it.
#[derive(Clone, Eq, PartialEq)]
pub struct Token([u8; OCTETS]);

/// What is stored of a token.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TokenHash(pub [u8; 32]);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> anyhow::Result<Token> {
        let mut octets = [0; OCTETS];
        getrandom::fill(&mut octets)
            .map_err(|error| anyhow::anyhow!("no random numbers from the system: {error}"))?;
        Ok(Token(octets))
    }

    /// Reads one; `None` when the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Token> {
        let octets = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        octets.try_into().ok().map(Token)
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0).into())
    }

    /// As text: for the one who shall hold it, and for nobody else.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gw_…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_and_stay_out_of_logs() {
        let token = Token::random().unwrap();
        let text = token.reveal();
        assert_eq!(text.len(), 3 + 43);
        assert_eq!(Token::parse(&text), Some(token.clone()));
        assert_ne!(token, Token::random().unwrap());
        assert!(!format!("{token:?}").contains(&text[3..10]));
        for text in ["", "gw_", &text[3..], &text[..45], &format!("{text}A"), "gw_$$$"] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }
}
