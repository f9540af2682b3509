//! Calls to servers of others (threat model R17), by the child process that makes them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use godwit_controlplane::config::{Config, Networks};
use godwit_controlplane::egress::{Call, Egress, Outcome};
use godwit_controlplane::observe::metrics::Metrics;

use crate::harness::caller;
use crate::receiver::{Authority, Manner, NameServer, Receiver, ok};

pub(crate) fn networks(addresses: &[Ipv4Addr]) -> Networks {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.try_into().unwrap()
}

/// What calls where a test says, and nowhere else on this machine.
fn egress(authority: &Authority, names: &NameServer, allowed: &[&Receiver], own: Vec<SocketAddr>) -> Egress {
    let mut config = Config::default();
    config.egress.ca_file = Some(authority.file());
    config.egress.resolvers = vec![names.address.to_string()];
    let allowed: Vec<Ipv4Addr> = allowed.iter().map(|receiver| receiver.address).collect();
    config.egress.allow = networks(&allowed);
    let reached_at = ["https://own.test:8443/".to_owned()];
    Egress::of(&config, Some(caller()), own, &reached_at, Metrics::default()).unwrap()
}

fn call(url: &str) -> Call {
    let headers = vec![("x-test".to_owned(), "1".to_owned())];
    Call { url: url.to_owned(), headers, body: "{}".to_owned() }
}

async fn called(egress: &Egress, url: &str) -> Outcome {
    egress.call(call(url)).await
}

fn is_refused(outcome: &Outcome, why: &str) -> bool {
    matches!(outcome, Outcome::Refused(said) if said.contains(why))
}

fn is_failed(outcome: &Outcome, why: &str) -> bool {
    matches!(outcome, Outcome::Failed(said) if said.contains(why))
}

#[tokio::test]
async fn a_call_is_made_to_the_name_with_its_certificate() {
    let (authority, names) = (Authority::new(), NameServer::start().await);
    let receiver = Receiver::start(&authority, "hooks.test", ok()).await;
    names.has("hooks.test", &[&[receiver.address]]);
    names.has("other.test", &[&[receiver.address]]);
    let egress = egress(&authority, &names, &[&receiver], Vec::new());
    let outcome = called(&egress, "https://hooks.test:8443/a/b?c=d").await;
    assert_eq!(outcome, Outcome::Answered { status: 204 });
    let received = &receiver.received()[0];
    assert_eq!((received.line.as_str(), received.body.as_str()), ("POST /a/b?c=d HTTP/1.1", "{}"));
    assert_eq!((received.header("host"), received.header("x-test")), ("hooks.test:8443", "1"));
    // Of another name.
    assert!(is_failed(&called(&egress, "https://other.test:8443/").await, "TLS failed"));
    // Of an authority that nobody knows.
    let stranger = Receiver::start(&Authority::new(), "stranger.test", ok()).await;
    names.has("stranger.test", &[&[stranger.address]]);
    let egress = self::egress(&authority, &names, &[&stranger], Vec::new());
    assert!(is_failed(&called(&egress, "https://stranger.test:8443/").await, "TLS failed"));
    assert!(is_failed(&called(&egress, "https://nowhere.test/").await, "no address"));
    assert_eq!((stranger.received().len(), receiver.received().len()), (0, 1));
}

#[tokio::test]
async fn r17_what_a_name_says_later_is_not_asked() {
    let (authority, names) = (Authority::new(), NameServer::start().await);
    // One stands for an address of the internet, the other for one of ours: both would answer.
    let public = Receiver::start(&authority, "rebinds.test", ok()).await;
    let inside = Receiver::start(&authority, "rebinds.test", ok()).await;
    let egress = egress(&authority, &names, &[&public], Vec::new());
    names.has("rebinds.test", &[&[public.address], &[inside.address]]);
    let outcome = called(&egress, "https://rebinds.test:8443/").await;
    assert_eq!(outcome, Outcome::Answered { status: 204 });
    assert_eq!((names.asked("rebinds.test"), public.received().len(), inside.connections()), (1, 1, 0));
    // From now on it is inside, whoever asks: and with the other one beside it, in either order.
    for _ in 0..3 {
        assert!(is_refused(&called(&egress, "https://rebinds.test:8443/").await, "of the machine itself"));
    }
    for answer in [[inside.address, public.address], [public.address, inside.address]] {
        names.has("rebinds.test", &[&answer, &[inside.address]]);
        assert_eq!(called(&egress, "https://rebinds.test:8443/").await, Outcome::Answered { status: 204 });
    }
    assert_eq!((names.asked("rebinds.test"), public.received().len(), inside.connections()), (6, 3, 0));
}

#[tokio::test]
async fn r17_addresses_that_are_not_called_are_refused_in_every_form() {
    let (authority, names) = (Authority::new(), NameServer::start().await);
    let inside = Receiver::start(&authority, "inside.test", ok()).await;
    let egress = egress(&authority, &names, &[], Vec::new());
    let address = inside.address;
    let number = u32::from(address);
    let [a, b, c, d] = address.octets();
    for host in [
        address.to_string(),
        number.to_string(),
        format!("0x{number:x}"),
        format!("0{number:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{}", number & 0x00ff_ffff),
        format!("[::ffff:{address}]"),
        format!("[::{address}]"),
        format!("[64:ff9b::{address}]"),
        format!("[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1]"),
        "[::1]".to_owned(),
        "169.254.169.254".to_owned(),
        "[fd00:ec2::254]".to_owned(),
        "own.test".to_owned(),
        "localhost".to_owned(),
        format!("x@{address}"),
    ] {
        let outcome = called(&egress, &format!("https://{host}:8443/")).await;
        assert!(is_refused(&outcome, "not called") || is_refused(&outcome, "URL"), "{host}: {outcome:?}");
    }
    assert!(is_refused(&called(&egress, "http://inside.test:8443/").await, "https"));
    assert!(is_refused(&called(&egress, "https://inside.test:8053/").await, "443 and 8443"));
    assert_eq!(inside.connections(), 0);
    // What is ours is not called, even where its network may be.
    let own = SocketAddr::from((address, 8_443));
    let egress = self::egress(&authority, &names, &[&inside], vec![own]);
    names.has("inside.test", &[&[address]]);
    assert!(is_refused(&called(&egress, "https://inside.test:8443/").await, "of this server"));
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn r17_redirects_are_not_followed_and_of_answers_the_status_is_all() {
    let (authority, names) = (Authority::new(), NameServer::start().await);
    let target = Receiver::start(&authority, "target.test", ok()).await;
    names.has("target.test", &[&[target.address]]);
    let location = "location: https://target.test:8443/\r\n".to_owned();
    let receiver = Receiver::start(&authority, "hooks.test", Manner::Status(307, location)).await;
    names.has("hooks.test", &[&[receiver.address]]);
    let egress = egress(&authority, &names, &[&receiver, &target], Vec::new());
    let url = "https://hooks.test:8443/";
    assert_eq!(called(&egress, url).await, Outcome::Answered { status: 307 });
    assert_eq!((receiver.received().len(), target.connections()), (1, 0));
    receiver.answers(Manner::Status(500, String::new()));
    assert_eq!(format!("{:?}", called(&egress, url).await), "Answered { status: 500 }");
    // A body without end is not read to it.
    receiver.answers(Manner::Endless);
    let since = Instant::now();
    assert_eq!(called(&egress, url).await, Outcome::Answered { status: 200 });
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    receiver.answers(Manner::Break);
    assert!(is_failed(&called(&egress, url).await, "without an answer"));
}

#[tokio::test]
async fn r17_a_server_that_hangs_delays_nobody_else() {
    let (authority, names) = (Authority::new(), NameServer::start().await);
    let hangs = Receiver::start(&authority, "hangs.test", Manner::Hang).await;
    let good = Receiver::start(&authority, "good.test", ok()).await;
    names.has("hangs.test", &[&[hangs.address]]);
    names.has("good.test", &[&[good.address]]);
    let egress = egress(&authority, &names, &[&hangs, &good], Vec::new());
    called(&egress, "https://good.test:8443/").await;
    let since = Instant::now();
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let egress = egress.clone();
        hanging.spawn(async move { called(&egress, "https://hangs.test:8443/").await });
    }
    hangs.until(8).await;
    for _ in 0..8 {
        assert_eq!(called(&egress, "https://good.test:8443/").await, Outcome::Answered { status: 204 });
    }
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    for outcome in hanging.join_all().await {
        assert!(is_failed(&outcome, "within 5 seconds"), "{outcome:?}");
    }
    let took = since.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn r17_what_makes_calls_has_nothing_of_ours_and_is_started_again() {
    let (authority, names) = (Authority::new(), NameServer::start().await);
    let receiver = Receiver::start(&authority, "hooks.test", ok()).await;
    names.has("hooks.test", &[&[receiver.address]]);
    let egress = egress(&authority, &names, &[&receiver], Vec::new());
    let url = "https://hooks.test:8443/";
    // As whoever starts us may have left one open.
    let file = tempfile::tempfile().unwrap();
    let left_open = nix::unistd::dup(&file).unwrap();
    assert_eq!(egress.process().await, None, "nothing runs before there is something to do");
    called(&egress, url).await;
    let process = egress.process().await.unwrap();
    assert_ne!(process, std::process::id());
    let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap();
    assert_eq!(String::from_utf8_lossy(&environment), "MIMALLOC_ARENA_RESERVE=0\0");
    // Pipes, what waits for events, and nothing that leads into a file or a database.
    for entry in std::fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        let is_own = ["pipe:", "anon_inode:", "socket:"].iter().any(|kind| target.starts_with(kind));
        assert!(is_own || target.is_empty(), "{target}");
    }
    drop(left_open);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process).unwrap());
    // It stops: whoever asks is not kept waiting for ever, and gets another one.
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let since = Instant::now();
    assert!(matches!(called(&egress, url).await, Outcome::Lost(_)));
    assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
    assert_eq!(called(&egress, url).await, Outcome::Answered { status: 204 });
    let next = egress.process().await.unwrap();
    assert_ne!(next, process);
    // It is killed.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(next).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let since = Instant::now();
    while called(&egress, url).await != (Outcome::Answered { status: 204 }) {
        assert!(since.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(receiver.received().len(), 3);
}
