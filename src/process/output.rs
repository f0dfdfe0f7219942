//! Output files. A file keeps the beginning and the end of a stream of any length, without secrets,
//! in constant memory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::redact::{RedactionStream, Redactor};

/// The size of one read.
const CHUNK: usize = 64 * 1024;
/// The largest number of reads in one turn.
const READS_PER_TURN: usize = 16;

/// The result of reading from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    /// Nothing was available.
    Nothing,
    /// This many bytes were read, and there may be more.
    Some(usize),
    /// The other end is closed.
    Closed,
}

/// A file that keeps three quarters of its capacity from the beginning of a stream and the last
/// quarter from its end.
#[derive(Debug)]
pub(super) struct OutputFile {
    file: File,
    redaction: RedactionStream,
    /// A buffer for redacted output.
    clean: Vec<u8>,
    /// The number of bytes that arrived, before redaction.
    received: u64,
    /// The number of bytes that the head can still take.
    head_left: u64,
    /// The number of bytes in the head.
    head: u64,
    tail: Vec<u8>,
    tail_cap: usize,
    /// The index of the oldest byte in a full tail.
    oldest: usize,
    /// The number of bytes after redaction.
    total: u64,
    failed: Option<io::Error>,
}

impl OutputFile {
    /// Creates or truncates the file. At most `cap` bytes of the stream are kept.
    pub(super) fn create(path: &Path, cap: u64, redactor: &Redactor) -> io::Result<Self> {
        let tail_cap = usize::try_from(cap / 4).unwrap_or(usize::MAX);
        Ok(Self {
            file: File::create(path)?,
            redaction: redactor.stream(),
            clean: Vec::new(),
            received: 0,
            head_left: cap - tail_cap as u64,
            head: 0,
            tail: Vec::new(),
            tail_cap,
            oldest: 0,
            total: 0,
            failed: None,
        })
    }

    /// Reads the available bytes of a non-blocking stream, at most [`READS_PER_TURN`] chunks, and
    /// passes them to `observe` unredacted.
    pub(super) fn drain(
        &mut self,
        from: &mut impl Read,
        observe: &mut impl FnMut(&[u8]),
    ) -> io::Result<Drained> {
        let mut chunk = [0; CHUNK];
        let mut read = 0;
        for _ in 0..READS_PER_TURN {
            match from.read(&mut chunk) {
                Ok(0) => {
                    return Ok(if read == 0 { Drained::Closed } else { Drained::Some(read) });
                }
                Ok(n) => {
                    self.take(&chunk[..n]);
                    observe(&chunk[..n]);
                    read += n;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(if read == 0 { Drained::Nothing } else { Drained::Some(read) })
    }

    fn take(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        let mut clean = std::mem::take(&mut self.clean);
        self.redaction.push(bytes, &mut clean);
        self.add(&clean);
        clean.clear();
        self.clean = clean;
    }

    /// Adds redacted bytes. A disk error is reported only by [`finish`](Self::finish): the stream
    /// must be drained until then, or its writer would hang.
    fn add(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let fits = usize::try_from(self.head_left).unwrap_or(usize::MAX).min(bytes.len());
        let (head, rest) = bytes.split_at(fits);
        if !head.is_empty() {
            self.head_left -= head.len() as u64;
            self.head += head.len() as u64;
            self.write(head);
        }
        self.add_to_tail(rest);
    }

    fn add_to_tail(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.tail_cap)..];
        let grows = (self.tail_cap - self.tail.len()).min(bytes.len());
        let (new, mut over) = bytes.split_at(grows);
        self.tail.extend_from_slice(new);
        while !over.is_empty() {
            let run = (self.tail_cap - self.oldest).min(over.len());
            self.tail[self.oldest..self.oldest + run].copy_from_slice(&over[..run]);
            self.oldest = (self.oldest + run) % self.tail_cap;
            over = &over[run..];
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.file.write_all(bytes).err();
        }
    }

    /// Writes the tail. Returns the number of bytes that arrived and the number of bytes in the
    /// file.
    pub(super) fn finish(mut self) -> io::Result<(u64, u64)> {
        let mut clean = std::mem::take(&mut self.clean);
        self.redaction.finish(&mut clean);
        self.add(&clean);
        let kept = self.head + self.tail.len() as u64;
        if kept < self.total {
            let gap = format!("\n[git-harness: {} bytes left out]\n", self.total - kept);
            self.write(gap.as_bytes());
        }
        let mut tail = std::mem::take(&mut self.tail);
        tail.rotate_left(self.oldest);
        self.write(&tail);
        self.failed.map_or(Ok((self.received, kept)), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the file and the counts for a stream of repeated digits, written in pieces of `step`
    /// bytes.
    fn kept(length: usize, cap: u64, step: usize) -> (String, (u64, u64)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let nothing = Redactor::new::<&str>(&[]).unwrap();
        let mut kept = OutputFile::create(&path, cap, &nothing).unwrap();
        let text: Vec<u8> = (0..length).map(|at| b"0123456789"[at % 10]).collect();
        for mut piece in text.chunks(step) {
            kept.drain(&mut piece, &mut |_| {}).unwrap();
        }
        let counts = kept.finish().unwrap();
        (std::fs::read_to_string(&path).unwrap(), counts)
    }

    #[test]
    fn output_within_the_cap_is_kept_whole() {
        for step in [1, 3, 7, 100] {
            for length in 0..=8 {
                let text: String = "01234567".chars().take(length).collect();
                assert_eq!(kept(length, 8, step), (text, (length as u64, length as u64)));
            }
        }
    }

    #[test]
    fn output_over_the_cap_keeps_both_ends_and_counts_the_gap() {
        for step in [1, 3, 7, 100] {
            let text = "012345\n[git-harness: 30 bytes left out]\n67".to_owned();
            assert_eq!(kept(38, 8, step), (text, (38, 8)));
        }
        assert_eq!(kept(5, 0, 2), ("\n[git-harness: 5 bytes left out]\n".into(), (5, 0)));
        assert_eq!(kept(5, 3, 2), ("012\n[git-harness: 2 bytes left out]\n".into(), (5, 3)));
    }
}
