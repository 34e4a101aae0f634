//! Names that stand in a body already, so that none is given twice.

use std::collections::BTreeSet;

use crate::scan::{Action, HIGHEST_NUMBER, Rule, stem};

/// Names such as `[EMAIL_1]` that stand in a body, as far as anybody could give them. The body is read once.
pub(super) struct Named(BTreeSet<String>);

impl Named {
    /// Those that these rules could give: no more than some thousand for each.
    pub fn of(body: &[u8], rules: &[Rule]) -> Self {
        let stems: Vec<String> = rules.iter().filter(|rule| rule.action == Action::Pseudonym).map(stem).collect();
        let longest = stems.iter().map(String::len).max().unwrap_or(0).saturating_add(6);
        let names = memchr::memchr_iter(b']', body).filter_map(|end| {
            let before = body.get(end.saturating_sub(longest)..end)?;
            let name = before.get(memchr::memrchr(b'[', before)?.saturating_add(1)..)?;
            let (stem, number) = std::str::from_utf8(name).ok()?.rsplit_once('_')?;
            let real = !number.starts_with('0') && number.parse().is_ok_and(|number: usize| number <= HIGHEST_NUMBER);
            (real && stems.iter().any(|known| known == stem)).then(|| format!("[{stem}_{number}]"))
        });
        Self(names.collect())
    }

    /// Whether this one stands there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::Named;
    use crate::scan::{Action, Rule};

    #[test]
    fn names_that_stand_in_a_body_are_known() {
        let rule = |name: &str, action| Rule { name: name.into(), action };
        let rules =
            [rule("email", Action::Pseudonym), rule("patterns.badge", Action::Pseudonym), rule("iban", Action::Tag)];
        let named =
            Named::of(b"[EMAIL_1] [[EMAIL_20]] [EMAIL_x [BADGE_3] [EMAIL_04] [EMAIL_5000] [IBAN_1] [A_1]", &rules);
        let all: Vec<_> = named.0.iter().map(String::as_str).collect();
        assert_eq!(all, ["[BADGE_3]", "[EMAIL_1]", "[EMAIL_20]"]);
    }
}
