use super::*;

const KEYS: [u64; 4] =
    [0x243F_6A88_85A3_08D3, 0x1319_8A2E_0370_7344, 0xA409_3822_299F_31D0, 0x082E_FA98_EC4E_6C89];

fn limits() -> RateLimits {
    RateLimits { answers_per_second: 10, total_per_second: 0, slip: 2, ..RateLimits::default() }
}

fn outcome(kind: Kind, account: u64) -> Outcome {
    Outcome { len: 100, kind, account, ..Outcome::NOTHING }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What becomes of so many answers to one client at one moment: as they are, short, dropped, only counted.
fn tally(limiter: &mut Limiter, client: &str, outcome: &Outcome, count: usize) -> [usize; 4] {
    let mut tally = [0; 4];
    for _ in 0..count {
        let place = match limiter.charge(1_000_000, address(client), outcome).map(|over| over.action) {
            None => 0,
            Some(Limited::Slip) => 1,
            Some(Limited::Drop) => 2,
            Some(Limited::Log) => 3,
            Some(other) => panic!("{other:?}"),
        };
        tally[place] += 1;
    }
    tally
}

#[test]
fn each_account_has_a_bucket_of_its_own() {
    let mut limiter = Limiter::new(&limits(), 1, KEYS);
    // Ten as they are, then every second one short until ten of those are out.
    let www = outcome(Kind::Answer, 1);
    assert_eq!(tally(&mut limiter, "192.0.2.1", &www, 50), [10, 10, 30, 0]);
    assert_eq!(tally(&mut limiter, "192.0.2.200", &www, 10), [0, 0, 10, 0], "the same /24");
    assert_eq!(tally(&mut limiter, "192.0.3.1", &www, 10), [10, 0, 0, 0], "another /24");
    assert_eq!(
        tally(&mut limiter, "192.0.2.1", &outcome(Kind::Answer, 2), 10),
        [10, 0, 0, 0],
        "another name"
    );
    assert_eq!(
        tally(&mut limiter, "192.0.2.1", &outcome(Kind::NoData, 1), 10),
        [10, 0, 0, 0],
        "another kind"
    );
    for (client, fresh) in
        [("2001:db8:0:100::1", true), ("2001:db8:0:1ff::2", false), ("2001:db8:0:200::1", true)]
    {
        let got = tally(&mut limiter, client, &www, 10);
        assert_eq!(got[0], if fresh { 10 } else { 0 }, "{client}, by /56");
    }
    // An IPv4 client on an IPv6 socket is the IPv4 client.
    assert_eq!(tally(&mut limiter, "::ffff:192.0.2.1", &www, 10)[0], 0);
}

#[test]
fn all_answers_to_a_prefix_have_a_limit_together() {
    let mut limiter = Limiter::new(&RateLimits { total_per_second: 25, ..limits() }, 1, KEYS);
    let mut all = [0; 4];
    for account in 0..100 {
        let got = tally(&mut limiter, "192.0.2.1", &outcome(Kind::Answer, account), 5);
        all.iter_mut().zip(got).for_each(|(all, got)| *all += got);
    }
    assert_eq!(all, [25, 25, 450, 0]);
    assert_eq!(tally(&mut limiter, "192.0.3.1", &outcome(Kind::Answer, 1), 10), [10, 0, 0, 0]);
}

/// What is dropped on one account is not charged to the prefix: its other names go on.
#[test]
fn a_flood_for_one_name_leaves_the_prefix_its_other_names() {
    let mut limiter = Limiter::new(&RateLimits { total_per_second: 25, ..limits() }, 1, KEYS);
    assert_eq!(tally(&mut limiter, "192.0.2.1", &outcome(Kind::NxDomain, 1), 10_000)[0], 10);
    assert_eq!(tally(&mut limiter, "192.0.2.1", &outcome(Kind::Answer, 2), 10)[0], 10);
    // And what the prefix may not have is not charged to the account.
    assert_eq!(tally(&mut limiter, "192.0.2.1", &outcome(Kind::Answer, 3), 10_000)[0], 5);
    let later = (0..20)
        .filter(|_| limiter.charge(1_000_500, address("192.0.2.1"), &outcome(Kind::Answer, 3)).is_none());
    assert_eq!(later.count(), 10, "five left and five come back");
}

/// Short answers on many accounts do not add up beyond the limit of the prefix.
#[test]
fn short_answers_have_a_limit_together() {
    let mut limiter = Limiter::new(&RateLimits { total_per_second: 1000, slip: 1, ..limits() }, 1, KEYS);
    let short: usize = (0..200)
        .map(|account| tally(&mut limiter, "192.0.2.1", &outcome(Kind::Answer, account), 100)[1])
        .sum();
    assert_eq!(short, 1000);
}

#[test]
fn workers_share_the_rates() {
    for (workers, share) in [(1, 10), (2, 5), (3, 3), (10, 1), (64, 1)] {
        let mut limiter = Limiter::new(&limits(), workers, KEYS);
        assert_eq!(tally(&mut limiter, "192.0.2.1", &outcome(Kind::Answer, 1), 50)[0], share, "{workers}");
    }
}

#[test]
fn who_is_proven_or_exempt_has_no_limit() {
    let exempt = ["198.51.100.0/24".parse().unwrap(), "2001:db8:9::/48".parse().unwrap()];
    let mut limiter = Limiter::new(&RateLimits { exempt: exempt.into(), ..limits() }, 1, KEYS);
    let www = outcome(Kind::Answer, 1);
    let proven = Outcome { proven: true, ..www };
    assert_eq!(tally(&mut limiter, "192.0.2.1", &proven, 1000), [1000, 0, 0, 0]);
    for client in ["127.0.0.1", "127.9.9.9", "::1", "198.51.100.7", "::ffff:198.51.100.7", "2001:db8:9:8::1"]
    {
        assert_eq!(tally(&mut limiter, client, &www, 100), [100, 0, 0, 0], "{client}");
    }
    let mut limiter = Limiter::new(&RateLimits { exempt_loopback: false, ..limits() }, 1, KEYS);
    assert_eq!(tally(&mut limiter, "127.0.0.1", &www, 100)[0], 10);
}

#[test]
fn log_only_changes_nothing_and_counts() {
    let limits = RateLimits { enforcement: Enforcement::LogOnly, total_per_second: 25, ..limits() };
    let mut limiter = Limiter::new(&limits, 1, KEYS);
    assert_eq!(tally(&mut limiter, "192.0.2.1", &outcome(Kind::Answer, 1), 100), [10, 0, 0, 90]);
    let over = limiter.charge(1_000_000, address("192.0.2.1"), &outcome(Kind::Answer, 1));
    assert_eq!(over, Some(Over { action: Limited::Log, by: LimitedBy::Answer }));
}

#[test]
fn slip_chooses_how_many_go_out_short() {
    for (slip, short) in [(0, 0), (1, 10), (2, 10), (10, 4)] {
        let mut limiter = Limiter::new(&RateLimits { slip, ..limits() }, 1, KEYS);
        let got = tally(&mut limiter, "192.0.2.1", &outcome(Kind::Answer, 1), 50);
        assert_eq!(got, [10, short, 40 - short, 0], "slip {slip}");
    }
}

/// The table stays as large as it was made, whatever comes; and clients that nobody shares a set with lose nothing.
#[test]
fn p7_a_flood_from_forged_prefixes_lets_no_busy_client_have_more_than_its_rate() {
    let mut limiter = Limiter::new(&RateLimits { table_entries: 1024, ..limits() }, 1, KEYS);
    let www = outcome(Kind::Answer, 1);
    let mut got = 0;
    // Two seconds; between two answers to the victim, twenty to prefixes all over.
    for now_ms in 0..2000u32 {
        for other in 0..20 {
            let forged = std::net::Ipv4Addr::from((now_ms * 20 + other).wrapping_mul(0x9E37_79B9));
            limiter.charge(now_ms, IpAddr::from(forged), &www);
        }
        got += usize::from(limiter.charge(now_ms, address("192.0.2.1"), &www).is_none());
    }
    // A bucket's worth, and what 1999 ms bring: as if nobody else had come.
    assert_eq!(got, 29);
}
