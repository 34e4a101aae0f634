//! In which order a host carries out cases of which some need accounts anew, because others have used the same.

use std::collections::BTreeSet;

use super::request::quotas;
use crate::policy::Bundle;
use crate::policy::bundle::HoldSize;
use crate::policy::case::Case;

/// The accounts that a case may use.
pub(super) fn subjects(case: &Case, bundle: &Bundle) -> BTreeSet<String> {
    case.calls().iter().flat_map(|asked| quotas(asked.who, asked.call, bundle)).map(|(subject, _)| subject).collect()
}

/// Whether the text that a case expects has a hash in it, such as `[email:5f0c1a2b3c4d]`.
pub(super) fn tells_a_hash(case: &Case) -> bool {
    let found = case.expect.text.iter().flat_map(|text| text.split('['));
    let mut hashes = found.filter_map(|part| Some(part.split_once(']')?.0.rsplit_once(':')?.1));
    hashes.any(|hash| hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The places of the cases in such an order that accounts are made anew seldom: between two times as many as have accounts
/// of their own, those that happen earlier in front. Where what is held depends on the calls before, cases keep their
/// order.
pub(super) fn by_accounts(cases: &[&(String, Case)], bundle: &Bundle) -> Vec<usize> {
    let mut quotas = bundle.plans.iter().flat_map(|plan| &plan.quotas);
    if quotas.any(|quota| quota.hold == HoldSize::Expected) {
        return (0..cases.len()).collect();
    }
    let mut starts: Vec<(BTreeSet<String>, Vec<usize>)> = Vec::new();
    for (place, (_, case)) in cases.iter().enumerate() {
        let needed = subjects(case, bundle);
        match starts.iter_mut().find(|(used, _)| used.is_disjoint(&needed)) {
            Some((used, places)) => {
                used.extend(needed);
                places.push(place);
            }
            None => starts.push((needed, vec![place])),
        }
    }
    let begins = |place: &usize| cases.get(*place).and_then(|(_, case)| case.calls().first()?.at_ms);
    starts.iter_mut().for_each(|(_, places)| places.sort_by_key(begins));
    starts.into_iter().flat_map(|(_, places)| places).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Suite;
    use super::{by_accounts, subjects, tells_a_hash};
    use crate::policy::Case;

    fn suite(policy: &str) -> Suite {
        Suite::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(policy)).unwrap()
    }

    #[test]
    fn every_case_has_its_place_and_few_starts_do() {
        let Suite { bundle, cases, .. } = suite("examples/plans/china-telecom/policy.yaml");
        let cases: Vec<_> = cases.iter().collect();
        let order = by_accounts(&cases, &bundle);
        let mut places = order.clone();
        places.sort_unstable();
        assert_eq!(places, (0..cases.len()).collect::<Vec<_>>());
        let (mut starts, mut used) = (1, std::collections::BTreeSet::new());
        for place in order {
            let mut needed = subjects(&cases[place].1, &bundle);
            if !used.is_disjoint(&needed) {
                (starts, used) = (starts + 1, Default::default());
            }
            used.append(&mut needed);
        }
        assert!(starts <= 7, "{starts} starts for {} cases", cases.len());
    }

    #[test]
    fn a_hash_is_told_from_other_words_in_brackets() {
        let Suite { cases, .. } = suite("examples/quickstart/policy.yaml");
        let tells = |text: &str| {
            let mut case: Case = cases[0].1.clone();
            case.expect.text = Some(text.to_owned());
            tells_a_hash(&case)
        };
        assert!(tells("see [1] or [patterns.badge:5f0c1a2b3c4d]."));
        for text in ["", "[email]", "[email:5f0c1a2b3c4]", "[a:not-a-digest", "[at:no hash here]", ":5f0c1a2b3c4d"] {
            assert!(!tells(text), "{text}");
        }
    }

    #[test]
    fn what_depends_on_the_calls_before_stays_in_its_order() {
        let Suite { bundle, cases, .. } = suite("tests/cases/field.yaml");
        let cases: Vec<_> = cases.iter().collect();
        assert_eq!(by_accounts(&cases, &bundle), (0..cases.len()).collect::<Vec<_>>());
    }
}
