//! Random settings: each way in which an operator can change answers.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::pick;
use crate::reference::{Any, Cookies, Settings};

/// Draws settings; the defaults more often than not. Cookies use `secret`.
#[must_use]
pub fn settings(random: &mut ChaCha8Rng, secret: [u8; 16]) -> Settings {
    let mut settings = Settings { cookies: Some(cookies(random, secret)), ..Settings::default() };
    if random.random_bool(0.1) {
        // Some that a world may hold, and some below, above and beside what it holds.
        let apexes = [
            "n.alpha.test.",
            "a.alpha.test.",
            "w.alpha.test.",
            "b.beta.test.",
            "w.beta.test.",
            "gamma.test.",
            "test.",
        ];
        let apex = |_| pick(random, &apexes).parse().expect("a name");
        settings.without_data = (0..3).map(apex).collect();
    }
    if random.random_bool(0.6) {
        return settings;
    }
    settings.any = *pick(random, &[Any::Minimal, Any::AlwaysMinimal, Any::Full]);
    settings.nsid = random.random_bool(0.5).then(|| b"node-1".to_vec());
    settings.udp_payload_max = *pick(random, &[512, 1232, 4096]);
    settings.resolve_cname_chain = random.random_bool(0.7);
    settings.max_cname_depth = *pick(random, &[1, 3, 10, 16]);
    settings.version_bind = random.random_bool(0.5).then(|| b"godwit".to_vec());
    settings.id_server = random.random_bool(0.5).then(|| b"node-1".to_vec());
    settings.tcp_keepalive = random.random_bool(0.5).then_some(300);
    settings.serving = random.random_bool(0.9);
    if random.random_bool(0.2) {
        settings.cookies = None;
    }
    settings
}

fn cookies(random: &mut ChaCha8Rng, secret: [u8; 16]) -> Cookies {
    let other = [0x5A; 16];
    let (current, previous) = match random.random_range(0..3) {
        0 => (secret, None),
        1 => (other, Some(secret)),
        _ => (secret, Some(other)),
    };
    Cookies { current, previous, require: random.random_bool(0.1) }
}
