use crate::policy::bundle::Bundle;
use crate::policy::compile;
use crate::policy::succession::Charter;

/// A policy with these plans, each on a line of its own, and whatever else at the end.
fn bundle(plans: &[(&str, &str)], more: &str) -> Bundle {
    let line = |(name, body): &(&str, &str)| format!("  {name}: {body}\n");
    let assigned = |(at, (name, _)): (usize, &(&str, &str))| format!("  - {{when: {{seat: s{at}}}, plan: {name}}}\n");
    let seat = |at: usize| format!("  s{at}: {{org: acme, keys: [\"sha256:{:064x}\"]}}\n", at + 1);
    let text = format!(
        "farebox: 1\nbundle: {{name: b, version: 1}}\nidentity: [{{key: [x-api-key]}}]\n\
         models: {{m: {{count: o200k_base}}}}\nplans:\n{}seats:\n{}assign:\n{}{more}",
        plans.iter().map(line).collect::<String>(),
        (0..plans.len()).map(seat).collect::<String>(),
        plans.iter().enumerate().map(assigned).collect::<String>(),
    );
    compile(&text, "p").unwrap_or_else(|faults| panic!("{text}{faults:?}"))
}

fn caps(names: &str) -> String {
    let cap = |name: &str| format!("{name}: {{limit: 9 requests, per: seat, window: lifetime}}");
    format!("{{tokens: {{caps: {{{}}}}}}}", names.split(' ').map(cap).collect::<Vec<_>>().join(", "))
}

/// What `new` says to take the place of `old`, which has gone through shared data.
fn followed(old: &Bundle, new: &Bundle) -> Vec<String> {
    let kept = Charter::from_bytes(&old.charter.to_bytes()).expect("a charter can be kept");
    new.charter.follow(&kept, "p").iter().map(|fault| fault.one_line()).collect()
}

#[test]
fn a_plan_without_version_may_change_its_limits() {
    let old = bundle(&[("team", &caps("a b"))], "");
    let new = bundle(&[("team", &caps("a b").replace('9', "99"))], "");
    assert_eq!(followed(&old, &new), Vec::<String>::new());
    assert_eq!(followed(&old, &old), Vec::<String>::new());
}

#[test]
fn a_quota_that_vanishes_is_renamed_or_dropped() {
    let old = bundle(&[("team", &caps("a b"))], "");
    let gone = followed(&old, &bundle(&[("team", &caps("a c"))], ""));
    let expected = "p:6:3: error[succession]: the plan `team` has no quota `b` any more (if it was renamed, write \
                    `was: b` at the new name, or its counters begin anew; if it is meant to go, list `dropped: [team/b]`)";
    assert_eq!(gone, [expected]);
    let renamed = caps("a c").replace("c: {", "c: {was: b, ");
    assert!(followed(&old, &bundle(&[("team", &renamed)], "")).is_empty());
    assert!(followed(&old, &bundle(&[("team", &caps("a"))], "dropped: [team/b]\n")).is_empty());
    // A second new name keeps the first one's counters.
    let again = caps("a d").replace("d: {", "d: {was: b, ");
    assert!(followed(&bundle(&[("team", &renamed)], ""), &bundle(&[("team", &again)], "")).is_empty());
}

#[test]
fn a_version_stays_as_it_was_sold() {
    let old = bundle(&[("team@1", &caps("a b"))], "");
    let other_layout = caps("a b").replace("{limit", "{ \"limit\"");
    assert!(followed(&old, &bundle(&[("team@1", &other_layout)], "")).is_empty());
    let edited = followed(&old, &bundle(&[("team@1", &caps("a b").replace('9', "99"))], ""));
    assert!(edited.len() == 1 && edited[0].contains("the plan `team@1` says something else than it did"), "{edited:?}");
    // Beside it or in its place, the next version goes on with its counters.
    let next = caps("a b").replace('9', "99");
    assert!(followed(&old, &bundle(&[("team@1", &caps("a b")), ("team@2", &next)], "")).is_empty());
    assert!(followed(&old, &bundle(&[("team@2", &next)], "")).is_empty());
    let less = followed(&old, &bundle(&[("team@1", &caps("a b")), ("team@2", &caps("a"))], ""));
    assert!(less.len() == 1 && less[0].contains("the plan `team@2` has no quota `b` any more"), "{less:?}");
    let dropped = bundle(&[("team@1", &caps("a b")), ("team@2", &caps("a"))], "dropped: [team/b]\n");
    assert!(followed(&old, &dropped).is_empty());
    // Nothing is asked of a version that was sold like that.
    assert!(followed(&dropped, &bundle(&[("team@1", &caps("a b")), ("team@2", &caps("a"))], "")).is_empty());
}

#[test]
fn a_plan_that_vanishes_is_renamed_or_dropped() {
    let old = bundle(&[("team", &caps("a")), ("trial", &caps("a"))], "");
    let gone = followed(&old, &bundle(&[("team", &caps("a"))], ""));
    assert!(
        gone.len() == 1 && gone[0].starts_with("p:5:1: error[succession]: there is no plan `trial` any more"),
        "{gone:?}"
    );
    assert!(followed(&old, &bundle(&[("team", &caps("a"))], "dropped: [trial]\n")).is_empty());
    let renamed = caps("a").replace("{tokens", "{was: trial, tokens");
    let new = bundle(&[("team", &caps("a")), ("start", &renamed)], "");
    assert!(followed(&old, &new).is_empty());
    // The counters are those of the old name.
    let ids = |bundle: &Bundle| bundle.plans.iter().map(|plan| plan.quotas[0].quota.id).collect::<Vec<_>>();
    assert_eq!(ids(&old), ids(&new));
    assert_eq!(new.plan_of("trial").map(|plan| plan.name.as_str()), Some("start"), "records of the old name find it");
}

#[test]
fn the_same_policy_may_always_take_its_own_place() {
    let mixed =
        bundle(&[("team@1", &caps("a b")), ("team@2", &caps("a c")), ("team", &caps("a"))], "dropped: [other]\n");
    assert_eq!(followed(&mixed, &mixed), Vec::<String>::new());
    let more = bundle(
        &[("team@1", &caps("a b")), ("team@2", &caps("a c")), ("team", &caps("a")), ("new", &caps("x"))],
        "dropped: [other]\n",
    );
    assert_eq!(followed(&mixed, &more), Vec::<String>::new(), "nor does an edit elsewhere ask for anything");
}

#[test]
fn a_version_that_was_taken_out_does_not_come_back_with_other_terms() {
    let first = bundle(&[("team@1", &caps("a"))], "");
    let second = bundle(&[("team@2", &caps("a"))], "");
    let in_force = second.charter.in_place_of(&first.charter);
    assert_eq!(in_force, in_force.in_place_of(&in_force), "it is the same however often it is said");
    let edited = bundle(&[("team@1", &caps("a").replace('9', "99")), ("team@2", &caps("a"))], "");
    assert_eq!(edited.charter.follow(&in_force, "p").len(), 1);
    let back = bundle(&[("team@1", &caps("a")), ("team@2", &caps("a"))], "");
    assert!(back.charter.follow(&in_force, "p").is_empty());
}

#[test]
fn the_order_of_keys_says_nothing_but_that_of_funds_does() {
    let old = bundle(&[("team@1", &caps("a b"))], "");
    assert!(followed(&old, &bundle(&[("team@1", &caps("b a"))], "")).is_empty());
    let funds = |order: [&str; 2]| {
        let fund = |name: &str| format!("{name}: {{amount: 9 requests, per: seat, window: lifetime}}");
        format!("{{tokens: {{funds: {{{}, {}}}}}}}", fund(order[0]), fund(order[1]))
    };
    let old = bundle(&[("team@1", &funds(["a", "b"]))], "");
    assert_eq!(followed(&old, &bundle(&[("team@1", &funds(["b", "a"]))], "")).len(), 1);
}

#[test]
fn another_name_of_the_bundle_would_begin_all_counters_anew() {
    let old = bundle(&[("team", &caps("a"))], "");
    let mut new = old.charter.clone();
    new.bundle = "c".to_owned();
    let said = new.follow(&old.charter, "p");
    assert!(said.len() == 1 && said[0].message == "the bundle was called `b`", "{said:?}");
}

#[test]
fn a_charter_that_cannot_be_read_is_none() {
    assert_eq!(Charter::from_bytes(b"\xc1"), None);
}
