//! Arithmetic that tells a number from one that only looks like it.

/// Luhn's check (ISO/IEC 7812-1, annex B) over decimal digits.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit.saturating_mul(2).saturating_sub(9),
            (_, digit) => digit.saturating_mul(2),
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// The value of the first `length` digits.
pub(super) fn prefix(digits: &[u8], length: usize) -> u32 {
    digits.iter().take(length).fold(0, |value, digit| value.saturating_mul(10).saturating_add(u32::from(*digit)))
}

/// Whether a payment card of an international network has such a number: its range (the networks' published issuer
/// ranges), its length and its check digit.
pub(super) fn is_card(digits: &[u8]) -> bool {
    let (two, three, four) = (prefix(digits, 2), prefix(digits, 3), prefix(digits, 4));
    let length = digits.len();
    let network = match digits.first() {
        Some(4) => matches!(length, 13 | 16 | 19),
        Some(5) => (51..=55).contains(&two) && length == 16,
        Some(2) => (2221..=2720).contains(&four) && length == 16,
        Some(3) if two == 34 || two == 37 => length == 15,
        Some(3) if two == 36 || two == 38 || two == 39 || (300..=305).contains(&three) => length == 14,
        Some(3) => (3528..=3589).contains(&four) && length == 16,
        Some(6) => (four == 6011 || two == 65 || (644..=649).contains(&three)) && (16..=19).contains(&length),
        _ => false,
    };
    network && luhn(digits)
}

/// Whether a bank card issued in China has such a number: UnionPay's 62, or the older 9558, 16 to 19 digits, and
/// the check digit.
pub(super) fn is_bank_card(digits: &[u8]) -> bool {
    let issued = prefix(digits, 2) == 62 || prefix(digits, 4) == 9558;
    issued && (16..=19).contains(&digits.len()) && luhn(digits)
}

/// Whether a resident of China has such a number (GB 11643): division, date of birth, and the check character of ISO/IEC
/// 7064 MOD 11-2. `x`: the last place is the letter, which stands for ten.
pub(super) fn is_cn_id(digits: &[u8], x: bool) -> bool {
    let length = digits.len().saturating_add(usize::from(x));
    let division =
        matches!(prefix(digits, 2), 11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81..=83);
    if length != 18 || !division {
        return false;
    }
    let born = digits.get(6..14).unwrap_or_default();
    let (year, month) = (prefix(born, 4), prefix(born.get(4..6).unwrap_or_default(), 2));
    if !(1900..=2099).contains(&year) || !is_day(year, month, prefix(born.get(6..8).unwrap_or_default(), 2)) {
        return false;
    }
    let body = digits.iter().take(17).fold(0, |sum: u32, digit| (sum.saturating_add(u32::from(*digit)) * 2) % 11);
    let last = if x { 10 } else { digits.last().map_or(0, |digit| u32::from(*digit)) };
    (body + last) % 11 == 1
}

fn is_day(year: u32, month: u32, day: u32) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let longest = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=longest).contains(&day)
}

/// Whether the US Social Security Administration may have given out such a number: area, group, serial. Those that
/// were printed as samples are nobody's.
pub(super) fn is_ssn(area: u32, group: u32, serial: u32) -> bool {
    let sample = matches!((area, group, serial), (78, 5, 1120) | (219, 9, 9999) | (123, 45, 6789));
    area != 0 && area != 666 && area < 900 && group != 0 && serial != 0 && !sample
}

/// Whether the Chinese numbering plan has such a mobile number: 11 digits, 13 to 19 in front.
pub(super) fn is_cn_mobile(digits: &[u8]) -> bool {
    digits.len() == 11 && (13..=19).contains(&prefix(digits, 2))
}

/// Lengths of IBANs by country (SWIFT's IBAN registry).
const IBAN: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// Whether this is an IBAN (ISO 13616), blanks left out: its country's length, and 1 modulo 97 (ISO/IEC 7064).
pub(super) fn is_iban(characters: &[u8]) -> bool {
    let length = iban_length(characters);
    if length != Some(characters.len()) {
        return false;
    }
    let (head, body) = characters.split_at_checked(4).unwrap_or_default();
    let remainder = body.iter().chain(head).try_fold(0u32, |rest, character| match character {
        b'0'..=b'9' => Some((rest * 10 + u32::from(character - b'0')) % 97),
        b'A'..=b'Z' => Some((rest * 100 + u32::from(character - b'A') + 10) % 97),
        _ => None,
    });
    remainder == Some(1)
}

/// The length of the IBANs of the country that these characters begin with.
pub(super) fn iban_length(characters: &[u8]) -> Option<usize> {
    let country = characters.get(..2)?;
    IBAN.iter().find(|(name, _)| name.as_slice() == country).map(|(_, length)| *length)
}

/// GitHub's classic tokens and npm's end with six characters of base 62: the CRC-32 of the thirty in front of them
/// (GitHub's engineering blog, "Behind GitHub's new authentication token formats").
pub(super) fn has_crc32(secret: &[u8]) -> bool {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some((body, stated)) = secret.split_at_checked(30) else { return false };
    let value = stated.iter().try_fold(0u64, |value, character| {
        let digit = DIGITS.iter().position(|digit| digit == character)?;
        value.checked_mul(62)?.checked_add(digit as u64)
    });
    stated.len() == 6 && value == Some(u64::from(crc32fast::hash(body)))
}

/// Whether characters are as mixed as a random secret's: letters of both cases and digits, a good part of them different.
pub(super) fn is_mixed(secret: &[u8]) -> bool {
    let has = |class: fn(&u8) -> bool| secret.iter().any(class);
    let mut seen = [false; 256];
    for byte in secret {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
        && distinct >= 8.max(secret.len().min(64) / 3)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
    }

    #[test]
    fn cards() {
        // The networks' own test numbers.
        for card in ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "30569309025904"] {
            assert!(is_card(&digits(card)), "{card}");
            let mut wrong = digits(card);
            let last = wrong.len() - 1;
            wrong[last] = (wrong[last] + 1) % 10;
            assert!(!is_card(&wrong), "{card}");
        }
        assert!(is_bank_card(&digits("6222600260001072444")));
        assert!(!is_bank_card(&digits("6222600260001072445")) && !is_card(&digits("6222600260001072444")));
        assert!(!luhn(&[]));
    }

    #[test]
    fn chinese_identity_numbers() {
        // The standard's own example.
        assert!(is_cn_id(&digits("11010519491231002"), true));
        assert!(is_cn_id(&digits("440524199001010018"), false));
        assert!(!is_cn_id(&digits("110105194912310021"), false));
        assert!(!is_cn_id(&digits("11010519490231002"), true), "the 31st of February");
        assert!(!is_cn_id(&digits("99010519491231002"), true), "no such division");
    }

    #[test]
    fn ibans() {
        // Examples of SWIFT's registry.
        for iban in
            ["GB29NWBK60161331926819", "DE89370400440532013000", "FR1420041010050500013M02606", "NO9386011117947"]
        {
            assert!(is_iban(iban.as_bytes()), "{iban}");
        }
        assert!(!is_iban(b"GB29NWBK60161331926818") && !is_iban(b"GB29NWBK6016133192681") && !is_iban(b"ZZ"));
    }

    #[test]
    fn checksums_of_tokens() {
        // GitHub's published example has the checksum that its text says.
        let body = b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ";
        assert!(has_crc32(&[body.as_slice(), b"0mLq17"].concat()));
        assert!(!has_crc32(&[body.as_slice(), b"0mLq18"].concat()));
        assert!(!has_crc32(b"short"));
    }

    #[test]
    fn social_security_numbers() {
        assert!(is_ssn(536, 90, 4399));
        for (area, group, serial) in [(0, 1, 1), (666, 1, 1), (900, 1, 1), (1, 0, 1), (1, 1, 0), (78, 5, 1120)] {
            assert!(!is_ssn(area, group, serial));
        }
    }

    #[test]
    fn mixtures() {
        assert!(is_mixed(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
        assert!(!is_mixed(b"da39a3ee5e6b4b0d3255bfef95601890afd80709"));
        assert!(!is_mixed(b"aA1aA1aA1aA1aA1aA1aA1aA1aA1aA1aA1aA1aA1a"));
    }
}
