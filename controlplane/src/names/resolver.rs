//! What a resolver says about a name, its TXT records, addresses or name servers, and to whom a server of the zone above refers: asked by
//! UDP, and by TCP where the answer is too long for that. The port is the system's choice and the id random, so that somebody who does not
//! see the question cannot answer it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message::RecordSection;
use domain::base::name::ToName as _;
use domain::base::{Message, ParsedName};
use domain::rdata::{A, Aaaa, Cname, Ns, Txt};
use godwit_wire::name::Name;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Datagrams get lost.
const ATTEMPTS: usize = 2;
/// The most octets of an answer by UDP, where no more is asked for (RFC 1035 §2.3.4).
const DATAGRAM: usize = 512;
/// The most aliases from a name to its addresses.
const MOST_ALIASES: usize = 10;

/// What may be read of an answer.
#[derive(Debug, Eq, PartialEq)]
enum Answer<T> {
    /// What was asked for.
    Found(T),
    /// It does not fit.
    Cut,
    /// It is none to this question.
    Other,
    /// The resolver knows nothing.
    Failed(String),
}

/// Takes what was asked for out of an answer about a name.
type Take<T> = for<'a> fn(&Message<&'a [u8]>, &ParsedName<&'a [u8]>) -> Option<T>;

/// The texts of a name, each in one piece; none where it has none, or is not there.
///
/// # Errors
/// Why nothing is known.
pub(super) async fn texts(resolver: SocketAddr, name: &Name) -> Result<Vec<Vec<u8>>, String> {
    ask_in_time(resolver, name, Rtype::TXT, Asks::RESOLVER, texts_of).await
}

/// The name servers that stand at a name itself, where a zone begins there.
///
/// # Errors
/// Why nothing is known.
pub(super) async fn name_servers(resolver: SocketAddr, name: &Name) -> Result<Vec<Name>, String> {
    ask_in_time(resolver, name, Rtype::NS, Asks::RESOLVER, name_servers_of).await
}

/// The name servers to which a server of the zone above refers whoever asks for a name; none where it has something else to say by its
/// own authority. What it has in a zone of that name is no referral: that is not what the zone above says.
///
/// # Errors
/// Why nothing is known.
pub(super) async fn referral(server: SocketAddr, name: &Name) -> Result<Vec<Name>, String> {
    let referral = ask_in_time(server, name, Rtype::NS, Asks::SERVER, referral_of).await?;
    referral.ok_or_else(|| format!("{server} does not serve the zone above"))
}

/// As [`addresses`], asked again where it does not answer.
///
/// # Errors
/// Why nothing is known.
pub(super) async fn addresses_in_time(
    resolver: SocketAddr,
    name: &Name,
    is_six: bool,
) -> Result<Vec<IpAddr>, String> {
    ask_in_time(resolver, name, type_of(is_six), Asks::RESOLVER, addresses_of).await
}

/// As [`ask`], again where there is no answer.
async fn ask_in_time<T>(
    server: SocketAddr,
    name: &Name,
    rtype: Rtype,
    asks: Asks,
    take: Take<T>,
) -> Result<T, String> {
    let mut last = Err("it does not answer".to_owned());
    for _ in 0..ATTEMPTS {
        last = match tokio::time::timeout(PATIENCE, ask(server, name, rtype, asks, take)).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err("it does not answer".to_owned()),
        };
    }
    last
}

/// The addresses of a name, of one family, behind its aliases; none where it has none, or is not there. Asked once.
///
/// # Errors
/// Why nothing is known.
pub(crate) async fn addresses(
    resolver: SocketAddr,
    name: &Name,
    is_six: bool,
) -> Result<Vec<IpAddr>, String> {
    ask(resolver, name, type_of(is_six), Asks::RESOLVER, addresses_of).await
}

fn type_of(is_six: bool) -> Rtype {
    if is_six { Rtype::AAAA } else { Rtype::A }
}

async fn ask<T>(
    resolver: SocketAddr,
    name: &Name,
    rtype: Rtype,
    asks: Asks,
    take: Take<T>,
) -> Result<T, String> {
    let failed = |error: std::io::Error| error.to_string();
    let question = question(name, rtype, asks)?;
    let any = match resolver.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(failed)?;
    socket.connect(resolver).await.map_err(failed)?;
    socket.send(&question).await.map_err(failed)?;
    let mut octets = [0; DATAGRAM];
    loop {
        let len = socket.recv(&mut octets).await.map_err(failed)?;
        match read(octets.get(..len).unwrap_or_default(), &question, take) {
            Answer::Found(found) => return Ok(found),
            Answer::Failed(reason) => return Err(reason),
            Answer::Cut => return ask_by_tcp(resolver, &question, take).await,
            // Somebody else's: the right one may still come.
            Answer::Other => {}
        }
    }
}

async fn ask_by_tcp<T>(resolver: SocketAddr, question: &[u8], take: Take<T>) -> Result<T, String> {
    let asked = async {
        let mut stream = TcpStream::connect(resolver).await?;
        let len = u16::try_from(question.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&len.to_be_bytes(), question].concat()).await?;
        let len = stream.read_u16().await?;
        let mut octets = vec![0; usize::from(len)];
        stream.read_exact(&mut octets).await?;
        Ok(octets)
    };
    let octets = asked.await.map_err(|error: std::io::Error| error.to_string())?;
    match read(&octets, question, take) {
        Answer::Found(found) => Ok(found),
        Answer::Failed(reason) => Err(reason),
        Answer::Cut | Answer::Other => Err("its answer is none".to_owned()),
    }
}

/// Whether others are to be asked for it: the bit of the header (RFC 1035 §4.1.1).
#[derive(Clone, Copy)]
struct Asks(u8);

impl Asks {
    const RESOLVER: Asks = Asks(1);
    const SERVER: Asks = Asks(0);
}

/// Records of a name.
fn question(name: &Name, rtype: Rtype, asks: Asks) -> Result<Vec<u8>, String> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| error.to_string())?;
    let mut packet = vec![id[0], id[1], asks.0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(name.as_ref().as_wire());
    packet.extend_from_slice(&rtype.to_int().to_be_bytes());
    packet.extend_from_slice(&Class::IN.to_int().to_be_bytes());
    Ok(packet)
}

fn read<T>(octets: &[u8], question: &[u8], take: Take<T>) -> Answer<T> {
    found(octets, question, take).unwrap_or(Answer::Other)
}

/// `None`: it is no answer to the question.
fn found<T>(octets: &[u8], question: &[u8], take: Take<T>) -> Option<Answer<T>> {
    let (message, asked) = (Message::from_octets(octets).ok()?, Message::from_octets(question).ok()?);
    let (said, meant) = (message.sole_question().ok()?, asked.sole_question().ok()?);
    let header = message.header();
    let is_ours = header.qr()
        && header.id() == asked.header().id()
        && said.qname().name_eq(meant.qname())
        && said.qtype() == meant.qtype()
        && said.qclass() == meant.qclass();
    if !is_ours {
        return None;
    }
    if header.tc() {
        return Some(Answer::Cut);
    }
    if !matches!(header.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN) {
        return Some(Answer::Failed(format!("it answers {}", header.rcode())));
    }
    take(&message, meant.qname()).map(Answer::Found)
}

fn texts_of(message: &Message<&[u8]>, asked: &ParsedName<&[u8]>) -> Option<Vec<Vec<u8>>> {
    // Not those behind an alias: a wildcard that is one would have whoever has its target prove the names of others.
    let records = message.answer().ok()?.limit_to::<Txt<_>>().filter_map(Result::ok);
    let own = records.filter(|record| record.owner().name_eq(asked));
    let texts = own.map(|record| {
        let strings = record.data().iter();
        strings.fold(Vec::new(), |mut text, part| {
            text.extend_from_slice(part);
            text
        })
    });
    Some(texts.collect())
}

fn name_servers_of(message: &Message<&[u8]>, asked: &ParsedName<&[u8]>) -> Option<Vec<Name>> {
    targets(message.answer().ok()?, asked)
}

/// `None` of it: neither a referral to servers of the name nor said with authority, as by a server that refers to the root, or by a
/// resolver.
fn referral_of(message: &Message<&[u8]>, asked: &ParsedName<&[u8]>) -> Option<Option<Vec<Name>>> {
    if message.header().aa() {
        return Some(Some(Vec::new()));
    }
    let named = targets(message.authority().ok()?, asked)?;
    let refers = message.header_counts().ancount() == 0 && !named.is_empty();
    Some(refers.then_some(named))
}

/// The name servers of a name that a section has.
fn targets(section: RecordSection<'_, &[u8]>, asked: &ParsedName<&[u8]>) -> Option<Vec<Name>> {
    let records = section.limit_to::<Ns<_>>().filter_map(Result::ok);
    let own = records.filter(|record| record.owner().name_eq(asked));
    own.map(|record| Name::from_wire(record.data().nsdname().to_vec().as_slice()).ok()).collect()
}

fn addresses_of(message: &Message<&[u8]>, asked: &ParsedName<&[u8]>) -> Option<Vec<IpAddr>> {
    let mut owner = asked.to_vec();
    for _ in 0..MOST_ALIASES {
        let mut aliases = message.answer().ok()?.limit_to::<Cname<_>>().filter_map(Result::ok);
        let Some(alias) = aliases.find(|alias| alias.owner().name_eq(&owner)) else { break };
        owner = alias.data().cname().to_vec();
    }
    let four = message.answer().ok()?.limit_to::<A>().filter_map(Result::ok);
    let six = message.answer().ok()?.limit_to::<Aaaa>().filter_map(Result::ok);
    let four =
        four.filter(|record| record.owner().name_eq(&owner)).map(|record| IpAddr::V4(record.data().addr()));
    let six =
        six.filter(|record| record.owner().name_eq(&owner)).map(|record| IpAddr::V6(record.data().addr()));
    Some(four.chain(six).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        "_godwit-challenge.example.com.".parse().unwrap()
    }

    /// An answer with one text in two strings.
    fn answer(question: &[u8]) -> Vec<u8> {
        let mut answer = question.to_vec();
        answer[2] = 0x81;
        answer[7] = 1;
        answer.extend_from_slice(&[0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 6, 2, b'a', b'b', 2, b'c', b'd']);
        answer
    }

    #[test]
    fn only_an_answer_to_the_question_counts() {
        let question = question(&name(), Rtype::TXT, Asks::RESOLVER).unwrap();
        let good = answer(&question);
        assert_eq!(read(&good, &question, texts_of), Answer::Found(vec![b"abcd".to_vec()]));
        let changed = |at: usize, octet: u8| {
            let mut octets = good.clone();
            octets[at] = octet;
            read(&octets, &question, texts_of)
        };
        // The id, the bit of answers, a letter of the name, its type.
        for (at, octet) in [(0, !good[0]), (1, !good[1]), (2, 1), (14, b'x'), (good.len() - 21, 1)] {
            assert_eq!(changed(at, octet), Answer::Other, "{at}");
        }
        assert_eq!(changed(2, 0x83), Answer::Cut);
        assert_eq!(changed(3, 3), Answer::Found(vec![b"abcd".to_vec()]));
        assert!(matches!(changed(3, 2), Answer::Failed(_)));
        for len in 0..good.len() {
            let _ = read(&good[..len], &question, texts_of);
        }
        assert_eq!(read(&good[..11], &question, texts_of), Answer::Other);
    }

    #[test]
    fn what_stands_behind_an_alias_proves_nothing() {
        let question = question(&name(), Rtype::TXT, Asks::RESOLVER).unwrap();
        let mut octets = question.clone();
        octets[2] = 0x81;
        octets[7] = 2;
        // CNAME a.b., which has the text.
        octets.extend_from_slice(&[0xC0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 5, 1, b'a', 1, b'b', 0]);
        let target = u8::try_from(octets.len() - 5).unwrap();
        octets.extend_from_slice(&[0xC0, target, 0, 16, 0, 1, 0, 0, 0, 60, 0, 5, 4, b'a', b'b', b'c', b'd']);
        assert_eq!(read(&octets, &question, texts_of), Answer::Found(Vec::new()));
    }

    #[test]
    fn addresses_are_those_behind_the_aliases_of_the_name_and_no_others() {
        let question = question(&name(), Rtype::A, Asks::RESOLVER).unwrap();
        let mut octets = question.clone();
        octets[2] = 0x81;
        octets[7] = 4;
        // CNAME a.b., which has two addresses; somebody else's name has another one.
        octets.extend_from_slice(&[0xC0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 5, 1, b'a', 1, b'b', 0]);
        let target = u8::try_from(octets.len() - 5).unwrap();
        for (owner, last) in [([0xC0, target], 1), ([0xC0, target], 2), ([0xC0, target + 2], 3)] {
            octets.extend_from_slice(&owner);
            octets.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
        }
        let expected: Vec<IpAddr> = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        assert_eq!(read(&octets, &question, addresses_of), Answer::Found(expected));
        for len in 0..octets.len() {
            let _ = read(&octets[..len], &question, addresses_of);
        }
        // One that leads to itself has none.
        let mut looped = question.clone();
        looped[2] = 0x81;
        looped[7] = 1;
        looped.extend_from_slice(&[0xC0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xC0, 12]);
        assert_eq!(read(&looped, &question, addresses_of), Answer::Found(Vec::new()));
    }

    /// NS n.s. of the name that was asked for, in capitals, and another one of another name.
    fn referral_to(question: &[u8]) -> Vec<u8> {
        let mut octets = question.to_vec();
        octets[2] = 0x80;
        octets[9] = 2;
        octets.extend_from_slice(&[0xC0, 12, 0, 2, 0, 1, 0, 0, 0, 60, 0, 5, 1, b'N', 1, b'S', 0]);
        octets.extend_from_slice(&[0xC0, 30, 0, 2, 0, 1, 0, 0, 0, 60, 0, 5, 1, b'x', 1, b'y', 0]);
        octets
    }

    fn servers() -> Vec<Name> {
        vec!["n.s.".parse().unwrap()]
    }

    #[test]
    fn what_a_server_has_itself_is_no_referral() {
        let question = question(&name(), Rtype::NS, Asks::SERVER).unwrap();
        assert_eq!(question[2], 0);
        let mut octets = referral_to(&question);
        assert_eq!(read(&octets, &question, referral_of), Answer::Found(Some(servers())));
        for len in 0..octets.len() {
            let _ = read(&octets[..len], &question, referral_of);
        }
        octets[2] = 0x84;
        assert_eq!(read(&octets, &question, referral_of), Answer::Found(Some(Vec::new())));
    }

    #[test]
    fn what_a_server_does_not_serve_it_neither_delegates_nor_denies() {
        let question = question(&name(), Rtype::NS, Asks::SERVER).unwrap();
        // From a cache.
        let mut answered = referral_to(&question);
        answered[7] = 1;
        answered[9] = 1;
        assert_eq!(read(&answered, &question, name_servers_of), Answer::Found(servers()));
        assert_eq!(read(&answered, &question, referral_of), Answer::Found(None));
        // To the root.
        let mut upward = question.clone();
        upward[2] = 0x80;
        upward[9] = 1;
        upward.extend_from_slice(&[0, 0, 2, 0, 1, 0, 0, 0, 60, 0, 5, 1, b'x', 1, b'y', 0]);
        assert_eq!(read(&upward, &question, referral_of), Answer::Found(None));
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<Vec<u8>> =
            (0..64).map(|_| question(&name(), Rtype::TXT, Asks::RESOLVER).unwrap()[..2].to_vec()).collect();
        assert!(ids.len() > 48, "{}", ids.len());
    }
}
