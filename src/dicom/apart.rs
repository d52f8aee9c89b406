//! Compressed frames are decoded in processes of their own: a codec that loops, aborts or asks for all memory ends its
//! process and nothing else. One request and one answer at a time go over a socket pair; the process is the program
//! itself under a hidden command.

use super::PixelFormat;
use super::pixels::{PixelFault, decode_frame};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The program's hidden command that becomes [`decode_frames`].
pub const DECODE_COMMAND: &str = "decode-frames";
/// Address space of a decoder, the program's own 100 MiB included.
const MEMORY_MB_MAX: u64 = 768;
/// A 512 x 512 slice takes 35 ms.
const FRAME_TIME_MAX: Duration = Duration::from_secs(20);
/// Largest compressed frame and largest decoded one.
const FRAME_BYTES_MAX: usize = 128 << 20;
/// Frames that failed in one process before it is replaced: a codec that reported an error may have leaked.
const FAILURES_MAX: u32 = 8;

/// Where compressed frames are decoded.
#[derive(Debug)]
pub enum Decoder {
    /// In this process: for tests and for data that is trusted.
    Here,
    /// In processes of a program that knows [`DECODE_COMMAND`].
    Apart(Workers),
}

/// Decoder processes, started when they are needed and kept until this is dropped.
#[derive(Debug)]
pub struct Workers {
    program: PathBuf,
    /// Time for one frame.
    patience: Duration,
    idle: Mutex<Vec<Worker>>,
}

impl Decoder {
    /// Decodes in processes of `program`.
    pub fn apart(program: &Path) -> Self {
        Self::Apart(Workers { program: program.into(), patience: FRAME_TIME_MAX, idle: Mutex::default() })
    }

    /// Decodes in processes of the running program, which must be `metwatch`.
    pub fn of_this_program() -> io::Result<Self> {
        std::env::current_exe().map(|program| Self::apart(&program))
    }

    /// One frame: pixels of one or two bytes, little endian.
    pub(super) fn decode(&self, frame: &[u8], format: &PixelFormat, syntax: &str) -> Result<Vec<u8>, PixelFault> {
        match self {
            Self::Here => decode_frame(frame, format, syntax).ok_or(PixelFault::Decode),
            Self::Apart(workers) => workers.decode(&request(frame, format, syntax)?),
        }
    }
}

impl Workers {
    fn decode(&self, request: &[u8]) -> Result<Vec<u8>, PixelFault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => Worker::start(&self.program).map_err(|e| PixelFault::NoDecoder(e.kind()))?,
        };
        // A worker that did not answer is dropped, and ended by that.
        let decoded = worker.ask(request, self.patience)?;
        worker.failures += u32::from(decoded.is_none());
        if worker.failures < FAILURES_MAX {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
        decoded.ok_or(PixelFault::Decode)
    }
}

#[derive(Debug)]
struct Worker {
    process: Child,
    line: UnixStream,
    failures: u32,
}

impl Worker {
    fn start(program: &Path) -> io::Result<Self> {
        let (line, theirs) = UnixStream::pair()?;
        // The shell sets the limit and becomes the program; setting it here would take unsafe code.
        let script = format!("ulimit -c 0 && ulimit -v {} && exec \"$0\" {DECODE_COMMAND}", MEMORY_MB_MAX << 10);
        let process = Command::new("/bin/sh")
            .args(["-c", &script])
            .arg(program)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, line, failures: 0 })
    }

    /// One frame there and back; `None`: the frame is damaged.
    fn ask(&mut self, request: &[u8], patience: Duration) -> Result<Option<Vec<u8>>, PixelFault> {
        let answer = self.exchange(request, patience);
        answer.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => PixelFault::Ended("took too long and was ended"),
            _ => PixelFault::Ended("ended, or needed more memory than it may have"),
        })
    }

    fn exchange(&mut self, request: &[u8], patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let until = Instant::now() + patience;
        self.line.set_write_timeout(Some(patience))?;
        self.line.write_all(&(request.len() as u32).to_le_bytes())?;
        self.line.write_all(request)?;
        let mut head = [0; 4];
        self.read(&mut head, until)?;
        let length = u32::from_le_bytes(head) as usize;
        if length == 0 {
            return Ok(None);
        }
        if length > FRAME_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut decoded = vec![0; length];
        self.read(&mut decoded, until)?;
        Ok(Some(decoded))
    }

    /// Fills `bytes` or fails; never waits beyond `until`.
    fn read(&mut self, mut bytes: &mut [u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.line.set_read_timeout(Some(left))?;
            match self.line.read(bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => bytes = &mut bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself; waiting takes its number back from the system in any case.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a decoder needs to know: the numbers of the format, the length of the syntax's UID, the UID, the frame.
fn request(frame: &[u8], format: &PixelFormat, syntax: &str) -> Result<Vec<u8>, PixelFault> {
    if frame.len() > FRAME_BYTES_MAX || syntax.len() > 64 {
        return Err(PixelFault::Ended("is given no frame of this size"));
    }
    let mut out = Vec::with_capacity(frame.len() + 80);
    for number in [format.rows, format.columns, format.bits_allocated, format.bits_stored, format.high_bit] {
        out.extend(number.to_le_bytes());
    }
    out.extend([u8::from(format.signed), syntax.len() as u8]);
    out.extend(syntax.as_bytes());
    out.extend(frame);
    Ok(out)
}

fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let number = |at: usize| Some(u16::from_le_bytes([*request.get(2 * at)?, *request.get(2 * at + 1)?]));
    let format = PixelFormat {
        rows: number(0)?,
        columns: number(1)?,
        frames: 1,
        samples: 1,
        photometric: "MONOCHROME2".into(),
        bits_allocated: number(2)?,
        bits_stored: number(3)?,
        high_bit: number(4)?,
        signed: *request.get(10)? == 1,
        present: true,
        ..PixelFormat::default()
    };
    let end = 12 + usize::from(*request.get(11)?);
    let syntax = std::str::from_utf8(request.get(12..end)?).ok()?;
    decode_frame(request.get(end..)?, &format, syntax)
}

/// The decoder's side: answers requests until the other side closes.
pub fn decode_frames(mut requests: impl Read, mut answers: impl Write) -> io::Result<()> {
    // What a codec says while it panics is of no use to anybody: the answer tells.
    std::panic::set_hook(Box::new(|_| ()));
    loop {
        let mut head = [0; 4];
        match requests.read_exact(&mut head) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let length = u32::from_le_bytes(head) as usize;
        if length > FRAME_BYTES_MAX + 80 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut request = vec![0; length];
        requests.read_exact(&mut request)?;
        let decoded = answer(&request).filter(|d| d.len() <= FRAME_BYTES_MAX).unwrap_or_default();
        answers.write_all(&(decoded.len() as u32).to_le_bytes())?;
        answers.write_all(&decoded)?;
        answers.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::syntax;

    #[test]
    fn a_frame_goes_there_and_back_and_damage_is_an_empty_answer() {
        let format = PixelFormat { rows: 1, columns: 2, bits_allocated: 16, bits_stored: 16, ..Default::default() };
        let mut frame = vec![0; 64];
        (frame[0], frame[4], frame[8]) = (2, 64, 67);
        frame.extend([1, 0x12, 0x34, 1, 0x56, 0x78]);
        let framed = |frame: &[u8]| {
            let request = request(frame, &format, syntax::RLE).unwrap();
            [&(request.len() as u32).to_le_bytes()[..], &request].concat()
        };
        let mut answers = Vec::new();
        decode_frames(&[framed(&frame), framed(&frame[..66])].concat()[..], &mut answers).unwrap();
        assert_eq!(answers, [4, 0, 0, 0, 0x56, 0x12, 0x78, 0x34, 0, 0, 0, 0]);
        assert!(decode_frames(&[0xFF; 8][..], Vec::new()).is_err());
    }

    #[test]
    fn a_decoder_that_ends_or_is_missing_is_a_fault_of_its_frame() {
        let format = PixelFormat { rows: 1, columns: 1, bits_allocated: 16, bits_stored: 16, ..Default::default() };
        let decode = |program: &str| Decoder::apart(Path::new(program)).decode(&[0; 8], &format, syntax::RLE);
        assert!(matches!(decode("/bin/true"), Err(PixelFault::Ended(_))));
        assert!(matches!(decode("/nonexistent/metwatch"), Err(PixelFault::Ended(_))));
    }

    /// A decoder that hangs is ended in time, and it has a limit of memory: without one this script ends by itself.
    #[test]
    fn a_decoder_has_limits_of_time_and_memory() {
        let script = std::env::temp_dir().join(format!("metwatch-hangs-{}", std::process::id()));
        let text = format!("#!/bin/sh\n[ \"$(ulimit -v)\" = {} ] && exec sleep 30\n", MEMORY_MB_MAX << 10);
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let workers = Workers { program: script.clone(), patience: Duration::from_millis(500), idle: Mutex::default() };
        assert_eq!(workers.decode(&[0; 12]), Err(PixelFault::Ended("took too long and was ended")));
        std::fs::remove_file(script).unwrap();
    }
}
