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

#[test]
fn a_quota_keeps_its_unit_its_level_and_its_kind_of_window() {
    let cap = |terms: &str| format!("{{tokens: {{caps: {{month: {{{terms}}}}}}}}}");
    let old = bundle(&[("team", &cap("limit: 500000 tokens, per: seat, window: calendar month"))], "");
    let said = |terms: &str, more: &str| followed(&old, &bundle(&[("team", &cap(terms))], more));
    for (terms, differs) in [
        ("limit: 500000 requests, per: seat, window: calendar month", "is in `requests`, and was in `tokens`"),
        ("limit: 500000 tokens, per: org, window: calendar month", "is per `org`, and was per `seat`"),
        (
            "limit: 500000 tokens, per: seat, window: calendar day",
            "has the window `calendar day in UTC`, and had `calendar month in UTC`",
        ),
        (
            "limit: 500000 tokens, per: seat, window: calendar month in Asia/Tokyo",
            "has the window `calendar month in Asia/Tokyo`, and had `calendar month in UTC`",
        ),
    ] {
        let said = said(terms, "");
        assert!(
            said.len() == 1 && said[0].contains(differs) && said[0].contains("`dropped: [team/month]`"),
            "{said:?}"
        );
    }
    assert_eq!(said("limit: 9 tokens, per: seat, window: calendar month in UTC", ""), Vec::<String>::new());
    // Of a version only what stands around it can move.
    let sold = |zone: &str| bundle(&[("team@1", &cap("limit: 9 tokens, per: seat, window: calendar month"))], zone);
    let moved = followed(&sold(""), &sold("zone: Asia/Tokyo\n"));
    assert!(moved.len() == 1 && moved[0].contains("keep the file's `zone`"), "{moved:?}");
    // The zone of the file is that of its windows.
    assert_eq!(said("limit: 500000 tokens, per: seat, window: calendar month", "zone: Asia/Tokyo\n").len(), 1);
    // The next version is no way around it, nor is another name of the same.
    let next = cap("limit: 9 requests, per: seat, window: calendar month");
    assert_eq!(followed(&old, &bundle(&[("team@2", &next)], "")).len(), 1);
    let renamed = next.replace("month: {", "calls: {was: month, ");
    assert_eq!(followed(&old, &bundle(&[("team", &renamed)], "")).len(), 1);
    // Said on purpose, it begins anew.
    let calls = next.replace("month: {", "calls: {");
    assert!(followed(&old, &bundle(&[("team", &calls)], "dropped: [team/month]\n")).is_empty());
    // Lengths may change, as limits may.
    let length =
        |of: &str| bundle(&[("team", &cap(&format!("limit: 9 tokens, per: seat, window: first-use {of}")))], "");
    assert!(followed(&length("5h"), &length("7d")).is_empty());
}

#[test]
fn versions_that_share_their_counters_read_them_alike() {
    let policy = |unit: &str| {
        let plan =
            |unit: &str| format!("{{tokens: {{caps: {{c: {{limit: 9 {unit}, per: seat, window: lifetime}}}}}}}}");
        format!(
            "farebox: 1\nbundle: {{name: b, version: 1}}\nidentity: [{{key: [x-api-key]}}]\nmodels: {{m: {{count: \
             o200k_base}}}}\nplans:\n  p@1: {}\n  p@2: {}\nseats:\n  s: {{org: a, keys: [\"sha256:{:064x}\"]}}\n  \
             t: {{org: a, keys: [\"sha256:{:064x}\"]}}\nassign: [{{when: {{seat: s}}, plan: p@1}}, {{otherwise: p@2}}]\n",
            plan("tokens"),
            plan(unit),
            1,
            2
        )
    };
    assert!(compile(&policy("tokens"), "p").is_ok());
    let said = compile(&policy("requests"), "p").unwrap_err();
    assert_eq!(said.len(), 1);
    assert_eq!(
        said[0].message,
        "the quota `c` of `p@2` is in `requests`, and was in `tokens` in `p@1`, whose counters it goes on with"
    );
}

/// A plan in credits, which may be for these models only, and these lines of the catalogue.
fn priced(plan: &str, tokens: &str, models: &str) -> Bundle {
    let text = format!(
        "farebox: 1\nbundle: {{name: b, version: 1}}\nidentity: [{{key: [x-api-key]}}]\nmodels:\n{models}\nplans:\n  \
         {plan}: {{tokens: {{{tokens}funds: {{c: {{amount: 9 credits, per: seat, window: lifetime}}}}}}, \
         security: {{models: [\"m*\"]}}}}\nseats:\n  s: {{org: acme, keys: [\"sha256:{:064x}\"]}}\n\
         assign: [{{otherwise: {plan}}}]\n",
        1
    );
    compile(&text, "p").unwrap_or_else(|faults| panic!("{text}{faults:?}"))
}

const SOLD: &str = "  m-1: {count: o200k_base, credits: {input: 1, output: 4}}\n  \
                    \"m*\": {count: o200k_base, credits: {input: 2, output: 8}}\n  \
                    x: {count: o200k_base, credits: {input: 1, output: 1}}\n";

#[test]
fn a_version_is_charged_by_the_prices_it_was_sold_at() {
    let old = priced("p@1", "", SOLD);
    let said = |models: &str| followed(&old, &priced("p@1", "", models));
    assert_eq!(said(SOLD), Vec::<String>::new());
    let raised = said(&SOLD.replace("input: 2", "input: 3"));
    assert!(
        raised.len() == 1 && raised[0].contains("`m*` costs something else, and the plan `p@1` was sold at that price"),
        "{raised:?}"
    );
    assert_eq!(said(&SOLD.replace("output: 8}", "output: 8}, factor: [{factor: 2}]")).len(), 1);
    // A line of its own for a name that had a price.
    let own = said(&format!("{SOLD}  m-2: {{count: o200k_base, credits: {{input: 9, output: 9}}}}\n"));
    assert!(own.len() == 1 && own[0].contains("`m-2` costs something else than `m*`, which was for it"), "{own:?}");
    let nearer = SOLD.to_owned() + "  \"m-*\": {count: o200k_base, credits: {input: 9, output: 9}}\n";
    assert_eq!(said(&nearer).len(), 1);
    // One that goes, whose names fall to another price.
    let gone = SOLD.replace("  m-1: {count: o200k_base, credits: {input: 1, output: 4}}\n", "");
    assert_eq!(said(&gone).len(), 1);
}

#[test]
fn an_hour_in_a_cache_is_a_price_where_it_has_one() {
    let old = priced("p@1", "", SOLD);
    let hour =
        |rate: &str| SOLD.replace("{input: 1, output: 4}", &format!("{{input: 1, output: 4, cache_write_1h: {rate}}}"));
    assert_eq!(
        followed(&old, &priced("p@1", "", &hour("1"))),
        Vec::<String>::new(),
        "as it was before there was a word"
    );
    assert_eq!(followed(&old, &priced("p@1", "", &hour("2"))).len(), 1);
}

#[test]
fn what_a_version_cannot_come_to_and_what_is_no_price_may_change() {
    let old = priced("p@1", "", SOLD);
    let said = |models: &str| followed(&old, &priced("p@1", "", models));
    for models in [
        SOLD.replace("input: 1, output: 1", "input: 7, output: 7"),
        SOLD.replace("o200k_base", "cl100k_base"),
        SOLD.replace("output: 4}", "output: 4}, factor: 1"),
        format!("{SOLD}  m-2: {{alias: \"m*\"}}\n  y: {{count: o200k_base, credits: {{input: 9, output: 9}}}}\n"),
        SOLD.replace("\"m*\":", "\"{m,k}*\":"),
        SOLD.replace("  x: {count: o200k_base, credits: {input: 1, output: 1}}\n", ""),
    ] {
        assert_eq!(said(&models), Vec::<String>::new(), "{models}");
    }
    let raised = SOLD.replace("input: 2", "input: 3");
    // Without a version, or with open prices, the price list is followed.
    assert!(followed(&priced("p", "", SOLD), &priced("p", "", &raised)).is_empty());
    let open = |models: &str| priced("p@1", "prices: open, ", models);
    assert!(followed(&open(SOLD), &open(&raised)).is_empty());
    // What was sold without that does not get it afterwards.
    assert_eq!(followed(&old, &open(SOLD)).len(), 1);
    // When nobody has the version any more, prices move; and it does not come back at others.
    let next = priced("p@2", "", &raised);
    assert!(followed(&old, &next).is_empty());
    let in_force = next.charter.in_place_of(&old.charter);
    let back = |models: &str| {
        let faults = priced("p@1", "", models).charter.follow(&in_force, "p");
        faults.iter().filter(|fault| fault.message.contains("the plan `p@1` was sold at that price")).count()
    };
    assert_eq!((back(&raised), back(SOLD)), (1, 0));
    // Lines that it had none of are new also when it comes back; one that stands before a line of its is not.
    let new = |name: &str| format!("{SOLD}  {name}: {{count: o200k_base, credits: {{input: 9, output: 9}}}}\n");
    assert_eq!((back(&new("n-1")), back(&new("m-2"))), (0, 1));
}

#[test]
fn a_line_that_was_taken_out_does_not_come_back_at_another_price() {
    let without = SOLD.replace("  \"m*\": {count: o200k_base, credits: {input: 2, output: 8}}\n", "");
    let policies = [SOLD, &without].map(|models| priced("p@1", "", models));
    let in_force = policies[1].charter.in_place_of(&policies[0].charter);
    assert_eq!(in_force.in_place_of(&in_force), in_force, "nothing is remembered twice");
    let said = |models: &str| priced("p@1", "", models).charter.follow(&in_force, "p").len();
    assert_eq!(said(SOLD), 0);
    assert_eq!(said(&SOLD.replace("input: 2", "input: 3")), 1);
    // Nor a name of it.
    let one = |price: u32| format!("{without}  m-3: {{count: o200k_base, credits: {{input: {price}, output: 8}}}}\n");
    assert_eq!((said(&one(2)), said(&one(3))), (0, 1));
    // What was sold since is not bound by it; when the version goes it is forgotten with it, unless it comes back.
    let next = priced("p@2", "", &one(3));
    assert!(next.charter.follow(&in_force, "p").is_empty());
    let in_force = next.charter.in_place_of(&in_force);
    let said = |plan: &str, price: u32| priced(plan, "", &one(price)).charter.follow(&in_force, "p").len();
    assert_eq!([said("p@2", 3), said("p@2", 2), said("p@1", 2), said("p@1", 3)], [0, 1, 0, 1]);
}
