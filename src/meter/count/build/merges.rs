//! How tokens come about: which two each is merged from, and which token two give.

use std::collections::HashMap;

use crate::layout::{LONG, NO_TOKEN, Pair, TOKEN_BITS, Token};

/// What is known of each token, in the order of the ranks.
pub fn tokens(tokens: &[Vec<u8>]) -> Vec<Token> {
    let ranks: HashMap<&[u8], u32> = tokens.iter().zip(0..).map(|(bytes, rank)| (bytes.as_slice(), rank)).collect();
    tokens.iter().zip(0..).map(|(bytes, rank)| token(bytes, rank, &ranks)).collect()
}

fn token(bytes: &[u8], rank: u32, ranks: &HashMap<&[u8], u32>) -> Token {
    let (left, right) = if bytes.len() == 1 { (rank, rank) } else { last_merge(bytes, rank, ranks) };
    let length = u32::try_from(bytes.len()).expect("a token is short").min(LONG);
    let token = Token { left, right, length };
    assert_eq!(Token::unpack(token.pack()), token, "it fits its bits");
    token
}

/// Encodes a token's bytes without the last merge. That each token can be reached by merging is what makes a piece
/// that is a token always one token, so the counter needs no rule of its own for it.
fn last_merge(bytes: &[u8], rank: u32, ranks: &HashMap<&[u8], u32>) -> (u32, u32) {
    let mut cuts: Vec<usize> = (0..=bytes.len()).collect();
    while cuts.len() > 3 {
        let merges = cuts.windows(3).enumerate();
        let merges = merges.filter_map(|(at, cut)| Some((*ranks.get(&bytes[cut[0]..cut[2]])?, at + 1)));
        let (lowest, at) = merges.min().expect("a token is made of tokens");
        assert!(lowest < rank, "token {rank} cannot be reached by merging");
        cuts.remove(at);
    }
    (ranks[&bytes[..cuts[1]]], ranks[&bytes[cuts[1]..]])
}

/// From two tokens to the one that they merge to, without a collision: the seeds of the groups, and the slots. A slot's
/// token tells by its own entry which two it is merged from.
pub fn table(tokens: &[Token]) -> (Vec<u16>, Vec<u32>) {
    let merged: Vec<(Pair, u32)> = tokens
        .iter()
        .zip(0..)
        .filter(|(token, _)| token.length > 1)
        .map(|(token, rank)| (Pair::of(token.left, token.right), rank))
        .collect();
    let mut groups = vec![Vec::new(); merged.len() / 4];
    let count = groups.len();
    merged.iter().for_each(|(pair, rank)| groups[pair.group(count)].push((*pair, *rank)));
    // A few slots more than pairs, so that the last groups find their seeds.
    let mut slots = vec![NO_TOKEN; merged.len() * 103 / 100];
    let mut seeds = vec![0; count];
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|group| std::cmp::Reverse(groups[*group].len()));
    for group in order {
        let pairs = &groups[group];
        let places = |seed| pairs.iter().map(|(pair, _)| pair.slot(seed, slots.len())).collect::<Vec<_>>();
        let apart = |places: &[usize]| (1..places.len()).all(|at| !places[..at].contains(&places[at]));
        let fits = |seed: &u16| {
            let places = places(*seed);
            places.iter().all(|place| slots[*place] == NO_TOKEN) && apart(&places)
        };
        let seed = (0..=u16::MAX).find(fits).expect("a seed for every group");
        for ((pair, rank), place) in pairs.iter().zip(places(seed)) {
            slots[place] = (pair.fingerprint() << TOKEN_BITS) | rank;
        }
        seeds[group] = seed;
    }
    (seeds, slots)
}
