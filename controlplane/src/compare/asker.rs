//! Questions to the engine, and its answers as values that can be compared and shown.

use domain::base::name::ToName as _;
use domain::base::rdata::ComposeRecordData as _;
use domain::base::{Message, ParsedName, ParsedRecord};
use domain::rdata::AllRecordData;
use godwit_engine::answer::{Answerer, Client, Kind, Settings, Transport};
use godwit_engine::snapshot::Snapshot;
use godwit_wire::message::{MAX_MESSAGE_OCTETS, rcode};
use godwit_wire::name::Name;
use godwit_wire::presentation;
use godwit_wire::rr::Rtype;

/// Begins the label of a name that stands for many.
pub(super) const STAND_IN: &str = "any-";

/// An answer as it is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Said {
    /// RCODE.
    pub rcode: &'static str,
    /// `answer`, `referral`, `nodata`, `nxdomain`, or `error`.
    pub kind: &'static str,
    /// The records of an answer, or the NS records of a referral, as lines of a zone file. What stands for many names is
    /// written as `*`.
    pub records: Vec<String>,
}

/// A record of an answer.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Record {
    owner: Name,
    rtype: Rtype,
    ttl: u32,
    rdata: Vec<u8>,
}

/// What the engine says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    rcode: u16,
    kind: Kind,
    /// The answer section is not empty.
    led: bool,
    /// Of the answer section, and the servers of a referral.
    records: Vec<Record>,
}

/// Asks one snapshot.
pub(super) struct Asker<'s> {
    snapshot: &'s Snapshot,
    answerer: Answerer,
    settings: Settings,
    client: Client,
    out: Vec<u8>,
}

impl<'s> Asker<'s> {
    pub(super) fn new(snapshot: &'s Snapshot) -> Asker<'s> {
        // Over TCP nothing is cut off.
        let client = Client { address: [127, 0, 0, 1].into(), transport: Transport::Tcp };
        let out = vec![0; MAX_MESSAGE_OCTETS];
        Asker { snapshot, answerer: Answerer::new(), settings: Settings::default(), client, out }
    }

    pub(super) fn ask(&mut self, name: &Name, rtype: Rtype) -> Answer {
        let mut packet = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend_from_slice(name.as_ref().as_wire());
        packet.extend_from_slice(&rtype.0.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        let Asker { snapshot, answerer, settings, client, out } = self;
        let outcome = answerer.answer(snapshot, settings, client, 0, &packet, out);
        let octets = out.get(..outcome.len).unwrap_or_default();
        let (led, mut records) = read(octets, outcome.kind).unwrap_or_default();
        records.sort();
        Answer { rcode: outcome.rcode, kind: outcome.kind, led, records }
    }
}

type AnyData<'a> = AllRecordData<&'a [u8], ParsedName<&'a [u8]>>;

/// The records that a client acts on, and whether some of them are an answer: an alias may lead to a referral. `None` for no
/// message: the engine writes none that cannot be read.
fn read(octets: &[u8], kind: Kind) -> Option<(bool, Vec<Record>)> {
    let message = Message::from_octets(octets).ok()?;
    let answer = message.answer().ok()?.filter_map(Result::ok);
    let mut records: Vec<Record> = answer.filter_map(|record| record_of(&record)).collect();
    let led = message.header_counts().ancount() > 0;
    if kind == Kind::Referral {
        let servers = message.authority().ok()?.filter_map(Result::ok);
        let servers = servers.filter_map(|record| record_of(&record));
        records.extend(servers.filter(|record| record.rtype == Rtype::NS));
    }
    Some((led, records))
}

fn record_of(record: &ParsedRecord<'_, &[u8]>) -> Option<Record> {
    let owner = Name::from_wire(record.owner().to_vec().as_slice()).ok()?;
    let rtype = Rtype(record.rtype().to_int());
    let typed = record.to_any_record::<AnyData<'_>>().ok()?;
    let mut rdata = Vec::new();
    let Ok(()) = typed.data().compose_rdata(&mut rdata);
    Some(Record { owner, rtype, ttl: record.ttl().as_secs(), rdata })
}

impl Answer {
    /// Whether it leads elsewhere, where a type was asked for that nobody has.
    pub(super) fn is_alias(&self) -> bool {
        self.led
    }

    /// Whether a client would see a difference: serials rise with every change and say nothing.
    pub(super) fn differs(&self, other: &Answer) -> bool {
        self.rcode != other.rcode
            || self.kind != other.kind
            || self.records.len() != other.records.len()
            || self.records.iter().zip(&other.records).any(|(a, b)| !a.is_like(b))
    }

    /// To be shown; `stand_in` is the name that stands for many.
    pub(super) fn said(&self, stand_in: Option<&Name>) -> Said {
        let label = stand_in.and_then(|name| name.as_ref().labels().next().map(<[u8]>::to_vec));
        let label = label.and_then(|label| String::from_utf8(label).ok());
        let lines = self.records.iter().map(|record| record.line(label.as_deref()));
        Said {
            rcode: match self.rcode {
                rcode::NOERROR => "NOERROR",
                rcode::NXDOMAIN => "NXDOMAIN",
                rcode::REFUSED => "REFUSED",
                rcode::SERVFAIL => "SERVFAIL",
                6 => "YXDOMAIN",
                _ => "OTHER",
            },
            kind: match self.kind {
                Kind::Answer => "answer",
                Kind::Referral => "referral",
                Kind::NoData => "nodata",
                Kind::NxDomain => "nxdomain",
                Kind::Error => "error",
            },
            records: lines.collect(),
        }
    }
}

impl Record {
    fn is_like(&self, other: &Record) -> bool {
        let same = (&self.owner, self.rtype, self.ttl) == (&other.owner, other.rtype, other.ttl);
        same && without_serial(self.rtype, &self.rdata) == without_serial(other.rtype, &other.rdata)
    }

    fn line(&self, label: Option<&str>) -> String {
        let owner = self.owner.to_string();
        let rdata = presentation::format_rdata(self.rtype, &self.rdata);
        // What a DNAME makes of the name begins with the same label.
        let general = |text: String| match label.and_then(|label| text.strip_prefix(label)) {
            Some(rest) if rest.starts_with('.') => format!("*{rest}"),
            _ => text,
        };
        format!("{} {} IN {} {}", general(owner), self.ttl, self.rtype, general(rdata))
    }
}

/// The RDATA of an SOA in two parts around its serial (RFC 1035 §3.3.13); of others all of it.
fn without_serial(rtype: Rtype, rdata: &[u8]) -> (&[u8], &[u8]) {
    if rtype != Rtype::SOA {
        return (rdata, &[]);
    }
    let serial = rdata.len().saturating_sub(20);
    (rdata.get(..serial).unwrap_or_default(), rdata.get(serial + 4..).unwrap_or_default())
}
