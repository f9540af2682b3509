//! One-time passwords of an app (RFC 6238: SHA-1, six digits, 30 s), and the codes that replace them once where it is lost.

use sha2::{Digest as _, Sha256};
use totp_rs::{Algorithm, Builder, Secret, Totp};

use crate::error::{Code, Problem};

/// Octets of a secret: as many as the hash has (RFC 4226 §4 R6).
pub(crate) const SECRET_OCTETS: usize = 20;
const DIGITS: u8 = 6;
const STEP_S: u64 = 30;
/// Steps before and after the present one whose codes are taken: clocks differ, and people type (RFC 6238 §5.2).
const SKEW: u16 = 1;

/// How many recovery codes are given at once.
const CODES: usize = 10;
/// Random octets of one: sixteen characters.
const CODE_OCTETS: usize = 10;

/// What the app is told, once.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// In base 32, to be typed.
    pub(crate) secret: String,
    /// `otpauth://…`, to be shown as a QR code.
    pub(crate) url: String,
}

fn totp(secret: &[u8; SECRET_OCTETS]) -> Builder {
    let builder = Builder::new().with_algorithm(Algorithm::SHA1).with_digits(DIGITS);
    builder.with_skew(SKEW).with_step_duration(STEP_S).with_secret(*secret)
}

fn built(builder: Builder) -> Result<Totp, Problem> {
    builder.build().map_err(|_| Problem::new(Code::Internal, "one-time passwords cannot be worked out"))
}

/// What an app is told of a secret. `instance` and `account` are what it shows; neither has a colon afterwards.
///
/// # Errors
/// When they cannot be shown.
pub(crate) fn offer(secret: &[u8; SECRET_OCTETS], instance: &str, account: &str) -> Result<Offer, Problem> {
    let shown = |text: &str| text.replace(':', "_");
    let builder = totp(secret).with_issuer(Some(shown(instance))).with_account_name(shown(account));
    let url = built(builder)?.to_url();
    let url = url.map_err(|_| Problem::new(Code::Internal, "the app cannot be told"))?;
    Ok(Offer { secret: Secret::from(secret.to_vec()).to_base32(), url })
}

/// The time step whose code this is, around a time.
pub(crate) fn step(secret: &[u8; SECRET_OCTETS], code: &str, now_s: u64) -> Option<i64> {
    let code = code.trim();
    if code.len() != usize::from(DIGITS) || !code.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let step = built(totp(secret)).ok()?.check(code, now_s)?;
    i64::try_from(step).ok()
}

/// New recovery codes, as they are given to the one who shall have them.
///
/// # Errors
/// When the system has no random numbers.
pub(crate) fn recovery_codes() -> Result<Vec<String>, Problem> {
    let code = || {
        let mut octets = [0; CODE_OCTETS];
        getrandom::fill(&mut octets)
            .map_err(|_| Problem::new(Code::Internal, "no random numbers from the system"))?;
        let text = Secret::from(octets.to_vec()).to_base32().to_lowercase();
        // In fours, as people copy them.
        Ok(text.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join("-"))
    };
    (0..CODES).map(|_| code()).collect()
}

/// What is kept of a recovery code, however it was typed.
pub(crate) fn code_hash(code: &str) -> [u8; 32] {
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    Sha256::digest(code.to_lowercase()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, Appendix B: the last six digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = b"12345678901234567890";
        for (time, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            let expected = i64::try_from(time / STEP_S).unwrap();
            assert_eq!(step(secret, code, time), Some(expected));
            assert_eq!(step(secret, code, time + STEP_S), Some(expected), "a step later");
            assert_eq!(step(secret, code, time + 2 * STEP_S), None, "two steps later");
        }
        for wrong in ["", "287083", "28708", "2870822", "x87082", "２８７０８２"] {
            assert_eq!(step(secret, wrong, 59), None, "{wrong}");
        }
    }

    #[test]
    fn apps_are_told_what_they_show() {
        let offer = offer(b"12345678901234567890", "dns.example.net:8053", "anna@example.org").unwrap();
        assert_eq!(offer.secret, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert!(
            offer.url.starts_with("otpauth://totp/dns.example.net_8053:anna%40example.org?"),
            "{}",
            offer.url
        );
    }

    #[test]
    fn recovery_codes_are_read_as_they_are_typed() {
        let codes = recovery_codes().unwrap();
        assert_eq!(codes.len(), 10);
        let one = &codes[0];
        assert_eq!(one.len(), 19, "{one}");
        assert_eq!(code_hash(one), code_hash(&one.to_uppercase().replace('-', " ")));
        assert_ne!(code_hash(one), code_hash(&codes[1]));
    }
}
