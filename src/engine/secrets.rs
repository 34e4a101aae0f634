//! A short list of secrets that nobody means to send to a model.
//!
//! Only shapes that carry their own mark (a prefix or a frame): something that looks random is not enough, because
//! prompts are full of hashes, identifiers and images. The engine is `regex`: time linear in the text, whatever
//! the text.

use once_cell::sync::Lazy;
use regex::RegexSet;

/// A kind of secret.
struct Shape {
    /// What refusals and logs call it.
    name: &'static str,
    /// Its pattern, between [`START`] and whatever end it needs itself.
    pattern: &'static str,
}

/// What stands before a secret: the edge of a word, or an escape inside a string inside a string (arguments of a
/// tool call are JSON in JSON, and there a line break is the two characters `\n`, of which the latter is a letter).
const START: &str = r"(?:\b|\\[nrt])";

/// The list. Lengths are lower bounds where an issuer has changed them or says that it may.
const SHAPES: [Shape; 14] = [
    // AWS IAM user guide, "unique identifiers": AKIA long-term, ASIA temporary; 16 of base 32 follow.
    Shape { name: "aws_access_key_id", pattern: r"A(?:KIA|SIA)[A-Z2-7]{16}\b" },
    // GitHub docs, "about authentication": ghp personal, gho OAuth, ghu and ghs app, ghr refresh; may grow to 255.
    Shape { name: "github_token", pattern: r"gh[pousr]_[0-9A-Za-z]{36}" },
    // GitHub docs: fine-grained personal access tokens; 82 characters follow at present.
    Shape { name: "github_fine_grained_token", pattern: r"github_pat_[0-9A-Za-z_]{36}" },
    // GitLab docs, "token prefixes": personal access tokens; 20 characters or more follow.
    Shape { name: "gitlab_token", pattern: r"glpat-[0-9A-Za-z_-]{20}" },
    // Slack docs, "token types": xoxb bot, xoxp user, xoxe refresh and others; numbers, dashes, then the secret.
    Shape { name: "slack_token", pattern: r"xox[abeoprs]-[0-9]{1,14}-[0-9A-Za-z-]{10}" },
    // All keys that OpenAI issues carry `T3BlbkFJ` ("OpenAI" in base 64) in their middle (gitleaks, rule openai-api-key).
    Shape { name: "openai_key", pattern: r"sk-[0-9A-Za-z_-]*T3BlbkFJ[0-9A-Za-z_-]{16}" },
    // The older shape, 48 letters and digits, also issued by others that speak OpenAI's dialect.
    Shape { name: "openai_key", pattern: r"sk-[0-9A-Za-z]{48}\b" },
    // Keys of other providers that speak OpenAI's dialect (DeepSeek, DashScope): 32 hex digits.
    Shape { name: "model_provider_key", pattern: r"sk-[0-9a-f]{32}\b" },
    // Anthropic: a kind and a version (`api03`, `admin01`, `oat01`), then 95 characters (gitleaks, anthropic-api-key).
    Shape { name: "anthropic_key", pattern: r"sk-ant-[a-z]{2,12}[0-9]{2}-[0-9A-Za-z_-]{24}" },
    // Google Cloud docs, "API keys": AIza and 35 of URL-safe base 64.
    Shape { name: "google_api_key", pattern: r"AIza[0-9A-Za-z_-]{35}(?:(?u:[^0-9A-Za-z_-])|$)" },
    // Stripe docs, "API keys": secret and restricted keys of live mode; those of test mode move no money.
    Shape { name: "stripe_live_key", pattern: r"[rs]k_live_[0-9A-Za-z]{16}" },
    // Alibaba Cloud RAM docs: AccessKey IDs begin with LTAI; 20 characters follow in those issued now.
    Shape { name: "alibaba_access_key_id", pattern: r"LTAI[0-9A-Za-z]{20}\b" },
    // RFC 7519 in the compact form of RFC 7515: two JSON objects in base 64 and a signature, so a session somewhere.
    Shape {
        name: "jwt",
        pattern: r"eyJ[0-9A-Za-z_-]{10}[0-9A-Za-z_-]*\.eyJ[0-9A-Za-z_-]{10}[0-9A-Za-z_-]*\.[0-9A-Za-z_-]{16}",
    },
    // RFC 7468 (`PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`) and the older labels of OpenSSL, OpenSSH and PGP.
    Shape { name: "private_key", pattern: r"-----BEGIN (?:[A-Z]{2,9} ){0,2}PRIVATE KEY(?: BLOCK)?-----" },
];

static SET: Lazy<Option<RegexSet>> = Lazy::new(|| RegexSet::new(SHAPES.iter().map(Shape::regex)).ok());

impl Shape {
    /// ASCII word edges: a letter of another script before a secret is no part of it, and the automaton stays small.
    fn regex(&self) -> String {
        let start = if self.pattern.starts_with('-') { "" } else { START };
        format!("(?-u:{start}{})", self.pattern)
    }
}

/// The name of a secret that `text` carries, or `None`.
///
/// Without patterns nothing could be found, so then everything is: a guard that cannot look does not wave through.
/// (The patterns are constants and a test compiles them.)
pub fn find(text: &str) -> Option<&'static str> {
    let Some(set) = SET.as_ref() else { return Some("unchecked") };
    // Two passes: nearly every text has none, and saying so is faster than saying which.
    if !set.is_match(text) {
        return None;
    }
    let first = set.matches(text).iter().next()?;
    SHAPES.get(first).map(|shape| shape.name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};
    use regex::RegexSet;

    use super::{SHAPES, Shape, find};

    /// `n` letters and digits that look random, upper and lower case mixed.
    fn noise(n: usize) -> String {
        "q7Rz2KfB9mXvT4nLw8HsJd3PcY6gUoAe1iZ5".chars().cycle().take(n).collect()
    }

    /// Fakes, put together here so that no scanner of repositories trips over this file.
    fn fakes() -> Vec<(&'static str, String)> {
        let hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
        let join = |parts: &[&str]| parts.concat();
        vec![
            ("aws_access_key_id", join(&["AK", "IAIOSFODNN7EXAMPLE"])),
            ("aws_access_key_id", join(&["AS", "IAIOSFODNN7EXAMPLE"])),
            ("github_token", join(&["gh", "p_", &noise(36)])),
            ("github_token", join(&["gh", "s_", &noise(60)])),
            ("github_fine_grained_token", join(&["github", "_pat_", &noise(22), "_", &noise(59)])),
            ("gitlab_token", join(&["glp", "at-", &noise(20)])),
            ("slack_token", join(&["xo", "xb-123456789012-123456789012-", &noise(24)])),
            ("slack_token", join(&["xo", "xp-123456789012-123456789012-123456789012-", hex])),
            ("openai_key", join(&["sk", "-proj-", &noise(58), "_-T3Blbk", "FJ", &noise(58)])),
            ("openai_key", join(&["sk", "-", &noise(20), "T3Blbk", "FJ", &noise(20)])),
            ("openai_key", join(&["sk", "-", &noise(48)])),
            ("model_provider_key", join(&["sk", "-", hex])),
            ("anthropic_key", join(&["sk", "-ant-", "api03-", &noise(93), "AA"])),
            ("anthropic_key", join(&["sk", "-ant-", "oat01-", &noise(60), "-_AA"])),
            ("google_api_key", join(&["AI", "za", &noise(33), "-_"])),
            ("stripe_live_key", join(&["sk", "_live_", &noise(24)])),
            ("stripe_live_key", join(&["rk", "_live_", &noise(99)])),
            ("alibaba_access_key_id", join(&["LT", "AI", &noise(20)])),
            ("jwt", join(&["ey", "JhbGciOiJIUzI1NiJ9.", "ey", "JzdWIiOiIxMjM0NTY3ODkwIn0.", &noise(43)])),
            ("private_key", join(&["-----BEGIN ", "PRIVATE KEY-----"])),
            ("private_key", join(&["-----BEGIN RSA ", "PRIVATE KEY-----"])),
            ("private_key", join(&["-----BEGIN PGP ", "PRIVATE KEY BLOCK-----"])),
        ]
    }

    #[test]
    fn the_patterns_compile() {
        assert!(RegexSet::new(SHAPES.iter().map(Shape::regex)).is_ok());
    }

    #[test]
    fn every_shape_is_found_wherever_it_stands() {
        for (name, fake) in fakes() {
            for text in [
                fake.clone(),
                format!("my key is {fake}, keep it"),
                format!("key=\"{fake}\";"),
                format!("line\n{fake}\nline"),
                format!(r#"{{\"env\":\"A=1\\n{fake}\\n\"}}"#),
                format!("密钥{fake}。"),
                format!("{}{fake}", "x ".repeat(10_000)),
            ] {
                assert_eq!(find(&text), Some(name), "{text}");
            }
        }
        let tested: std::collections::BTreeSet<_> = fakes().into_iter().map(|(name, _)| name).collect();
        assert!(SHAPES.iter().all(|shape| tested.contains(shape.name)), "a shape without a fake");
    }

    #[test]
    fn what_only_looks_random_is_none() {
        for text in [
            "",
            "550e8400-e29b-41d4-a716-446655440000",
            "sk-550e8400-e29b-41d4-a716-446655440000",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "commit 9fead6a1c0ffee task-0f1e2d3c4b5a69788796a5b4c3d2e1f0",
            "the desk-lamp, sk-learn, sk-toggleable-content, risk-free",
            "AKIA is the prefix of an AWS access key",
            "AKIAIOSFODNN7EXAMPLEANDMORE",
            "ghp_short and github_pat_short",
            "my eyJ.eyJ.x",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN CERTIFICATE-----",
            "sk_test_4eC39HqLyjWDarjtT1zdp7dcAAAAAAAA",
            "https://example.com/AIza/short",
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
    }

    #[test]
    fn a_megabyte_of_base64_is_none() {
        // A small generator, so that the test is the same on every run.
        let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let image: String = (0..1 << 20)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                alphabet[usize::try_from(state >> 58).expect("six bits")]
            })
            .collect();
        assert_eq!(find(&image), None);
        assert_eq!(find(&image.replace('+', "-").replace('/', "_")), None);
    }

    #[test]
    fn near_misses_without_end_take_linear_time() {
        // Each of these makes a backtracking engine explode or a quadratic one crawl.
        for text in
            ["eyJ".repeat(400_000), "sk-".repeat(400_000), "-----BEGIN RSA ".repeat(80_000), " ".repeat(1_000_000)]
        {
            assert_eq!(find(&text), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_around_a_secret_leaves_it_found(before: String, after: String) {
            let text = format!("{before} {} {after}", ["AK", "IAIOSFODNN7EXAMPLE"].concat());
            prop_assert_eq!(find(&text).is_some(), true);
        }
    }
}
