//! Working off the queue of a target: one loop that owns the state, verifications on threads beside it.
//!
//! The book is the state (`store::queue_log`); it is folded into the pure queue (`domain::queue`), which says what is owed. What is
//! done is written into the book first and comes back to the queue by being read there, in the order in which the book has it,
//! whoever wrote it. Trains are not written down: after a crash they are formed anew, and what was said of their trees is known.

mod carry;
mod desk;
mod judge;
mod land;
mod now;
mod push;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

pub(crate) use desk::{Desk, Rules};
pub(crate) use now::{Now, now, now_of_run};

use self::judge::{Case, Judged};
use super::signals;
use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::queue::{
    EntryId, Queue, QueueEffect, QueueSettings, StopReason, TrainId, TrainKind,
};
use crate::landing::{CarRequest, CarSubject, TargetHistory, TrainBuilder};
use crate::wire::queue::QueueEvent;

/// How long the loop waits for news before it looks around.
const TICK: Duration = Duration::from_millis(200);

/// How long a landing that cannot happen now is left alone.
const HELD: Duration = Duration::from_secs(2);

/// So many verifications in a row that could not be run are enough.
const FAULTS: u32 = 5;

/// How a queue is worked off.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Whether to stay when nothing is left.
    pub follow: bool,
    /// The remote that gets every landing first.
    pub push: Option<String>,
}

/// Something to tell the person who watches.
#[derive(Debug)]
pub(crate) enum Told<'a> {
    /// Something was written into the book, by whomever.
    Book(&'a QueueEvent),
    /// A verification begins: what for, and of which branches.
    Verifies(TrainKind, &'a [EntryId]),
    /// Anything else worth knowing.
    Note(String),
}

/// Why the work came to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every branch has landed or left.
    Empty,
    /// Those that are left wait for something that does not happen here; what.
    Waits(String),
    /// A person is needed; why.
    Person(String),
    /// A signal, by its number.
    Interrupted(i32),
}

/// News from a thread.
#[derive(Debug)]
enum News {
    Judged(Box<Flight>, Result<Judged>),
    Signal(i32),
}

/// Names a verification that is owed.
type Question = (TrainId, usize, u32);

/// A verification under way.
#[derive(Debug, Clone)]
struct Flight {
    question: Question,
    kind: TrainKind,
    case: Case,
    entries: Vec<EntryId>,
    worktree: String,
    since: Instant,
    /// The rules that were asked.
    rules: Arc<Rules>,
}

/// The work on one queue.
pub(crate) struct Worker<'a> {
    desk: Arc<Desk>,
    options: Options,
    rules: Arc<Rules>,
    queue: Queue,
    /// How far the book was read.
    book: Option<Oid>,
    /// The target's tip when each branch was added.
    added_on: BTreeMap<EntryId, Oid>,
    history: TargetHistory,
    /// The paths that each branch changes, by its commit.
    touched: HashMap<Oid, Vec<String>>,
    /// What the remote's counterpart of the target is known to be.
    remote_has: Option<Oid>,
    /// From where to where the target moved last.
    last_landing: Option<(Oid, Oid)>,
    /// The ids of verdicts that the book names.
    vouched: HashSet<String>,
    flights: BTreeMap<Question, Flight>,
    news: (Sender<News>, Receiver<News>),
    /// Verifications in a row that could not be run, and when the next may begin.
    faults: (u32, Option<Instant>),
    held: Option<(String, Instant)>,
    /// When the branches were looked at last.
    looked: Option<Instant>,
    /// What the book says of landings of which it is not certain that a power cut would leave them.
    untold: Vec<QueueEvent>,
    /// Why a person is needed.
    person: Option<String>,
    report: &'a mut dyn FnMut(Told<'_>),
}

impl<'a> Worker<'a> {
    /// Reads the book of a target and its rules.
    pub(crate) fn new(
        desk: Arc<Desk>,
        options: Options,
        report: &'a mut dyn FnMut(Told<'_>),
    ) -> Result<Self> {
        let tip = desk.tip()?;
        let rules = desk.rules(&tip)?;
        let queue = Queue::new(settings(&rules), tip.clone(), desk.store.repo().tree_of(&tip)?);
        let mut worker = Self {
            desk,
            options,
            rules,
            queue,
            book: None,
            added_on: BTreeMap::new(),
            history: TargetHistory::default(),
            touched: HashMap::new(),
            remote_has: None,
            last_landing: None,
            vouched: HashSet::new(),
            flights: BTreeMap::new(),
            news: channel(),
            faults: (0, None),
            held: None,
            looked: None,
            untold: Vec::new(),
            person: None,
            report,
        };
        worker.read_book(false)?;
        worker.recover()?;
        if let Some(why) = worker.pull()? {
            worker.person = Some(why);
        }
        Ok(worker)
    }

    /// Works until nothing is left that can be done.
    pub(crate) fn work(mut self) -> Result<Ended> {
        let tell = self.news.0.clone();
        signals::listen(move |signal| {
            tell.send(News::Signal(signal)).ok();
        })?;
        loop {
            if let Some(why) = self.person.take() {
                return Ok(Ended::Person(why));
            }
            self.look_around()?;
            while self.carry_on()? {}
            self.settle()?;
            if self.person.is_some() {
                continue;
            }
            if let Some(ended) = self.ended() {
                return Ok(ended);
            }
            match self.news.1.recv_timeout(TICK) {
                Ok(News::Signal(signal)) => return Ok(Ended::Interrupted(signal)),
                Ok(News::Judged(flight, judged)) => {
                    self.flights.remove(&flight.question);
                    self.show();
                    self.judged(&flight, judged)?;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Does what is owed and can be done now. Says whether that may have changed anything.
    fn carry_on(&mut self) -> Result<bool> {
        for owed in self.queue.owed() {
            let done = match owed {
                QueueEffect::Build { train, onto, entries } => {
                    self.build(train, &onto, &entries)?
                }
                QueueEffect::Verify { train, prefix, attempt, kind, commit, tree } => {
                    self.verify((train, prefix, attempt), kind, commit, tree)?
                }
                QueueEffect::Land { onto, commit, tree, entries, train } => {
                    self.land(train, &onto, &commit, &tree, &entries)?
                }
                QueueEffect::Eject { entry, candidate, reason } => {
                    self.eject(&entry, &candidate, &reason)?
                }
            };
            if done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn ended(&self) -> Option<Ended> {
        if !self.flights.is_empty() || self.options.follow {
            return None;
        }
        if self.queue.is_empty() {
            return Some(Ended::Empty);
        }
        if let Some((why, _)) = &self.held {
            return Some(Ended::Person(format!("landing waits: {why}")));
        }
        let short = self.desk.short();
        match self.queue.stopped() {
            Some(StopReason::Paused) => {
                let what = format!(
                    "the queue of `{short}` is paused: `git harness queue resume` lets it go on"
                );
                return Some(Ended::Waits(what));
            }
            Some(StopReason::TipFails) => {
                let what = format!(
                    "the tip of `{short}` fails its own checks, so nothing can be said of what is put on it: mend that first"
                );
                return Some(Ended::Person(what));
            }
            None => {}
        }
        if self.queue.owed().is_empty() {
            return Some(Ended::Waits(
                "those that are left wait for an approval or for others: `git harness queue` shows them".into(),
            ));
        }
        None
    }

    fn builder(&self) -> TrainBuilder<'_> {
        let desk = &self.desk;
        TrainBuilder { repo: desk.store.repo(), merger: &desk.merger, who: &desk.identity }
    }

    /// Takes up the rules of the target's tip. Where they have changed, what is known of trees is void.
    fn take_rules(&mut self, tip: &Oid) -> Result<()> {
        let rules = self.desk.rules(tip)?;
        if !Arc::ptr_eq(&rules, &self.rules) {
            self.rules = rules;
            let tree = self.desk.store.repo().tree_of(tip)?;
            self.queue = Queue::new(settings(&self.rules), tip.clone(), tree);
            self.book = None;
            self.read_book(false)?;
        }
        Ok(())
    }

    fn note(&mut self, text: String) {
        (self.report)(Told::Note(text));
    }

    fn pauses(&self) -> bool {
        self.faults.1.is_some_and(|until| ambient::instant() < until)
    }
}

/// A branch's place in a train.
fn request<'a>(rules: &Rules, entry: &'a EntryId, candidate: &'a Oid) -> CarRequest<'a> {
    let merge = rules.job.queue.merge;
    CarRequest { entry, candidate, merge, subject: CarSubject::Branch, base: None }
}

fn settings(rules: &Rules) -> QueueSettings {
    let queue = &rules.job.queue;
    let (batch, concurrency, verify_each) = (queue.batch, queue.ahead, queue.each);
    QueueSettings { batch, concurrency, verify_each, ..QueueSettings::default() }
}
