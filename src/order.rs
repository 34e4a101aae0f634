//! Lists put in order, in little code.
//!
//! The sorts of the standard library are compiled anew for each kind of list and key, some five KB a time in the filter.
//! Lists that are short or seldom sorted go through here, where one of them serves all.

use std::cmp::Ordering;

/// Sorts `list` by `key`; what has one key stays in the order it was in.
pub fn by_key<T, K: Ord>(list: &mut Vec<T>, key: impl Fn(&T) -> K) {
    by(list, |one, other| key(one).cmp(&key(other)));
}

/// Sorts `list` by `compare`; what is equal stays in the order it was in. A list that is in order costs one look at it.
pub fn by<T>(list: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    if list.is_sorted_by(|one, other| compare(one, other).is_le()) {
        return;
    }
    let order = order(list.len(), &|one, other| match (list.get(one), list.get(other)) {
        (Some(one), Some(other)) => compare(one, other),
        _ => Ordering::Equal,
    });
    let mut items: Vec<Option<T>> = list.drain(..).map(Some).collect();
    list.extend(order.into_iter().filter_map(|at| items.get_mut(at)?.take()));
}

/// The positions of a list of so many, in the order in which what lies there should be.
#[inline(never)]
fn order(length: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    order.sort_by(|one, other| compare(*one, *other));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn lists_are_sorted_as_by_the_standard_library(list in prop::collection::vec(any::<(u8, String)>(), 0..200)) {
            let (mut found, mut wanted) = (list.clone(), list);
            super::by_key(&mut found, |(key, _)| key % 16);
            wanted.sort_by_key(|(key, _)| key % 16);
            prop_assert_eq!(&found, &wanted, "stable by a key");
            super::by(&mut found, |one, other| other.1.cmp(&one.1));
            wanted.sort_by(|one, other| other.1.cmp(&one.1));
            prop_assert_eq!(found, wanted, "by a comparison");
        }
    }
}
