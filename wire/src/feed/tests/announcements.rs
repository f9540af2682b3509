//! Announcements: one encoding of each, and limits.

use super::{Codec, key};
use crate::feed::*;

const ANNOUNCEMENT: Codec<Announcement> =
    Codec::signed(Announcement::encode, Announcement::encode_signed, Announcement::decode);

fn example() -> Announcement {
    Announcement {
        number: 0x0102_0304_0506_0708,
        keys: vec![VerifyingKey([1; 32]), VerifyingKey([2; 32])],
        urls: vec!["https://a.test:1".to_owned(), "https://[::1]:2".to_owned()],
    }
}

fn reason(announcement: &Announcement) -> Reason {
    Announcement::decode(&ANNOUNCEMENT.octets(announcement)).expect_err("accepted").reason
}

#[test]
fn announcements_read_back_and_nothing_else_does() {
    let bare = Announcement { number: 0, keys: vec![VerifyingKey([0; 32])], urls: Vec::new() };
    for announcement in [example(), bare] {
        ANNOUNCEMENT.reads_back(&announcement);
        ANNOUNCEMENT.refuses_every_prefix_and_suffix(&announcement);
        let octets = ANNOUNCEMENT.octets(&announcement);
        for at in 0..octets.len() {
            for bit in 0..8 {
                let mut changed = octets.clone();
                changed[at] ^= 1 << bit;
                ANNOUNCEMENT.accepts_one_encoding(&changed);
            }
        }
    }
}

/// The octets, once and for all: other versions have to read them.
#[test]
fn an_announcement_has_these_octets() {
    let expected = [
        b"GDWT\x06\x01\0\0\x01\x02\x03\x04\x05\x06\x07\x08\x02".to_vec(),
        vec![1; 32],
        vec![2; 32],
        b"\x02\x10https://a.test:1\x0fhttps://[::1]:2".to_vec(),
    ];
    assert_eq!(ANNOUNCEMENT.octets(&example()), expected.concat());
}

#[test]
fn limits_of_announcements_hold() {
    let url = |text: String| Announcement { urls: vec![text], ..example() };
    assert!(Announcement::decode(&ANNOUNCEMENT.octets(&url("a".repeat(MAX_URL_OCTETS)))).is_ok());
    let empty = Announcement { urls: vec![String::new(), "ab".to_owned()], ..example() };
    assert_eq!(reason(&empty), Reason::Url);
    for text in ["a".repeat(MAX_URL_OCTETS + 1), "a b".into(), "ä".into(), "a\n".into()] {
        assert_eq!(reason(&url(text)), Reason::Url);
    }
    let none = Announcement { keys: Vec::new(), ..example() };
    assert_eq!(reason(&none), Reason::Empty("key in an announcement"));
    let keys = Announcement { keys: vec![VerifyingKey([1; 32]); 5], ..example() };
    let urls = Announcement { urls: vec!["a".to_owned(); 17], ..example() };
    for (announcement, found) in [(keys, 5), (urls, 17)] {
        assert!(matches!(reason(&announcement), Reason::TooMany { found: number, .. } if number == found));
    }
}

#[test]
#[cfg_attr(miri, ignore = "signing is in assembly")]
fn p9_a_signature_of_another_kind_or_key_does_not_fit_an_announcement() {
    let mut signed = Vec::new();
    example().encode_signed(&key(), &mut signed);
    let trusted = [key().verifying_key()];
    assert_eq!(Announcement::verify(&signed, &trusted), Ok(()));
    assert_eq!(Announcement::verify(&signed, &[VerifyingKey([9; 32])]), Err(SignatureError::Invalid));
    assert_eq!(
        Announcement::verify(&ANNOUNCEMENT.octets(&example()), &trusted),
        Err(SignatureError::Missing)
    );
    for at in 8..signed.len() {
        let mut changed = signed.clone();
        changed[at] ^= 1;
        assert!(Announcement::verify(&changed, &trusted).is_err(), "octet {at}");
    }
    // Its octets as those of a head, signed as one.
    signed[4] = 3;
    assert!(Head::verify(&signed, &trusted).is_err() && Announcement::decode(&signed).is_err());
}
