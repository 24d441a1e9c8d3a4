//! Bytes of a capture, in order, with the place where they are.

use std::fs::File;
use std::io::{self, BufReader, Read, Stdin};
use std::path::Path;

use super::error::Problem;

/// How much is asked of the system at a time, and how far a length is believed before the bytes are there.
const CHUNK: usize = 64 * 1024;

/// A file or standard input, opened by [`CaptureReader::open`](super::CaptureReader::open).
#[derive(Debug)]
pub struct CaptureInput(Source);

#[derive(Debug)]
enum Source {
    File(File),
    Stdin(Stdin),
}

impl CaptureInput {
    /// Opens a file; `-` is standard input.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(if path.as_os_str() == "-" { Source::Stdin(io::stdin()) } else { Source::File(File::open(path)?) }))
    }
}

impl Read for CaptureInput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::File(file) => file.read(buf),
            Source::Stdin(stdin) => stdin.read(buf),
        }
    }
}

/// Reads parts of records, and counts.
pub(crate) struct Input<R> {
    inner: BufReader<R>,
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner: BufReader::with_capacity(CHUNK, inner), offset: 0 }
    }

    /// Bytes read so far.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills `buf`, or says that the input has ended just before it (`false`).
    pub(crate) fn start(&mut self, buf: &mut [u8], what: &'static str) -> Result<bool, Problem> {
        match self.fill(buf)? {
            0 if !buf.is_empty() => Ok(false),
            found if found == buf.len() => Ok(true),
            found => Err(Problem::Truncated { what, needed: buf.len() as u64, found: found as u64 }),
        }
    }

    /// Fills `buf`.
    pub(crate) fn exact(&mut self, buf: &mut [u8], what: &'static str) -> Result<(), Problem> {
        if self.start(buf, what)? { Ok(()) } else { Err(Problem::Truncated { what, needed: buf.len() as u64, found: 0 }) }
    }

    /// Puts `len` bytes into `body` in place of what it holds. Memory is asked for as the bytes come, not as the length promises.
    pub(crate) fn body(&mut self, body: &mut Vec<u8>, len: usize, what: &'static str) -> Result<(), Problem> {
        body.clear();
        while body.len() < len {
            let have = body.len();
            body.resize(len.min(have + CHUNK), 0);
            let found = self.fill(&mut body[have..])?;
            if have + found < body.len() {
                return Err(Problem::Truncated { what, needed: len as u64, found: (have + found) as u64 });
            }
        }
        Ok(())
    }

    /// Reads past `len` bytes.
    pub(crate) fn skip(&mut self, len: u64, what: &'static str) -> Result<(), Problem> {
        let mut skipped = 0;
        while skipped < len {
            let found = match io::copy(&mut (&mut self.inner).take(len - skipped), &mut io::sink()) {
                Ok(found) => found,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Problem::Io { action: "read", source }),
            };
            skipped += found;
            self.offset += found;
            if found == 0 {
                return Err(Problem::Truncated { what, needed: len, found: skipped });
            }
        }
        Ok(())
    }

    /// Reads until `buf` is full or the input ends.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, Problem> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Problem::Io { action: "read", source }),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }
}
