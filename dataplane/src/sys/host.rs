//! The name of the host, from the kernel: a confined process does not see the file that tells it.
#![expect(unsafe_code, reason = "gethostname writes into a buffer")]

/// Longer than the kernel lets a name be (64 octets).
const NAME_OCTETS: usize = 256;

/// As the kernel has it; empty where it has none.
#[must_use]
pub fn name() -> String {
    let mut buffer = [0_u8; NAME_OCTETS];
    // SAFETY: the buffer has the stated length; its last octet stays zero.
    unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), NAME_OCTETS - 1) };
    let len = buffer.iter().position(|&octet| octet == 0).unwrap_or(NAME_OCTETS);
    String::from_utf8_lossy(&buffer[..len]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_what_the_system_tells() {
        let told = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(super::name(), told.trim());
    }
}
