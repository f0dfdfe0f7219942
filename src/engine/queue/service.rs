//! The loop around a merge queue worker. There is one worker for each target, whoever started it:
//! `queue run`, or the supervisor of a run (`start`, `poll`). A lock decides which process works.
//! The others hand in their entries through the queue log, and the next that waits takes over when
//! the worker ends or dies.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::context::QueueContext;
use super::git_host::{GitHost, ReportSink};
use super::hooks::QueueInterrupt;
use super::host::{QueueReport, TrainVerdict, VerificationId};
use super::runs::{OpenRun, RunContexts};
use super::worker::{QueueExit, QueueWorker, live_entries};
use crate::domain::id::{Oid, TaskId};
use crate::engine::{Context, KeeperWait, signals};
use crate::process::{Holder, Lock};
use crate::store::make_parent;
use crate::wire::queue::{Ejection, QueueEvent};

/// The interval at which the worker observes the log, the target and the branches.
const TICK: Duration = Duration::from_millis(200);
/// The interval at which a waiting process tries to become the worker.
const TAKEOVER_INTERVAL: Duration = Duration::from_millis(300);
/// The pause after an error of the worker.
const ERROR_PAUSE: Duration = Duration::from_secs(2);

/// A message to the loop of a worker.
#[derive(Debug)]
pub(super) enum QueueMessage {
    /// A verification has ended. `None` if a keeper still runs and is not awaited.
    Verified(VerificationId, Box<Result<Option<TrainVerdict>>>),
    /// The queue log may have new events.
    Wake,
    /// A signal with this number.
    Signal(i32),
    /// The worker must end.
    Stop,
}

/// The options of `queue run`.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueueOptions {
    /// True to stay when no entry waits.
    pub follow: bool,
    /// The remote that gets every landing first.
    pub push: Option<String>,
}

/// Returns the lock of the process that works on a queue.
pub(crate) fn worker_lock(context: &QueueContext) -> Result<PathBuf> {
    let path = context.store.local().integrator_lock(&context.key());
    make_parent(&path)?;
    Ok(path)
}

/// Works on a queue until nothing is left that can be done. The caller holds the worker's lock.
pub(crate) fn run(
    context: &Arc<QueueContext>,
    open: OpenRun,
    options: &QueueOptions,
    report: ReportSink<'_>,
) -> Result<QueueExit> {
    let (sender, receiver) = channel();
    let (tell, interrupt) = (sender.clone(), Arc::new(QueueInterrupt::new()?));
    let flag = Arc::clone(&interrupt);
    signals::listen(move |signal| {
        tell.send(QueueMessage::Signal(signal)).ok();
        flag.raise();
    })?;
    let (_, log) = context.store.queue_log(&context.target, None)?;
    if !live_entries(&log).iter().any(|entry| entry.attempt.is_some()) {
        // Branches need the rules of the target. Tasks have the checks of their runs.
        context.rules(&context.tip()?)?;
    }
    let remote = (options.push.clone(), KeeperWait::Block, interrupt);
    let runs = RunContexts::new(None, open);
    let host = GitHost::new(Arc::clone(context), runs, remote, sender, report);
    let mut worker = QueueWorker::new(host)?;
    loop {
        if let Some(exit) = advance(&mut worker, &receiver)? {
            return Ok(exit);
        }
        if let Some(exit) = worker.exit().filter(|_| !options.follow || worker.needs_person()) {
            return Ok(exit);
        }
        if let Some(exit) = receive(&mut worker, &receiver)? {
            return Ok(exit);
        }
    }
}

/// Observes, and does what is owed. Returns the reason to end, if a message is one: messages are
/// also read between two effects, so that a signal is never left waiting.
fn advance(
    worker: &mut QueueWorker<GitHost<'_>>,
    messages: &Receiver<QueueMessage>,
) -> Result<Option<QueueExit>> {
    worker.observe()?;
    loop {
        let changed = worker.step()?;
        while let Ok(message) = messages.try_recv() {
            if let Some(exit) = handle(worker, message)? {
                return Ok(Some(exit));
            }
        }
        if !changed {
            break;
        }
    }
    worker.flush()?;
    Ok(None)
}

/// Waits for a message and handles it. Returns the reason to end, if the message is one.
fn receive(
    worker: &mut QueueWorker<GitHost<'_>>,
    messages: &Receiver<QueueMessage>,
) -> Result<Option<QueueExit>> {
    match messages.recv_timeout(TICK) {
        Ok(message) => handle(worker, message),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(None),
    }
}

fn handle(
    worker: &mut QueueWorker<GitHost<'_>>,
    message: QueueMessage,
) -> Result<Option<QueueExit>> {
    match message {
        QueueMessage::Signal(signal) => return Ok(Some(QueueExit::Interrupted(signal))),
        QueueMessage::Stop => return Ok(Some(QueueExit::Later)),
        QueueMessage::Verified(id, outcome) => {
            let ended = !matches!(*outcome, Ok(None));
            worker.finish(id, *outcome)?;
            // Only now: an outcome that no event has yet must survive a kill.
            if ended {
                worker.host().release(&id)?;
            }
        }
        QueueMessage::Wake => {}
    }
    Ok(None)
}

/// The state of the worker of this process, for the supervisor.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerState {
    /// True if this process works on the queue.
    pub works: bool,
    /// The other process that works on the queue.
    pub holder: Option<String>,
    /// The commit of the queue log up to which the worker has acted.
    pub log_tip: Option<Oid>,
    /// True if the worker can do nothing until a keeper ends or something happens outside.
    pub idle: bool,
    /// The number of verifications under way.
    pub verifying: usize,
    /// The number of verifications whose end or state a thread of this process will report.
    pub awaited: usize,
    /// The number of entries that a train takes now.
    pub train_size: usize,
    /// The reason why nothing lands, if a person must act.
    pub problem: Option<String>,
    /// The target's tip, if it fails its own checks.
    pub failing_tip: Option<Oid>,
}

/// A message of the worker's thread to its supervisor.
#[derive(Debug)]
pub(crate) enum WorkerNotice {
    /// The worker's state or the queue log has changed.
    Changed,
    /// A note for people.
    Note(String),
}

/// A worker on a thread of its own, beside the supervisor of a run.
#[derive(Debug)]
pub(crate) struct QueueService {
    messages: Sender<QueueMessage>,
    state: Arc<Mutex<WorkerState>>,
    interrupt: Arc<QueueInterrupt>,
    thread: Option<JoinHandle<()>>,
}

impl QueueService {
    /// Starts the thread. It works on the queue of the run's target when no other process does.
    #[expect(clippy::disallowed_methods, reason = "the engine is the module with threads")]
    pub(in crate::engine) fn start(
        context: Arc<QueueContext>,
        run: Arc<Context>,
        open: OpenRun,
        wait: KeeperWait,
        notify: impl Fn(WorkerNotice) + Send + Sync + 'static,
    ) -> Result<Self> {
        let (messages, receiver) = channel();
        let interrupt = Arc::new(QueueInterrupt::new()?);
        let state = Arc::new(Mutex::new(WorkerState::default()));
        let supervised = Supervised {
            context,
            run,
            open,
            wait,
            sender: messages.clone(),
            state: Arc::clone(&state),
            interrupt: Arc::clone(&interrupt),
            notify: Arc::new(notify),
        };
        let thread = std::thread::spawn(move || supervised.serve(&receiver));
        Ok(Self { messages, state, interrupt, thread: Some(thread) })
    }

    /// Ends a landing hook that runs. The worker waits for no later pre-land hook either.
    pub(crate) fn interrupt(&self) {
        self.interrupt.raise();
    }

    /// Tells the worker that the queue log has new events.
    pub(crate) fn wake(&self) {
        self.messages.send(QueueMessage::Wake).ok();
    }

    /// Returns the worker's state.
    pub(crate) fn state(&self) -> WorkerState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for QueueService {
    /// Ends the worker and releases its lock. Keepers go on.
    fn drop(&mut self) {
        self.messages.send(QueueMessage::Stop).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The thread's side of a [`QueueService`].
struct Supervised {
    context: Arc<QueueContext>,
    run: Arc<Context>,
    open: OpenRun,
    wait: KeeperWait,
    sender: Sender<QueueMessage>,
    state: Arc<Mutex<WorkerState>>,
    interrupt: Arc<QueueInterrupt>,
    notify: Arc<dyn Fn(WorkerNotice) + Send + Sync>,
}

impl Supervised {
    /// Works until the supervisor ends. An error holds up landings: it is shown as the problem, and
    /// the work is tried again.
    fn serve(&self, messages: &Receiver<QueueMessage>) {
        loop {
            let pause = match self.try_work(messages) {
                Ok(true) => return,
                Ok(false) => TAKEOVER_INTERVAL,
                Err(error) => {
                    let problem = format!("landing does not work: {error:#}");
                    let known = self.set(|state| {
                        let known = state.problem.as_ref() == Some(&problem);
                        state.problem = Some(problem.clone());
                        (state.works, state.idle) = (true, true);
                        known
                    });
                    if !known {
                        (self.notify)(WorkerNotice::Note(problem));
                    }
                    (self.notify)(WorkerNotice::Changed);
                    ERROR_PAUSE
                }
            };
            if self.pause(messages, pause) {
                return;
            }
        }
    }

    /// Waits. Returns true if the worker must end.
    fn pause(&self, messages: &Receiver<QueueMessage>, pause: Duration) -> bool {
        match messages.recv_timeout(pause) {
            Ok(QueueMessage::Stop) | Err(RecvTimeoutError::Disconnected) => true,
            Ok(QueueMessage::Verified(..) | QueueMessage::Wake | QueueMessage::Signal(_))
            | Err(RecvTimeoutError::Timeout) => false,
        }
    }

    /// Works on the queue if no other process does. Returns true if the supervisor ended the work.
    fn try_work(&self, messages: &Receiver<QueueMessage>) -> Result<bool> {
        let path = worker_lock(&self.context)?;
        let lock = Lock::try_take(&path, &Holder::this_process().to_string())
            .with_context(|| format!("cannot use the lock file {}", path.display()))?;
        let _lock = match lock {
            Ok(lock) => lock,
            Err(holder) => {
                let holder = Some(holder.to_string());
                let state = WorkerState { holder, ..WorkerState::default() };
                let changed = self.set(|old| {
                    let changed = old.holder != state.holder;
                    *old = state;
                    changed
                });
                if changed {
                    (self.notify)(WorkerNotice::Changed);
                }
                return Ok(false);
            }
        };
        let runs = RunContexts::new(Some(Arc::clone(&self.run)), self.open.clone());
        let remote = (None, self.wait, Arc::clone(&self.interrupt));
        let host = GitHost::new(
            Arc::clone(&self.context),
            runs,
            remote,
            self.sender.clone(),
            self.report(),
        );
        let mut worker = QueueWorker::new(host)?;
        loop {
            if advance(&mut worker, messages)?.is_some() {
                return Ok(true);
            }
            self.publish(&worker);
            if receive(&mut worker, messages)?.is_some() {
                return Ok(true);
            }
        }
    }

    fn set<T>(&self, change: impl FnOnce(&mut WorkerState) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, worker: &QueueWorker<GitHost<'_>>) {
        let state = WorkerState {
            works: true,
            holder: None,
            log_tip: worker.log_tip().cloned(),
            idle: true,
            verifying: worker.verifying(),
            awaited: worker.awaited(),
            train_size: worker.queue().train_size(),
            problem: worker.problem(),
            failing_tip: worker.failing_tip(),
        };
        if let Some(problem) = state.problem.clone().filter(|_| state.failing_tip.is_some())
            && self.set(|old| old.problem != state.problem)
        {
            (self.notify)(WorkerNotice::Note(problem));
        }
        let changed = self.set(|old| {
            let changed = (&old.log_tip, old.verifying, old.awaited, &old.problem, old.works)
                != (&state.log_tip, state.verifying, state.awaited, &state.problem, true);
            *old = state;
            changed
        });
        if changed {
            (self.notify)(WorkerNotice::Changed);
        }
    }

    /// Passes reports on to the supervisor. The supervisor reports the events of its own tasks.
    fn report(&self) -> ReportSink<'static> {
        let (notify, run) = (Arc::clone(&self.notify), Arc::clone(&self.run));
        let own = format!("{}/", run.run);
        Box::new(move |report| match report {
            QueueReport::Note(text) => notify(WorkerNotice::Note(text)),
            QueueReport::Event(event) => {
                let name = |entry: &str| match entry.strip_prefix(&own).map(TaskId::parse) {
                    Some(Ok(task)) => run.label(&task),
                    Some(Err(_)) | None => entry.to_owned(),
                };
                notes_of(event, &own, &name).into_iter().map(WorkerNotice::Note).for_each(&*notify);
                notify(WorkerNotice::Changed);
            }
            QueueReport::Verifying(..) => notify(WorkerNotice::Changed),
        })
    }
}

/// The number of entries of a train that a note names.
const NAMED: usize = 3;

/// Returns what a run's supervisor prints about an event of the queue. `own` is the prefix of the
/// names of its own tasks, whose landings and rejections it reports itself. `name` returns the
/// name of an entry for people.
fn notes_of(event: &QueueEvent, own: &str, name: &dyn Fn(&str) -> String) -> Vec<String> {
    match event {
        QueueEvent::Verified { passed: false, entries, .. } if entries.len() > 1 => {
            let named: Vec<String> = entries.iter().take(NAMED).map(|entry| name(entry)).collect();
            let mut named = named.join(", ");
            if entries.len() > NAMED {
                named.push_str(&format!(" and {} more", entries.len() - NAMED));
            }
            vec![format!("{named} do not pass together: looking for the one that fails")]
        }
        QueueEvent::Landed { entries, new, .. } => {
            let others = entries.iter().filter(|entry| !entry.entry.starts_with(own));
            others.map(|entry| format!("{}: landed with {}", entry.entry, new.short())).collect()
        }
        QueueEvent::Ejected { candidate, reason } if !candidate.entry.starts_with(own) => {
            let word = match reason {
                Ejection::Rejected { .. } => "rejected",
                Ejection::Conflict { .. } => "conflicts with the target",
                Ejection::ChangesRequested { .. } => "changes requested",
                Ejection::Blocked { .. } => "blocked",
            };
            vec![format!("{}: {word}", candidate.entry)]
        }
        QueueEvent::Added { .. }
        | QueueEvent::Replaced(_)
        | QueueEvent::Approved { .. }
        | QueueEvent::Removed { .. }
        | QueueEvent::Paused { .. }
        | QueueEvent::Resumed { .. }
        | QueueEvent::Verified { .. }
        | QueueEvent::Ejected { .. } => Vec::new(),
    }
}
