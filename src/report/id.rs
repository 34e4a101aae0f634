//! Exchange ids as they travel: text in records and acknowledgements, numbers everywhere else.

use crate::quota::{ExchangeId, Incarnation};

/// Reads an exchange id as [`ExchangeId`] prints it: `epoch-vm-generation-sequence`, the epoch as 16 hex digits.
///
/// `None` for anything else, other spellings of the same numbers included: two texts never name one exchange.
pub fn exchange_id(text: &str) -> Option<ExchangeId> {
    let mut parts = text.split('-');
    let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
    let vm = parts.next()?.parse().ok()?;
    let generation = parts.next()?.parse().ok()?;
    let sequence = parts.next()?.parse().ok()?;
    let id = ExchangeId { by: Incarnation { epoch, vm, generation }, sequence };
    (parts.next().is_none() && id.to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{ExchangeId, Incarnation, exchange_id};

    #[test]
    fn only_the_canonical_spelling_is_an_id() {
        let id = exchange_id("00000000000000ff-3-2-17").unwrap();
        assert_eq!(id, ExchangeId { by: Incarnation { epoch: 255, vm: 3, generation: 2 }, sequence: 17 });
        for wrong in [
            "",
            "-",
            "ff-3-2-17",
            "00000000000000FF-3-2-17",
            "00000000000000ff-03-2-17",
            "00000000000000ff-+3-2-17",
            "00000000000000ff-3-2",
            "00000000000000ff-3-2-17-1",
            "00000000000000ff-3-2-17 ",
            "00000000000000ff-70000-2-17",
        ] {
            assert_eq!(exchange_id(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(epoch: u64, vm: u16, generation: u32, sequence: u64) {
            let id = ExchangeId { by: Incarnation { epoch, vm, generation }, sequence };
            assert_eq!(exchange_id(&id.to_string()), Some(id));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = exchange_id(&text);
        }
    }
}
