//! IPSECKEY: public keys for IPsec, with a gateway whose form its type decides (RFC 4025).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::octets::Octets;
use super::problem::Problem;
use super::radix::{Decoder, Radix};
use super::read::{ipv4, ipv6};
use super::tokens::Tokens;
use super::write::display;
use super::{names, number};

/// Gateway types (RFC 4025 §2.3).
const NONE: u8 = 0;
const IPV4: u8 = 1;
const IPV6: u8 = 2;
const NAME: u8 = 3;

/// `precedence gateway-type algorithm gateway [public-key]`
pub(crate) fn read(tokens: &mut Tokens<'_>, origin: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let precedence = number::u8(tokens.need("a precedence")?)?;
    let gateway_type = tokens.need("a gateway type")?;
    let kind = number::u8(gateway_type)?;
    let algorithm = number::u8(tokens.need("an algorithm")?)?;
    out.extend_from_slice(&[precedence, kind, algorithm]);
    let gateway = tokens.need("a gateway")?;
    match kind {
        NONE if gateway.raw == b"." => {}
        NONE => return Err(Problem::new(gateway, "\".\", as the gateway type says none")),
        IPV4 => out.extend_from_slice(&ipv4(gateway)?),
        IPV6 => out.extend_from_slice(&ipv6(gateway)?),
        NAME => names::read(gateway, origin, out)?,
        _ => return Err(Problem::new(gateway_type, "a gateway type from 0 to 3")),
    }
    let mut decoder = Decoder::new(Radix::Base64);
    let mut last = gateway;
    while let Some(token) = tokens.next()? {
        decoder.push(token.raw, out).ok_or_else(|| Problem::new(token, Radix::Base64.expected()))?;
        last = token;
    }
    decoder.finish().ok_or_else(|| Problem::new(last, Radix::Base64.expected()))
}

pub(crate) fn write(octets: &mut Octets<'_>, out: &mut String) -> Option<()> {
    let (precedence, kind, algorithm) = (octets.u8()?, octets.u8()?, octets.u8()?);
    display(format_args!("{precedence} {kind} {algorithm} "), out)?;
    match kind {
        NONE => out.push('.'),
        IPV4 => display(Ipv4Addr::from(octets.array::<4>()?), out)?,
        IPV6 => display(Ipv6Addr::from(octets.array::<16>()?), out)?,
        NAME => names::write(octets.name()?, out)?,
        _ => return None,
    }
    let key = octets.rest();
    if !key.is_empty() {
        out.push(' ');
        Radix::Base64.write(key, out);
    }
    Some(())
}
