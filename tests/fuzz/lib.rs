//! What the targets have in common: any bytes as an answer in any dialect, cut anywhere. The same is read of them, and
//! they leave as they came.

use farebox::meter::count::Encoding;
use farebox::meter::dialect::Dialect;
use farebox::meter::reader::{Forward, Reader};

fn read<'a>(
    dialect: Dialect,
    kind: Option<&str>,
    hide: bool,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (String, Vec<u8>) {
    let mut reader = Reader::new(dialect, Encoding::O200kBase, 200, kind.map(str::as_bytes), None, hide);
    let mut out = Vec::new();
    for piece in pieces {
        match reader.push(piece, false) {
            Forward::Same => out.extend_from_slice(piece),
            Forward::Replace(bytes) => out.extend(bytes),
        }
    }
    if let Forward::Replace(bytes) = reader.push(b"", true) {
        out.extend(bytes);
    }
    let told = format!(
        "{:?} {:?} {} {} {} {:?}",
        reader.reported(),
        reader.made(),
        reader.delivered(),
        reader.finished(),
        reader.error_inside(),
        reader.unreadable()
    );
    (told, out)
}

/// Reads an answer in any content coding, in pieces: it passes as it is, whatever comes of it.
///
/// The first two bytes choose the coding and the pieces' length. Only some KiB are read: what they can unpack to is enough.
pub fn packed(data: &[u8]) {
    let Some(([coding, cut], body)) = data.split_first_chunk::<2>() else { return };
    let codings: [&[u8]; 4] = [b"zstd", b"gzip", b"deflate", b"br"];
    let coding = codings[usize::from(*coding) % codings.len()];
    let kind = Some(&b"text/event-stream"[..]);
    let mut reader = Reader::new(Dialect::OpenAiChat, Encoding::O200kBase, 200, kind, Some(coding), false);
    for piece in body[..body.len().min(4096)].chunks(usize::from(*cut).max(1)) {
        assert_eq!(reader.push(piece, false), Forward::Same);
    }
    assert_eq!(reader.push(b"", true), Forward::Same);
}

/// Reads an answer of one of these content types whole, and in pieces.
///
/// The first four bytes choose dialect, content type, the pieces' length, and whether usage is hidden: so a golden file
/// with four bytes in front is a seed.
pub fn answer(kinds: &[Option<&str>], data: &[u8]) {
    let Some(([dialect, kind, cut, hide], body)) = data.split_first_chunk::<4>() else { return };
    let dialect = Dialect::ALL[usize::from(*dialect) % Dialect::ALL.len()];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    let hide = hide & 1 == 1;
    let whole = read(dialect, kind, hide, [body].into_iter());
    let cut = read(dialect, kind, hide, body.chunks(usize::from(*cut).max(1)));
    assert_eq!(cut, whole);
    assert!(hide || whole.1 == body);
}
