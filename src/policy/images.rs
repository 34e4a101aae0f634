//! What the images of a prompt may be.

use super::diagnostic::{Code, Faults};
use super::fields::{Fields, form, whole};
use super::scalar::some_bytes;

/// What the images of a prompt may be. `None`: anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// So many in one call, those that the body only points at too.
    pub most: Option<u64>,
    /// So many bytes each.
    pub largest: Option<u64>,
    /// So many pixels each, width times height.
    pub pixels: Option<u64>,
}

const KEYS: [&str; 3] = ["most", "largest", "pixels"];

/// No provider takes nearly as many.
const MOST: u64 = 4_096;

/// 65,535 by 65,535, the most that any format's head can say.
const MOST_PIXELS: u64 = 65_535 * 65_535;

/// `images: {most: 20, largest: 5 MiB, pixels: 16000000}`.
pub(super) fn read(fields: &Fields<'_>, faults: &mut Faults) -> Option<Images> {
    let node = fields.optional("images")?;
    let images = Fields::of(node, fields.path("images"), &KEYS, faults)?;
    if KEYS.iter().all(|key| images.optional(key).is_none()) {
        let help = "write for example `{most: 20, largest: 5 MiB, pixels: 16000000}`";
        faults.add(node.at, Code::MissingKey, "this rule says nothing of images", help);
    }
    let most = images.optional("most").and_then(|node| whole(node, &images.path("most"), 1, MOST, faults));
    let largest = images.optional("largest");
    let largest = largest.and_then(|node| form(node, &images.path("largest"), faults, some_bytes));
    let pixels = images.optional("pixels");
    let pixels = pixels.and_then(|node| whole(node, &images.path("pixels"), 1, MOST_PIXELS, faults));
    Some(Images { most, largest: largest.map(|largest| largest.value), pixels })
}
