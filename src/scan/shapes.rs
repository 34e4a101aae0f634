//! The shapes that are known: a pattern each, what may follow it, and a check where a pattern alone says too much.
//!
//! Only what carries its own mark: a prefix, a frame, a check digit, or the word beside it. Something that looks random
//! is not enough, because prompts are full of hashes, identifiers and images. Every pattern has a longest match, and
//! what may be longer (a key, a token) has a [`Tail`], so that nothing waits without bound.

use std::ops::Range;

use super::check;
use super::{TOPICS, Topic};

/// A shape.
pub(super) struct Shape {
    /// What refusals and logs call it.
    pub name: &'static str,
    /// The topics of which one at least must be looked for.
    pub topics: &'static [Topic],
    /// The pattern; `\b` is an ASCII word's edge.
    pub pattern: &'static str,
    pub tail: Tail,
    pub check: fn(&Candidate<'_>) -> Verdict,
}

/// What a candidate is, and which part of it. `None`: nothing.
pub(super) type Verdict = Option<(Topic, Range<usize>)>;

/// What belongs to a match beyond its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    None,
    /// Letters, digits, `-` and `_`.
    Word,
    /// The same, and dots.
    Dotted,
    /// A key in its armour, up to and with the `-----END …-----`.
    Armour,
}

/// Something that a pattern has found.
pub(super) struct Candidate<'a> {
    /// The text around it. In a stream: at least one character before and behind it, where there is one.
    pub text: &'a str,
    pub at: Range<usize>,
    /// Which topics are looked for.
    pub wanted: &'a [bool; TOPICS],
}

impl Candidate<'_> {
    fn found(&self) -> &str {
        self.text.get(self.at.clone()).unwrap_or_default()
    }

    fn before(&self) -> Option<u8> {
        self.at.start.checked_sub(1).and_then(|before| self.text.as_bytes().get(before)).copied()
    }

    fn after(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at.end).copied()
    }

    /// The last `length` bytes of what stands before `behind` more.
    fn last(&self, length: usize, behind: usize) -> Range<usize> {
        let end = self.at.end.saturating_sub(behind);
        end.saturating_sub(length)..end
    }

    fn wants(&self, topic: Topic) -> bool {
        self.wanted.get(topic as usize).copied().unwrap_or(false)
    }
}

const SECRETS: &[Topic] = &[Topic::Secrets];

const fn secret(name: &'static str, pattern: &'static str, tail: Tail) -> Shape {
    Shape { name, topics: SECRETS, pattern, tail, check: whole_secret }
}

/// All of them. Where two begin at the same place the first wins, so the stricter stand in front.
pub(super) const SHAPES: &[Shape] = &[
    // AWS IAM user guide, "unique identifiers": AKIA long-term, ASIA temporary; 16 of base 32 follow.
    secret("aws_access_key_id", r"\bA(?:KIA|SIA)[A-Z2-7]{16}\b", Tail::None),
    // Its other half has no mark of its own: 40 of base 64 behind the name that AWS's tools give it.
    Shape {
        check: aws_secret,
        ..secret(
            "aws_secret_access_key",
            r#"(?i:secret_?access_?key|aws_?secret_?key)["']?[ \t]{0,3}[:=][ \t]{0,3}["']?[0-9A-Za-z/+]{40}(?:[^0-9A-Za-z/+=]|\z)"#,
            Tail::None,
        )
    },
    // GitHub docs, "about authentication": ghp personal, gho OAuth, ghu and ghs app, ghr refresh.
    Shape { check: github, ..secret("github_token", r"\bgh[pousr]_[0-9A-Za-z]{36}", Tail::Word) },
    // GitHub docs: fine-grained personal access tokens; 82 characters follow at present.
    secret("github_fine_grained_token", r"\bgithub_pat_[0-9A-Za-z_]{36}", Tail::Word),
    // GitLab docs, "token prefixes": personal, runner, deploy, trigger, feed tokens; 20 characters or more follow.
    secret("gitlab_token", r"\bgl(?:pat|rt|dt|ptt|ft|soat|cbt|imt|agent)-[0-9A-Za-z_-]{20}", Tail::Dotted),
    // Slack docs, "token types": xoxb bot, xoxp user, xoxe refresh and others; numbers, dashes, then the secret.
    secret("slack_token", r"\bxox[abeoprs]-[0-9]{1,14}-[0-9A-Za-z-]{10}", Tail::Word),
    // Slack docs, "incoming webhooks": whoever knows the address may post.
    secret(
        "slack_webhook",
        r"\bhooks\.slack\.com/services/T[0-9A-Z]{6,14}/B[0-9A-Z]{6,14}/[0-9A-Za-z]{20}",
        Tail::Word,
    ),
    // Anthropic: a kind and a version (`api03`, `admin01`, `oat01`), then 95 characters (gitleaks, anthropic-api-key).
    secret("anthropic_key", r"\bsk-ant-[a-z]{2,12}[0-9]{2}-[0-9A-Za-z_-]{24}", Tail::Word),
    // All keys that OpenAI issues carry `T3BlbkFJ` ("OpenAI" in base 64) in their middle (gitleaks, rule openai-api-key).
    secret("openai_key", r"\bsk-[0-9A-Za-z_-]{0,120}T3BlbkFJ[0-9A-Za-z_-]{16}", Tail::Word),
    // The older shape, 48 letters and digits, also issued by others that speak OpenAI's dialect.
    secret("openai_key", r"\bsk-[0-9A-Za-z]{48}\b", Tail::None),
    // Keys of other providers that speak OpenAI's dialect (DeepSeek, DashScope): 32 hex digits.
    secret("model_provider_key", r"\bsk-[0-9a-f]{32}\b", Tail::None),
    // Prefixes that model providers document: Groq, xAI, Perplexity, OpenRouter.
    secret(
        "model_provider_key",
        r"\b(?:gsk_[0-9A-Za-z]{52}|xai-[0-9A-Za-z]{80}|pplx-[0-9A-Za-z]{48}|sk-or-v1-[0-9a-f]{64})\b",
        Tail::None,
    ),
    // Hugging Face docs, "user access tokens": hf_ and 34 letters.
    secret("huggingface_token", r"\bhf_[A-Za-z]{34}\b", Tail::None),
    // Google Cloud docs, "API keys": AIza and 35 of URL-safe base 64.
    Shape {
        check: without_last,
        ..secret("google_api_key", r"\bAIza[0-9A-Za-z_-]{35}(?:[^0-9A-Za-z_-]|\z)", Tail::None)
    },
    // Google identity docs: secrets of OAuth clients.
    secret("google_oauth_secret", r"\bGOCSPX-[0-9A-Za-z_-]{28}", Tail::Word),
    // Azure Storage docs: connection strings carry the account's key, 64 bytes in base 64.
    Shape { check: azure_key, ..secret("azure_storage_key", r"\bAccountKey=[0-9A-Za-z/+]{86}==", Tail::None) },
    // Microsoft Entra: secrets of applications since 2021, with `8Q~` or alike in fourth place (gitleaks, azure-ad).
    secret("azure_client_secret", r"\b[0-9A-Za-z_~.]{3}[0-9]Q~[0-9A-Za-z_~.-]{31,34}", Tail::None),
    // Alibaba Cloud RAM docs: AccessKey IDs begin with LTAI; 20 characters follow in those issued now, 12 in old ones.
    Shape {
        check: mixed_secret,
        ..secret("alibaba_access_key_id", r"\bLTAI(?:[0-9A-Za-z]{20}|[0-9A-Za-z]{12})\b", Tail::None)
    },
    // Tencent Cloud docs, "CAM access keys": SecretIds begin with AKID; 32 characters follow.
    Shape { check: mixed_secret, ..secret("tencent_secret_id", r"\bAKID[0-9A-Za-z]{32}\b", Tail::None) },
    // Stripe docs, "API keys": secret and restricted keys of live mode; those of test mode move no money.
    secret("stripe_live_key", r"\b[rs]k_live_[0-9A-Za-z]{16}", Tail::Word),
    // npm's tokens have GitHub's checksum.
    Shape { check: npm, ..secret("npm_token", r"\bnpm_[0-9A-Za-z]{36}\b", Tail::None) },
    // PyPI's tokens are macaroons that begin with its own name.
    secret("pypi_token", r"\bpypi-AgEIcHlwaS5vcmc[0-9A-Za-z_-]{16}", Tail::Word),
    // SendGrid docs, "API keys".
    secret("sendgrid_key", r"\bSG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}", Tail::None),
    // DigitalOcean and Databricks docs: personal access tokens.
    secret("digitalocean_token", r"\bdo[opr]_v1_[0-9a-f]{64}\b", Tail::None),
    secret("databricks_token", r"\bdapi[0-9a-f]{32}\b", Tail::None),
    // HashiCorp Vault docs: service tokens.
    secret("vault_token", r"\bhvs\.[0-9A-Za-z_-]{24}", Tail::Word),
    // Telegram docs, "bots": the bot's number, then 35 characters.
    secret("telegram_bot_token", r"\b[0-9]{8,10}:AA[0-9A-Za-z_-]{33}", Tail::None),
    // RFC 7519 in the compact form of RFC 7515: two JSON objects in base 64 and a signature, so a session somewhere.
    secret("jwt", r"\beyJ[0-9A-Za-z_-]{10,512}\.eyJ[0-9A-Za-z_-]{10}", Tail::Dotted),
    // RFC 7468 (`PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`) and the older labels of OpenSSL, OpenSSH and PGP.
    secret("private_key", r"-----BEGIN (?:[A-Z]{2,9} ){0,2}PRIVATE KEY(?: BLOCK)?-----", Tail::Armour),
    // RFC 5321's dot-string, with a domain whose last label is letters.
    Shape {
        name: "email",
        topics: &[Topic::Email],
        pattern: r"\b[0-9A-Za-z](?:[0-9A-Za-z._%+-]{0,62}[0-9A-Za-z_%+-])?@(?:[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?\.){1,4}[A-Za-z]{2,18}\b",
        tail: Tail::None,
        check: email,
    },
    // ISO 13616: a country, two check digits, up to 30 characters, in groups of four on paper.
    Shape {
        name: "iban",
        topics: &[Topic::Iban],
        pattern: r"\b[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?\b",
        tail: Tail::None,
        check: iban,
    },
    // A passport's number has no mark, so the word must stand before it: China's, and the one or two letters and six to
    // eight digits of many others (ICAO 9303 allows nine characters).
    Shape {
        name: "passport",
        topics: &[Topic::Passport],
        pattern: r"(?:\b(?i:passport)|护照|護照)[^0-9A-Za-z\n]{0,12}(?:(?i:numbers?|no|num|nr|is)\b[^0-9A-Za-z\n]{0,8}){0,2}(?:[A-Z]{1,2}[0-9]{6,8}|[0-9]{9})\b",
        tail: Tail::None,
        check: passport,
    },
    // ITU-T E.164: a plus, the country, up to 15 digits in all.
    Shape {
        name: "phone",
        topics: &[Topic::Phone],
        pattern: r"\+[1-9](?:[ .()-]{0,2}[0-9]){6,14}\b",
        tail: Tail::None,
        check: international,
    },
    // A run of digits, perhaps in groups: what it is the checks tell.
    Shape {
        name: "number",
        topics: &[Topic::CnIdCard, Topic::BankCard, Topic::Card, Topic::Ssn, Topic::Phone],
        pattern: r"\b[0-9](?:[ -]?[0-9]){7,22}[Xx]?\b",
        tail: Tail::None,
        check: number,
    },
];

fn whole_secret(candidate: &Candidate<'_>) -> Verdict {
    Some((Topic::Secrets, candidate.at.clone()))
}

fn mixed_secret(candidate: &Candidate<'_>) -> Verdict {
    check::is_mixed(candidate.found().as_bytes()).then(|| (Topic::Secrets, candidate.at.clone()))
}

/// The pattern took one character more to see the end.
fn without_last(candidate: &Candidate<'_>) -> Verdict {
    let secret = candidate.found().trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'));
    Some((Topic::Secrets, candidate.at.start..candidate.at.start.saturating_add(secret.len().min(39))))
}

fn aws_secret(candidate: &Candidate<'_>) -> Verdict {
    let found = candidate.found();
    let behind = found.chars().next_back().filter(|c| !c.is_ascii_alphanumeric() && !matches!(c, '/' | '+'));
    let at = candidate.last(40, behind.map_or(0, char::len_utf8));
    let secret = candidate.text.get(at.clone())?;
    check::is_mixed(secret.as_bytes()).then_some((Topic::Secrets, at))
}

fn azure_key(candidate: &Candidate<'_>) -> Verdict {
    let at = candidate.last(88, 0);
    check::is_mixed(candidate.text.get(at.clone())?.as_bytes()).then_some((Topic::Secrets, at))
}

/// Of the classic length the checksum must be right; longer ones (GitHub says that they may grow) have another form.
fn github(candidate: &Candidate<'_>) -> Verdict {
    let classic = !candidate.after().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let secret = candidate.found().as_bytes().get(4..).unwrap_or_default();
    (!classic || check::has_crc32(secret)).then(|| (Topic::Secrets, candidate.at.clone()))
}

fn npm(candidate: &Candidate<'_>) -> Verdict {
    let secret = candidate.found().as_bytes().get(4..).unwrap_or_default();
    check::has_crc32(secret).then(|| (Topic::Secrets, candidate.at.clone()))
}

/// Last labels that are no domains but units of systemd and files: `getty@tty1.service`, `icon@2x.png`.
const NO_DOMAINS: [&str; 20] = [
    "service", "socket", "timer", "target", "mount", "slice", "png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js",
    "ts", "json", "html", "yaml", "yml", "txt",
];

fn email(candidate: &Candidate<'_>) -> Verdict {
    let (local, domain) = candidate.found().rsplit_once('@')?;
    let last = domain.rsplit('.').next().unwrap_or_default();
    // `git@github.com:owner/name` is the address of a repository.
    let remote = matches!(local, "git" | "hg" | "svn");
    let named = NO_DOMAINS.iter().any(|name| last.eq_ignore_ascii_case(name));
    (!remote && !named).then(|| (Topic::Email, candidate.at.clone()))
}

fn iban(candidate: &Candidate<'_>) -> Verdict {
    let found = candidate.found();
    let length = check::iban_length(found.as_bytes())?;
    // The country says how long it is; words in capitals behind it are none of it.
    let last = found.bytes().enumerate().filter(|(_, byte)| *byte != b' ').nth(length.checked_sub(1)?)?;
    let end = last.0.saturating_add(1);
    let compact: Vec<u8> = found.bytes().take(end).filter(|byte| *byte != b' ').collect();
    let ends = found.as_bytes().get(end).is_none_or(|byte| *byte == b' ');
    let end = candidate.at.start.saturating_add(end);
    (ends && check::is_iban(&compact)).then_some((Topic::Iban, candidate.at.start..end))
}

fn passport(candidate: &Candidate<'_>) -> Verdict {
    let number = candidate.found().bytes().rev().take_while(u8::is_ascii_alphanumeric).count();
    Some((Topic::Passport, candidate.last(number, 0)))
}

fn international(candidate: &Candidate<'_>) -> Verdict {
    let found = candidate.found();
    let digits: Vec<u8> = digits_of(found);
    let apart =
        !candidate.before().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b')'));
    let plausible = match digits.first() {
        Some(1) => digits.len() == 11,
        Some(8) if check::prefix(&digits, 2) == 86 => (11..=14).contains(&digits.len()),
        Some(_) => (9..=15).contains(&digits.len()),
        None => false,
    };
    let (opened, closed) = (count(found, b'('), count(found, b')'));
    (apart && plausible && opened == closed && opened <= 1).then(|| (Topic::Phone, candidate.at.clone()))
}

fn count(text: &str, byte: u8) -> usize {
    text.bytes().filter(|other| *other == byte).count()
}

fn digits_of(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).map(|byte| byte.wrapping_sub(b'0')).collect()
}

/// A number is what its longest beginning is, in whole groups, that passes a check.
fn number(candidate: &Candidate<'_>) -> Verdict {
    // Parts of decimals, versions, paths, identifiers and differences are no numbers of anybody.
    if matches!(candidate.before(), Some(b'.' | b'-' | b'/' | b'+' | b'#' | b'$' | b'=' | b'@')) {
        return None;
    }
    let found = candidate.found();
    let mut end = found.len();
    loop {
        let head = found.get(..end)?;
        let next = found.as_bytes().get(end).copied().or(candidate.after());
        if next != Some(b'-')
            && let Some(topic) = what(head, candidate)
        {
            return Some((topic, candidate.at.start..candidate.at.start.saturating_add(end)));
        }
        end = head.rfind([' ', '-'])?;
    }
}

fn what(head: &str, candidate: &Candidate<'_>) -> Option<Topic> {
    let digits = digits_of(head);
    let x = head.ends_with(['X', 'x']);
    let groups: Vec<usize> = head.split([' ', '-']).map(str::len).collect();
    let is = |topic: Topic| match topic {
        Topic::CnIdCard => matches!(groups.as_slice(), [18] | [6, 8, 4]) && check::is_cn_id(&digits, x),
        _ if x => false,
        Topic::BankCard => grouped_as_card(&groups) && check::is_bank_card(&digits),
        Topic::Card => grouped_as_card(&groups) && check::is_card(&digits),
        Topic::Ssn => {
            head.contains('-') && !head.contains(' ') && groups == [3, 2, 4] && {
                let (area, rest) = (check::prefix(&digits, 3), digits.get(3..).unwrap_or_default());
                check::is_ssn(area, check::prefix(rest, 2), check::prefix(rest.get(2..).unwrap_or_default(), 4))
            }
        }
        Topic::Phone => is_phone(&groups, &digits),
        _ => false,
    };
    let topics = [Topic::CnIdCard, Topic::BankCard, Topic::Card, Topic::Ssn, Topic::Phone];
    topics.into_iter().find(|topic| candidate.wants(*topic) && is(*topic))
}

/// As it stands on a card: in one, in fours, or as American Express and Diners Club print theirs.
fn grouped_as_card(groups: &[usize]) -> bool {
    match groups {
        [_] | [4, 6, 4 | 5] | [6, 13] => true,
        [4, 4, 4, last] => (1..=4).contains(last),
        [4, 4, 4, 4, last] => (1..=3).contains(last),
        _ => false,
    }
}

/// A Chinese mobile number, with or without the country; or a line with its area's code, written apart.
fn is_phone(groups: &[usize], digits: &[u8]) -> bool {
    let country = [&[0, 0, 8, 6][..], &[8, 6]].into_iter().find_map(|code| digits.strip_prefix(code));
    let line = || digits.first() == Some(&0) && digits.get(1).is_some_and(|second| *second != 0);
    match groups {
        [11] | [3, 4, 4] => check::is_cn_mobile(digits),
        [13 | 15] | [2 | 4, 11] | [2 | 4, 3, 4, 4] => country.is_some_and(check::is_cn_mobile),
        [3, 8] => check::is_cn_mobile(digits) || line(),
        [4, 7 | 8] => line(),
        _ => false,
    }
}
