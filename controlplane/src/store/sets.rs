//! How the records of an RRset stand in one column: each RDATA behind its length in two octets.

/// Packs RDATA. Each is at most 65,535 octets (checked where it was parsed).
#[must_use]
pub fn pack(rdata: &[Box<[u8]>]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(rdata.iter().map(|one| one.len() + 2).sum());
    for one in rdata {
        let len = u16::try_from(one.len()).expect("RDATA was checked to fit its length field");
        octets.extend_from_slice(&len.to_be_bytes());
        octets.extend_from_slice(one);
    }
    octets
}

/// Reads what [`pack`] wrote; `None` when the octets end inside one.
#[must_use]
pub fn unpack(mut octets: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut rdata = Vec::new();
    while !octets.is_empty() {
        let (len, rest) = octets.split_first_chunk::<2>()?;
        let (one, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        rdata.push(one.into());
        octets = rest;
    }
    Some(rdata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_reads_back_and_damage_is_seen() {
        let rdata: Vec<Box<[u8]>> = vec![Box::new([1, 2, 3]), Box::new([]), vec![7; 65_535].into()];
        let octets = pack(&rdata);
        assert_eq!(unpack(&octets), Some(rdata));
        assert_eq!(unpack(&octets[..octets.len() - 1]), None);
        assert_eq!(unpack(&[0]), None);
    }
}
