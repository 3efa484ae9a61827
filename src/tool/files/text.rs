//! Text out of pieces of bytes: cut between characters, and bounded as JSON.

/// Bytes of the longest character, so that a piece of this size always gets on.
pub(super) const LONGEST_CHAR: usize = 4;

/// A part of a text file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'b> {
    pub(super) content: &'b str,
    /// The byte it begins at: later than asked for when that was inside a character.
    pub(super) from: u64,
    /// Where the file goes on, if it does.
    pub(super) next: Option<u64>,
}

/// The text at the begin of `bytes`, which begin at `offset` of a file of `size` bytes; at most `most` bytes as JSON. `None` if it is no text.
pub(super) fn part(bytes: &[u8], offset: u64, size: u64, most: usize) -> Option<Part<'_>> {
    let skipped = if offset == 0 { 0 } else { bytes.iter().take(LONGEST_CHAR - 1).take_while(|byte| **byte & 0xc0 == 0x80).count() };
    let from = offset + skipped as u64;
    let rest = &bytes[skipped..];
    let text = match str::from_utf8(rest) {
        Ok(text) => text,
        // A character that was cut by the end of the piece, but not by that of the file.
        Err(error) if error.error_len().is_none() && from + (rest.len() as u64) < size => {
            str::from_utf8(&rest[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    // No text has this one, and many things that are no text have nothing but.
    if text.contains('\0') {
        return None;
    }
    let content = cut(text, most);
    let end = from + content.len() as u64;
    Some(Part { content, from, next: (end < size && !bytes.is_empty()).then_some(end) })
}

/// The longest begin of a text that is at most `most` bytes as JSON.
fn cut(text: &str, most: usize) -> &str {
    let mut left = most;
    for (at, c) in text.char_indices() {
        match left.checked_sub(json_bytes(c)) {
            Some(rest) => left = rest,
            None => return &text[..at],
        }
    }
    text
}

fn json_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => c.len_utf8(),
    }
}
