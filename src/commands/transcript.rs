//! What an agent printed, for people: of an attempt that is over, and of one that runs.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::workspace;
use crate::agent::transcript::{TranscriptEntry, TranscriptKind, TranscriptReader, read};
use crate::ambient;
use crate::domain::event::TaskEventKind;
use crate::domain::id::{RunId, TaskId};
use crate::domain::state::{Phase, TaskState};
use crate::error;
use crate::keeper::{self, files};
use crate::process::Lock;
use crate::store::{Store, codec, layout};
use crate::ui::tone::Tone;
use crate::ui::{Ui, printable};

/// How often a running attempt is looked at, and a run that may start one.
const LOOK: Duration = Duration::from_millis(200);

/// How long the end of an attempt is waited for once its keeper has gone.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How wide the word in front of a line is.
const MARGIN: usize = 8;

/// The two streams.
const STREAMS: [&str; 2] = [files::STDOUT, files::STDERR];

/// Prints entries.
struct Printer<'a> {
    ui: &'a Ui,
    paints: bool,
}

impl<'a> Printer<'a> {
    fn new(ui: &'a Ui) -> Self {
        let wanted = ambient::variable("NO_COLOR").is_none();
        let able = ambient::variable("TERM").is_none_or(|term| term != "dumb");
        Self { ui, paints: wanted && able && ui.on_terminal() }
    }

    fn print(&self, stream: &str, entries: &[TranscriptEntry]) {
        let text: String = entries.iter().map(|entry| self.text(stream, entry)).collect();
        self.ui.result(&text);
    }

    /// An entry as lines, with who or what it is in front. Plain text stands as it was printed.
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
            // Of a tool, its name alone.
            match (entry.kind, line.split_once("  ")) {
                (TranscriptKind::Tool, Some((name, told))) if number == 0 => {
                    text.push_str(&format!("{}  {told}", tone.paint(name, self.paints)));
                }
                (TranscriptKind::Tool, _) if number > 0 => text.push_str(line),
                _ => text.push_str(&tone.paint(line, self.paints)),
            }
            text.push('\n');
        }
        text
    }
}

/// How loud the word in front is, and what follows.
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

fn in_json(entries: &[TranscriptEntry]) -> Vec<Value> {
    entries.iter().map(|e| json!({"kind": e.kind.as_str(), "text": e.text})).collect()
}

/// Shows what was kept of an attempt: `outputs` are its standard output and its standard error.
pub(super) fn show(outputs: &[Vec<u8>; 2], head: Option<Value>, ui: &Ui) {
    let [out, err] = outputs.each_ref().map(|bytes| read(bytes));
    if let Some(mut value) = head {
        value["stdout"] = in_json(&out).into();
        value["stderr"] = in_json(&err).into();
        ui.result(&format!("{value}\n"));
        return;
    }
    let printer = Printer::new(ui);
    printer.print(files::STDOUT, &out);
    printer.print(files::STDERR, &err);
}

/// What a running attempt has printed so far, if there is one on this machine.
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
    task: &TaskId,
    as_json: bool,
    ui: &Ui,
) -> Result<u8> {
    let Some((attempt, dir)) = running(store, run, task, ui)? else {
        return Ok(error::OK);
    };
    if !as_json {
        ui.status(&format!("attempt {attempt} of `{run}/{task}`:"));
    }
    let how = match dir {
        Some(dir) => {
            listen(&dir, attempt, as_json, ui);
            ending(store, run, task, attempt)?
        }
        None => {
            let how = ending(store, run, task, attempt)?;
            for (stream, bytes) in STREAMS.iter().zip(kept(store, run, task, attempt)?) {
                tell(attempt, stream, &read(&bytes), as_json, ui);
            }
            how
        }
    };
    if as_json {
        let value = json!({"v": 1, "attempt": attempt, "ending": how});
        ui.result(&format!("{value}\n"));
    } else {
        let gone = "its keeper has gone without a word; the next `start` looks after what it left";
        ui.status(how.as_deref().unwrap_or(gone));
    }
    Ok(error::OK)
}

/// Tells entries of an attempt that is followed.
fn tell(attempt: u32, stream: &str, entries: &[TranscriptEntry], as_json: bool, ui: &Ui) {
    if !as_json {
        return Printer::new(ui).print(stream, entries);
    }
    for entry in entries {
        let value = json!({
            "v": 1, "attempt": attempt, "stream": stream, "kind": entry.kind.as_str(), "text": entry.text,
        });
        ui.result(&format!("{value}\n"));
    }
}

/// What the record of the task has of an attempt that is over.
fn kept(store: &Store, run: &RunId, task: &TaskId, attempt: u32) -> Result<[Vec<u8>; 2]> {
    let Some(tip) = store.read(&layout::task(run, task))? else { return Ok([vec![], vec![]]) };
    let tree = store.repo().tree_of(&tip)?;
    let read = |name| store.repo().read_blob_at(&tree, &format!("attempts/{attempt}/{name}"));
    let [out, err] = STREAMS.map(read);
    Ok([out?.unwrap_or_default(), err?.unwrap_or_default()])
}

/// Tells what a running attempt prints, to its end.
fn listen(dir: &Path, attempt: u32, as_json: bool, ui: &Ui) {
    let mut tails = STREAMS.map(|name| Tail::new(dir.join(name)));
    let mut warned = false;
    loop {
        // Asked before the last look, so that nothing is missed.
        let over = !Lock::is_held(&dir.join(files::LOCK)).unwrap_or(false);
        for tail in &mut tails {
            tell(attempt, tail.stream, &tail.look(), as_json, ui);
        }
        if over {
            break;
        }
        if !warned && tails.iter().any(|tail| tail.read >= keeper::OUTPUT_HEAD) {
            warned = true;
            ui.status(
                "it prints very much: its last part is kept, and shown, only when it has ended",
            );
        }
        ambient::pause(LOOK);
    }
    for tail in tails {
        tell(attempt, tail.stream, &tail.reader.finish(), as_json, ui);
    }
}

/// A file that grows.
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

    /// What has come since the last look.
    fn look(&mut self) -> Vec<TranscriptEntry> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            // What cannot be read now may be at the next look.
            self.read += file.read_to_end(&mut bytes).unwrap_or(0) as u64;
        }
        self.reader.push(&bytes)
    }
}

/// The attempt that runs, and the folder of its keeper; no folder if it began and was over between two looks. Waits for
/// one where one may begin; `None`, and said, where none will.
fn running(
    store: &Store,
    run: &RunId,
    task: &TaskId,
    ui: &Ui,
) -> Result<Option<(u32, Option<PathBuf>)>> {
    let mut seen = None;
    loop {
        // Before the state: who has ended meanwhile has written it down.
        let driver = workspace::driver(store, run);
        let state = state(store, run, task)?;
        let dir = store.local().attempt(run, task, state.attempt);
        let kept = Lock::is_held(&dir.join(files::LOCK)).unwrap_or(false);
        if state.phase == Phase::Running && kept {
            return Ok(Some((state.attempt, Some(dir))));
        }
        let begun = seen.is_some_and(|attempt| attempt < state.attempt);
        if begun && !kept && state.phase != Phase::Running {
            return Ok(Some((state.attempt, None)));
        }
        if state.phase.ended() {
            let word = state.phase.as_str();
            ui.status(&format!(
                "no attempt of `{run}/{task}` is running: the task is {word}; `git harness show {run}/{task} \
                 --transcript` shows what its last attempt printed"
            ));
            return Ok(None);
        }
        if driver.is_none() && !kept {
            ui.status(&format!(
                "no attempt of `{run}/{task}` is running, and nothing starts one: `git harness start` goes on with the \
                 run"
            ));
            return Ok(None);
        }
        if seen.is_none() {
            seen = Some(state.attempt);
            ui.status(&format!("no attempt of `{run}/{task}` is running; waiting for the next"));
        }
        ambient::pause(LOOK);
    }
}

fn state(store: &Store, run: &RunId, task: &TaskId) -> Result<TaskState> {
    let name = layout::task(run, task);
    let tip = store.read(&name)?.with_context(|| format!("there is nothing at `{name}`"))?;
    let info = crate::repo::commit_info(store.repo(), &tip)?;
    codec::read_state(&name, &info.message)
}

/// How an attempt ended, in a sentence: from the task's chain, or from what its keeper published. Waits a little: one of
/// both is written soon.
fn ending(store: &Store, run: &RunId, task: &TaskId, attempt: u32) -> Result<Option<String>> {
    let until = ambient::instant() + LAST_WORDS;
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
        if ambient::instant() >= until {
            return Ok(None);
        }
        ambient::pause(LOOK);
    }
}

fn subject(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
