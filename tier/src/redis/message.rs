//! Messages between instances, as `prelude.lua` writes them.
//!
//! The number of the message in decimal, or 0 if it has none; one letter that tells its kind; the sender in
//! 16 hexadecimal digits; and keys, each with its length in decimal and a colon before it.

use crate::key::Key;
use crate::store::{Event, Instance};

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its place among the messages of the space, if nobody may miss it.
    pub(super) number: Option<u64>,
    /// Who sent it.
    pub(super) sender: Instance,
    /// What it tells.
    pub(super) event: Event,
}

impl Message {
    /// Reads a message; `None` if it is none.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        let number = number(&mut bytes)?;
        let kind = take(&mut bytes, 1)?[0];
        let sender = Instance(hexadecimal(take(&mut bytes, 16)?)?);
        let mut keys = Vec::new();
        while !bytes.is_empty() {
            let length = usize::try_from(self::number(&mut bytes)?).ok()?;
            if take(&mut bytes, 1)? != b":" {
                return None;
            }
            keys.push(Key::from_name(take(&mut bytes, length)?));
        }
        let event = match (kind, number, keys.is_empty()) {
            (b'g', 1.., false) => Event::Gone(keys),
            (b'a', 1.., true) => Event::AllGone,
            (b'r', 0, false) => Event::Ready(keys),
            _ => return None,
        };
        Some(Self { number: (number > 0).then_some(number), sender, event })
    }
}

/// Takes the first bytes.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(first)
}

/// Takes a decimal number.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let length = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(take(bytes, length)?).ok()?.parse().ok()
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    // As parsing would also take a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Instance = Instance(0x0123_4567_89ab_cdef);

    fn read(bytes: impl AsRef<[u8]>) -> Option<Message> {
        Message::read(bytes.as_ref())
    }

    fn keys(names: &[&[u8]]) -> Vec<Key> {
        names.iter().map(|name| Key::from_name(name)).collect()
    }

    #[test]
    fn each_kind_is_read() {
        let gone = Event::Gone(keys(&[b"ann", b"", b"a:\r\n\0\xff"]));
        let bytes = b"17g0123456789abcdef3:ann0:6:a:\r\n\0\xff";
        assert_eq!(read(bytes), Some(Message { number: Some(17), sender: SENDER, event: gone }));
        assert_eq!(
            read("18446744073709551615a0123456789abcdef"),
            Some(Message { number: Some(u64::MAX), sender: SENDER, event: Event::AllGone })
        );
        let ready = Event::Ready(keys(&[b"bob"]));
        assert_eq!(
            read("0r0123456789abcdef3:bob"),
            Some(Message { number: None, sender: SENDER, event: ready })
        );
    }

    #[test]
    fn what_is_no_message_is_told() {
        for malformed in [
            // No number, one too many digits, a sign.
            "g0123456789abcdef3:ann",
            "18446744073709551616g0123456789abcdef3:ann",
            "+7g0123456789abcdef3:ann",
            // No kind, an unknown one, one with a number that it must or must not have.
            "7",
            "7x0123456789abcdef3:ann",
            "0g0123456789abcdef3:ann",
            "0a0123456789abcdef",
            "7r0123456789abcdef3:ann",
            // No sender, too little of it, other digits.
            "7g",
            "7g0123456789abcde",
            "7a+123456789abcdef",
            "7a0123456789abcdeg",
            // Keys where none are, and none where they are.
            "7a0123456789abcdef3:ann",
            "7g0123456789abcdef",
            "0r0123456789abcdef",
            // Lengths: missing, without colon, too long, too short, far too long, and too many digits.
            "7g0123456789abcdef:ann",
            "7g0123456789abcdef3ann",
            "7g0123456789abcdef4:ann",
            "7g0123456789abcdef2:ann",
            "7g0123456789abcdef18446744073709551615:ann",
            "7g0123456789abcdef99999999999999999999:ann",
            "7g0123456789abcdef3",
            "7g0123456789abcdef3:ann3",
            "",
        ] {
            assert_eq!(read(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_none() {
        let whole = "17g0123456789abcdef3:ann3:bob";
        // Up to the end of the first key, which is a message too.
        for length in (0..whole.len()).filter(|length| whole[*length..] != *"3:bob") {
            assert_eq!(read(&whole[..length]), None, "{length}");
        }
    }
}
