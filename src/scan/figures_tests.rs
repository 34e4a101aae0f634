//! How well detection works, in figures: precision and recall on a labelled set made by rule, false alarms on recorded
//! exchanges, and how fast it is. `make figures` prints them.
//!
//! The makers of the labelled set compute check digits in ways of their own, so that a mistake in `check` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;

use super::{Action, Injection, Rule, Scanner, Selection, Topic};

fn everything() -> Scanner {
    let topics = Topic::ALL.into_iter().map(|topic| (topic, Action::Redact)).collect();
    Scanner::new(&Selection { topics, ..Selection::default() }).expect("patterns that compile")
}

fn injected() -> Scanner {
    let injection = Injection::ALL.map(|each| (each, Action::Redact)).to_vec();
    Scanner::new(&Selection { injection, ..Selection::default() }).expect("patterns that compile")
}

/// A small generator (xorshift), so that the set is the same on every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    fn text(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| *self.of(&alphabet)).collect()
    }

    fn digits(&mut self, length: usize) -> String {
        self.text("0123456789", length)
    }
}

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const BASE62: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const HEX: &str = "0123456789abcdef";
const WORDS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// The digit that makes a number pass, by trying all ten: every second digit from the right doubled, its digits added.
fn with_luhn(body: &str) -> String {
    let sum = |text: &str| -> u32 {
        let digits = text.chars().rev().map(|c| c.to_digit(10).unwrap());
        digits.enumerate().map(|(at, d)| if at % 2 == 1 { (d * 2) / 10 + (d * 2) % 10 } else { d }).sum()
    };
    let last = (0..10).find(|digit| sum(&format!("{body}{digit}")) % 10 == 0).unwrap();
    format!("{body}{last}")
}

/// The check character by the weights that the standard prints.
fn with_id_check(body: &str) -> String {
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = body.chars().zip(weights).map(|(c, weight)| c.to_digit(10).unwrap() * weight).sum();
    format!("{body}{}", "10X98765432".chars().nth((sum % 11) as usize).unwrap())
}

/// The two digits by one long division.
fn iban(country: &str, body: &str) -> String {
    let numbers = |text: &str| text.chars().map(|c| c.to_digit(36).unwrap().to_string()).collect::<String>();
    let long = format!("{}{}00", numbers(body), numbers(country));
    let rest = long.chars().fold(0u64, |rest, c| (rest * 10 + u64::from(c.to_digit(10).unwrap())) % 97);
    format!("{country}{:02}{body}", 98 - rest)
}

fn in_fours(text: &str, between: &str) -> String {
    text.as_bytes().chunks(4).map(|four| std::str::from_utf8(four).unwrap()).collect::<Vec<_>>().join(between)
}

fn with_crc32(prefix: &str, body: &str) -> String {
    let alphabet: Vec<char> = BASE62.chars().collect();
    let (mut value, mut check) = (crc32fast::hash(body.as_bytes()), String::new());
    for _ in 0..6 {
        check.insert(0, alphabet[(value % 62) as usize]);
        value /= 62;
    }
    format!("{prefix}{body}{check}")
}

fn birthday(draw: &mut Draw) -> String {
    format!("{}{:02}{:02}", 1940 + draw.below(80), 1 + draw.below(12), 1 + draw.below(28))
}

fn positive(topic: Topic, draw: &mut Draw) -> String {
    match topic {
        Topic::Secrets => secret(draw),
        Topic::Email => {
            let local = draw.of(&["alice", "bob.w", "zhang_san", "x+tag", "138123456", "o-brien", "li.wei88"]);
            let domain = draw.of(&[
                "example.com",
                "mail.example.co.uk",
                "qq.com",
                "acme-corp.io",
                "cs.tsinghua.edu.cn",
                "a.museum",
            ]);
            format!("{local}@{domain}")
        }
        Topic::Phone => {
            let mobile = format!("1{}{}", 3 + draw.below(7), draw.digits(9));
            let (a, b, c) = (&mobile[..3], &mobile[3..7], &mobile[7..]);
            match draw.below(8) {
                0 => format!("{a}-{b}-{c}"),
                1 => format!("{a} {b} {c}"),
                2 => format!("+86 {mobile}"),
                3 => format!("+86-{a}-{b}-{c}"),
                4 => format!("+1 (212) 555-{}", draw.digits(4)),
                5 => format!("+44 20 7946 0{}", draw.digits(3)),
                6 => format!("010-6{}", draw.digits(7)),
                _ => mobile,
            }
        }
        Topic::Card => {
            let card = match draw.below(4) {
                0 => with_luhn(&format!("4{}", draw.digits(14))),
                1 => with_luhn(&format!("5{}{}", 1 + draw.below(5), draw.digits(13))),
                2 => with_luhn(&format!("37{}", draw.digits(12))),
                _ => with_luhn(&format!("6011{}", draw.digits(11))),
            };
            match (card.len(), draw.below(3)) {
                (16, 0) => in_fours(&card, " "),
                (16, 1) => in_fours(&card, "-"),
                _ => card,
            }
        }
        Topic::Iban => {
            let written = match draw.below(4) {
                0 => iban("DE", &draw.digits(18)),
                1 => iban("GB", &format!("{}{}", draw.text(UPPER, 4), draw.digits(14))),
                2 => iban("FR", &format!("{}{}{}", draw.digits(10), draw.text(UPPER, 1), draw.digits(12))),
                _ => iban("NL", &format!("{}{}", draw.text(UPPER, 4), draw.digits(10))),
            };
            if draw.below(2) == 0 { in_fours(&written, " ") } else { written }
        }
        Topic::CnIdCard => {
            let division = draw.of(&["110105", "310101", "440524", "510104", "320583", "650102"]);
            let body = format!("{division}{}{}", birthday(draw), draw.digits(3));
            with_id_check(&body)
        }
        Topic::BankCard => {
            let body = format!("62{}", if draw.below(2) == 0 { draw.digits(16) } else { draw.digits(13) });
            let card = with_luhn(&body);
            if draw.below(2) == 0 { in_fours(&card, " ") } else { card }
        }
        Topic::Passport => {
            let number = match draw.below(3) {
                0 => format!("E{}", draw.digits(8)),
                1 => format!("E{}{}", draw.text("ABCDEFGH", 1), draw.digits(7)),
                _ => draw.digits(9),
            };
            let before =
                draw.of(&["passport ", "Passport No. ", "passport number: ", "护照号码：", "护照 ", "PASSPORT #"]);
            format!("{before}{number}")
        }
        Topic::Ssn => format!("{:03}-{:02}-{:04}", 1 + draw.below(600), 1 + draw.below(99), 1 + draw.below(9998)),
    }
}

fn secret(draw: &mut Draw) -> String {
    match draw.below(16) {
        0 => format!("{}{}", draw.of(&["AKIA", "ASIA"]), draw.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
        1 => format!("aws_secret_access_key = {}", draw.text(&format!("{BASE62}/+"), 40)),
        2 => {
            let body = draw.text(BASE62, 30);
            with_crc32(draw.of::<&str>(&["ghp_", "gho_", "ghs_"]), &body)
        }
        3 => format!("github_pat_{}_{}", draw.text(BASE62, 22), draw.text(BASE62, 59)),
        4 => format!("glpat-{}", draw.text(WORDS, 20)),
        5 => format!("xoxb-{}-{}-{}", draw.digits(12), draw.digits(12), draw.text(BASE62, 24)),
        6 => format!("sk-proj-{}T3BlbkFJ{}", draw.text(WORDS, 58), draw.text(WORDS, 58)),
        7 => format!("sk-ant-api03-{}AA", draw.text(WORDS, 93)),
        8 => format!("AIza{}", draw.text(WORDS, 35)),
        9 => format!("DefaultEndpointsProtocol=https;AccountKey={}==", draw.text(&format!("{BASE62}/+"), 86)),
        10 => format!("LTAI{}", draw.text(BASE62, 20)),
        11 => format!("AKID{}", draw.text(BASE62, 32)),
        12 => format!("sk_live_{}", draw.text(BASE62, 24)),
        13 => format!("eyJ{}.eyJ{}.{}", draw.text(WORDS, 33), draw.text(WORDS, 80), draw.text(WORDS, 43)),
        14 => format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----", draw.text(BASE62, 64)),
        _ => format!("sk-{}", draw.text(HEX, 32)),
    }
}

/// What stands around it.
fn around(found: &str, draw: &mut Draw) -> String {
    match draw.below(9) {
        0 => format!("Please use {found} for this."),
        1 => format!("我的是{found}，谢谢。"),
        2 => format!("{{\"value\": \"{found}\", \"n\": 3}}"),
        3 => format!("key: {found}\nnext: line"),
        4 => found.to_owned(),
        5 => format!("| name | {found} | 2024-05-01 |"),
        6 => format!("（{found}）"),
        7 => format!("see <{found}>; and then 42 more"),
        _ => format!("const x = '{found}'; // note"),
    }
}

/// Texts in which nothing is anybody's: near misses of each kind, and what prompts are full of.
fn negative(draw: &mut Draw) -> String {
    let broken = |good: String| {
        // Another last digit never passes the check.
        let last = good.chars().rfind(char::is_ascii_digit).unwrap();
        let at = good.rfind(last).unwrap();
        format!("{}{}{}", &good[..at], (last.to_digit(10).unwrap() + 1) % 10, &good[at + 1..])
    };
    match draw.below(24) {
        0 => broken(with_luhn(&format!("4{}", draw.digits(14)))),
        1 => broken(with_luhn(&format!("62{}", draw.digits(16)))),
        2 => broken(iban("DE", &draw.digits(18))),
        3 => {
            let good = with_id_check(&format!("110105{}{}", birthday(draw), draw.digits(3)));
            if good.ends_with('X') { good.replace('X', "1") } else { broken(good) }
        }
        4 => with_id_check(&format!("11010519901350{}", draw.digits(3))),
        5 => format!(
            "{}-{}-4{}-a{}-{}",
            draw.text(HEX, 8),
            draw.text(HEX, 4),
            draw.text(HEX, 3),
            draw.text(HEX, 3),
            draw.text(HEX, 12)
        ),
        6 => draw.text(HEX, 40),
        7 => draw.text(HEX, 64),
        8 => format!("17{}", draw.digits(11)),
        9 => format!("2024-0{}-{} 10:{}:00", 1 + draw.below(9), 10 + draw.below(18), 10 + draw.below(49)),
        10 => format!("v{}.{}.{}-rc{}", draw.below(20), draw.below(99), draw.below(999), draw.below(9)),
        11 => format!("192.168.{}.{}:{}", draw.below(255), draw.below(255), 1024 + draw.below(60_000)),
        12 => format!("0.{}", draw.digits(16)),
        13 => format!("git@github.com:acme/{}.git", draw.text("abcdef", 6)),
        14 => format!("getty@tty{}.service and icon@2x.png", draw.below(9)),
        15 => format!("npm i react@18.{}.0 @types/node@20.{}.1", draw.below(9), draw.below(9)),
        16 => format!("ghp_{}", draw.text(BASE62, 36)),
        17 => format!("{}-{}-{}", ["000", "666", "912"][draw.below(3) as usize], draw.digits(2), draw.digits(4)),
        18 => format!("total {} {} {} {}", draw.digits(3), draw.digits(5), draw.digits(2), draw.digits(6)),
        19 => format!("the passport of the app, section {}.{}", draw.below(9), draw.below(9)),
        20 => format!("sk-learn sk-{} AKIA LTAI eyJ ", draw.text("abc-", 12)),
        21 => format!("toolu_01{} call_{}", draw.text(BASE62, 22), draw.text(BASE62, 24)),
        22 => format!(
            "population {},{},{} and order #{}",
            draw.digits(3),
            draw.digits(3),
            draw.digits(3),
            draw.digits(11)
        ),
        _ => format!("data:image/png;base64,{}", draw.text(&format!("{BASE62}+/"), 200)),
    }
}

#[test]
fn precision_and_recall() {
    let scanner = everything();
    let (mut draw, mut table) = (Draw(0x9e37_79b9_7f4a_7c15), String::new());
    let mut alarms: BTreeMap<String, (u32, String)> = BTreeMap::new();
    let (mut hits, mut all) = (BTreeMap::new(), 0);
    for topic in Topic::ALL {
        for _ in 0..300 {
            let found = positive(topic, &mut draw);
            let text = around(&found, &mut draw);
            all += 1;
            let row: &mut (u32, u32, String) = hits.entry(topic).or_default();
            row.0 += 1;
            let named = |rule: usize| scanner.rules()[rule].name.clone();
            let mut right = 0;
            for finding in scanner.find(&text) {
                // What is found twice in a text that has it once was found wrongly the second time.
                if named(finding.rule) == topic.name() && right == 0 {
                    right = 1;
                } else {
                    let alarm = alarms.entry(named(finding.rule)).or_default();
                    *alarm = (alarm.0 + 1, text.clone());
                }
            }
            row.1 += right;
            if right == 0 {
                row.2 = text;
            }
        }
    }
    let negatives = 3_000;
    for _ in 0..negatives {
        let text = negative(&mut draw);
        let text = around(&text, &mut draw);
        for finding in scanner.find(&text) {
            let alarm = alarms.entry(scanner.rules()[finding.rule].name.clone()).or_default();
            *alarm = (alarm.0 + 1, text.clone());
        }
    }
    for (topic, (made, found, missed)) in &hits {
        let (wrong, example) = alarms.get(topic.name()).cloned().unwrap_or_default();
        let percent = |part: u32, of: u32| f64::from(part) * 100.0 / f64::from(of.max(1));
        let (recall, precision) = (percent(*found, *made), percent(*found, found + wrong));
        let name = topic.name();
        writeln!(table, "{name:10} {made:4} made {found:4} found: recall {recall:5.1} %, precision {precision:5.1} %")
            .unwrap();
        if !missed.is_empty() || wrong > 0 {
            writeln!(table, "           missed {missed:?}; false {example:?}").unwrap();
        }
        assert!(recall >= 97.0 && precision >= 95.0, "{table}");
    }
    println!("{all} texts with one finding each, {negatives} with none:\n{table}");
}

/// The strings of a document, or of every event of a stream.
fn strings(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => out.push(text.clone()),
        serde_json::Value::Array(list) => list.iter().for_each(|value| strings(value, out)),
        serde_json::Value::Object(map) => map.values().for_each(|value| strings(value, out)),
        _ => {}
    }
}

/// The lines of recorded exchanges, packed or not: of the file that `FAREBOX_CORPUS` names, or of `exchanges.jsonl.gz` in the
/// folder that it names, or beside the project. `None`: there are none, and nobody named any.
fn recorded() -> Option<Vec<String>> {
    let named = std::env::var_os("FAREBOX_CORPUS").filter(|path| !path.is_empty()).map(PathBuf::from);
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    let path = named.clone().unwrap_or(beside);
    let path = if path.is_dir() { path.join("exchanges.jsonl.gz") } else { path };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if named.is_some() => panic!("{}: {error}; name another corpus in CORPUS", path.display()),
        Err(_) => {
            eprintln!("SKIPPED: no corpus at {}; name one in FAREBOX_CORPUS", path.display());
            return None;
        }
    };
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let bytes: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Some(BufReader::new(bytes).lines().map(|line| line.expect("a line of the corpus")).collect())
}

/// All strings of what was asked and of what was answered in an exchange.
fn texts_of(line: &str) -> Vec<String> {
    let exchange: serde_json::Value = serde_json::from_str(line).expect("an exchange");
    let mut texts = Vec::new();
    for side in ["request_body", "response_body"] {
        let Some(body) = exchange[side].as_str() else { continue };
        match serde_json::from_str(body) {
            Ok(document) => strings(&document, &mut texts),
            Err(_) => {
                let data = body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?).ok());
                data.for_each(|event| strings(&event, &mut texts));
            }
        }
    }
    texts
}

/// Recorded exchanges, whose keys and addresses were taken out by whoever recorded them: what is found there is mostly a
/// false alarm. Numbers of phones and addresses of mail that texts invent are found as well as real ones.
#[test]
fn false_alarms_on_recorded_exchanges() {
    let Some(lines) = recorded() else { return };
    let scanner = everything();
    let (mut bytes, mut with_any) = (0usize, 0u32);
    let mut alarms: BTreeMap<String, (u32, BTreeSet<String>)> = BTreeMap::new();
    for line in &lines {
        let mut rules = BTreeSet::new();
        for text in &texts_of(line) {
            bytes += text.len();
            for finding in scanner.find(text) {
                let rule = scanner.rules()[finding.rule].name.clone();
                let examples = &mut alarms.entry(rule.clone()).or_default().1;
                examples.insert(text[finding.range.clone()].chars().take(40).collect());
                rules.insert(rule);
            }
        }
        with_any += u32::from(!rules.is_empty());
        for rule in rules {
            alarms.entry(rule).or_default().0 += 1;
        }
    }
    let a_thousand = |count: u32| f64::from(count) * 1_000.0 / lines.len() as f64;
    println!("{} exchanges, {bytes} bytes of strings; exchanges with a finding, a thousand:", lines.len());
    for topic in Topic::ALL {
        let (count, examples) = alarms.get(topic.name()).cloned().unwrap_or_default();
        let examples: Vec<_> = examples.into_iter().take(6).collect();
        println!("{:10} {count:4} ({:5.1} a thousand) {examples:?}", topic.name(), a_thousand(count));
        assert!(a_thousand(count) <= 6.0, "{}: {:.1} a thousand", topic.name(), a_thousand(count));
    }
    println!("{:10} {with_any:4} ({:5.1} a thousand)", "any", a_thousand(with_any));
}

/// How often texts that nobody meant as an attack use the words of one. `markup` is as it is: a corpus may have logged
/// prompts in which templates are written out.
#[test]
fn words_of_injection_in_recorded_exchanges() {
    let Some(lines) = recorded() else { return };
    let scanner = injected();
    let mut found: BTreeMap<String, (u32, BTreeSet<String>)> = BTreeMap::new();
    for line in &lines {
        let mut rules = BTreeSet::new();
        for text in &texts_of(line) {
            for finding in scanner.find(text) {
                let rule = scanner.rules()[finding.rule].name.clone();
                let example = text[finding.range.clone()].chars().take(60).collect();
                found.entry(rule.clone()).or_default().1.insert(example);
                rules.insert(rule);
            }
        }
        for rule in rules {
            found.entry(rule).or_default().0 += 1;
        }
    }
    for Rule { name, .. } in scanner.rules() {
        let (count, examples) = found.get(name).cloned().unwrap_or_default();
        let a_thousand = f64::from(count) * 1_000.0 / lines.len() as f64;
        let examples: Vec<_> = examples.into_iter().take(6).collect();
        println!("{name:20} {count:4} ({a_thousand:5.1} a thousand) {examples:?}");
        assert!(a_thousand <= 6.0, "{name}: {a_thousand:.1} a thousand");
    }
}

/// What a stream waits for: bytes that are held back when the next token is already there, in ordinary text.
#[test]
fn what_is_held_back_of_streams() {
    let texts = [
        ("english", "The quick brown fox jumps over the lazy dog, and then it rests until 10:30 on 2024-05-12. "),
        ("code", "let total = items.iter().map(|item| item.price * 3).sum::<u64>(); // see https://example.com/a\n"),
        ("chinese", "北京时间上午十点，会议开始。请各位同事准备好12份材料，并在会前发送给组长；谢谢！"),
        ("numbers", "| 1200 | 17.5 | 2024-05-12 | 9 | 300 400 |\n"),
    ];
    for (name, piece) in texts {
        let text = piece.repeat(20);
        let mut tokens: Vec<String> = Vec::new();
        for c in text.chars() {
            // About as vocabularies cut: a blank opens a word, marks and Chinese characters stand alone.
            let goes_on = c.is_ascii_alphanumeric()
                && tokens.last().is_some_and(|last| last.ends_with(|c: char| c == ' ' || c.is_ascii_alphanumeric()));
            match tokens.last_mut().filter(|_| goes_on) {
                Some(last) => last.push(c),
                None => tokens.push(c.to_string()),
            }
        }
        let (mut redactor, mut out) = (super::Redactor::new(everything()), String::new());
        let (mut held, mut waiting, mut most) = (0, 0, 0);
        for token in &tokens {
            redactor.push(token, &mut |_, _, _| {}, &mut out);
            held += redactor.held();
            most = most.max(redactor.held());
            waiting += usize::from(redactor.held() > 0);
        }
        let mean = held as f64 / tokens.len() as f64;
        println!(
            "{name:10} {} tokens: {:3} % of them wait for the next, {mean:4.1} bytes held on average, {most} at most",
            tokens.len(),
            waiting * 100 / tokens.len()
        );
        assert!(most <= 64, "{name}: {most} bytes held back");
    }
}

/// Nanoseconds that this thread has had of a processor: what others do on this machine does not count.
fn worked_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    stat.split(' ').next().and_then(|first| first.parse().ok()).expect("nanoseconds")
}

/// How fast texts of some kinds are searched, in processor time.
#[test]
#[ignore = "a measurement: `make figures` runs it"]
fn speed() {
    let english = "The quick brown fox jumps over the lazy dog, and then it rests until 2024-05-12 10:30. ";
    let code = "let total = items.iter().map(|item| item.price * 3).sum::<u64>(); // see https://example.com/a/b?c=1\n";
    let chinese = "北京时间上午十点，会议开始。请各位同事准备好材料，并在会前发送给组长；谢谢配合！";
    let json = r#"{\"id\":\"550e8400-e29b-41d4-a716-446655440000\",\"count\":17,\"path\":\"/usr/local/lib\"}\n"#;
    let secrets = Scanner::new(&Selection { topics: vec![(Topic::Secrets, Action::Deny)], ..Selection::default() });
    for (set, scanner) in
        [("secrets", secrets.expect("patterns")), ("injection", injected()), ("everything", everything())]
    {
        for (name, piece) in [("english", english), ("code", code), ("chinese", chinese), ("json in json", json)] {
            for size in [4 << 10, 1 << 20] {
                let text = piece.repeat(size / piece.len() + 1);
                scanner.find(&text);
                let rounds = (32 << 20) / text.len();
                let begin = worked_ns();
                let found: usize = (0..rounds).map(|_| scanner.find(&text).len()).sum();
                let speed = (rounds * text.len()) as f64 / (worked_ns() - begin).max(1) as f64 * 1e3;
                println!("{set:10} {name:12} {:5} KiB: {speed:6.0} MB/s ({found} found)", size >> 10);
            }
            let text = piece.repeat((1 << 20) / piece.len());
            let mut redactor = super::Redactor::new(scanner.clone());
            let begin = worked_ns();
            let mut out = String::new();
            for line in text.split_inclusive([' ', '，']) {
                redactor.push(line, &mut |_, _, _| {}, &mut out);
            }
            let speed = text.len() as f64 / (worked_ns() - begin).max(1) as f64 * 1e3;
            println!("{set:10} {name:12}    stream: {speed:6.0} MB/s");
        }
    }
}
