//! What a model's name says of whose it is.
//!
//! Routers put vendors before a name (`openai/gpt-4o`, `Qwen/Qwen3-8B`), clouds regions (`us.anthropic.claude-…`), and
//! some write it in capitals. A family is told by what stands anywhere in the name; OpenAI's models by how what is behind
//! the last slash begins.

/// A model's name, as its family is told by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// In lower case.
    whole: String,
    /// Where what is behind the last slash begins.
    own: usize,
}

impl Name {
    /// That of a model, as callers, policies or providers write it.
    pub fn of(model: &str) -> Self {
        let whole = model.to_ascii_lowercase();
        let own = whole.rfind('/').map_or(0, |slash| slash.saturating_add(1));
        Self { whole, own }
    }

    /// Without its vendor, in lower case.
    pub fn own(&self) -> &str {
        self.whole.get(self.own..).unwrap_or_default()
    }

    /// Whether it has this in it, vendor included. In lower case.
    pub fn has(&self, part: &str) -> bool {
        self.whole.contains(part)
    }

    /// Whether it begins so, its vendor left aside. In lower case.
    pub fn begins(&self, prefix: &str) -> bool {
        self.own().starts_with(prefix)
    }

    /// Whether it is one of OpenAI's own models, whoever passes calls on to it: its vocabulary is public.
    pub fn is_openai(&self) -> bool {
        let prefixes = ["gpt-", "chatgpt-", "o1", "o3", "o4", "codex-mini"];
        prefixes.iter().any(|prefix| self.begins(prefix)) && !self.begins("gpt-oss")
    }

    /// Whether OpenAI hosts a model so called, or Azure under OpenAI's name for it. A vendor before the name is for a
    /// router: nobody knows what that adds to a call, and the fields that it heeds are not OpenAI's.
    pub fn is_at_openai(&self) -> bool {
        self.own == 0 && self.is_openai()
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn whose_a_model_is_does_not_hang_on_how_it_is_written() {
        for (model, openai, at_openai) in [
            ("gpt-4o", true, true),
            ("openai/gpt-4o", true, false),
            ("GPT-4o", true, true),
            ("codex-mini", true, true),
            ("openai/codex-mini-latest", true, false),
            ("gpt-oss-120b", false, false),
            ("openai/gpt-oss-20b:free", false, false),
            ("qwen/o1-like/qwen", false, false),
            ("", false, false),
            ("/", false, false),
        ] {
            let name = Name::of(model);
            assert_eq!((name.is_openai(), name.is_at_openai()), (openai, at_openai), "{model}");
        }
    }

    #[test]
    fn a_family_stands_anywhere_and_a_beginning_behind_the_vendor() {
        let name = Name::of("us.Anthropic/Claude-3-Haiku");
        assert!(name.has("anthropic") && name.has("claude-3") && name.begins("claude"));
        assert!(!name.begins("us."));
        assert_eq!(name.own(), "claude-3-haiku");
    }
}
