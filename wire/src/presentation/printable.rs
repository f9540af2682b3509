//! Text that may quote a stranger, for people: on a terminal, a control character is an order.

use std::fmt;

/// Shows text with everything escaped that is no printable character: controls, line ends, and what hides characters or
/// turns their direction. Letters of any script stay, and so do quotes and backslashes.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '"' | '\'' | '\\' => fmt::Write::write_char(f, char),
            _ => char.escape_debug().try_for_each(|escaped| fmt::Write::write_char(f, escaped)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_escaped() {
        for (text, shown) in [
            ("plain \"text\" \\ 'x' in München", "plain \"text\" \\ 'x' in München"),
            ("a\nb\r\tc\0", r"a\nb\r\tc\0"),
            ("\u{1b}[31m\u{7f}\u{9b}", r"\u{1b}[31m\u{7f}\u{9b}"),
            ("\u{202e}\u{2028}\u{200b}\u{feff}", r"\u{202e}\u{2028}\u{200b}\u{feff}"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
        for char in (0..=0x10_FFFF).filter_map(char::from_u32).filter(|char| char.is_control()) {
            assert!(Printable(&char.to_string()).to_string().is_ascii(), "{char:?}");
        }
    }
}
