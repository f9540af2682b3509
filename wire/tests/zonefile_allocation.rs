//! Reading a zone file allocates nothing per record of the common types. Own binary: it counts every allocation of
//! its process.
#![expect(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use godwit_wire::zonefile::{NoIncludes, Options, read};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// So many buffers are made once per file.
const ONCE: usize = 32;

#[test]
fn records_of_common_types_do_not_allocate() {
    let mut text = String::from("$TTL 1h\n@ SOA ns host 1 2h 3 4 5\n");
    for i in 0..1_000 {
        let lines = "\
            @I 300 IN A 192.0.2.1\n\
            @I IN AAAA 2001:db8::1\n\tIN MX 10 mail@I\n\
            @I.a\\.b TXT \"some text\" ( more ; comment\n )\n\
            @I NS ns.example.net.\n\
            _x._tcp.@I SRV 1 2 3 target\n\
            @I CAA 0 issue \"ca.example\"\n\
            @I DS 1 13 2 0123456789abcdef\n\
            @I RRSIG A 13 2 300 20300101000000 20200101000000 1 @ c2lnbmF0dXJl\n\
            @I DNSKEY 256 3 13 a2V5\n\
            @I TLSA 3 1 1 0011\n";
        write!(text, "{}", lines.replace("@I", &format!("host{i}"))).unwrap();
    }
    let options = Options::new("example.".parse().unwrap(), "zone");
    let mut octets = 0;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let summary = read(text.as_bytes(), &options, &mut NoIncludes, &mut |record| {
        octets += record.rdata.len();
        Ok(())
    });
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(summary.unwrap().records, 11_001);
    assert!(octets > 0 && allocations <= ONCE, "{allocations} allocations");
}
