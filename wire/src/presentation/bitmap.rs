//! Sets of record types: the bitmaps of NSEC, NSEC3 and CSYNC (RFC 4034 §4.1.2).

use super::octets::Octets;
use super::problem::Problem;
use super::read::record_type;
use super::tokens::Tokens;
use super::write::display;
use crate::rr::Rtype;

/// Reads types up to the end of the entry; none is an empty set.
pub(crate) fn read(tokens: &mut Tokens<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let mut types = Vec::new();
    while let Some(token) = tokens.next()? {
        types.push(record_type(token)?.0);
    }
    types.sort_unstable();
    types.dedup();
    for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
        let mut bits = [0u8; 32];
        let mut number = 0u8;
        let mut len = 0u8;
        for rtype in window {
            let [high, low] = rtype.to_be_bytes();
            number = high;
            len = (low / 8).saturating_add(1);
            if let Some(octet) = bits.get_mut(usize::from(low / 8)) {
                *octet |= 0x80u8.wrapping_shr(u32::from(low % 8));
            }
        }
        out.extend_from_slice(&[number, len]);
        out.extend_from_slice(bits.get(..usize::from(len)).unwrap_or_default());
    }
    Ok(())
}

/// Writes the types; `None` for a bitmap that is not as the RFC wants it: windows in order, without empty ends.
pub(crate) fn write(octets: &mut Octets<'_>, out: &mut String) -> Option<()> {
    let mut previous = None;
    let mut first = true;
    while !octets.is_empty() {
        let number = octets.u8()?;
        let bits = octets.string()?;
        let in_order = previous.is_none_or(|previous| previous < number);
        if !in_order || bits.len() > 32 || bits.last().is_none_or(|&octet| octet == 0) {
            return None;
        }
        previous = Some(number);
        for low in 0..=255u8 {
            let octet = bits.get(usize::from(low / 8)).copied().unwrap_or_default();
            if octet & 0x80u8.wrapping_shr(u32::from(low % 8)) == 0 {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(' ');
            }
            display(Rtype(u16::from_be_bytes([number, low])), out)?;
        }
    }
    Some(())
}
