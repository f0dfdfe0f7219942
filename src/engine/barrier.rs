//! Barriers on a thread of their own, so that the loop goes on while the disk works.
//!
//! What was written before a barrier is asked for is on the disk when its news comes. However many were asked for while
//! one is under way, the next one serves them all.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::Result;

use super::dispatcher::{Engine, Message};
use super::news::AwaitingSync;
use crate::ambient;
use crate::store;

/// How long the disk is left alone between two barriers. Each writes out everything that is dirty on the file system, the
/// places of the agents included; what comes and goes between two never costs anything.
const PACE: Duration = Duration::from_millis(25);

/// The way to ask for barriers. The thread ends with this value.
#[derive(Debug)]
pub(super) struct Barriers {
    ask: Sender<u64>,
    /// The number of the last one that was asked for.
    last: u64,
}

impl Barriers {
    /// Starts the thread; `disk` is any path on the file system that is meant.
    #[expect(clippy::disallowed_methods, reason = "the engine is the module with threads")]
    pub(super) fn start(disk: PathBuf, news: Sender<Message>) -> Self {
        let (ask, asked) = channel::<u64>();
        std::thread::spawn(move || {
            let mut ended = ambient::instant() - PACE;
            while let Ok(number) = asked.recv() {
                ambient::pause(PACE.saturating_sub(ended.elapsed()));
                let number = asked.try_iter().last().unwrap_or(number);
                if news.send(Message::Durable(number, store::barrier_at(&disk))).is_err() {
                    break;
                }
                ended = ambient::instant();
            }
        });
        Self { ask, last: 0 }
    }

    /// Asks for a barrier behind everything that is written by now. Gives its number, of which the news will be, or of
    /// a later one.
    pub(super) fn ask(&mut self) -> u64 {
        self.last += 1;
        // The thread ends only with this value.
        self.ask.send(self.last).ok();
        self.last
    }
}

impl Engine<'_> {
    /// Sees to it that what was journaled becomes durable, and is told then.
    pub(super) fn acknowledge(&mut self) {
        if self.unsynced.is_empty() && self.published.is_empty() {
            return;
        }
        let number = self.barriers.ask();
        let (decisions, published) =
            (std::mem::take(&mut self.unsynced), std::mem::take(&mut self.published));
        self.awaiting_sync.push(AwaitingSync { number, decisions, published });
    }

    /// Journals what was decided; it is told when it is durable.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.record()?;
        self.acknowledge();
        Ok(())
    }

    /// Journals, and waits until everything is durable and told.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.record()?;
        self.acknowledge();
        if let Some(last) = self.awaiting_sync.last() {
            let number = last.number;
            self.ctx.store.barrier()?;
            self.report_synced(number);
        }
        Ok(())
    }

    /// A barrier is done: what it was for is told, and lands.
    pub(super) fn durable(&mut self, number: u64) -> Result<()> {
        self.report_synced(number);
        self.arrive(number)
    }
}
