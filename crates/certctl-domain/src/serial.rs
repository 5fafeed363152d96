//! Serial numbers in the one form that is used everywhere outside DER: lowercase hex without leading zeros.

use std::fmt;

/// A certificate serial number (RFC 5280 §4.1.2.2): positive, at most 20 octets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber(String);

/// The text is no serial number: 1 to 40 hex digits, colons allowed between octets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is 1 to 40 hex digits")]
pub struct InvalidSerial;

impl SerialNumber {
    /// Reads hex in any case, with or without colons and leading zeros.
    ///
    /// # Errors
    /// [`InvalidSerial`] when a character is no hex digit or the number exceeds 20 octets.
    pub fn parse(text: &str) -> Result<Self, InvalidSerial> {
        let digits: String = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_ascii_lowercase())
            .collect();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidSerial);
        }
        let significant = digits.trim_start_matches('0');
        if significant.len() > 40 {
            return Err(InvalidSerial);
        }
        Ok(Self(if significant.is_empty() {
            "0".to_owned()
        } else {
            significant.to_owned()
        }))
    }

    /// From the octets of a DER INTEGER, with or without the leading zero octet of the sign.
    ///
    /// # Errors
    /// [`InvalidSerial`] when there are no octets or more than 20 significant ones.
    pub fn from_be_bytes(bytes: &[u8]) -> Result<Self, InvalidSerial> {
        use fmt::Write as _;
        let hex = bytes
            .iter()
            .fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            });
        Self::parse(&hex)
    }

    /// The number as big-endian octets without leading zero octets.
    #[must_use]
    pub fn to_be_bytes(&self) -> Vec<u8> {
        let padded = if self.0.len().is_multiple_of(2) {
            self.0.clone()
        } else {
            format!("0{}", self.0)
        };
        padded
            .as_bytes()
            .chunks(2)
            .map(|pair| (hex_value(pair[0]) << 4) | hex_value(pair[1]))
            .collect()
    }

    /// The canonical text: lowercase hex without leading zeros.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The digits were checked when the number was read.
const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::SerialNumber;

    #[test]
    fn every_spelling_of_one_number_is_one_serial() {
        for text in ["0A:1B:2C", "a1b2c", "000a1b2c", "0A1B2C"] {
            assert_eq!(SerialNumber::parse(text).unwrap().as_str(), "a1b2c");
        }
        assert_eq!(SerialNumber::parse("00").unwrap().as_str(), "0");
    }

    #[test]
    fn octets_round_trip_without_the_sign_octet() {
        let serial = SerialNumber::from_be_bytes(&[0x00, 0xff, 0x00, 0x01]).unwrap();
        assert_eq!(serial.as_str(), "ff0001");
        assert_eq!(serial.to_be_bytes(), [0xff, 0x00, 0x01]);
    }

    #[test]
    fn longer_than_twenty_octets_is_refused() {
        assert!(SerialNumber::parse(&"f".repeat(40)).is_ok());
        assert!(SerialNumber::parse(&"f".repeat(41)).is_err());
        assert!(SerialNumber::parse("xyz").is_err());
        assert!(SerialNumber::parse("").is_err());
    }
}
