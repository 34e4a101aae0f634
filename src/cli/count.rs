//! `farebox count`: tokens of files.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::Exit;
use crate::meter::count::Encoding;
use crate::meter::count::running::RunningBytes;

/// What to count, and by which vocabulary.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The vocabulary, as policies name it.
    #[arg(long, value_parser = encoding, default_value = "o200k_base")]
    pub encoding: Encoding,
    /// Files; `-`, or none, reads standard input.
    pub files: Vec<PathBuf>,
}

fn encoding(name: &str) -> Result<Encoding, String> {
    let known: Vec<String> = Encoding::ALL.iter().map(|encoding| format!("`{}`", encoding.name())).collect();
    let known = known.join(", ");
    Encoding::from_name(name).ok_or_else(|| format!("known vocabularies: {known}"))
}

/// Prints a line for each file, in their order: its tokens, a space, its name as given; of standard input the tokens only.
/// What is no UTF-8 is counted as readers show it, by replacement characters. A file that cannot be read is told on `err`.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let input = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &input[..] } else { &args.files };
    let mut exit = Exit::Fine;
    for path in files {
        let standard = path == Path::new("-");
        let counted = if standard {
            count(io::stdin().lock(), args.encoding)
        } else {
            std::fs::File::open(path).and_then(|file| count(file, args.encoding))
        };
        let written = match counted {
            Ok(tokens) if standard => writeln!(out, "{tokens}"),
            Ok(tokens) => writeln!(out, "{tokens} {}", path.display()),
            Err(reason) => {
                exit = Exit::CouldNotRun;
                writeln!(err, "error: cannot read `{}`: {reason}", path.display())
            }
        };
        // Whoever read the lines has gone away.
        if written.is_err() {
            break;
        }
    }
    exit
}

/// Reads to the end, in bounded memory however long that is.
fn count(mut from: impl Read, encoding: Encoding) -> io::Result<u64> {
    let mut running = RunningBytes::new(encoding);
    let mut room = vec![0; 64 * 1024];
    loop {
        match from.read(&mut room) {
            Ok(0) => return Ok(running.total()),
            Ok(length) => running.push(room.get(..length).unwrap_or_default()),
            Err(reason) if reason.kind() == io::ErrorKind::Interrupted => {}
            Err(reason) => return Err(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::count;
    use crate::cli::{Exit, Farebox};
    use crate::meter::count::Encoding;

    fn farebox(arguments: &[&str]) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let verb = Farebox::try_parse_from([&["farebox", "count"], arguments].concat()).unwrap();
        let exit = verb.run(&mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn files_get_a_line_each() {
        let folder = tempfile();
        let (one, two) = (folder.join("one"), folder.join("two"));
        std::fs::write(&one, "2 + 2 = 4").unwrap();
        std::fs::write(&two, "お誕生日おめでとう").unwrap();
        let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
        let (exit, out, err) = farebox(&[one, two]);
        assert_eq!((exit, out, err.as_str()), (Exit::Fine, format!("7 {one}\n8 {two}\n"), ""));
        let (exit, out, _) = farebox(&["--encoding", "cl100k_base", one]);
        assert_eq!((exit, out), (Exit::Fine, format!("7 {one}\n")));
        let (exit, out, err) = farebox(&["/there/is/none", one]);
        assert_eq!((exit, out), (Exit::CouldNotRun, format!("7 {one}\n")));
        assert!(err.starts_with("error: cannot read `/there/is/none`: "), "{err}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn tempfile() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("farebox-count-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_wrong_vocabulary_is_told_the_right_ones() {
        let wrong = Farebox::try_parse_from(["farebox", "count", "--encoding", "p50k"]).unwrap_err().to_string();
        assert!(wrong.contains("known vocabularies: `o200k_base`, `cl100k_base`, `o200k_harmony`"), "{wrong}");
    }

    #[test]
    fn bytes_are_counted_as_they_are_shown() {
        let bytes =
            [b"caf\xc3\xa9 \xff\xfe and \xe4\xbd".as_slice(), &[b'='; 200], "你好".as_bytes(), b"\xe4\xbd"].concat();
        let shown = String::from_utf8_lossy(&bytes);
        for encoding in Encoding::ALL.iter().copied() {
            for size in [1, 2, 3, 7, 1000] {
                struct Drip<'a>(std::slice::Chunks<'a, u8>);
                impl std::io::Read for Drip<'_> {
                    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
                        let chunk = self.0.next().unwrap_or_default();
                        room[..chunk.len()].copy_from_slice(chunk);
                        Ok(chunk.len())
                    }
                }
                assert_eq!(count(Drip(bytes.chunks(size)), encoding).unwrap(), encoding.count(&shown), "{size}");
            }
        }
    }
}
