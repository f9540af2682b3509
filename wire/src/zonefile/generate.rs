//! `$GENERATE` as BIND has it: a range, and templates in which `$` or `${offset,width,base}` stands for the value.

use crate::presentation::number;
use crate::presentation::problem::Problem;
use crate::presentation::tokens::Token;

const RANGE: &str = "a range as 1-100 or 0-255/2, from 0 to 2147483647";
const MODIFIER: &str = "${offset,width,base} with a width of at most 255 and a base of d, o, x, X, n or N";
/// The highest value (BIND).
const MAX_VALUE: u64 = 0x7FFF_FFFF;
/// The most octets of a template filled in: a record of the largest RDATA in escapes is no $GENERATE.
const MAX_TEXT_OCTETS: usize = 65_535;
/// No name is longer, and no number needs as much.
const MAX_WIDTH: u64 = 255;

/// The range of one directive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Generate {
    start: u64,
    stop: u64,
    step: u64,
}

/// How a value is written.
#[derive(Clone, Copy, Debug)]
enum Base {
    Decimal,
    Octal,
    Hex {
        upper: bool,
    },
    /// Hexadecimal digits as labels, the lowest first.
    Nibbles {
        upper: bool,
    },
}

impl Generate {
    /// Reads `start-stop[/step]`.
    pub(super) fn range(token: Token<'_>) -> Result<Self, Problem> {
        let read = || {
            let dash = token.raw.iter().position(|&octet| octet == b'-')?;
            let (start, rest) = token.raw.split_at_checked(dash)?;
            let mut parts = rest.get(1..)?.splitn(2, |&octet| octet == b'/');
            let stop = number::decimal(parts.next()?)?;
            let step = match parts.next() {
                Some(step) => number::decimal(step)?,
                None => 1,
            };
            let range = Generate { start: number::decimal(start)?, stop, step };
            let valid =
                range.start <= range.stop && range.stop <= MAX_VALUE && (1..=MAX_VALUE).contains(&step);
            valid.then_some(range)
        };
        read().ok_or_else(|| Problem::new(token, RANGE))
    }

    /// How many values the range has.
    pub(super) fn count(self) -> u64 {
        let span = self.stop.saturating_sub(self.start);
        span.checked_div(self.step).unwrap_or_default().saturating_add(1)
    }

    /// The values, from the lowest.
    pub(super) fn values(self) -> impl Iterator<Item = u64> {
        (0..self.count()).map(move |index| self.start.saturating_add(index.saturating_mul(self.step)))
    }
}

/// Writes the template with `value` filled in over `out`.
pub(super) fn fill(template: Token<'_>, value: u64, out: &mut Vec<u8>) -> Result<(), Problem> {
    out.clear();
    let mut rest = template.raw;
    while let Some((&octet, after)) = rest.split_first() {
        rest = match (octet, after) {
            // An escape stays one, for the reader of the record.
            (b'\\', [next, after @ ..]) => {
                out.extend_from_slice(&[b'\\', *next]);
                after
            }
            (b'$', [b'$', after @ ..]) => {
                out.push(b'$');
                after
            }
            (b'$', [b'{', after @ ..]) => {
                substitute(after, value, out).ok_or_else(|| Problem::new(template, MODIFIER))?
            }
            (b'$', after) => {
                write(i128::from(value), 0, Base::Decimal, out);
                after
            }
            (octet, after) => {
                out.push(octet);
                after
            }
        };
        if out.len() > MAX_TEXT_OCTETS {
            return Err(Problem::new(template, "shorter text"));
        }
    }
    Ok(())
}

/// Reads `offset[,width[,base]]}`, writes the value so, and returns what follows.
fn substitute<'t>(text: &'t [u8], value: u64, out: &mut Vec<u8>) -> Option<&'t [u8]> {
    let end = text.iter().position(|&octet| octet == b'}')?;
    let after = text.get(end.saturating_add(1)..)?;
    let mut parts = text.get(..end)?.split(|&octet| octet == b',');
    let offset = parts.next()?;
    let (negative, digits) = match offset {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let offset = i128::from(number::decimal(digits).filter(|&offset| offset <= MAX_VALUE)?);
    let offset = if negative { offset.saturating_neg() } else { offset };
    let width = match parts.next() {
        Some(width) => number::decimal(width).filter(|&width| width <= MAX_WIDTH)?,
        None => 0,
    };
    let base = match parts.next() {
        None | Some(b"d") => Base::Decimal,
        Some(b"o") => Base::Octal,
        Some(b"x") => Base::Hex { upper: false },
        Some(b"X") => Base::Hex { upper: true },
        Some(b"n") => Base::Nibbles { upper: false },
        Some(b"N") => Base::Nibbles { upper: true },
        Some(_) => return None,
    };
    if parts.next().is_some() {
        return None;
    }
    write(i128::from(value).saturating_add(offset), usize::try_from(width).ok()?, base, out);
    Some(after)
}

fn write(value: i128, width: usize, base: Base, out: &mut Vec<u8>) {
    // C prints a negative number in another base as its two's complement.
    let bits = u32::from_be_bytes(low_octets(value));
    let text = match base {
        Base::Decimal => format!("{value:0width$}"),
        Base::Octal => format!("{bits:0width$o}"),
        Base::Hex { upper: false } => format!("{bits:0width$x}"),
        Base::Hex { upper: true } => format!("{bits:0width$X}"),
        Base::Nibbles { upper } => nibbles(bits, width, upper),
    };
    out.extend_from_slice(text.as_bytes());
}

fn low_octets(value: i128) -> [u8; 4] {
    let octets = value.to_be_bytes();
    octets.last_chunk::<4>().copied().unwrap_or_default()
}

/// Digits from the lowest, dots between them; the width counts the dots (BIND).
fn nibbles(mut bits: u32, mut width: usize, upper: bool) -> String {
    let mut text = String::new();
    loop {
        let digit = char::from_digit(bits & 0x0F, 16).unwrap_or('0');
        text.push(if upper { digit.to_ascii_uppercase() } else { digit });
        bits >>= 4;
        width = width.saturating_sub(1);
        if width > 0 || bits != 0 {
            text.push('.');
            width = width.saturating_sub(1);
        }
        if bits == 0 && width == 0 {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token<'_> {
        Token { raw: text.as_bytes(), quoted: false, escaped: false }
    }

    #[test]
    fn templates_fill_as_in_bind() {
        for (template, value, expected) in [
            ("host-$", 7, Some("host-7")),
            ("$.$", 7, Some("7.7")),
            ("$$", 7, Some("$")),
            (r"\$$", 7, Some(r"\$7")),
            ("${10}", 7, Some("17")),
            ("${-10}", 7, Some("-3")),
            ("${0,3}", 7, Some("007")),
            ("${0,3,d}x", 7, Some("007x")),
            ("${0,4,x}", 255, Some("00ff")),
            ("${0,0,X}", 255, Some("FF")),
            ("${0,3,o}", 8, Some("010")),
            ("${0,8,n}", 0x1A, Some("a.1.0.0.")),
            ("${0,7,N}", 0x1A, Some("A.1.0.0")),
            ("${0,0,n}", 0x1A, Some("a.1")),
            ("${", 7, None),
            ("${x}", 7, None),
            ("${0,256}", 7, None),
            ("${0,1,z}", 7, None),
            ("${0,1,d,1}", 7, None),
        ] {
            let mut out = Vec::new();
            let filled = fill(token(template), value, &mut out);
            assert_eq!(
                filled.is_ok().then(|| String::from_utf8_lossy(&out).into_owned()).as_deref(),
                expected,
                "{template}"
            );
        }
    }

    #[test]
    fn ranges_are_bounded() {
        for (range, values) in [
            ("1-3", Some(vec![1, 2, 3])),
            ("0-5/2", Some(vec![0, 2, 4])),
            ("5-5/9", Some(vec![5])),
            ("3-1", None),
            ("1-3/0", None),
            ("1-2147483648", None),
            ("-3", None),
            ("1", None),
            ("1-", None),
        ] {
            let read = Generate::range(token(range)).ok();
            assert_eq!(read.map(|generate| generate.values().collect::<Vec<_>>()), values, "{range}");
        }
    }
}
