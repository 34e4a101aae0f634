//! Build script: writes the counter's tables, and the time zones, into `OUT_DIR`.
//!
//! The vocabularies come from `tiktoken-rs`, the classes of characters from the tables of `regex-syntax`, which
//! tiktoken-rs matches with too. The same versions give the same bytes. See the docs of the module `meter::count` for
//! what the tables are for, and `layout.rs` for how they look.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "runs at build time on tables of ours: stopping the build is the right answer to every surprise"
)]

mod classes;
#[path = "../layout.rs"]
#[allow(dead_code, reason = "the half that reads is not used here")]
mod layout;
mod merges;
mod trie;
#[path = "../../../zone/build/mod.rs"]
mod zones;

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src/meter/count/build");
    println!("cargo::rerun-if-changed=src/meter/count/layout.rs");
    println!("cargo::rerun-if-changed=src/zone/build");
    let write = |name: &str, bytes: Vec<u8>| {
        let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names OUT_DIR"));
        std::fs::write(folder.join(name), bytes).expect("OUT_DIR can be written");
    };
    write("zones", zones::table());
    write("classes", classes::table());
    let vocabularies = [
        ("o200k", tiktoken_rs::o200k_base()),
        ("cl100k", tiktoken_rs::cl100k_base()),
        ("p50k", tiktoken_rs::p50k_base()),
        ("r50k", tiktoken_rs::r50k_base()),
    ];
    for (name, vocabulary) in vocabularies {
        let tokens = tokens(&vocabulary.expect("tiktoken-rs carries its vocabularies"));
        let tokens_table = merges::tokens(&tokens);
        write(&format!("{name}.trie"), words(trie::table(&tokens).into_iter().map(|node| node.0)));
        let (seeds, slots) = merges::table(&tokens_table);
        write(&format!("{name}.seeds"), seeds.into_iter().flat_map(u16::to_le_bytes).collect());
        let slot = |slot: u32| slot.to_le_bytes().into_iter().take(layout::MERGE_BYTES);
        write(&format!("{name}.merges"), slots.into_iter().flat_map(slot).collect());
        let entry = |token: &layout::Token| token.pack().to_le_bytes().into_iter().take(layout::TOKEN_BYTES);
        write(&format!("{name}.tokens"), tokens_table.iter().flat_map(entry).collect());
    }
}

/// The bytes of every token, in the order of the ranks. Special tokens have numbers above a gap, or amid the others: then
/// their place has the byte that no text has.
fn tokens(vocabulary: &tiktoken_rs::CoreBPE) -> Vec<Vec<u8>> {
    let special = vocabulary.special_tokens();
    let is_special = |bytes: &[u8]| special.iter().any(|token| token.as_bytes() == bytes);
    let decoded = (0..).map_while(|rank| vocabulary.decode_bytes(&[rank]).ok());
    let tokens: Vec<Vec<u8>> =
        decoded.map(|bytes| if is_special(&bytes) { vec![layout::NO_BYTE] } else { bytes }).collect();
    assert!(tokens.len() > 50_000 && tokens.len() < layout::NO_TOKEN as usize, "{} tokens", tokens.len());
    tokens
}

fn words(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}
