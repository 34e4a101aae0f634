//! Random texts for tests, made of what the patterns tell apart, from a seed.

/// A source of random texts.
pub struct Texts {
    state: u64,
}

/// Characters of one sort each.
const ALPHABETS: [&str; 8] = [
    "aBcDe'sStTlLrReEvVdDmM\u{17f} '",
    " \t\n\r\u{a0}\u{3000}\u{85}ab!/.,",
    "aZ\u{301}\u{308}'\u{20dd} ǅʰªكक\u{93f}你的1²Ⅷ٣/!\n",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "的是不了我有人这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长",
    "😀👩\u{200d}💻🇩🇪\u{fe0f}\u{301}a ",
    "0123456789 .,-٣²Ⅷ",
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/",
];

const WORDS: [&str; 36] = [
    "the",
    " of",
    "Hello",
    "WORLD",
    "camelCase",
    "HTTPServer",
    "don't",
    "I'LL",
    "we'Ve",
    "  ",
    "\n\n",
    "\r\n",
    "\t\t",
    "://",
    "===",
    "{\"",
    "\":",
    "12345",
    " 7",
    "ÄÖÜ",
    "straße",
    "ŁÓDŹ",
    "мир",
    "Привет",
    "日本語",
    "한국어",
    "ไทย",
    "नमस्ते",
    "\u{301}",
    "'",
    "/",
    "\n/",
    "<|endoftext|>",
    " internationalization",
    "    return",
    "'ll",
];

impl Texts {
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 20) as usize % limit
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn char_of(&mut self, alphabet: &str) -> char {
        alphabet.chars().nth(self.below(alphabet.chars().count())).unwrap()
    }

    fn any_char(&mut self) -> char {
        let most = [0x80, 0x3000, 0x11_0000][self.below(3)];
        char::from_u32(self.below(most) as u32).unwrap_or('\u{fffd}')
    }

    /// Up to some hundred bytes.
    pub fn text(&mut self) -> String {
        match self.below(5) {
            0 => {
                let alphabet = self.of(&ALPHABETS);
                (0..self.below(60)).map(|_| self.char_of(alphabet)).collect()
            }
            1 => (0..self.below(40))
                .map(|_| {
                    let alphabet = self.of(&ALPHABETS);
                    self.char_of(alphabet)
                })
                .collect(),
            2 => (0..self.below(20)).map(|_| self.of(&WORDS)).collect(),
            3 => (0..self.below(30)).map(|_| self.any_char()).collect(),
            _ => (0..self.below(6))
                .map(|_| match self.below(3) {
                    0 => self.of(&WORDS).repeat(1 + self.below(8)),
                    1 => self.any_char().to_string().repeat(1 + self.below(20)),
                    _ => self.text(),
                })
                .collect(),
        }
    }

    /// A long piece of one kind, some other characters in it, and something behind it.
    pub fn long(&mut self) -> String {
        let mut text = self.of(&["", "x", " ", "'", "\u{301}", "\n", "\t", "!", "你", "1"]).to_owned();
        let (common, rare) = [
            ("A", "A"),
            ("A", "你"),
            ("AB", "\u{301}"),
            ("Aa", "ʰ"),
            ("你好世界", "A"),
            ("abc", "d"),
            (" ", "\n"),
            (" \t\u{3000}", "\r\n"),
            ("\n", " "),
            ("=", "/"),
            ("-=*", "\u{301}"),
            ("!", "\n"),
            ("/", "\n"),
            ("\u{301}", "A"),
            ("😀", "\u{fe0f}"),
        ][self.below(15)];
        let oddity = [2, 30, 400][self.below(3)];
        for _ in 0..100 + self.below(400) {
            let next = if self.below(oddity) == 0 { rare } else { common };
            text.push(self.char_of(next));
        }
        text.push_str(self.of(&[
            "", "'s", "'", "'l", "'lL", "'x", "x", "X", "\n", " ", "1", "你", "\u{301}", "/", "'\u{17f}", "!\n/",
        ]));
        text + &self.text()
    }
}

/// The char boundary at or above `at`.
pub fn boundary(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}
