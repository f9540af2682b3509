//! How much memory the process has had.
#![expect(unsafe_code, reason = "getrusage writes into a structure")]

/// The most octets that were resident at once; 0 where the system does not say.
#[must_use]
pub fn peak_octets() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the structure is large enough, and all zeros is a value of it.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    // In KiB (getrusage(2)).
    u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_grows_with_what_is_taken() {
        let before = super::peak_octets();
        assert!(before > 1 << 20, "{before}");
        let taken = std::hint::black_box(vec![1_u8; usize::try_from(before).unwrap()]);
        assert!(super::peak_octets() > before, "{}", taken.len());
    }
}
