//! Reading the collector's answer, part by part.
//!
//! Each part is read by way of a tree, as records are in the filter: reading the whole at once would be the only thing
//! there that needs the rest of the decoder, some 60 KB of the filter. A tree is many times the size of its bytes, so a part
//! may not be large.

use serde::de::DeserializeOwned;

use super::{MAX_DEPTH, MAX_GRANTS, MAX_RECORDS, SyncReply};
use crate::report::msgpack::{list, map};

/// Longest part of an answer, in bytes: an id, a reason, a grant.
const LONGEST: usize = 64 << 10;

/// A whole value. Unknown fields are passed over.
pub(super) fn read(value: &[u8]) -> Result<SyncReply, String> {
    let mut parts = map(value).ok_or("it is no map")?;
    let mut reply = SyncReply::default();
    while let Some((key, value)) = parts.next().zip(parts.next()) {
        match part::<String>(key)?.as_str() {
            "farebox" => reply.farebox = part(value)?,
            "acknowledged" => reply.acknowledged = at_most(MAX_RECORDS, value)?,
            "rejected" => reply.rejected = at_most(MAX_RECORDS, value)?,
            "grants" => reply.grants = at_most(MAX_GRANTS, value)?,
            _ => {}
        }
    }
    Ok(reply)
}

fn at_most<T: DeserializeOwned>(most: usize, value: &[u8]) -> Result<Vec<T>, String> {
    let parts: Vec<&[u8]> = list(value).ok_or("a list was expected")?.take(most.saturating_add(1)).collect();
    if parts.len() > most {
        return Err(format!("a list has more than {most} elements"));
    }
    parts.into_iter().map(part).collect()
}

fn part<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    if value.len() > LONGEST {
        return Err(format!("a part of {} bytes, at most {LONGEST} were expected", value.len()));
    }
    // A map is two levels in a tree, and a string three.
    let tree = rmpv::decode::read_value_with_max_depth(&mut &*value, 2 * MAX_DEPTH + 3);
    rmpv::ext::from_value(tree.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Grant, SyncReply, WireError, decode_reply};
    use super::{LONGEST, MAX_RECORDS};

    fn said(value: &serde_json::Value) -> Result<SyncReply, WireError> {
        decode_reply(&rmp_serde::to_vec_named(value).unwrap())
    }

    #[test]
    fn unknown_fields_are_passed_over_and_missing_ones_are_empty() {
        let grants = json!([{"subject": "seat/ann", "left": 7, "more": {"deep": [[1]]}}, {}]);
        let reply = said(&json!({"farebox": 1, "future": {"deep": [[1, "x"], null]}, "grants": grants})).unwrap();
        let known = Grant { subject: "seat/ann".to_owned(), left: 7, ..Grant::default() };
        assert_eq!(reply, SyncReply { farebox: 1, grants: vec![known, Grant::default()], ..SyncReply::default() });
        assert_eq!(said(&json!({"farebox": 1})).unwrap(), SyncReply { farebox: 1, ..SyncReply::default() });
    }

    #[test]
    fn what_is_of_another_kind_or_too_much_is_an_error() {
        for (reply, says) in [
            (json!([1]), "no map"),
            (json!({"farebox": "1"}), "invalid type"),
            (json!({"farebox": 1, "grants": {}}), "a list was expected"),
            (json!({"farebox": 1, "grants": [1]}), "invalid type"),
            (json!({"farebox": 1, "acknowledged": [[1]]}), "invalid type"),
            (json!({"farebox": 1, "acknowledged": vec![""; MAX_RECORDS + 1]}), "more than 4096"),
            (json!({"farebox": 1, "acknowledged": ["x".repeat(LONGEST)]}), "at most 65536"),
            (json!({"farebox": 1, "grants": [vec![0; LONGEST]]}), "at most 65536"),
        ] {
            let error = said(&reply).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
