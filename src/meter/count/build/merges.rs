//! How tokens come about: which two each is merged from, and which token two give.

use std::collections::HashMap;

use crate::layout::{NO_MERGE, NO_TOKEN, TOKEN_BITS, Token, merge_slot};

/// What is known of each token, in the order of the ranks.
pub fn tokens(tokens: &[Vec<u8>]) -> Vec<Token> {
    let ranks: HashMap<&[u8], u32> = tokens.iter().zip(0..).map(|(bytes, rank)| (bytes.as_slice(), rank)).collect();
    tokens.iter().zip(0..).map(|(bytes, rank)| token(bytes, rank, &ranks)).collect()
}

fn token(bytes: &[u8], rank: u32, ranks: &HashMap<&[u8], u32>) -> Token {
    let prefix = (1..bytes.len()).rev().find_map(|length| ranks.get(&bytes[..length]).copied()).unwrap_or(NO_TOKEN);
    let (left, right) = if bytes.len() == 1 { (rank, rank) } else { last_merge(bytes, rank, ranks) };
    let length = u32::try_from(bytes.len()).expect("a token is short");
    let token = Token { left, right, prefix, length };
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

/// From two tokens to the one that they merge to: open addressing. A slot has the merged token, whose own entry tells
/// which two it is merged from, and a fingerprint of these two.
pub fn table(tokens: &[Token]) -> Vec<u32> {
    // Three quarters full.
    let slots = (tokens.len() * 5 / 4).next_power_of_two();
    let mut table = vec![NO_MERGE; slots];
    for (token, rank) in tokens.iter().zip(0..).filter(|(token, _)| token.length > 1) {
        let (mut slot, fingerprint) = merge_slot(token.left, token.right, slots);
        while table[slot] != NO_MERGE {
            slot = (slot + 1) % slots;
        }
        table[slot] = fingerprint << TOKEN_BITS | rank;
        assert_ne!(table[slot], NO_MERGE);
    }
    table
}
