//! The SOA of a zone: its serial, and what a new zone starts with.

use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::{Rrset, Rtype};

/// Octets of the serial and the four times that end the RDATA of an SOA (RFC 1035 §3.3.13).
const TAIL_OCTETS: usize = 20;

/// TTL of the SOA and the NS records that a zone gets when it is made without.
pub const DEFAULT_APEX_TTL_S: u32 = 3_600;

/// What an SOA says but for its serial (RFC 1035 §3.3.13).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Soa {
    /// MNAME: the primary.
    pub primary: Name,
    /// RNAME: the mailbox of who is responsible.
    pub mailbox: Name,
    /// Seconds.
    pub refresh: u32,
    /// Seconds.
    pub retry: u32,
    /// Seconds.
    pub expire: u32,
    /// Seconds for which a negative response may be cached (RFC 2308 §4).
    pub minimum: u32,
}

impl Soa {
    /// As it is for a new zone.
    #[must_use]
    pub fn of_new_zone(primary: Name, mailbox: Name) -> Soa {
        Soa { primary, mailbox, refresh: 7_200, retry: 3_600, expire: 1_209_600, minimum: 60 }
    }

    /// The RRset, with serial 0: the commit sets it.
    #[must_use]
    pub fn rrset(&self) -> Rrset {
        let mut rdata = self.primary.as_wire().to_vec();
        rdata.extend_from_slice(self.mailbox.as_wire());
        for number in [0, self.refresh, self.retry, self.expire, self.minimum] {
            rdata.extend_from_slice(&number.to_be_bytes());
        }
        Rrset::new(Rtype::SOA, DEFAULT_APEX_TTL_S, vec![rdata.into()], vec![])
    }

    /// Reads one back; `None` when it is none.
    #[must_use]
    pub fn of_rrset(soa: &Rrset) -> Option<Soa> {
        let rdata = soa.rdata.first()?;
        let (primary, rest) = name_of(rdata)?;
        let (mailbox, rest) = name_of(rest)?;
        let numbers: &[u8; TAIL_OCTETS] = rest.try_into().ok()?;
        let number = |at: usize| {
            numbers[at * 4..].first_chunk::<4>().map(|octets| u32::from_be_bytes(*octets)).unwrap_or_default()
        };
        Some(Soa {
            primary,
            mailbox,
            refresh: number(1),
            retry: number(2),
            expire: number(3),
            minimum: number(4),
        })
    }
}

fn name_of(octets: &[u8]) -> Option<(Name, &[u8])> {
    let len = godwit_wire::name::wire_len(octets).ok()?;
    let (name, rest) = octets.split_at_checked(len)?;
    Some((Name::from_wire(name).ok()?, rest))
}

/// The NS RRset of a new zone.
#[must_use]
pub fn ns_rrset(servers: &[Name]) -> Rrset {
    let rdata = servers.iter().map(|server| server.as_wire().into()).collect();
    Rrset::new(Rtype::NS, DEFAULT_APEX_TTL_S, rdata, vec![])
}

/// The mailbox of a new zone: `hostmaster` at its apex (RFC 2142 §7); at the root where that is too long to exist.
#[must_use]
pub fn default_mailbox(apex: NameRef<'_>) -> Name {
    let mut wire = b"\x0ahostmaster".to_vec();
    wire.extend_from_slice(apex.as_wire());
    Name::from_wire(&wire).unwrap_or_else(|_| Name::root())
}

/// The serial of an SOA; `None` when it is too short to have one.
#[must_use]
pub fn serial_of(soa: &Rrset) -> Option<u32> {
    let tail = soa.rdata.first()?.last_chunk::<TAIL_OCTETS>()?;
    tail.first_chunk::<4>().map(|octets| u32::from_be_bytes(*octets))
}

/// Sets the serial of an SOA.
pub fn set_serial(soa: &mut Rrset, serial: u32) {
    if let Some(tail) = soa.rdata.first_mut().and_then(|rdata| rdata.last_chunk_mut::<TAIL_OCTETS>()) {
        tail[..4].copy_from_slice(&serial.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_soa_reads_back_and_its_serial_is_set() {
        let apex: Name = "example.com.".parse().unwrap();
        let soa = Soa::of_new_zone("ns1.example.net.".parse().unwrap(), default_mailbox(apex.as_ref()));
        assert_eq!(soa.mailbox.to_string(), "hostmaster.example.com.");
        let mut rrset = soa.rrset();
        assert_eq!(godwit_wire::rdata::validate(Rtype::SOA, &rrset.rdata[0]), Ok(()));
        set_serial(&mut rrset, 0x0102_0304);
        assert_eq!(serial_of(&rrset), Some(0x0102_0304));
        assert_eq!(Soa::of_rrset(&rrset), Some(soa));
    }
}
