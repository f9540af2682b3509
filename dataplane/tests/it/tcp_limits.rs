//! DNS over TCP at its limits: pipelining, partial messages, clients that dawdle, too many of them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use godwit_dataplane::observe::counter::Closed;
use godwit_dataplane::serve::limit::{ALLOWANCE_OCTETS, IDLE_OCTETS, TcpLimits};
use godwit_dataplane::sys::socket::TCP_KERNEL_OCTETS;

use super::client;
use super::reflector::{Workers, eventually, framed, query};
use super::traffic::StopOnDrop;

fn connect(workers: &Workers) -> TcpStream {
    let client = TcpStream::connect(workers.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

fn read_answer(client: &mut TcpStream) -> Vec<u8> {
    client::read_answer(client).unwrap()
}

/// Whether the server has ended the connection: end of file, or a reset.
fn is_closed(client: &mut TcpStream) -> bool {
    match client.read(&mut [0; 1024]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn closed(workers: &Workers, reason: Closed) -> u64 {
    workers.counters.closed[reason as usize].get()
}

#[test]
fn pipelined_queries_are_all_answered() {
    let workers = Workers::tcp(TcpLimits::default());
    let mut client = connect(&workers);
    let mut reader = client.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        for id in 0..20_000u16 {
            assert_eq!(read_answer(&mut reader)[..2], id.to_be_bytes());
        }
    });
    let all: Vec<u8> = (0..20_000).flat_map(|id| framed(&query(id, "a"))).collect();
    client.write_all(&all).unwrap();
    reading.join().unwrap();
}

#[test]
fn messages_may_come_octet_by_octet_and_several_at_once() {
    let workers = Workers::tcp(TcpLimits::default());
    let mut client = connect(&workers);
    for octet in framed(&query(1, "slow")) {
        client.write_all(&[octet]).unwrap();
    }
    assert_eq!(read_answer(&mut client)[..2], [0, 1]);
    // One and a half, then the other half and two more.
    let mut octets = framed(&query(2, "a"));
    octets.extend(framed(&query(3, "b")));
    let half = octets.len() - 5;
    octets.extend(framed(&query(4, "c")));
    octets.extend(framed(&query(5, "d")));
    client.write_all(&octets[..half]).unwrap();
    assert_eq!(read_answer(&mut client)[..2], [0, 2]);
    client.write_all(&octets[half..]).unwrap();
    for id in 3..=5 {
        assert_eq!(read_answer(&mut client)[..2], [0, id]);
    }
}

#[test]
fn a_client_that_closes_its_side_still_gets_its_answers() {
    let workers = Workers::tcp(TcpLimits::default());
    let mut client = connect(&workers);
    client.write_all(&[framed(&query(1, "a")), framed(&query(2, "b"))].concat()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_answer(&mut client)[..2], [0, 1]);
    assert_eq!(read_answer(&mut client)[..2], [0, 2]);
    assert!(is_closed(&mut client));
}

#[test]
fn p7_half_a_message_is_waited_for_until_its_deadline() {
    let limits = TcpLimits { message_deadline: Duration::from_millis(300), ..TcpLimits::default() };
    let workers = Workers::tcp(limits);
    // Half a length, half a message, and a length that nothing of the size follows.
    let message = framed(&query(1, "a"));
    for part in [&message[..1], &message[..10], &[0xFF, 0xFF, 0, 1, 2]] {
        let mut client = connect(&workers);
        let start = Instant::now();
        client.write_all(part).unwrap();
        assert!(is_closed(&mut client));
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    }
    assert_eq!(closed(&workers, Closed::SlowMessage), 3);
}

#[test]
fn p7_a_dripping_client_is_dropped_however_steadily_it_drips() {
    let limits = TcpLimits { message_deadline: Duration::from_millis(300), ..TcpLimits::default() };
    let workers = Workers::tcp(limits);
    let mut client = connect(&workers);
    let message = framed(&query(1, &"a".repeat(60)));
    let start = Instant::now();
    let dropped = message.iter().find(|octet| {
        std::thread::sleep(Duration::from_millis(20));
        client.write_all(&[**octet]).is_err()
    });
    assert!(dropped.is_some() || is_closed(&mut client), "all octets were taken");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(closed(&workers, Closed::SlowMessage), 1);
}

#[test]
fn p7_a_client_that_does_not_read_is_not_read_from_and_then_dropped() {
    let limits = TcpLimits { send_deadline: Duration::from_millis(500), ..TcpLimits::default() };
    let max_unsent = limits.max_unsent_octets;
    let workers = Workers::tcp(limits);
    let mut client = connect(&workers);
    client.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    // Each is answered with 40,000 octets, and none is ever fetched.
    let queries: Vec<u8> = (0..1000).flat_map(|id| framed(&query(id, "large"))).collect();
    let most = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("it is dropped", || {
                most.fetch_max(workers.admission.memory_octets(), Ordering::Relaxed);
                closed(&workers, Closed::SlowReader) == 1
            });
        });
        let failed = (0..200).any(|_| client.write_all(&queries).is_err());
        assert!(failed, "8 GB of answers were taken in");
    });
    // What was held: unfetched answers, queries that were read with the last turn, and the kernel's queues.
    let most = most.into_inner();
    let kernel = TCP_KERNEL_OCTETS + 2 * 65_536;
    assert!(most <= IDLE_OCTETS + 2 * max_unsent + 3 * 65_537 + kernel, "{most} octets held");
    assert!(most >= max_unsent + TCP_KERNEL_OCTETS / 2, "{most} octets: the kernel's are not counted");
    eventually("its memory is given back", || workers.admission.memory_octets() == 0);
}

/// Were the busy one served first, the quiet one would wait for ever: the flood ends only when that has all its answers.
#[test]
fn p7_one_busy_connection_does_not_starve_another() {
    let limits = TcpLimits { max_queries_per_connection: u64::MAX, ..TcpLimits::default() };
    let workers = Workers::tcp(limits);
    let mut busy = connect(&workers);
    let mut reader = busy.try_clone().unwrap();
    let mut quiet = connect(&workers);
    let flood: Vec<u8> = (0..2_000).flat_map(|id| framed(&query(id, "a"))).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let stop = &stop;
        let writing = scope.spawn(move || {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                busy.write_all(&flood).unwrap();
                written += flood.len() as u64;
            }
            busy.shutdown(std::net::Shutdown::Write).unwrap();
            written
        });
        let reading = scope.spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap());
        for id in 0..100 {
            quiet.write_all(&framed(&query(id, "b"))).unwrap();
            assert_eq!(read_answer(&mut quiet)[..2], id.to_be_bytes());
        }
        drop(stopping);
        // Nor is the busy one cheated: each of its answers is as long as the query.
        assert_eq!(reading.join().unwrap(), writing.join().unwrap());
    });
}

#[test]
fn p7_idle_connections_are_closed() {
    let limits = TcpLimits { idle_timeout: Duration::from_millis(400), ..TcpLimits::default() };
    let workers = Workers::tcp(limits);
    let mut silent = connect(&workers);
    let mut active = connect(&workers);
    let start = Instant::now();
    while closed(&workers, Closed::Idle) == 0 {
        active.write_all(&framed(&query(1, "a"))).unwrap();
        read_answer(&mut active);
        std::thread::sleep(Duration::from_millis(20));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert!(is_closed(&mut silent));
    active.write_all(&framed(&query(2, "a"))).unwrap();
    assert_eq!(read_answer(&mut active)[..2], [0, 2]);
}

#[test]
fn p7_more_connections_than_one_client_may_have_are_turned_away() {
    let workers = Workers::tcp(TcpLimits { max_connections_per_client: 5, ..TcpLimits::default() });
    let mut clients: Vec<_> = (0..5).map(|_| connect(&workers)).collect();
    for client in &mut clients {
        client.write_all(&framed(&query(1, "a"))).unwrap();
        read_answer(client);
    }
    let mut refused = connect(&workers);
    assert!(is_closed(&mut refused));
    assert_eq!(closed(&workers, Closed::ClientLimit), 1);
    // A place that becomes free is given to the next.
    clients.pop();
    eventually("the place is free", || workers.admission.connections() == 4);
    let mut next = connect(&workers);
    next.write_all(&framed(&query(9, "a"))).unwrap();
    assert_eq!(read_answer(&mut next)[..2], [0, 9]);
}

#[test]
fn p7_at_the_total_limit_the_longest_idle_makes_room() {
    let workers = Workers::tcp(TcpLimits { max_connections: 3, ..TcpLimits::default() });
    let mut clients: Vec<_> = (0..3)
        .map(|id| {
            let mut client = connect(&workers);
            client.write_all(&framed(&query(id, "a"))).unwrap();
            read_answer(&mut client);
            client
        })
        .collect();
    // All three have asked just now: nobody is thrown out for a newcomer.
    let mut refused = connect(&workers);
    assert!(is_closed(&mut refused));
    std::thread::sleep(Duration::from_millis(300));
    for client in &mut clients[1..] {
        client.write_all(&framed(&query(1, "a"))).unwrap();
        read_answer(client);
    }
    let mut next = connect(&workers);
    next.write_all(&framed(&query(9, "a"))).unwrap();
    assert_eq!(read_answer(&mut next)[..2], [0, 9]);
    assert!(is_closed(&mut clients[0]));
    clients[1].write_all(&framed(&query(2, "a"))).unwrap();
    assert_eq!(read_answer(&mut clients[1])[..2], [0, 2]);
}

#[test]
fn p7_a_connection_that_has_asked_its_fill_gets_its_answers_and_is_closed() {
    let workers = Workers::tcp(TcpLimits { max_queries_per_connection: 100, ..TcpLimits::default() });
    let mut client = connect(&workers);
    let all: Vec<u8> = (0..150).flat_map(|id| framed(&query(id, "a"))).collect();
    client.write_all(&all).unwrap();
    for id in 0..100u16 {
        assert_eq!(read_answer(&mut client)[..2], id.to_be_bytes());
    }
    assert!(is_closed(&mut client));
    drop(client);
    eventually("it is counted", || closed(&workers, Closed::QueryLimit) == 1);
}

#[test]
fn p7_a_length_below_that_of_a_header_ends_the_connection() {
    let workers = Workers::tcp(TcpLimits::default());
    for length in [0u8, 11] {
        let mut client = connect(&workers);
        client.write_all(&framed(&query(1, "a"))).unwrap();
        client.write_all(&[0, length]).unwrap();
        client.write_all(&vec![0; usize::from(length)]).unwrap();
        assert_eq!(read_answer(&mut client)[..2], [0, 1]);
        assert!(is_closed(&mut client));
        drop(client);
    }
    eventually("both are counted", || closed(&workers, Closed::Malformed) == 2);
}

#[test]
fn p7_the_byte_budget_of_all_connections_holds() {
    let budget = 10 * (IDLE_OCTETS + ALLOWANCE_OCTETS) + 150_000;
    let limits = TcpLimits {
        max_connections: 10,
        max_memory_octets: budget,
        message_deadline: Duration::from_secs(5),
        ..TcpLimits::default()
    };
    let workers = Workers::tcp(limits);
    // Each sends most of a message of 65,535 octets.
    let mut clients: Vec<_> = (0..10).map(|_| connect(&workers)).collect();
    for client in &mut clients {
        let mut part = vec![0xFF, 0xFF];
        part.resize(60_000, 0);
        let _ = client.write_all(&part);
    }
    eventually("some are dropped", || closed(&workers, Closed::Memory) >= 5);
    eventually("the budget holds", || workers.admission.memory_octets() <= budget);
}

/// Silent connections of clients that will not ask anything.
fn silent(workers: &Workers, count: usize) -> Vec<TcpStream> {
    let silent: Vec<_> = (0..count).map(|_| connect(workers)).collect();
    eventually("they are in", || workers.admission.connections() == count);
    silent
}

fn asks_and_is_answered(workers: &Workers) {
    let mut honest = connect(workers);
    honest.write_all(&framed(&query(9, "a"))).unwrap();
    assert_eq!(read_answer(&mut honest)[..2], [0, 9]);
}

#[test]
fn p7_who_never_asked_makes_room_at_once() {
    let workers = Workers::tcp(TcpLimits { max_connections: 4, ..TcpLimits::default() });
    let _silent = silent(&workers, 4);
    asks_and_is_answered(&workers);
    assert_eq!(closed(&workers, Closed::TotalLimit), 0);
    assert!(closed(&workers, Closed::Evicted) >= 1);
}

#[test]
fn p7_who_is_told_that_no_more_will_come_makes_room_at_once() {
    let workers = Workers::tcp(TcpLimits { max_connections: 4, ..TcpLimits::default() });
    let mut malformed: Vec<_> = (0..4).map(|_| connect(&workers)).collect();
    for client in &mut malformed {
        // An answer before it, so that nothing but its end tells it from honest ones.
        client.write_all(&[framed(&query(1, "a")), vec![0, 1, 0]].concat()).unwrap();
        read_answer(client);
    }
    assert!(malformed.iter_mut().all(is_closed), "they are told");
    asks_and_is_answered(&workers);
    assert_eq!(closed(&workers, Closed::TotalLimit), 0);
}

#[test]
fn p7_quiet_connections_leave_a_reserve() {
    let limits =
        TcpLimits { max_connections: 32, idle_timeout: Duration::from_secs(600), ..TcpLimits::default() };
    let workers = Workers::tcp(limits);
    let _silent = silent(&workers, 32);
    eventually("two of them make room", || workers.admission.connections() == 30);
    assert_eq!(closed(&workers, Closed::Evicted), 2);
}

#[test]
fn p7_who_asked_for_much_just_now_gives_way_too() {
    // Spare memory for two that fetch nothing, and some.
    let limits = TcpLimits {
        max_connections: 10,
        max_memory_octets: 10 * (IDLE_OCTETS + ALLOWANCE_OCTETS) + 3 * TCP_KERNEL_OCTETS,
        ..TcpLimits::default()
    };
    let budget = limits.max_memory_octets;
    let workers = Workers::tcp(limits);
    let much: Vec<u8> = (0..16).flat_map(|id| framed(&query(id, "large"))).collect();
    for _ in 0..20 {
        let mut greedy: Vec<_> = (0..3).map(|_| connect(&workers)).collect();
        let before = closed(&workers, Closed::Memory);
        for client in &mut greedy {
            client.write_all(&much).unwrap();
        }
        eventually("there is not enough for all", || closed(&workers, Closed::Memory) > before);
        // One who asks for as much and fetches it finds room, however lately the others have asked.
        let mut honest = connect(&workers);
        honest.write_all(&much).unwrap();
        for id in 0..16u16 {
            assert_eq!(read_answer(&mut honest)[..2], id.to_be_bytes());
        }
        eventually("the budget holds", || workers.admission.memory_octets() <= budget);
    }
}

#[test]
fn p7_who_holds_no_more_than_its_allowance_is_not_closed_for_what_others_hold() {
    let places = 10 * (IDLE_OCTETS + ALLOWANCE_OCTETS);
    let limits = TcpLimits { max_connections: 10, max_memory_octets: places, ..TcpLimits::default() };
    let workers = Workers::tcp(limits);
    let mut clients: Vec<_> = (0..9).map(|_| connect(&workers)).collect();
    // Nobody may hold more: whoever does is closed.
    let mut greedy = connect(&workers);
    let much: Vec<u8> = (0..16).flat_map(|id| framed(&query(id, "large"))).collect();
    greedy.write_all(&much).unwrap();
    eventually("it is closed", || closed(&workers, Closed::Memory) == 1);
    // All the others have begun a message, and are answered once it is whole.
    let message = framed(&query(2, &"a".repeat(60)));
    for part in [&message[..70], &message[70..]] {
        clients.iter_mut().for_each(|client| client.write_all(part).unwrap());
    }
    for client in &mut clients {
        assert_eq!(read_answer(client)[..2], [0, 2]);
    }
    assert_eq!(closed(&workers, Closed::Memory), 1);
    eventually("the budget holds", || workers.admission.memory_octets() <= places);
}

#[test]
fn stopping_drains_what_was_asked() {
    let mut workers = Workers::tcp(TcpLimits::default());
    let mut client = connect(&workers);
    client.write_all(&framed(&query(1, "a"))).unwrap();
    assert_eq!(read_answer(&mut client)[..2], [0, 1]);
    // Asked before the stop, or in the moment of it: answered, then told that no more will come.
    for id in 2..100 {
        client.write_all(&framed(&query(id, "large"))).unwrap();
    }
    workers.stop.store(true, Ordering::Relaxed);
    for id in 2..100u16 {
        let answer = read_answer(&mut client);
        assert_eq!(answer[..2], id.to_be_bytes());
        assert_eq!(answer.len(), 40_000);
    }
    assert!(is_closed(&mut client));
    drop(client);
    let start = Instant::now();
    workers.join();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn p7_idle_connections_hold_no_buffers() {
    const COUNT: u16 = 400;
    let limits = TcpLimits { max_connections_per_client: 1000, ..TcpLimits::default() };
    let workers = Workers::tcp(limits);
    let mut clients: Vec<_> = (0..COUNT).map(|_| connect(&workers)).collect();
    for round in 0..2 {
        for (id, client) in (0..).zip(&mut clients) {
            // In two pieces, so that there was a partial message to be kept.
            let message = framed(&query(id, "a"));
            client.write_all(&message[..9]).unwrap();
            client.write_all(&message[9..]).unwrap();
            assert_eq!(read_answer(client)[..2], id.to_be_bytes(), "round {round}");
        }
        assert_eq!(workers.admission.connections(), usize::from(COUNT));
        let places = usize::from(COUNT) * IDLE_OCTETS;
        eventually("nothing but places is held", || workers.admission.memory_octets() == places);
    }
}
