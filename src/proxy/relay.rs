//! Passing bytes on between two connections.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ambient;

/// The time without a byte in either direction after which a connection ends. A model may think for
/// many minutes before it answers.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// The interval at which a silent connection is examined.
const TICK: Duration = Duration::from_secs(30);

/// The size of a buffer.
const BUFFER: usize = 32 * 1024;

/// The time of the last byte, in milliseconds after the start.
struct LastByte {
    start: Instant,
    at: AtomicU64,
}

impl LastByte {
    fn now() -> Self {
        Self { start: ambient::instant(), at: AtomicU64::new(0) }
    }

    fn elapsed(&self) -> Duration {
        ambient::instant().saturating_duration_since(self.start)
    }

    fn touch(&self) {
        let now = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at.store(now, Ordering::Relaxed);
    }

    fn is_idle(&self) -> bool {
        let last = Duration::from_millis(self.at.load(Ordering::Relaxed));
        self.elapsed().saturating_sub(last) >= IDLE
    }
}

/// Connects two streams until both directions have ended. A direction ends by itself: the other one
/// may still have an answer to carry.
pub(super) fn tunnel(client: &TcpStream, server: &TcpStream) {
    let last = LastByte::now();
    std::thread::scope(|scope| {
        scope.spawn(|| pump(client, server, u64::MAX, &last));
        pump(server, client, u64::MAX, &last);
    });
}

/// Passes a body of `length` bytes on.
pub(super) fn body(client: &TcpStream, server: &TcpStream, length: u64) {
    pump(client, server, length, &LastByte::now());
}

/// Passes an answer on, up to the end of the stream.
pub(super) fn answer(server: &TcpStream, client: &TcpStream) {
    pump(server, client, u64::MAX, &LastByte::now());
}

/// Passes bytes on until the end of the stream or of the `length`. The end of the stream is passed
/// on as well. After an error, both streams end.
fn pump(from: &TcpStream, to: &TcpStream, mut length: u64, last: &LastByte) {
    let end_both = || {
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    };
    if from.set_read_timeout(Some(TICK)).is_err() || to.set_write_timeout(Some(IDLE)).is_err() {
        return end_both();
    }
    let mut buffer = vec![0; BUFFER];
    let (mut from, mut to) = (from, to);
    while length > 0 {
        let most = usize::try_from(length).unwrap_or(BUFFER).min(BUFFER);
        match from.read(&mut buffer[..most]) {
            Ok(0) => {
                to.shutdown(Shutdown::Write).ok();
                return;
            }
            Ok(n) => {
                last.touch();
                if to.write_all(&buffer[..n]).is_err() {
                    return end_both();
                }
                // A tunnel has no length.
                if length != u64::MAX {
                    length -= n as u64;
                }
            }
            Err(error) => {
                let kind = error.kind();
                if kind == ErrorKind::Interrupted {
                    continue;
                }
                let is_silent = matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
                if !is_silent || last.is_idle() {
                    return end_both();
                }
            }
        }
    }
}
