//! A WebSocket for measuring: no buffers of its own, frames looked at where they were read, nothing parsed that is not asked for.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// Bytes read at once. Shared by all sockets of a thread.
pub const SCRATCH_BYTES: usize = 256 * 1024;

/// One socket. Not made for peers that mean harm: only hubs and bare servers started here are on the other end.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// The beginning of a frame whose end has not come.
    carry: Mutex<Vec<u8>>,
}

/// Where to connect, and from where.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The server.
    pub address: SocketAddr,
    /// As in the `Host` header.
    pub host: String,
    /// The address to come from; the system's choice otherwise. One address has no more than 28,000 ports.
    pub source: Option<Ipv4Addr>,
    /// `SO_RCVBUF`; the system's choice otherwise.
    pub receive_buffer: Option<u32>,
}

impl Dial {
    /// Without wishes.
    pub fn to(address: SocketAddr) -> Self {
        Self { address, host: "localhost".to_owned(), source: None, receive_buffer: None }
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody answers, or there is no port or file left.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The `index`-th of so many source addresses, 127.0.0.2 and up; none for servers that are not on this machine.
pub fn source(index: usize, sources: u8, server: IpAddr) -> Option<Ipv4Addr> {
    let last = u8::try_from(index % usize::from(sources.max(1))).unwrap_or(0).saturating_add(2);
    (sources > 0 && server.is_loopback() && server.is_ipv4()).then(|| Ipv4Addr::new(127, 0, 0, last))
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// There is nothing just now.
    Nothing,
    /// The peer has closed, with this code if it said one.
    Closed(Option<u16>),
}

impl Wire {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// No connection, or no upgrade.
    pub async fn connect(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        Self::upgrade(stream, token).await
    }

    /// Connects to a hub and shakes hands, offering the protocol.
    ///
    /// # Errors
    /// No connection, or no upgrade.
    pub async fn dial(dial: &Dial, token: &str) -> anyhow::Result<Self> {
        let stream = dial.connect().await.context("connecting")?;
        let headers = format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: agent-hub.v1\r\n");
        Self::upgrade_at(stream, &dial.host, "/ws/agents", &headers).await
    }

    /// Shakes hands over a connection.
    ///
    /// # Errors
    /// No upgrade.
    pub async fn upgrade(stream: TcpStream, token: &str) -> anyhow::Result<Self> {
        Self::upgrade_at(stream, "localhost", "/ws/agents", &format!("Authorization: Bearer {token}\r\n")).await
    }

    /// The same at any path, with any headers, each ended by CR LF.
    ///
    /// # Errors
    /// No upgrade.
    pub async fn upgrade_at(mut stream: TcpStream, host: &str, path: &str, headers: &str) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::with_capacity(512);
        let end = loop {
            if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if answer.len() > 16 * 1024 || stream.read_buf(&mut answer).await? == 0 {
                bail!("no handshake: {:?}", String::from_utf8_lossy(&answer));
            }
        };
        if !answer.starts_with(b"HTTP/1.1 101") {
            bail!("the handshake was refused: {}", String::from_utf8_lossy(&answer));
        }
        // Frames may have come with it.
        let carry = Mutex::new(answer.split_off(end));
        Ok(Self { stream, carry })
    }

    /// Sends a text frame, waiting for room.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&self, text: &str) -> io::Result<()> {
        let frame = masked(0x81, text.as_bytes());
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a short text frame if there is room for it.
    pub fn try_send(&self, text: &str) {
        // No room, or broken: whoever waits for it finds out.
        let _ = self.stream.try_write(&masked(0x81, text.as_bytes()));
    }

    /// Says goodbye with a close frame. What the peer still says is not read.
    pub fn close(self) {
        // Full or broken: then there is no goodbye.
        let _ = self.stream.try_write(&masked(0x88, &1000_u16.to_be_bytes()));
    }

    /// Breaks the connection with a TCP reset.
    pub fn reset(self) {
        // Without it the end is a polite one, which is a break too.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Breaks the connection with a TCP reset, after half of a command was written and half of a frame was read.
    pub fn break_mid_frame(self) {
        let half = masked(0x81, br#"{"type":"ping","id":"never finished"}"#);
        // Three bytes are more than a frame's head and less than any frame.
        let (_, _) = (self.stream.try_write(&half[..half.len() / 2]), self.stream.try_read(&mut [0; 3]));
        self.reset();
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// The runtime is going away.
    pub async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Reads once and hands out the text frames that are whole.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn try_read(&self, scratch: &mut [u8], mut on_text: impl FnMut(&[u8])) -> io::Result<Read> {
        let mut carry = self.carry.lock().unwrap_or_else(PoisonError::into_inner);
        let read = match self.stream.try_read(scratch) {
            Ok(0) => return Ok(Read::Closed(None)),
            Ok(read) => read,
            // What came with the handshake is only in the carry.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && carry.is_empty() => return Ok(Read::Nothing),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let taken = if carry.is_empty() {
            let taken = self.frames(&scratch[..read], &mut on_text);
            if let Ok(used) = taken {
                carry.extend_from_slice(&scratch[used..read]);
            }
            taken
        } else {
            carry.extend_from_slice(&scratch[..read]);
            let taken = self.frames(&carry, &mut on_text);
            if let Ok(used) = taken {
                carry.drain(..used);
            }
            taken
        };
        if carry.is_empty() && carry.capacity() > 4096 {
            *carry = Vec::new();
        }
        Ok(match taken {
            Err(code) => Read::Closed(code),
            Ok(_) if read == 0 => Read::Nothing,
            Ok(_) => Read::Bytes(read),
        })
    }

    /// Takes whole frames off the front; says how many bytes they had, or that the peer closes.
    fn frames(&self, bytes: &[u8], on_text: &mut impl FnMut(&[u8])) -> Result<usize, Option<u16>> {
        let mut at = 0;
        while let Some((opcode, start, end)) = frame_at(bytes, at) {
            let payload = &bytes[start..end];
            match opcode {
                1 => on_text(payload),
                8 => return Err(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
                // A pong is short: either it fits, or the socket is so full that the ping has been answered by everything else.
                9 => drop(self.stream.try_write(&masked(0x8A, payload))),
                _ => {}
            }
            at = end;
        }
        Ok(at)
    }

    /// Reads until a text frame satisfies `wanted`; others are passed over.
    ///
    /// # Errors
    /// The connection ended first.
    pub async fn until(&self, wanted: impl Fn(&[u8]) -> bool) -> anyhow::Result<()> {
        // Thousands wait here at once.
        let mut scratch = vec![0; 4 * 1024];
        let mut found = false;
        loop {
            match self.try_read(&mut scratch, |text| found |= wanted(text))? {
                _ if found => return Ok(()),
                Read::Closed(code) => bail!("the connection was closed ({code:?})"),
                Read::Bytes(_) => {}
                Read::Nothing => self.readable().await?,
            }
        }
    }
}

/// Opcode, start and end of the frame that begins at `at`, if it is whole. Servers do not mask.
fn frame_at(bytes: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let head = bytes.get(at..at + 2)?;
    let (header, len) = match head[1] & 0x7F {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(at + 2..)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*bytes.get(at + 2..)?.first_chunk()?)).ok()?),
        len => (2, usize::from(len)),
    };
    let (start, end) = (at + header, at.checked_add(header)?.checked_add(len)?);
    (end <= bytes.len()).then_some((head[0] & 0x0F, start, end))
}

/// A client's frame. The mask is all zeros, which is a mask like any other.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(first);
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// What a frame is about, as far as a socket that counts has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The type.
    pub kind: &'a [u8],
    /// The session, if it names one.
    pub session: Option<&'a [u8]>,
    /// The task, if it names one.
    pub task: Option<&'a [u8]>,
    /// The number.
    pub seq: Option<u64>,
    /// Whether it stands in the log: only events have a time.
    pub is_event: bool,
}

/// Reads a frame's beginning without a parser. The hub writes the fields in one order; `None` for frames that
/// are written otherwise, or that have no number.
pub fn head(frame: &[u8]) -> Option<Head<'_>> {
    let (kind, mut rest) = quoted(frame, br#"{"type":""#)?;
    let mut head = Head { kind, session: None, task: None, seq: None, is_event: false };
    if let Some((session, after)) = quoted(rest, br#","sessionId":""#) {
        (head.session, rest) = (Some(session), after);
    }
    if let Some((task, after)) = quoted(rest, br#","taskId":""#) {
        (head.task, rest) = (Some(task), after);
    }
    let digits = rest.strip_prefix(br#","seq":"#)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    head.seq = digits[..end].iter().try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    head.is_event = digits[end..].starts_with(br#","at":""#);
    Some(head)
}

/// A text without escapes behind `before`, and what comes after its closing quote.
fn quoted<'a>(bytes: &'a [u8], before: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let rest = bytes.strip_prefix(before)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    Some((&rest[..end], &rest[end + 1..]))
}

/// The text of a `token` event as it stands on the wire; `None` for any other frame. The hub writes the fields of an event in one order,
/// and `token` before `messageId`.
pub fn token_text(frame: &[u8]) -> Option<&[u8]> {
    let rest = frame.strip_prefix(br#"{"type":"token","#)?;
    let data = rest.iter().position(|byte| *byte == b'{')?;
    let text = rest[data..].strip_prefix(br#"{"token":""#)?;
    let end = text.iter().rposition(|byte| *byte == b',')?;
    text.get(..end.checked_sub(1)?)
}

/// Model tokens in a token text. Those of the demo provider, of the fake vendor and of the bare server all end with one space.
pub fn tokens_in(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b' ').count() as u64
}

/// The stamps in a token text: nanoseconds since 1970.
pub fn stamps_in(text: &[u8]) -> impl Iterator<Item = u64> {
    text.split(|byte| *byte == b' ').filter_map(|digits| {
        let all = digits.len() == 19 && digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    })
}

/// Nanoseconds since 1970, by the clock the stamps are made with.
pub fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A whole number behind `"name":` at the top of a frame.
pub fn number_field(frame: &[u8], name: &str) -> Option<u64> {
    let name = format!("\"{name}\":");
    let at = frame.windows(name.len()).position(|window| window == name.as_bytes())? + name.len();
    let digits = frame[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let mut number = None;
    for digit in digits {
        number = Some(number.unwrap_or(0) * 10 + u64::from(digit - b'0'));
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[u8] = br#"{"type":"token","sessionId":"7b0c8a3e-4f5d-4d7a-9a51-2f6f0c1d9e10","taskId":"c1d2e3f4-0a1b-4c2d-8e3f-405162738495","seq":7,"at":"2026-11-20T14:02:07.259Z","data":{"token":"1763647327259000000 1763647327259000001 on, ","messageId":"m2"}}"#;

    #[test]
    fn token_events_are_read_without_a_parser() {
        let text = token_text(TOKEN).expect("a token");
        assert_eq!(text, b"1763647327259000000 1763647327259000001 on, ");
        assert_eq!(tokens_in(text), 3);
        assert_eq!(stamps_in(text).collect::<Vec<_>>(), [1_763_647_327_259_000_000, 1_763_647_327_259_000_001]);
        assert_eq!(number_field(TOKEN, "seq"), Some(7));
        assert_eq!(token_text(br#"{"type":"message","data":{"token":"a","messageId":"m2"}}"#), None);
    }

    #[test]
    fn heads_are_read_without_a_parser() {
        let found = head(TOKEN).expect("an event");
        assert_eq!((found.kind, found.seq, found.is_event), (&b"token"[..], Some(7), true));
        assert_eq!(found.session, Some(&b"7b0c8a3e-4f5d-4d7a-9a51-2f6f0c1d9e10"[..]));
        assert_eq!(found.task, Some(&b"c1d2e3f4-0a1b-4c2d-8e3f-405162738495"[..]));
        let caught_up = head(br#"{"type":"caught_up","sessionId":"a","seq":4}"#).expect("a number");
        assert_eq!((caught_up.seq, caught_up.is_event), (Some(4), false));
        assert_eq!(head(br#"{"type":"ack","id":9,"received":"ping"}"#), None);
        assert_eq!(head(br#"{"seq":1,"type":"token"}"#), None);
    }

    #[test]
    fn sources_are_loopback_addresses_and_only_for_loopback() {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(source(5, 4, here), Some(Ipv4Addr::new(127, 0, 0, 3)));
        assert_eq!(source(5, 0, here), None);
        assert_eq!(source(5, 4, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))), None);
    }

    #[test]
    fn frames_of_every_length_are_cut_where_they_end() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let mut frame = masked(0x81, &vec![b'x'; len]);
            // As a server would send it.
            let mask = frame.len() - len - 4;
            frame.drain(mask..mask + 4);
            frame[1] &= 0x7F;
            assert_eq!(frame_at(&frame, 0), Some((1, frame.len() - len, frame.len())), "{len}");
            assert_eq!(frame_at(&frame[..frame.len() - 1], 0), None, "{len}");
        }
    }
}
