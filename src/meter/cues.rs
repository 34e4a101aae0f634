//! How long a sound is, as its subtitles tell it: where the last of them ends (SubRip; W3C, "WebVTT").

use super::answer;

/// The longest line that may be one of times, in bytes.
const LONGEST: usize = 128;

/// Reads subtitles as they come, in whatever pieces.
#[derive(Clone, Debug, Default)]
pub struct Cues {
    /// The line so far.
    line: Vec<u8>,
    seconds: u64,
}

impl Cues {
    /// More of them.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end(),
                _ if self.line.len() < LONGEST => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// A line ends, perhaps with the body.
    pub fn end(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.seconds = self.seconds.max(until(&line).unwrap_or(0));
    }

    /// Seconds until the last one ends, begun ones whole; 0 where there are none.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }
}

/// `00:00:01,500 --> 00:00:04,000`, with settings behind it or not.
fn until(line: &[u8]) -> Option<u64> {
    let (from, until) = std::str::from_utf8(line).ok()?.split_once("-->")?;
    moment(from.trim())?;
    moment(until.split_ascii_whitespace().next()?)
}

/// `[hours:]minutes:seconds`, with thousandths behind a comma or a dot.
fn moment(text: &str) -> Option<u64> {
    let text = text.replace(',', ".");
    let mut parts = text.rsplit(':');
    let seconds = answer::seconds(parts.next())?;
    let minutes = answer::seconds(Some(parts.next()?))?;
    let hours = parts.next().map_or(Some(0), |hours| answer::seconds(Some(hours)))?;
    let all = hours.saturating_mul(3_600).saturating_add(minutes.saturating_mul(60)).saturating_add(seconds);
    parts.next().is_none().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::Cues;

    fn seconds(text: &str, size: usize) -> u64 {
        let mut cues = Cues::default();
        text.as_bytes().chunks(size).for_each(|piece| cues.push(piece));
        cues.end();
        cues.seconds()
    }

    #[test]
    fn the_last_subtitle_tells_how_long_it_is() {
        let srt = "1\r\n00:00:00,000 --> 00:00:05,480\r\nHello --> 09:00:00,000\r\n\r\n2\n01:01:05,500 --> 01:01:07,000\nBye\n";
        let vtt = "WEBVTT\n\n00:05.000 --> 01:08.250 align:left\nHello";
        for size in [1, 3, 500] {
            assert_eq!((seconds(srt, size), seconds(vtt, size)), (3_667, 69), "{size}");
        }
        assert_eq!(seconds("00:01 --> 00:09", 99), 9, "the last line may have no end");
        for none in ["Only text.", "a --> 00:05", "1:2:3:4 --> 1:2:3:4", "-->", ""] {
            assert_eq!(seconds(none, 2), 0, "{none}");
        }
    }
}
