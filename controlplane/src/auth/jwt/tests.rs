//! The attacks on JWTs, one by one: each is refused, and for the reason that it is meant to be refused for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::issuer::Issuer;
use super::*;
use crate::auth::scope::{Scope, Scopes};

const NOW: i64 = 1_800_000_000;
const AUDIENCE: &str = "https://api.test";

/// Somebody who signs what they like with their key.
struct Signer {
    pair: EcdsaKeyPair,
    key: VerifyingKey,
}

impl Signer {
    fn new() -> Signer {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let key = VerifyingKey::new(Algorithm::Es256, pair.public_key().as_ref());
        Signer { pair, key }
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn claims() -> Value {
    json!({
        "iss": "anna", "sub": "018f4d6e-0000-7000-8000-000000000001", "aud": AUDIENCE,
        "iat": NOW, "exp": NOW + 300, "jti": "one", "scope": "records:read",
    })
}

fn with(change: &Value) -> String {
    let mut claims = claims();
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims.to_string()
}

fn at(now_s: i64) -> Expected<'static> {
    Expected { issuer: "anna", audience: AUDIENCE, lifetime_s: 300, now_s }
}

const HEADER: &str = r#"{"alg":"ES256","typ":"JWT","kid":"k1"}"#;

#[test]
fn a_good_token_is_taken() {
    let signer = Signer::new();
    let token = signer.sign(HEADER, &claims().to_string());
    assert_eq!(kid(&token).unwrap(), "k1");
    let claims = verify(&token, &signer.key, at(NOW)).unwrap();
    assert_eq!((claims.jti.as_str(), claims.scope.as_str(), claims.sid), ("one", "records:read", None));
}

#[test]
fn headers_that_bring_a_key_or_a_condition_are_refused() {
    let signer = Signer::new();
    for (field, expected) in [
        (r#""jku":"https://evil.test/keys""#, Refused::Header),
        (r#""jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, Refused::Header),
        (r#""x5u":"https://evil.test/cert""#, Refused::Header),
        (r#""x5c":["AA"]"#, Refused::Header),
        (r#""x5t":"AA""#, Refused::Header),
        (r#""x5t#S256":"AA""#, Refused::Header),
        (r#""crit":["exp"],"exp":1"#, Refused::Header),
        (r#""crit":[]"#, Refused::Header),
        (r#""zip":"DEF""#, Refused::Header),
        (r#""enc":"A256GCM""#, Refused::Header),
        (r#""cty":"JWT""#, Refused::Header),
        (r#""typ":"at+jwt""#, Refused::Header),
        (r#""kid":"k2","kid":"k1""#, Refused::Malformed),
        (r#""alg":"none""#, Refused::Malformed),
    ] {
        let twice = if field.contains("kid") { "" } else { r#","kid":"k1""# };
        let alg = if field.contains("alg") { "" } else { r#""alg":"ES256","# };
        let token = signer.sign(&format!("{{{alg}{field}{twice}}}"), &claims().to_string());
        assert_eq!(kid(&token).unwrap_err(), expected, "{field}");
    }
    for header in [r#"{"alg":"ES256"}"#, r#"{"alg":"ES256","kid":""}"#, r#"{"alg":"ES256","kid":null}"#] {
        let token = signer.sign(header, &claims().to_string());
        assert_eq!(kid(&token).unwrap_err(), Refused::UnknownKey, "{header}");
    }
    let long = "k".repeat(MOST_KID + 1);
    let token = signer.sign(&format!(r#"{{"alg":"ES256","kid":"{long}"}}"#), &claims().to_string());
    assert_eq!(kid(&token).unwrap_err(), Refused::UnknownKey);
    for header in [r#"{"alg":"ES256","kid":["k1"]}"#, r#"{"alg":"ES256","kid":1}"#, "[]", "", "{", "\u{0}"] {
        let token = signer.sign(header, &claims().to_string());
        assert_eq!(kid(&token).unwrap_err(), Refused::Malformed, "{header}");
    }
    let good = signer.sign(HEADER, &claims().to_string());
    let oversize = signer.sign(HEADER, &with(&json!({ "x": "y".repeat(MOST_OCTETS) })));
    for token in ["", ".", "..", "a.b", "a.b.c", &good.replace('.', ""), &format!("{good}.x"), &oversize] {
        assert!(kid(token).is_err(), "{token}");
    }
}

/// The header may only agree with the key: not another algorithm, not the public key as the secret of an HMAC.
#[test]
fn the_key_decides_the_algorithm() {
    let signer = Signer::new();
    let body = claims().to_string();
    for alg in ["none", "None", "NONE", "HS256", "HS384", "HS512", "RS256", "ES384", "EdDSA", "PS256", ""] {
        let token = signer.sign(&format!(r#"{{"alg":"{alg}","kid":"k1"}}"#), &body);
        assert!(verify(&token, &signer.key, at(NOW)).is_err(), "{alg}");
    }
    let header = r#"{"alg":"HS256","typ":"JWT","kid":"k1"}"#;
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&body));
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, signer.pair.public_key().as_ref());
    let tag = ring::hmac::sign(&secret, message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()));
    assert_eq!(verify(&token, &signer.key, at(NOW)).unwrap_err(), Refused::Signature);
    // Unsigned.
    let header = r#"{"alg":"none","kid":"k1"}"#;
    let token = format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&body));
    assert!(verify(&token, &signer.key, at(NOW)).is_err());
    // Signed with a key of another kind, whatever it calls itself.
    let ed = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    for alg in ["EdDSA", "ES256"] {
        let header = format!(r#"{{"alg":"{alg}","kid":"k1"}}"#);
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&body));
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(ed.sign(message.as_bytes()).as_ref()));
        let of_ed = VerifyingKey::new(Algorithm::EdDsa, ed.public_key().as_ref());
        assert_eq!(verify(&token, &of_ed, at(NOW)).is_ok(), alg == "EdDSA");
        assert_eq!(verify(&token, &signer.key, at(NOW)).unwrap_err(), Refused::Signature, "{alg}");
    }
}

#[test]
fn signatures_that_are_none_are_refused() {
    let signer = Signer::new();
    let token = signer.sign(HEADER, &claims().to_string());
    let (message, signature) = token.rsplit_once('.').unwrap();
    for signature in [
        String::new(),
        URL_SAFE_NO_PAD.encode([0; 64]),
        URL_SAFE_NO_PAD.encode([0; 63]),
        URL_SAFE_NO_PAD.encode([0xFF; 64]),
        signature[..40].to_owned(),
        format!("{signature}AA"),
    ] {
        let token = format!("{message}.{signature}");
        assert!(verify(&token, &signer.key, at(NOW)).is_err(), "{signature}");
    }
    let other = Signer::new().sign(HEADER, &claims().to_string());
    assert_eq!(verify(&other, &signer.key, at(NOW)).unwrap_err(), Refused::Signature);
    // The signature of one over the claims of another.
    let body = URL_SAFE_NO_PAD.encode(with(&json!({ "scope": "admin" })));
    let mixed = format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode(HEADER));
    assert_eq!(verify(&mixed, &signer.key, at(NOW)).unwrap_err(), Refused::Signature);
}

#[test]
fn claims_are_there_and_of_their_type() {
    let signer = Signer::new();
    for claim in ["iss", "sub", "aud", "exp", "iat", "jti"] {
        let token = signer.sign(HEADER, &with(&json!({ claim: null })));
        assert_eq!(verify(&token, &signer.key, at(NOW)).unwrap_err(), Refused::Claims, "{claim} left out");
    }
    for (claim, values) in [
        (
            "exp",
            vec![
                json!((NOW + 300).to_string()),
                json!(1.8e9),
                json!([NOW + 300]),
                json!(true),
                json!(u64::MAX),
            ],
        ),
        ("iat", vec![json!(NOW.to_string()), json!(0.5), json!({})]),
        ("nbf", vec![json!(NOW.to_string()), json!(false)]),
        ("jti", vec![json!(1), json!(["one"])]),
        ("iss", vec![json!(1), json!(["anna"])]),
        ("aud", vec![json!([AUDIENCE]), json!(1), json!({})]),
        ("sub", vec![json!("anna"), json!(""), json!(1), json!("' OR 1=1 --")]),
        ("scope", vec![json!(["records:read"]), json!(1)]),
    ] {
        for value in values {
            let token = signer.sign(HEADER, &with(&json!({ claim: value })));
            assert_eq!(verify(&token, &signer.key, at(NOW)).unwrap_err(), Refused::Claims, "{claim} {value}");
        }
    }
    for (change, expected) in [
        (json!({ "iss": "bert" }), Refused::Issuer),
        (json!({ "iss": "" }), Refused::Issuer),
        (json!({ "aud": "https://other.test" }), Refused::Audience),
        (json!({ "aud": "https://api.test/" }), Refused::Audience),
        (json!({ "jti": "" }), Refused::Jti),
        (json!({ "jti": "j".repeat(MOST_JTI + 1) }), Refused::Jti),
        (json!({ "exp": NOW + 301 }), Refused::Lifetime),
        (json!({ "exp": i64::MAX }), Refused::Lifetime),
        (json!({ "iat": i64::MIN }), Refused::Lifetime),
        (json!({ "exp": i64::MIN }), Refused::Expired),
        (json!({ "iat": i64::MAX }), Refused::Early),
        (json!({ "iat": NOW + 10, "exp": NOW + 10 }), Refused::Lifetime),
    ] {
        let token = signer.sign(HEADER, &with(&change));
        assert_eq!(verify(&token, &signer.key, at(NOW)).unwrap_err(), expected, "{change}");
    }
    let body = claims().to_string();
    for twice in
        [r#""exp":9999999999"#, r#""sub":"018f4d6e-0000-7000-8000-000000000002""#, r#""scope":"admin""#]
    {
        let body = format!("{{{twice},{}", &body[1..]);
        let token = signer.sign(HEADER, &body);
        assert_eq!(verify(&token, &signer.key, at(NOW)).unwrap_err(), Refused::Claims, "{twice} twice");
    }
    for body in ["", "[]", "null", "\"x\"", "{", &format!("{body}x"), &"[".repeat(4_000)] {
        let token = signer.sign(HEADER, body);
        assert!(verify(&token, &signer.key, at(NOW)).is_err(), "{body}");
    }
}

#[test]
fn clocks_may_differ_by_thirty_seconds_and_no_more() {
    let signer = Signer::new();
    let token = signer.sign(HEADER, &claims().to_string());
    for (now, expected) in [
        (NOW + 300 + 29, None),
        (NOW + 300 + 30, Some(Refused::Expired)),
        (NOW + 300 + 31, Some(Refused::Expired)),
        (NOW - 29, None),
        (NOW - 30, None),
        (NOW - 31, Some(Refused::Early)),
    ] {
        assert_eq!(verify(&token, &signer.key, at(now)).err(), expected, "{}", now - NOW);
    }
    let later = signer.sign(HEADER, &with(&json!({ "nbf": NOW + 100 })));
    for (now, expected) in [(NOW + 69, Some(Refused::Early)), (NOW + 70, None), (NOW + 71, None)] {
        assert_eq!(verify(&later, &signer.key, at(now)).err(), expected, "nbf {}", now - NOW);
    }
}

#[test]
fn what_we_issue_is_read_by_us_alone() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_der();
    let id = Uuid::new_v4();
    let issuer = Issuer::new(&key, id, AUDIENCE.to_owned(), 300).unwrap();
    let (account, session) = (Uuid::now_v7(), Uuid::now_v7());
    let token = issuer.issue(account, session, Scopes::of(Scope::Admin), NOW).unwrap();
    assert!(issuer.is_named(&kid(&token).unwrap()));
    let claims = issuer.read(&token, NOW).unwrap();
    assert_eq!((claims.sub, claims.sid, claims.scope.as_str()), (account, Some(session), "admin"));
    assert_eq!(issuer.read(&token, NOW + 330).unwrap_err(), Refused::Expired);
    let other = Issuer::new(&key, Uuid::new_v4(), AUDIENCE.to_owned(), 300).unwrap();
    assert_eq!(other.read(&token, NOW).unwrap_err(), Refused::Issuer);
    let elsewhere = Issuer::new(&key, id, "https://other.test".to_owned(), 300).unwrap();
    assert_eq!(elsewhere.read(&token, NOW).unwrap_err(), Refused::Audience);
}
