//! What a request has in it besides text.

/// A kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Media {
    /// Pictures.
    Image,
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
    /// Documents and other files.
    File,
}

impl Media {
    /// All of them, by the names that policies use.
    pub const ALL: [(&'static str, Self); 4] =
        [("image", Self::Image), ("audio", Self::Audio), ("video", Self::Video), ("file", Self::File)];

    /// Its name in policies and messages.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("file", |(name, _)| name)
    }
}
