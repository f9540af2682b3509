//! What is inside the last field of types whose readers refuse a whole message over it: service parameters, type bitmaps, address
//! prefixes, HIP and IPSECKEY.

use crate::name;
use crate::rr::Rtype;

/// Checks it; `last` is the last field of `rdata`. The error says what it holds.
pub(super) fn check(rtype: Rtype, rdata: &[u8], last: &[u8]) -> Result<(), &'static str> {
    let least = match rtype {
        // Even what asks for deletion has an octet (RFC 8078 §4).
        Rtype::DS | Rtype::CDS | Rtype::WKS => 5,
        Rtype::TLSA | Rtype::SMIMEA => 4,
        Rtype::SSHFP => 3,
        Rtype::OPENPGPKEY => 1,
        _ => 0,
    };
    if rdata.len() < least {
        return Err("nothing behind its first fields");
    }
    match rtype {
        Rtype::SVCB | Rtype::HTTPS => service_parameters(last),
        Rtype::NSEC | Rtype::NSEC3 => bitmap(last),
        Rtype::CSYNC => bitmap(rdata.get(6..).unwrap_or_default()),
        Rtype::APL => prefixes(rdata),
        Rtype::HIP => hip(rdata).ok_or("no host identity that fits into it"),
        Rtype::IPSECKEY => gateway(rdata).ok_or("no gateway of its gateway type"),
        _ => Ok(()),
    }
}

/// Two octets, and what follows them.
fn number(octets: &[u8]) -> Option<(u16, &[u8])> {
    octets.split_first_chunk::<2>().map(|(number, rest)| (u16::from_be_bytes(*number), rest))
}

/// Numbers, each higher than the one before; `None` where they are not.
fn ascending(octets: &[u8]) -> Option<&[[u8; 2]]> {
    let (numbers, rest) = octets.as_chunks::<2>();
    let is_ascending = numbers.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
    (rest.is_empty() && !numbers.is_empty() && is_ascending).then_some(numbers)
}

/// RFC 9460 §2.2, §7.1.1, §8.
fn service_parameters(octets: &[u8]) -> Result<(), &'static str> {
    let mut keys: Vec<u16> = Vec::new();
    let mut mandatory: &[[u8; 2]] = &[];
    let mut rest = octets;
    while !rest.is_empty() {
        let parameter = number(rest).and_then(|(key, after)| {
            let (len, after) = number(after)?;
            let (value, after) = after.split_at_checked(usize::from(len))?;
            Some((key, value, after))
        });
        let Some((key, value, after)) = parameter else { return Err("a service parameter that is cut off") };
        if keys.last().is_some_and(|last| *last >= key) {
            return Err("service parameters that are not in the order of their keys (RFC 9460 section 2.2)");
        }
        if key == 0 {
            mandatory = ascending(value).unwrap_or_default();
        }
        if !is_service_value(key, value) {
            return Err(
                "a service parameter whose value does not have the form of its key (RFC 9460 section 7)",
            );
        }
        keys.push(key);
        rest = after;
    }
    let has = |key: u16| keys.binary_search(&key).is_ok();
    if !mandatory.iter().all(|key| has(u16::from_be_bytes(*key))) {
        return Err("mandatory keys that are not there (RFC 9460 section 8)");
    }
    if has(2) && !has(1) {
        return Err("no-default-alpn without alpn (RFC 9460 section 7.1.1)");
    }
    Ok(())
}

/// Whether the value of a service parameter has the form of its key (RFC 9460 §7, §8; `ohttp`: RFC 9540 §4).
pub(crate) fn is_service_value(key: u16, value: &[u8]) -> bool {
    match key {
        0 => ascending(value).is_some_and(|keys| keys.first() != Some(&[0, 0])),
        1 => strings(value),
        2 | 8 => value.is_empty(),
        3 => value.len() == 2,
        4 => !value.is_empty() && value.len().is_multiple_of(4),
        5 => !value.is_empty(),
        6 => !value.is_empty() && value.len().is_multiple_of(16),
        _ => true,
    }
}

/// One or more strings, none of them empty, each behind its length.
fn strings(octets: &[u8]) -> bool {
    let mut rest = octets;
    while let Some((len, after)) = rest.split_first() {
        match after.split_at_checked(usize::from(*len)) {
            Some((string, after)) if !string.is_empty() => rest = after,
            _ => return false,
        }
    }
    !octets.is_empty()
}

/// RFC 4034 §4.1.2.
fn bitmap(octets: &[u8]) -> Result<(), &'static str> {
    let mut rest = octets;
    let mut last = None;
    while let Some((window, after)) = rest.split_first() {
        let block = after.split_first().and_then(|(len, after)| {
            let len = usize::from(*len);
            (1..=32).contains(&len).then(|| after.split_at_checked(len))?
        });
        match block {
            Some((_, after)) if last.is_none_or(|last| last < window) => rest = after,
            _ => return Err("a type bitmap that is none (RFC 4034 section 4.1.2)"),
        }
        last = Some(window);
    }
    Ok(())
}

/// RFC 3123 §4.
fn prefixes(octets: &[u8]) -> Result<(), &'static str> {
    let mut rest = octets;
    while !rest.is_empty() {
        let item = number(rest).and_then(|(family, after)| {
            let ([prefix, length], after) = after.split_first_chunk::<2>()?;
            let (address, after) = after.split_at_checked(usize::from(length & 0x7F))?;
            let bits = match family {
                1 => 32,
                2 => 128,
                _ => u8::MAX,
            };
            // Zeros at the end are left out.
            let is_right =
                *prefix <= bits && address.len() <= usize::from(bits / 8) && address.last() != Some(&0);
            is_right.then_some(after)
        });
        match item {
            Some(after) => rest = after,
            None => return Err("an address prefix that is none (RFC 3123 section 4)"),
        }
    }
    Ok(())
}

/// RFC 8005 §5: an identity, a key, and names of rendezvous servers.
fn hip(rdata: &[u8]) -> Option<()> {
    let ([hit_len, _algorithm], rest) = rdata.split_first_chunk::<2>()?;
    let (key_len, rest) = number(rest)?;
    let (hit, rest) = rest.split_at_checked(usize::from(*hit_len))?;
    let (key, mut rest) = rest.split_at_checked(usize::from(key_len))?;
    while !rest.is_empty() {
        rest = rest.get(name::wire_len(rest).ok()?..)?;
    }
    (!hit.is_empty() && !key.is_empty()).then_some(())
}

/// RFC 4025 §2.3, §2.5.
fn gateway(rdata: &[u8]) -> Option<()> {
    let ([_precedence, kind, _algorithm], rest) = rdata.split_first_chunk::<3>()?;
    let len = match kind {
        0 => 0,
        1 => 4,
        2 => 16,
        3 => name::wire_len(rest).ok()?,
        _ => return None,
    };
    rest.get(len..).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_refuse_a_message_over_is_refused() {
        let svcb = |parameters: &[u8]| [&[0, 1, 0], parameters].concat();
        for (rtype, rdata, is_right) in [
            (Rtype::SVCB, svcb(&[]), true),
            (Rtype::SVCB, svcb(&[0, 1, 0, 3, 2, b'h', b'2', 0, 3, 0, 2, 1, 187]), true),
            (Rtype::HTTPS, svcb(&[0, 3, 0, 2, 1, 187, 0, 1, 0, 3, 2, b'h', b'2']), false),
            (Rtype::HTTPS, svcb(&[0, 3, 0, 2, 1, 187, 0, 3, 0, 2, 1, 187]), false),
            (Rtype::HTTPS, svcb(&[0, 3, 0, 1, 1]), false),
            (Rtype::HTTPS, svcb(&[0, 3, 0, 2, 1]), false),
            (Rtype::HTTPS, svcb(&[0, 1, 0, 3, b'a', b'b', b'c']), false),
            (Rtype::HTTPS, svcb(&[0, 1, 0, 1, 0]), false),
            (Rtype::HTTPS, svcb(&[0, 2, 0, 0]), false),
            (Rtype::HTTPS, svcb(&[0, 1, 0, 3, 2, b'h', b'2', 0, 2, 0, 0]), true),
            (Rtype::HTTPS, svcb(&[0, 0, 0, 2, 0, 3, 0, 3, 0, 2, 1, 187]), true),
            (Rtype::HTTPS, svcb(&[0, 0, 0, 2, 0, 4, 0, 3, 0, 2, 1, 187]), false),
            (Rtype::HTTPS, svcb(&[0, 0, 0, 0]), false),
            (Rtype::HTTPS, svcb(&[0, 4, 0, 5, 1, 2, 3, 4, 5]), false),
            (Rtype::HTTPS, svcb(&[0, 6, 0, 0]), false),
            (Rtype::HTTPS, svcb(&[255, 0, 0, 1, 7]), true),
            (Rtype::NSEC, vec![0, 0, 1, 0x40], true),
            (Rtype::NSEC, vec![0], true),
            (Rtype::NSEC, vec![0, 0, 2, 0x40], false),
            (Rtype::NSEC, vec![0, 0, 0], false),
            (Rtype::NSEC, vec![0, 1, 1, 1, 0, 1, 1], false),
            (Rtype::CSYNC, vec![0, 0, 0, 1, 0, 3, 0, 1, 0x40], true),
            (Rtype::CSYNC, vec![0, 0, 0, 1, 0, 3, 0], false),
            (Rtype::APL, vec![], true),
            (Rtype::APL, vec![0, 1, 24, 3, 192, 0, 2], true),
            (Rtype::APL, vec![0, 1, 24, 0x83, 192, 0, 2], true),
            (Rtype::APL, vec![0, 1, 33, 3, 192, 0, 2], false),
            (Rtype::APL, vec![0, 1, 24, 4, 192, 0, 2], false),
            (Rtype::HIP, vec![1, 2, 0, 1, 7, 8, 1, b'a', 0], true),
            (Rtype::HIP, vec![1, 2, 0, 2, 7, 8], false),
            (Rtype::HIP, vec![1, 2, 0, 1, 7, 8, 1, b'a'], false),
            (Rtype::IPSECKEY, vec![10, 1, 2, 192, 0, 2, 1, 9], true),
            (Rtype::IPSECKEY, vec![10, 2, 2, 192, 0, 2, 1, 9], false),
            (Rtype::IPSECKEY, vec![10, 4, 2], false),
            (Rtype::DS, vec![0, 0, 0, 0], false),
            (Rtype::DS, vec![0, 0, 0, 0, 0], true),
            (Rtype::TLSA, vec![3, 1, 1], false),
            (Rtype::OPENPGPKEY, vec![], false),
        ] {
            let checked = super::super::validate_new(rtype, &rdata);
            assert_eq!(checked.is_ok(), is_right, "{rtype} {rdata:?}: {checked:?}");
        }
    }
}
