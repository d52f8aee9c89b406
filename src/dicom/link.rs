//! One TCP connection that carries PDUs (PS3.8), with deadlines of its own: dicom-ul's timeouts are per read, so that a byte
//! now and then holds a thread for ever.

use super::stream::{Stream, is_wait};
use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource, Pdu, read_pdu, write_pdu};
use rustls::Connection;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longest PDU that asks for or answers an association: 128 presentation contexts with dozens of transfer syntaxes fit.
const ASSOCIATE_PDU_MAX: u32 = 1 << 20;
/// Longest release or abort; they have 4 bytes.
const CONTROL_PDU_MAX: u32 = 4096;
/// A PDU's buffer grows by so much as its bytes arrive: a claim alone takes no memory.
const BODY_STEP: usize = 64 << 10;
/// How often a waiting read looks up: for the stop flag and the deadlines.
const TICK: Duration = Duration::from_millis(200);
/// Below this rate, once [`RATE_GRACE`] is over, a message is given up, bytes per second.
pub const RATE_MIN: u64 = 4096;
const RATE_GRACE: Duration = Duration::from_secs(10);

/// What came over the link.
#[derive(Debug)]
pub enum Incoming {
    /// A P-DATA-TF: (context id, is command, is last, start and end in [`Link::body`]).
    Data(Vec<Pdv>),
    /// Any other PDU.
    Control(Box<Pdu>),
    /// The caller asked to stop while nothing was under way.
    Stopped,
}

/// A presentation data value; its bytes lie in [`Link::body`].
#[derive(Debug, Clone)]
pub struct Pdv {
    /// Presentation context id.
    pub context: u8,
    /// Command or data set.
    pub command: bool,
    /// The last one of its command or data set.
    pub last: bool,
    /// Where its bytes lie.
    pub range: std::ops::Range<usize>,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nothing came for too long, or too slowly.
    #[error("the peer was silent or too slow ({0})")]
    TimedOut(&'static str),
    /// The peer closed the connection without releasing the association.
    #[error("the peer closed the connection")]
    Closed,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// Bytes that are no PDU, or one that is too long.
    #[error("the peer sent bytes that are no acceptable PDU: {0}")]
    Pdu(String),
}

/// A connection with deadlines.
pub struct Link {
    stream: Stream,
    idle: Duration,
    pdu_max: u32,
    body: Vec<u8>,
    /// When the current message began, and its bytes so far: for the minimum rate.
    message: Option<(Instant, u64)>,
}

impl Link {
    /// Takes a connected socket. Sets TCP_NODELAY first: without it each association loses 40 ms per exchange (dicom.md section 1).
    pub fn new(socket: TcpStream, tls: Option<Connection>, idle: Duration, pdu_max: u32) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TICK))?;
        socket.set_write_timeout(Some(TICK))?;
        Ok(Self { stream: Stream::new(socket, tls), idle, pdu_max, body: Vec::new(), message: None })
    }

    /// Makes the TLS handshake, if there is TLS.
    pub fn handshake(&mut self, deadline: Instant) -> io::Result<()> {
        self.stream.handshake(deadline)
    }

    /// The names in the peer's certificate; `None` without TLS.
    pub fn peer_names(&self) -> Option<Vec<String>> {
        self.stream.peer_names()
    }

    /// Bytes of the last P-DATA; [`Pdv::range`] points into them.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// A message begins: from now on the minimum rate counts.
    pub fn message_begins(&mut self) {
        self.message.get_or_insert((Instant::now(), 0));
    }

    /// The message is complete: waiting is allowed again, up to the idle deadline.
    pub fn message_ends(&mut self) {
        self.message = None;
    }

    /// The next PDU. `stop` is asked while nothing has arrived of it and no message is under way. `deadline` overrides idle time.
    pub fn receive(&mut self, deadline: Option<Instant>, stop: &dyn Fn() -> bool) -> Result<Incoming, LinkError> {
        let mut head = [0; 6];
        if !self.fill(Target::Head(&mut head), deadline, stop)? {
            return Ok(Incoming::Stopped);
        }
        let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        let limit = match head[0] {
            4 => self.pdu_max,
            1..=3 => ASSOCIATE_PDU_MAX,
            _ => CONTROL_PDU_MAX,
        };
        if length > limit {
            return Err(LinkError::Pdu(format!("a PDU of {length} bytes, at most {limit} were agreed")));
        }
        let mut from = 0;
        while from < length as usize {
            let end = (length as usize).min(from + BODY_STEP);
            // Bytes beyond `length` of a longer PDU before are cut off below.
            if self.body.len() < end {
                self.body.resize(end, 0);
            }
            self.fill(Target::Body(from..end), deadline, stop)?;
            if let Some((_, bytes)) = &mut self.message {
                *bytes += (end - from) as u64;
            }
            from = end;
        }
        self.body.truncate(length as usize);
        if head[0] == 4 {
            return Ok(Incoming::Data(split_pdvs(&self.body)?));
        }
        let whole = [&head[..], &self.body].concat();
        match read_pdu(&whole[..], ASSOCIATE_PDU_MAX, true) {
            Ok(Some(pdu)) => Ok(Incoming::Control(Box::new(pdu))),
            Ok(None) => Err(LinkError::Pdu("an item that is cut short".into())),
            Err(error) => Err(LinkError::Pdu(error.to_string())),
        }
    }

    /// Fills a buffer under the deadlines; false when stopped before the first byte of a PDU.
    fn fill(
        &mut self,
        target: Target<'_>,
        deadline: Option<Instant>,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        let is_head = matches!(target, Target::Head(_));
        let buffer: &mut [u8] = match target {
            Target::Head(head) => head,
            Target::Body(range) => &mut self.body[range],
        };
        let mut filled = 0;
        let mut last_byte = Instant::now();
        let begun = last_byte;
        while filled < buffer.len() {
            let now = Instant::now();
            if deadline.is_some_and(|d| now > d) {
                return Err(LinkError::TimedOut("deadline"));
            }
            // A PDU that trickles in is as bad as silence: it has the idle time as a whole, and a message its minimum rate.
            if now.duration_since(last_byte) > self.idle
                || ((!is_head || filled > 0) && now.duration_since(begun) > self.idle)
            {
                return Err(LinkError::TimedOut("idle"));
            }
            if let Some((start, bytes)) = self.message {
                let age = now.duration_since(start);
                if age > RATE_GRACE && bytes + (filled as u64) < RATE_MIN * (age - RATE_GRACE).as_secs() {
                    return Err(LinkError::TimedOut("minimum rate"));
                }
            } else if is_head && filled == 0 && stop() {
                return Ok(false);
            }
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(n) => {
                    filled += n;
                    last_byte = Instant::now();
                }
                Err(e) if is_wait(&e) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(LinkError::Closed),
                Err(e) => return Err(LinkError::Io(e)),
            }
        }
        Ok(true)
    }

    /// Sends a control PDU.
    pub fn send(&mut self, pdu: &Pdu) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).map_err(|e| LinkError::Pdu(e.to_string()))?;
        self.write(&bytes)
    }

    /// Writes all bytes under the deadlines: a peer that reads a byte now and then is as bad as one that sends so.
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), LinkError> {
        let limit = self.idle + Duration::from_secs(bytes.len() as u64 / RATE_MIN);
        let begun = Instant::now();
        loop {
            let written = if bytes.is_empty() { self.stream.flush().map(|()| 0) } else { self.stream.write(bytes) };
            match written {
                Ok(0) if bytes.is_empty() => return Ok(()),
                Ok(0) => return Err(LinkError::Closed),
                Ok(n) => bytes = &bytes[n..],
                Err(e) if is_wait(&e) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                    return Err(LinkError::Closed);
                }
                Err(e) => return Err(LinkError::Io(e)),
            }
            if begun.elapsed() > limit {
                return Err(LinkError::TimedOut("writing"));
            }
        }
    }

    /// Sends a command set or a data set as P-DATA-TFs of at most `pdu_max` bytes each (the peer's limit).
    pub fn send_data(&mut self, context: u8, command: bool, bytes: &[u8], pdu_max: u32) -> Result<(), LinkError> {
        let chunk = (pdu_max.clamp(1024, 1 << 20) as usize - 6) & !1;
        let mut pdu = Vec::with_capacity(chunk.min(bytes.len()) + 12);
        let mut rest = bytes;
        loop {
            let (part, after) = rest.split_at(rest.len().min(chunk));
            let flags = u8::from(command) | u8::from(after.is_empty()) << 1;
            pdu.clear();
            pdu.extend([4, 0]);
            pdu.extend((part.len() as u32 + 6).to_be_bytes());
            pdu.extend((part.len() as u32 + 2).to_be_bytes());
            pdu.extend([context, flags]);
            pdu.extend_from_slice(part);
            self.write(&pdu)?;
            rest = after;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Says A-ABORT as far as the peer still listens, and closes.
    pub fn abort(mut self) {
        let reason = AbortRQServiceProviderReason::ReasonNotSpecified;
        let _ = self.send(&Pdu::AbortRQ { source: AbortRQSource::ServiceProvider(reason) });
        self.close();
    }

    /// Closes after the last PDU; reads what the peer still has under way for a moment, so that a reset does not eat that PDU.
    pub fn close(mut self) {
        self.stream.finish();
        let mut sink = [0; 4096];
        for _ in 0..8 {
            if !matches!(self.stream.read(&mut sink), Ok(n) if n > 0) {
                return;
            }
        }
    }
}

enum Target<'a> {
    Head(&'a mut [u8]),
    Body(std::ops::Range<usize>),
}

/// The PDVs of a P-DATA-TF body (PS3.8 9.3.5).
fn split_pdvs(body: &[u8]) -> Result<Vec<Pdv>, LinkError> {
    let mut pdvs = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let head: Option<[u8; 6]> = body.get(at..at + 6).and_then(|h| h.try_into().ok());
        let Some([a, b, c, d, context, flags]) = head else {
            return Err(LinkError::Pdu("a PDV without its header".into()));
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 2 || length > body.len() - at - 4 {
            return Err(LinkError::Pdu("a PDV longer than its PDU".into()));
        }
        pdvs.push(Pdv { context, command: flags & 1 != 0, last: flags & 2 != 0, range: at + 6..at + 4 + length });
        at += 4 + length;
    }
    Ok(pdvs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pdvs_are_split_and_lengths_checked() {
        let body = [0, 0, 0, 4, 1, 3, 9, 9, 0, 0, 0, 2, 1, 0];
        let pdvs = split_pdvs(&body).unwrap();
        assert_eq!((pdvs[0].command, pdvs[0].last, pdvs[0].range.clone()), (true, true, 6..8));
        assert_eq!((pdvs[1].command, pdvs[1].last, pdvs[1].range.clone()), (false, false, 14..14));
        assert!(split_pdvs(&[0, 0, 0, 9, 1, 0]).is_err());
        assert!(split_pdvs(&[0, 0]).is_err());
        assert!(split_pdvs(&[0, 0, 0, 1, 1, 0]).is_err());
    }
}
