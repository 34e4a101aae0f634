//! Amounts as people read them: exact decimals of micro-units, in JSON and in tables.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::quota::MICRO;

/// An amount in micro-units that is written in whole units, `1.5` for 1,500,000, without a rounding anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Amount(
    /// Micro-units.
    pub u128,
);

impl From<u64> for Amount {
    fn from(micro: u64) -> Self {
        Self(micro.into())
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / u128::from(MICRO), self.0 % u128::from(MICRO));
        let digits = format!("{part:06}");
        match digits.trim_end_matches('0') {
            "" => f.pad(&whole.to_string()),
            part => f.pad(&format!("{whole}.{part}")),
        }
    }
}

/// Text that is no exact decimal with at most six places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAmount;

impl fmt::Display for NoAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount is a decimal number with at most six places")
    }
}

impl std::error::Error for NoAmount {}

impl FromStr for Amount {
    type Err = NoAmount;

    fn from_str(text: &str) -> Result<Self, NoAmount> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 6 {
            return Err(NoAmount);
        }
        let whole: u128 = whole.parse().map_err(|_| NoAmount)?;
        let part: u128 = format!("{part:0<6}").parse().map_err(|_| NoAmount)?;
        whole.checked_mul(MICRO.into()).and_then(|micro| micro.checked_add(part)).map(Self).ok_or(NoAmount)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer)?.get().parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::Amount;

    #[test]
    fn amounts_are_written_exactly() {
        for (micro, text) in
            [(0, "0"), (1, "0.000001"), (1_500_000, "1.5"), (82_000_000_000_000_001, "82000000000.000001")]
        {
            assert_eq!(serde_json::to_string(&Amount(micro)).unwrap(), text);
            assert_eq!(serde_json::from_str::<Amount>(text).unwrap(), Amount(micro));
        }
        for wrong in ["", "-1", "1.", ".5", "1e3", "0.0000001", "\"1\""] {
            assert!(serde_json::from_str::<Amount>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micro: u128) {
            assert_eq!(serde_json::from_str::<Amount>(&serde_json::to_string(&Amount(micro)).unwrap()).unwrap(), Amount(micro));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = text.parse::<Amount>();
        }
    }
}
