//! Announcements of keys and places: as heads, and what is accepted keeps to the limits.

use godwit_wire::feed::{Announcement, MAX_ANNOUNCED_KEYS, MAX_ANNOUNCED_URLS, MAX_URL_OCTETS, VerifyingKey};

use crate::{Target, holding, names, samples};

/// Checks the properties.
pub fn run(data: &[u8]) {
    assert!(Announcement::verify(data, &[VerifyingKey([9; 32])]).is_err(), "a forged signature is accepted");
    let Ok(announcement) = Announcement::decode(data) else { return };
    let Announcement { keys, urls, .. } = &announcement;
    assert!((1..=MAX_ANNOUNCED_KEYS).contains(&(keys.len() as u64)), "as many keys as there may not be");
    assert!(urls.len() as u64 <= MAX_ANNOUNCED_URLS, "more URLs than there may be");
    assert!(urls.iter().all(|url| (1..=MAX_URL_OCTETS).contains(&url.len()) && url.is_ascii()));
    if !samples::is_signed(data) {
        let again = samples::octets(|out| announcement.encode(out));
        assert_eq!(again, data, "accepted octets that are written differently");
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "announcement",
        run,
        classes: names(&["no-urls", "urls", "two-keys", "signed"]),
        classify: |data| {
            Announcement::decode(data).map_or_else(
                |_| Vec::new(),
                |announcement| {
                    let trusted = [samples::signing_key().verifying_key()];
                    holding(&[
                        ("no-urls", announcement.urls.is_empty()),
                        ("urls", !announcement.urls.is_empty()),
                        ("two-keys", announcement.keys.len() == 2),
                        ("signed", Announcement::verify(data, &trusted).is_ok()),
                    ])
                },
            )
        },
        seeds: || {
            let one = Announcement { number: 1, keys: vec![VerifyingKey([1; 32])], urls: Vec::new() };
            let two = Announcement {
                number: 2,
                keys: vec![samples::signing_key().verifying_key(), VerifyingKey([2; 32])],
                urls: vec!["https://a.example:8054".to_owned(), "https://[2001:db8::1]:8054".to_owned()],
            };
            vec![
                ("no-urls".to_owned(), samples::octets(|out| one.encode(out))),
                ("urls".to_owned(), samples::octets(|out| two.encode(out))),
                ("signed".to_owned(), samples::octets(|out| two.encode_signed(&samples::signing_key(), out))),
            ]
        },
    }
}
