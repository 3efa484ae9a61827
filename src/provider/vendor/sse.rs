//! Server-sent events out of chunks of bytes, in linear time and bounded memory.

use thiserror::Error;

/// Why bytes are no event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum SseError {
    #[error("a line that does not end")]
    TooLong,
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("a line that belongs to no event")]
    UnknownField,
}

/// Cuts a byte stream into events. Lines end with LF or CRLF; the lone CR of the standard is used by no vendor.
#[derive(Debug)]
pub(crate) struct SseReader {
    max_bytes: usize,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    event: String,
    data: String,
}

impl SseReader {
    /// `max_bytes` bounds a line and the data of an event.
    pub(crate) fn new(max_bytes: usize) -> Self {
        SseReader { max_bytes, partial: Vec::new(), event: String::new(), data: String::new() }
    }

    /// Reads a chunk and passes on what it completes, as event name (empty if none was given) and data. Says whether a line ended:
    /// comments are signs of life too.
    ///
    /// # Errors
    ///
    /// What is wrong with the stream, or the first error of `on_event`. Nothing useful can be read after either.
    pub(crate) fn feed<E: From<SseError>>(
        &mut self,
        mut chunk: &[u8],
        mut on_event: impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut line_ended = false;
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            line_ended = true;
            if self.partial.is_empty() {
                self.line(&chunk[..end], &mut on_event)?;
            } else {
                self.keep(&chunk[..end])?;
                let mut line = std::mem::take(&mut self.partial);
                self.line(&line, &mut on_event)?;
                line.clear();
                self.partial = line;
            }
            chunk = &chunk[end + 1..];
        }
        self.keep(chunk)?;
        Ok(line_ended)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        if self.partial.len() + bytes.len() > self.max_bytes {
            return Err(SseError::TooLong);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn line<E: From<SseError>>(&mut self, line: &[u8], on_event: &mut impl FnMut(&str, &str) -> Result<(), E>) -> Result<(), E> {
        if line.len() > self.max_bytes {
            return Err(SseError::TooLong.into());
        }
        let line = std::str::from_utf8(line).map_err(|_| SseError::NotUtf8)?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return self.dispatch(on_event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => self.add_data(value)?,
            "event" => value.clone_into(&mut self.event),
            // Comments (the empty field), and what vendors have no use for.
            "" | "id" | "retry" => {}
            _ => return Err(SseError::UnknownField.into()),
        }
        Ok(())
    }

    fn add_data(&mut self, value: &str) -> Result<(), SseError> {
        if self.data.len() + value.len() >= self.max_bytes {
            return Err(SseError::TooLong);
        }
        if !self.data.is_empty() {
            self.data.push('\n');
        }
        self.data.push_str(value);
        Ok(())
    }

    fn dispatch<E>(&mut self, on_event: &mut impl FnMut(&str, &str) -> Result<(), E>) -> Result<(), E> {
        let result = if self.data.is_empty() { Ok(()) } else { on_event(&self.event, &self.data) };
        self.event.clear();
        self.data.clear();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Result<Vec<(String, String)>, SseError> {
        let mut reader = SseReader::new(64);
        let mut events = Vec::new();
        for chunk in chunks {
            reader.feed(chunk, |event, data| {
                events.push((event.to_owned(), data.to_owned()));
                Ok::<_, SseError>(())
            })?;
        }
        Ok(events)
    }

    fn event(name: &str, data: &str) -> (String, String) {
        (name.into(), data.into())
    }

    const STREAM: &[u8] = "event: a\r\ndata: ä→1\r\n\r\n: hello\n\ndata:x\ndata: y\nid: 7\n\nevent: lost\n\ndata: [DONE]\n\n".as_bytes();

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let expected = vec![event("a", "ä→1"), event("", "x\ny"), event("", "[DONE]")];
        assert_eq!(read(&[STREAM]), Ok(expected.clone()));
        for at in 0..STREAM.len() {
            let (head, tail) = STREAM.split_at(at);
            assert_eq!(read(&[head, tail]), Ok(expected.clone()), "cut at {at}");
        }
        let bytes: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(read(&bytes), Ok(expected));
    }

    #[test]
    fn what_is_not_whole_is_not_passed_on() {
        assert_eq!(read(&[b"data: x\n"]), Ok(vec![]));
        assert_eq!(read(&[b"data: x"]), Ok(vec![]));
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let endless = [b"data: ".as_slice(), &[b'a'; 40], &[b'a'; 40]];
        assert_eq!(read(&endless), Err(SseError::TooLong));
        assert_eq!(read(&[&[b'a'; 100], b"\n"]), Err(SseError::TooLong));
        let many_lines = [b"data: 0123456789\n".as_slice(); 8];
        assert_eq!(read(&many_lines), Err(SseError::TooLong));
    }

    #[test]
    fn garbage_is_noticed() {
        assert_eq!(read(&[b"data: \xff\n\n"]), Err(SseError::NotUtf8));
        assert_eq!(read(&[b"<html>\n"]), Err(SseError::UnknownField));
    }
}
