//! Barriers on their own thread, so that the loop continues while the disk syncs.
//!
//! Everything written before a barrier is requested is durable when its completion message arrives.
//! One sync serves all barriers that were requested during the previous sync.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::dispatcher::Message;
use crate::ambient;
use crate::store;

/// The shortest pause between two barriers. Each barrier syncs all dirty data of the file system,
/// including the agents' worktrees. The pause saves work: files that are created and deleted
/// between two barriers are never synced.
const MIN_PAUSE: Duration = Duration::from_millis(25);

/// The handle of the barrier thread. The thread ends when the handle is dropped.
#[derive(Debug)]
pub(super) struct Barriers {
    sender: Sender<u64>,
    /// The number of the last requested barrier.
    last: u64,
}

impl Barriers {
    /// Starts the thread. `disk` is any path on the file system.
    #[expect(clippy::disallowed_methods, reason = "the engine is the module with threads")]
    pub(super) fn start(disk: PathBuf, messages: Sender<Message>) -> Self {
        let (sender, requests) = channel::<u64>();
        std::thread::spawn(move || {
            let mut ended = ambient::instant() - MIN_PAUSE;
            while let Ok(number) = requests.recv() {
                ambient::pause(MIN_PAUSE.saturating_sub(ended.elapsed()));
                let number = requests.try_iter().last().unwrap_or(number);
                if messages.send(Message::Durable(number, store::barrier_at(&disk))).is_err() {
                    break;
                }
                ended = ambient::instant();
            }
        });
        Self { sender, last: 0 }
    }

    /// Requests a barrier for everything written so far. Returns the barrier's number. The
    /// completion message carries this number or a later one.
    pub(super) fn request(&mut self) -> u64 {
        self.last += 1;
        // The thread lives as long as this handle.
        self.sender.send(self.last).ok();
        self.last
    }
}
