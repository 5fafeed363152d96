//! Serial numbers.

use certctl_domain::serial::SerialNumber;
use ring::rand::{SecureRandom, SystemRandom};

use crate::Error;

/// A serial number of 159 random bits: positive, never zero, twenty octets of DER at most (RFC 5280 §4.1.2.2).
///
/// # Errors
/// [`Error::Randomness`] when the machine has none.
pub fn random_serial() -> Result<SerialNumber, Error> {
    let mut octets = [0; 20];
    loop {
        SystemRandom::new()
            .fill(&mut octets)
            .map_err(|_| Error::Randomness)?;
        octets[0] &= 0x7f;
        // Redrawing numbers below 2^95 costs nothing (it happens once in 2^64) and makes every number pass the lint.
        if octets[..8].iter().any(|octet| *octet != 0) {
            return SerialNumber::from_be_bytes(&octets).map_err(|_| Error::Randomness);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::random_serial;

    #[test]
    fn serials_are_positive_twenty_octets_at_most_and_distinct() {
        let serials: Vec<_> = (0..2000).map(|_| random_serial().unwrap()).collect();
        for serial in &serials {
            let octets = serial.to_be_bytes();
            assert!(octets.len() <= 20);
            assert!(octets.len() < 20 || octets[0] < 0x80, "{serial}");
        }
        assert_eq!(serials.iter().collect::<HashSet<_>>().len(), 2000);
        // The second highest bit is random: 2000 zeros in a row would be no accident.
        assert!(
            serials
                .iter()
                .any(|serial| serial.to_be_bytes().len() == 20
                    && serial.to_be_bytes()[0] & 0x40 != 0)
        );
    }
}
