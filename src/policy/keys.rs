//! Keys of seats: kept as SHA-256, compared in constant time.

use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::bundle::Bundle;
use super::diagnostic::{Code, Complaint};

impl Bundle {
    /// The index of the seat whose key has this SHA-256, if any has.
    ///
    /// Takes the same time whichever key matches and however much of it: every key is compared, all of it.
    pub fn seat_by_key(&self, sha256: &[u8; 32]) -> Option<usize> {
        let (mut seat, mut found) = (0_u64, subtle::Choice::from(0));
        for key in &self.keys {
            let same = key.sha256.ct_eq(sha256);
            seat.conditional_assign(&u64::try_from(key.seat).unwrap_or(u64::MAX), same);
            found |= same;
        }
        bool::from(found).then_some(seat).and_then(|seat| usize::try_from(seat).ok())
    }
}

/// Reads `sha256:` and 64 hex digits. Complaints never show the text: it may be the key itself.
pub(super) fn hash(written: &str) -> Result<[u8; 32], Complaint> {
    const HELP: &str = "write `sha256:` and the 64 hex digits that `printf %s THE-KEY | sha256sum` prints";
    let complain = |message: &str| Complaint::new(Code::BadHash, message, HELP);
    let Some(digits) = written.strip_prefix("sha256:") else {
        return Err(complain(
            "a key is written as its hash, which begins with `sha256:`; a key in clear must not stand here",
        ));
    };
    if digits.len() != 64 {
        return Err(complain(&format!(
            "the hash of a key has 64 hex digits, not {} characters",
            digits.chars().count()
        )));
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
        let read = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        *byte = read.ok_or_else(|| complain("the hash of a key has hex digits only: 0 to 9, a to f"))?;
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_in_both_cases() {
        let lower = format!("sha256:{}", "0aff".repeat(16));
        let upper = format!("sha256:{}", "0AFF".repeat(16));
        assert_eq!(hash(&lower).unwrap()[..2], [0x0a, 0xff]);
        assert_eq!(hash(&lower), hash(&upper));
    }

    #[test]
    fn what_is_no_hash_is_not_shown() {
        for bad in [
            "sk-very-secret".to_owned(),
            "sha256:secret".to_owned(),
            format!("sha256:{}", "é0".repeat(16) + &"0".repeat(16)),
        ] {
            let Complaint { code, message, help } = hash(&bad).unwrap_err();
            assert_eq!(code, Code::BadHash);
            assert!(!message.contains("secret") && !help.contains("secret"));
        }
        assert!(hash(&format!("sha256:{}", "+1".repeat(32))).is_err());
    }
}
