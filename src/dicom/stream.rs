//! The bytes of a connection, plain or in TLS. No call waits longer than the socket's own short timeout, so that the deadlines
//! of [`super::link`] hold: rustls' own stream reads on until a whole record is there, which a peer can stretch to an hour.

use super::tls::names;
use rustls::Connection;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

/// A connected socket, with or without TLS.
pub struct Stream {
    socket: TcpStream,
    tls: Option<Box<Connection>>,
}

impl Stream {
    /// The socket's timeouts must be short.
    pub fn new(socket: TcpStream, tls: Option<Connection>) -> Self {
        Self { socket, tls: tls.map(Box::new) }
    }

    /// Makes the TLS handshake; nothing to do without TLS.
    pub fn handshake(&mut self, deadline: Instant) -> io::Result<()> {
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"));
            }
            self.push()?;
            match self.pull() {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(e) if is_wait(&e) => {}
                Err(e) => {
                    // The alert that tells the peer why.
                    let _ = self.push();
                    return Err(e);
                }
            }
        }
        self.push()
    }

    /// The names in the peer's certificate: `None` without TLS, none without a certificate.
    pub fn peer_names(&self) -> Option<Vec<String>> {
        let tls = self.tls.as_ref()?;
        Some(tls.peer_certificates().and_then(|chain| chain.first()).map_or(Vec::new(), |first| names(first)))
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        let _ = self.push();
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// One read of the socket into TLS; the bytes read, 0 at its end.
    fn pull(&mut self) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return Ok(0) };
        let n = tls.read_tls(&mut self.socket)?;
        tls.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
        Ok(n)
    }

    /// Writes what TLS has to say.
    fn push(&mut self) -> io::Result<()> {
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.wants_write()) {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

/// True for an error that only says that nothing came or went in time.
pub fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => return self.socket.read(buffer),
            Some(tls) => match tls.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            },
        }
        if self.pull()? == 0 {
            return Ok(0);
        }
        self.push()?;
        self.tls.as_mut().map_or(Ok(0), |tls| tls.reader().read(buffer))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What TLS still holds goes first: its buffer is bounded, so nothing may be accepted in front of a peer that does not read.
        self.push()?;
        let Some(tls) = &mut self.tls else { return self.socket.write(bytes) };
        let n = tls.writer().write(bytes)?;
        match self.push() {
            Err(e) if !is_wait(&e) => Err(e),
            _ => Ok(n),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}
