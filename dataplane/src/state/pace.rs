//! Rests between the parts of something that takes long.

use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Tells after each write how long it has taken since the one before, in which the octets were made.
pub(super) struct Paced<'a, W> {
    inner: W,
    began: Instant,
    rest: &'a mut dyn FnMut(Duration),
}

impl<'a, W: Write> Paced<'a, W> {
    pub(super) fn new(inner: W, rest: &'a mut dyn FnMut(Duration)) -> Self {
        Paced { inner, began: Instant::now(), rest }
    }
}

impl<W: Write> Write for Paced<'_, W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(octets);
        (self.rest)(self.began.elapsed());
        self.began = Instant::now();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_rest_after_each_part() {
        let (mut out, mut rests) = (Vec::new(), 0);
        let mut rest = |_| rests += 1;
        let mut paced = Paced::new(&mut out, &mut rest);
        for part in [b"one", b"two"] {
            paced.write_all(part).unwrap();
        }
        assert_eq!((out.as_slice(), rests), (b"onetwo".as_slice(), 2));
    }
}
