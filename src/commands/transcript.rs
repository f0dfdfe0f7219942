//! The output of agents for people, both of attempts that have ended and of running attempts.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::workspace;
use crate::agent::transcript::{TranscriptEntry, TranscriptKind, TranscriptReader, read};
use crate::ambient;
use crate::domain::event::TaskEventKind;
use crate::domain::id::{RunId, TaskId};
use crate::domain::shell::shell_quote;
use crate::domain::state::{Phase, TaskState};
use crate::error;
use crate::keeper::{self, files};
use crate::process::Lock;
use crate::store::{Store, codec, layout};
use crate::ui::tone::Tone;
use crate::ui::{Ui, printable};
use crate::wire::cli;

/// The polling interval for a running attempt, or for a run that may start an attempt.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Time to wait for the record of an attempt whose keeper has exited.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Width of the label before each line.
const MARGIN: usize = 8;

/// The files of the two streams.
const STREAMS: [&str; 2] = [files::STDOUT, files::STDERR];

/// Prints transcripts.
struct Printer<'a> {
    ui: &'a Ui,
    paints: bool,
}

impl<'a> Printer<'a> {
    fn new(ui: &'a Ui) -> Self {
        Self { ui, paints: ui.paints() }
    }

    fn print(&self, stream: &str, entries: &[TranscriptEntry]) {
        let text: String = entries.iter().map(|entry| self.text(stream, entry)).collect();
        self.ui.result(&text);
    }

    /// Formats an entry as lines, each with a label. Plain text is printed unchanged.
    fn text(&self, stream: &str, entry: &TranscriptEntry) -> String {
        let plain = entry.kind == TranscriptKind::Plain;
        let word = match (plain, stream) {
            (true, files::STDERR) => stream,
            (true, _) => "",
            (false, _) => entry.kind.as_str(),
        };
        let (front, tone) = tones(entry.kind);
        let mut text = String::new();
        for (number, line) in printable(&entry.text).lines().enumerate() {
            if !word.is_empty() {
                let word = if number == 0 || plain { word } else { "" };
                text.push_str(&front.paint(&format!("{word:<MARGIN$}"), self.paints));
            }
            // The tool's name is coloured, its arguments are not.
            match (entry.kind, line.split_once("  ")) {
                (TranscriptKind::Tool, Some((name, arguments))) if number == 0 => {
                    text.push_str(&format!("{}  {arguments}", tone.paint(name, self.paints)));
                }
                (TranscriptKind::Tool, _) if number > 0 => text.push_str(line),
                _ => text.push_str(&tone.paint(line, self.paints)),
            }
            text.push('\n');
        }
        text
    }
}

/// Returns the tones of the label and of the text.
fn tones(kind: TranscriptKind) -> (Tone, Tone) {
    match kind {
        TranscriptKind::Agent => (Tone::Strong, Tone::Plain),
        TranscriptKind::Tool => (Tone::Action, Tone::Action),
        TranscriptKind::Error => (Tone::Bad, Tone::Bad),
        TranscriptKind::User => (Tone::Faint, Tone::Plain),
        TranscriptKind::Plain => (Tone::Faint, Tone::Plain),
        TranscriptKind::End => (Tone::Strong, Tone::Strong),
        TranscriptKind::Note
        | TranscriptKind::Thought
        | TranscriptKind::Result
        | TranscriptKind::Other => (Tone::Faint, Tone::Faint),
    }
}

/// Converts entries for `--json`.
fn wire(entries: &[TranscriptEntry]) -> Vec<cli::TranscriptEntry<'_>> {
    entries.iter().map(|e| cli::TranscriptEntry { kind: e.kind.as_str(), text: &e.text }).collect()
}

/// Prints the output of an attempt: standard output, then standard error.
pub(super) fn show([stdout, stderr]: &[Vec<u8>; 2], ui: &Ui) {
    let printer = Printer::new(ui);
    printer.print(files::STDOUT, &read(stdout));
    printer.print(files::STDERR, &read(stderr));
}

/// `git harness show --transcript --json`
pub(super) fn show_json(
    outputs: &[Vec<u8>; 2],
    run: &RunId,
    task: &TaskId,
    attempt: u32,
    ui: &Ui,
) -> Result<()> {
    let [stdout, stderr] = outputs.each_ref().map(|bytes| read(bytes));
    ui.json(&cli::Transcript {
        v: cli::Version,
        run: run.as_str(),
        task: task.as_str(),
        attempt,
        stdout: wire(&stdout),
        stderr: wire(&stderr),
    })
}

/// Returns the output so far of an attempt that is running on this machine.
pub(super) fn so_far(
    store: &Store,
    run: &RunId,
    task: &TaskId,
    attempt: u32,
) -> Option<[Vec<u8>; 2]> {
    let dir = store.local().attempt(run, task, attempt);
    let [out, err] = STREAMS.map(|name| std::fs::read(dir.join(name)).ok());
    Some([out?, err.unwrap_or_default()])
}

/// `git harness log --follow`
pub(super) fn follow(
    store: &Store,
    run: &RunId,
    (task, label): (&TaskId, &str),
    as_json: bool,
    ui: &Ui,
) -> Result<u8> {
    let Some((attempt, dir)) = wait_for_attempt(store, run, (task, label), ui)? else {
        return Ok(error::OK);
    };
    if !as_json {
        ui.status(&format!("attempt {attempt} of `{run}/{label}`:"));
    }
    let ending = match dir {
        Some(dir) => {
            follow_files(&dir, attempt, as_json, ui)?;
            find_ending(store, run, task, attempt)?
        }
        None => {
            let ending = find_ending(store, run, task, attempt)?;
            for (stream, bytes) in STREAMS.iter().zip(recorded_output(store, run, task, attempt)?) {
                print_entries(attempt, stream, &read(&bytes), as_json, ui)?;
            }
            ending
        }
    };
    if as_json {
        ui.json(&cli::FollowedEnd { v: cli::Version, attempt, ending: ending.as_deref() })?;
    } else {
        let gone =
            "the keeper exited without a record; the next `git harness start` recovers the attempt";
        ui.status(ending.as_deref().unwrap_or(gone));
    }
    Ok(error::OK)
}

/// Prints entries of an attempt that is followed.
fn print_entries(
    attempt: u32,
    stream: &str,
    entries: &[TranscriptEntry],
    as_json: bool,
    ui: &Ui,
) -> Result<()> {
    if !as_json {
        Printer::new(ui).print(stream, entries);
        return Ok(());
    }
    for entry in entries {
        let (kind, text) = (entry.kind.as_str(), entry.text.as_str());
        ui.json(&cli::FollowedEntry { v: cli::Version, attempt, stream, kind, text })?;
    }
    Ok(())
}

/// Returns the output of an ended attempt, from the task's chain.
fn recorded_output(
    store: &Store,
    run: &RunId,
    task: &TaskId,
    attempt: u32,
) -> Result<[Vec<u8>; 2]> {
    let Some(tip) = store.read(&layout::task(run, task))? else { return Ok([vec![], vec![]]) };
    let tree = store.repo().tree_of(&tip)?;
    let read = |name| store.repo().read_blob_at(&tree, &format!("attempts/{attempt}/{name}"));
    let [out, err] = STREAMS.map(read);
    Ok([out?.unwrap_or_default(), err?.unwrap_or_default()])
}

/// Prints the output of a running attempt until it ends.
fn follow_files(dir: &Path, attempt: u32, as_json: bool, ui: &Ui) -> Result<()> {
    let mut tails = STREAMS.map(|name| Tail::new(dir.join(name)));
    let mut warned = false;
    loop {
        // The lock is tested before the last read, so that no output is missed.
        let ended = !Lock::is_held(&dir.join(files::LOCK)).unwrap_or(false);
        for tail in &mut tails {
            print_entries(attempt, tail.stream, &tail.read_new(), as_json, ui)?;
        }
        if ended {
            break;
        }
        if !warned && tails.iter().any(|tail| tail.read >= keeper::OUTPUT_HEAD) {
            warned = true;
            ui.status(
                "the output is large: its last part is kept, and shown when the attempt ends",
            );
        }
        ambient::pause(POLL_INTERVAL);
    }
    for tail in tails {
        print_entries(attempt, tail.stream, &tail.reader.finish(), as_json, ui)?;
    }
    Ok(())
}

/// A growing file.
struct Tail {
    stream: &'static str,
    path: PathBuf,
    file: Option<File>,
    read: u64,
    reader: TranscriptReader,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        let stream = if path.ends_with(files::STDERR) { files::STDERR } else { files::STDOUT };
        Self { stream, path, file: None, read: 0, reader: TranscriptReader::default() }
    }

    /// Returns the entries since the last call.
    fn read_new(&mut self) -> Vec<TranscriptEntry> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            // After a read error, the next call tries again.
            self.read += file.read_to_end(&mut bytes).unwrap_or(0) as u64;
        }
        self.reader.push(&bytes)
    }
}

/// Waits for a running attempt, and returns its number and the folder of its keeper. The folder is
/// none if the attempt began and ended between two polls. Returns none, after a message, if no
/// attempt will begin.
fn wait_for_attempt(
    store: &Store,
    run: &RunId,
    (task, label): (&TaskId, &str),
    ui: &Ui,
) -> Result<Option<(u32, Option<PathBuf>)>> {
    let mut first_attempt_seen = None;
    loop {
        // The supervisor is looked up before the state is read: if it exits in between, the state
        // already contains its last events.
        let driver = workspace::supervisor_of(store, run);
        let state = read_state(store, run, task)?;
        let dir = store.local().attempt(run, task, state.attempt);
        let has_keeper = Lock::is_held(&dir.join(files::LOCK)).unwrap_or(false);
        if state.phase == Phase::Running && has_keeper {
            return Ok(Some((state.attempt, Some(dir))));
        }
        let has_begun = first_attempt_seen.is_some_and(|attempt| attempt < state.attempt);
        if has_begun && !has_keeper && state.phase != Phase::Running {
            return Ok(Some((state.attempt, None)));
        }
        if state.phase.ended() {
            let word = state.phase.as_str();
            ui.status(&format!(
                "no attempt of `{run}/{label}` is running: the task is {word}; `git harness show {} \
                 --transcript` shows what its last attempt printed",
                shell_quote(&format!("{run}/{label}"))
            ));
            return Ok(None);
        }
        if driver.is_none() && !has_keeper {
            ui.status(&format!(
                "no attempt of `{run}/{label}` is running, and the run has no supervisor: `git harness start` continues it"
            ));
            return Ok(None);
        }
        if first_attempt_seen.is_none() {
            first_attempt_seen = Some(state.attempt);
            ui.status(&format!("no attempt of `{run}/{label}` is running; waiting for the next"));
        }
        ambient::pause(POLL_INTERVAL);
    }
}

fn read_state(store: &Store, run: &RunId, task: &TaskId) -> Result<TaskState> {
    let name = layout::task(run, task);
    let tip = store.read(&name)?.with_context(|| format!("no chain at `{name}`"))?;
    let info = crate::repo::commit_info(store.repo(), &tip)?;
    codec::read_state(&name, &info.message)
}

/// Returns the end of an attempt as a sentence, from the task's chain or from the ref that its
/// keeper published. Waits up to `RECORD_TIMEOUT` for one of the two.
fn find_ending(store: &Store, run: &RunId, task: &TaskId, attempt: u32) -> Result<Option<String>> {
    let deadline = ambient::instant() + RECORD_TIMEOUT;
    loop {
        let chain = layout::task(run, task);
        if let Some(tip) = store.read(&chain)? {
            for (_, message) in store.messages(&tip)? {
                let event = codec::read_task_event(&chain, &message)?;
                if matches!(event.kind, TaskEventKind::Ended { attempt: n, .. } if n == attempt) {
                    return Ok(Some(subject(&message)));
                }
            }
        }
        if let Some(tip) = store.read(&layout::attempt(run, task, attempt))? {
            return Ok(Some(subject(&crate::repo::commit_info(store.repo(), &tip)?.message)));
        }
        if ambient::instant() >= deadline {
            return Ok(None);
        }
        ambient::pause(POLL_INTERVAL);
    }
}

fn subject(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
