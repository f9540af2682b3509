//! HIP: host identities and rendezvous servers (RFC 8005).

use super::octets::Octets;
use super::problem::Problem;
use super::radix::Radix;
use super::read::letters;
use super::tokens::Tokens;
use super::write::{display, some};
use super::{names, number};

/// `algorithm HIT public-key [rendezvous server …]`; on the wire the two lengths come first (RFC 8005 §5).
pub(crate) fn read(tokens: &mut Tokens<'_>, origin: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let algorithm = number::u8(tokens.need("a public key algorithm")?)?;
    let token = tokens.need("a host identity tag in hexadecimal digits")?;
    let mut tag = Vec::new();
    letters(Radix::Hex, token, &mut tag)?;
    let tag_len = u8::try_from(tag.len()).ok().filter(|&len| len > 0);
    let tag_len = tag_len.ok_or_else(|| Problem::new(token, "a tag of 1 to 255 octets"))?;
    let token = tokens.need("a public key in base 64")?;
    let mut key = Vec::new();
    letters(Radix::Base64, token, &mut key)?;
    let key_len = u16::try_from(key.len()).ok().filter(|&len| len > 0);
    let key_len = key_len.ok_or_else(|| Problem::new(token, "a key of 1 to 65535 octets"))?;
    out.extend_from_slice(&[tag_len, algorithm]);
    out.extend_from_slice(&key_len.to_be_bytes());
    out.extend_from_slice(&tag);
    out.extend_from_slice(&key);
    while let Some(token) = tokens.next()? {
        names::read(token, origin, out)?;
    }
    Ok(())
}

pub(crate) fn write(octets: &mut Octets<'_>, out: &mut String) -> Option<()> {
    let (tag_len, algorithm, key_len) = (octets.u8()?, octets.u8()?, octets.u16()?);
    display(algorithm, out)?;
    out.push(' ');
    some(octets.take(usize::from(tag_len))?, Radix::Hex, out)?;
    out.push(' ');
    some(octets.take(usize::from(key_len))?, Radix::Base64, out)?;
    while !octets.is_empty() {
        out.push(' ');
        names::write(octets.name()?, out)?;
    }
    Some(())
}
