//! Queries for names of the zones, beside them, below them and across them, with any type, class and option.

use super::Random;

/// Names to ask for, and to ask below: apexes, names that exist and decide something, and what only resembles one.
const BASES: &[&str] = &[
    "plain.test",
    "nsec.test",
    "nsec3.test",
    "other.test",
    "rich.test",
    "nested.rich.test",
    "hidden.rich.test",
    "test",
    "example.net",
    "version.bind",
    "id.server",
    "",
    "www.plain.test",
    "big.plain.test",
    "chain.plain.test",
    "wild.plain.test",
    "sub.plain.test",
    "many.plain.test",
    "www.nsec.test",
    "big.nsec.test",
    "chain.nsec.test",
    "wild.nsec.test",
    "sub.nsec.test",
    "safe.nsec.test",
    "dn.nsec.test",
    "dnacross.nsec.test",
    "ent.nsec.test",
    "walias.nsec.test",
    "across.nsec.test",
    "www.nsec3.test",
    "big.nsec3.test",
    "chain.nsec3.test",
    "wild.nsec3.test",
    "sub.nsec3.test",
    "safe.nsec3.test",
    "dn.nsec3.test",
    "dnacross.nsec3.test",
    "ent.nsec3.test",
    "walias.nsec3.test",
    "across.nsec3.test",
    "wide.rich.test",
    "mixed.rich.test",
    "crowd.rich.test",
    "heavy.rich.test",
    "_many._tcp.rich.test",
    "mx.rich.test",
    "link1.rich.test",
    "link30.rich.test",
    "circle.rich.test",
    "spin.rich.test",
    "grow.rich.test",
    "star.rich.test",
    "wide-alias.rich.test",
    "wdname.rich.test",
    "wns.rich.test",
    "into-cut.rich.test",
    "into-hidden.rich.test",
    "a.a.a.a.a.a.a.a.deep.rich.test",
    "types.rich.test",
    "updn.nested.rich.test",
    "up.hidden.rich.test",
];

/// Labels below them: those of the zones, and some that no zone has.
const LABELS: &[&str] = &[
    "ns",
    "mail",
    "www",
    "alias",
    "chain",
    "loop",
    "across",
    "away",
    "wild",
    "walias",
    "under",
    "a",
    "b",
    "ent",
    "sub",
    "safe",
    "many",
    "dn",
    "dnacross",
    "_sip",
    "_udp",
    "_tcp",
    "_many",
    "_https",
    "svc",
    "unknown",
    "big",
    "wide",
    "mixed",
    "crowd",
    "heavy",
    "pool",
    "host1",
    "host40",
    "mx",
    "link1",
    "link30",
    "circle",
    "self",
    "spin",
    "grow",
    "wide-alias",
    "wdname",
    "wns",
    "star",
    "*",
    "into",
    "into-cut",
    "into-nothing",
    "into-hidden",
    "nested",
    "hidden",
    "below",
    "deep",
    "types",
    "up",
    "updn",
    "any",
    "nope",
    "zzz",
    "\u{0}",
    "WWW",
    "ns1",
    "long-label-so-that-glue-does-not-fit-into-a-datagram",
    "a-label-of-more-than-fifty-octets-so-that-names-grow-too-long",
];

const TYPES: &[u16] = &[
    1, 1, 1, 28, 2, 5, 6, 12, 15, 16, 33, 35, 39, 43, 44, 46, 47, 48, 50, 51, 52, 64, 65, 99, 251, 252, 253,
    254, 255, 256, 257, 65_280, 0, 65_535,
];
/// Other classes than IN, which most queries have.
const CLASSES: &[u16] = &[3, 4, 254, 255, 0, 2];
const SIZES: &[u16] = &[0, 100, 512, 513, 700, 1231, 1232, 1233, 1400, 4096, 65_535];

/// Code and length: cookie (client alone, with a server part), NSID, keepalive, client subnet, padding, unknown.
const OPTIONS: &[(u16, u16)] =
    &[(10, 8), (10, 16), (10, 24), (10, 40), (3, 0), (11, 0), (11, 2), (8, 7), (12, 30), (65_001, 6)];
/// Cookies of lengths that are wrong.
const WRONG_OPTIONS: &[(u16, u16)] = &[(10, 0), (10, 7), (10, 9), (10, 15), (10, 41)];

/// Writes one.
pub(super) fn query(random: &mut Random, out: &mut Vec<u8>) {
    let has_edns = !random.once_in(3);
    let opcode = if random.once_in(24) { random.below(16) as u16 } else { 0 };
    let flags = opcode << 11 | if random.once_in(2) { 0x0100 } else { 0 };
    for word in [random.next() as u16, flags, 1, 0, 0, u16::from(has_edns)] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    name(random, out);
    let qtype = if random.once_in(16) { random.next() as u16 } else { *random.pick(TYPES) };
    out.extend_from_slice(&qtype.to_be_bytes());
    let qclass = if random.once_in(16) { *random.pick(CLASSES) } else { 1 };
    out.extend_from_slice(&qclass.to_be_bytes());
    if has_edns {
        edns(random, out);
    }
}

fn name(random: &mut Random, out: &mut Vec<u8>) {
    let start = out.len();
    for _ in 0..random.below(3) {
        let text = random.pick(LABELS);
        label(random, text, out);
    }
    for part in random.pick(BASES).split('.').filter(|part| !part.is_empty()) {
        label(random, part, out);
    }
    // Nine in ten are short; the others as long as they may be, or too long.
    if random.once_in(10) {
        let apex = out.split_off(start);
        while out.len() - start + apex.len() < 240 {
            let text = random.pick(LABELS);
            label(random, text, out);
        }
        out.extend_from_slice(&apex);
    }
    out.push(0);
}

/// One label, now and then in upper case (DNS 0x20).
fn label(random: &mut Random, text: &str, out: &mut Vec<u8>) {
    out.push(text.len() as u8);
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    if random.once_in(8) {
        out[start..].make_ascii_uppercase();
    }
}

fn edns(random: &mut Random, out: &mut Vec<u8>) {
    let version = u8::from(random.once_in(32));
    let dnssec_ok = if random.once_in(2) { 0x80 } else { 0 };
    out.extend_from_slice(&[0, 0, 41]);
    out.extend_from_slice(&random.pick(SIZES).to_be_bytes());
    out.extend_from_slice(&[0, version, dnssec_ok, 0]);
    let length_at = out.len();
    out.extend_from_slice(&[0, 0]);
    for _ in 0..random.below(3) {
        let options = if random.once_in(16) { WRONG_OPTIONS } else { OPTIONS };
        let (code, len) = *random.pick(options);
        out.extend_from_slice(&u16::to_be_bytes(code));
        out.extend_from_slice(&u16::to_be_bytes(len));
        for _ in 0..len {
            out.push(random.next() as u8);
        }
    }
    let len = (out.len() - length_at - 2) as u16;
    out[length_at..length_at + 2].copy_from_slice(&len.to_be_bytes());
}
