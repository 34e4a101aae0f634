//! Every shape, what only looks like one, and ways to hide one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::{prop_assert_eq, proptest};

use super::{Scanner, Selection};
use crate::scan::shapes::SHAPES;
use crate::scan::{Action, Topic};

fn scanner(topics: &[Topic], action: Action) -> Scanner {
    let topics = topics.iter().map(|topic| (*topic, action)).collect();
    Scanner::new(&Selection { topics, ..Selection::default() }).expect("patterns that compile")
}

thread_local! {
    static SECRETS: Scanner = scanner(&[Topic::Secrets], Action::Deny);
}

/// The shape of the first secret.
fn find(text: &str) -> Option<&'static str> {
    SECRETS.with(|scanner| scanner.find(text).first().map(|finding| finding.shape))
}

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
        ("github_token", join(&["gh", "p_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ", "0mLq17"])),
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
        ("aws_secret_access_key", join(&["aws_secret_access_key = \"", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\""])),
        ("slack_webhook", join(&["https://hooks.slack.com/services/T", "01ABCDEFG/B01ABCDEFG/", &noise(24)])),
        ("model_provider_key", join(&["gs", "k_", &noise(52)])),
        ("huggingface_token", join(&["hf", "_", &"QzKfBmXvTnLwHsJdPcYgUoAeiZq".repeat(2)[..34]])),
        ("google_oauth_secret", join(&["GOC", "SPX-", &noise(28)])),
        ("azure_storage_key", join(&["AccountKey=", &noise(36), &noise(36), &noise(14), "=="])),
        ("azure_client_secret", join(&["abC", "8Q~", &noise(34)])),
        ("tencent_secret_id", join(&["AK", "ID", &noise(32)])),
        ("npm_token", join(&["np", "m_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ", "0mLq17"])),
        ("pypi_token", join(&["py", "pi-AgEIcHlwaS5vcmc", &noise(36)])),
        ("sendgrid_key", join(&["S", "G.", &noise(22), ".", &noise(36), &noise(7)])),
        ("digitalocean_token", join(&["do", "p_v1_", hex, hex])),
        ("databricks_token", join(&["da", "pi", hex])),
        ("vault_token", join(&["hv", "s.", &noise(36)])),
        ("telegram_bot_token", join(&["123456789:A", "A", &noise(33)])),
        ("private_key", join(&["-----BEGIN ", "PRIVATE KEY-----"])),
        ("private_key", join(&["-----BEGIN RSA ", "PRIVATE KEY-----"])),
        ("private_key", join(&["-----BEGIN PGP ", "PRIVATE KEY BLOCK-----"])),
    ]
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
    let secrets = SHAPES.iter().filter(|shape| shape.topics == [Topic::Secrets]);
    for shape in secrets {
        assert!(tested.contains(shape.name), "{} has no fake", shape.name);
    }
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
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
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
    for text in ["eyJ".repeat(400_000), "sk-".repeat(400_000), "-----BEGIN RSA ".repeat(80_000), " ".repeat(1_000_000)]
    {
        assert_eq!(find(&text), None);
    }
}

#[test]
fn findings_beside_base_64_take_linear_time() {
    let wrapped = STANDARD.encode(["AK", "IAIOSFODNN7EXAMPLE"].concat());
    let text = "a@b.co aGVsbG8gd29ybGQgaGVsbG8h ".repeat(200_000) + &wrapped;
    let found = scanner(&[Topic::Email, Topic::Secrets], Action::Redact).find(&text);
    assert_eq!(found.len(), 200_001);
    assert_eq!(text[found.last().unwrap().range.clone()], wrapped);
    // What a finding has a part of is not found again.
    let patterns = vec![("x".to_owned(), "x=[A-Z]{2}".to_owned(), Action::Redact)];
    let selection = Selection { topics: vec![(Topic::Secrets, Action::Redact)], patterns, ..Selection::default() };
    let text = format!("{wrapped} x={wrapped} x {wrapped}");
    let found = Scanner::new(&selection).unwrap().find(&text);
    assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [0, 1, 0]);
}

proptest! {
    #[test]
    fn any_text_around_a_secret_leaves_it_found(before: String, after: String) {
        let text = format!("{before} {} {after}", ["AK", "IAIOSFODNN7EXAMPLE"].concat());
        prop_assert_eq!(find(&text).is_some(), true);
    }
}

/// What is caught of what people do to get past, and what is not: the second list is documented in `scan`.
#[test]
fn evasions() {
    let key = ["AK", "IAIOSFODNN7EXAMPLE"].concat();
    let base64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let url_safe = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let caught = [
        key.replace('I', "I\u{200b}"),
        key.replace('O', "\u{2060}O\u{feff}"),
        key.replace('S', "\u{ad}S"),
        key.chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap()).collect(),
        format!("\\u0041{}", &key[1..]),
        format!("{{\\\"key\\\":\\\"\\\\n{key}\\\"}}"),
        base64(&format!("aws key: {key}")),
        url_safe(&format!("??>>{key}~~")),
        format!("x.{key}@y.cn"),
    ];
    for text in caught {
        assert_eq!(find(&format!("see {text} there")), Some("aws_access_key_id"), "{text}");
    }
    let not = [
        base64(&base64(&key)),
        key.chars().rev().collect(),
        key.replace("IOSF", "I O S F"),
        key.replace('A', "\u{410}"),
    ];
    for text in not {
        assert_eq!(find(&format!("see {text} there")), None, "{text}");
    }
}

#[test]
fn escapes_of_json_hide_nothing_and_are_replaced_whole() {
    let hook = ["https:\\/\\/hooks.slack.com\\/services\\/T", "01ABCDEFG\\/B01ABCDEFG\\/", &noise(24)].concat();
    assert_eq!(find(&hook), Some("slack_webhook"));
    assert_eq!(find(&hook.replace("\\/", "\\\\\\/")), Some("slack_webhook"));
    let secret = ["wJalrXUtnFEMI/K7MDENG", "/bPxRfiCYEXAMPLEKEY"].concat();
    assert_eq!(find(&format!("{{\\\"aws_secret_access_key\\\": \\\"{secret}\\\"}}")), Some("aws_secret_access_key"));
    let phone = scanner(&[Topic::Phone], Action::Redact);
    for text in [r"\u002B8613812345678", r"+8613812345678", r"\\u002B8613812345678"] {
        let found = phone.find(text);
        assert_eq!(found.iter().map(|finding| &text[finding.range.clone()]).collect::<Vec<_>>(), [text], "{text}");
    }
}

#[test]
fn what_is_only_observed_hides_nothing_that_is_denied() {
    let topics = vec![(Topic::Email, Action::Observe), (Topic::Secrets, Action::Deny)];
    let scanner = Scanner::new(&Selection { topics, ..Selection::default() }).unwrap();
    let text = ["x.AK", "IAIOSFODNN7EXAMPLE@example.com"].concat();
    let found: Vec<_> =
        scanner.find(&text).into_iter().map(|finding| scanner.rules()[finding.rule].name.clone()).collect();
    assert_eq!(found, ["email", "secrets"]);
}

#[test]
fn the_policys_own_patterns_are_held_to_bounds() {
    use super::{Refused, check_pattern};
    assert_eq!(check_pattern("EMP-[0-9]{6}"), Ok(()));
    assert_eq!(check_pattern(r"\b工号\d{1,9}\b"), Ok(()));
    assert_eq!(check_pattern("(a|b)?"), Err(Refused::Empty));
    assert_eq!(check_pattern("a+"), Err(Refused::Unbounded));
    assert_eq!(check_pattern("a{2000}"), Err(Refused::Unbounded));
    assert_eq!(check_pattern(r"\w{250}"), Err(Refused::TooLarge));
    assert!(matches!(check_pattern("a(?=b)"), Err(Refused::Syntax(reason)) if reason.contains("look-around")));
}

#[test]
fn everything_together_keeps_within_its_size() {
    let all = scanner(&Topic::ALL, Action::Redact);
    assert!(all.longest() <= 1024, "{}", all.longest());
}
