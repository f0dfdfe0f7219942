//! `queue list`: what waits, what is being verified, and what became of the rest.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::{desk, tasks, work};
use crate::ambient;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::queue::{QueueSettings, rank};
use crate::engine::queue::{Now, now};
use crate::error;
use crate::process::Lock;
use crate::store::queue_log::QueueLogEntry;
use crate::store::{Store, layout};
use crate::ui::{Ui, human, printable, table};
use crate::wire::queue::{Ejection, QueueEvent};

/// So many verifications are asked how long they take.
const RECENT: usize = 20;

/// What became of a branch.
#[derive(Debug, Clone, PartialEq)]
enum BranchState {
    Waits,
    Landed(Oid),
    Left(Ejection),
    Removed(String),
}

#[derive(Debug, Clone)]
struct BranchRow {
    /// How many were added before it.
    seq: usize,
    commit: Oid,
    priority: i64,
    after: Vec<String>,
    since: Timestamp,
    approved: Option<Oid>,
    state: BranchState,
}

/// How much has happened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    landed: usize,
    left: usize,
    verified: usize,
}

impl Tally {
    /// What has happened since another was made.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            landed: self.landed - before.landed,
            left: self.left - before.left,
            verified: self.verified - before.verified,
        }
    }

    /// Whether a branch has left without having landed.
    pub(super) fn left_any(self) -> bool {
        self.left > 0
    }

    /// In a line.
    pub(super) fn text(self) -> String {
        let Self { landed, left, verified } = self;
        let verified = human::number(verified, "verification");
        format!("{landed} landed, {left} did not, {verified}")
    }
}

/// How a queue stands, as its book has it.
#[derive(Debug)]
pub(super) struct QueueSummary {
    rows: BTreeMap<String, BranchRow>,
    paused: bool,
    /// How long the last verifications took, in milliseconds.
    took: Vec<u64>,
    verified: usize,
    landed: usize,
    left: usize,
    worked_off: bool,
}

impl QueueSummary {
    pub(super) fn of(store: &Store, target: &str) -> Result<Self> {
        let lock = store.local().integrator_lock(&layout::target_key(target));
        let worked_off = lock.is_file() && Lock::is_held(&lock)?;
        let (rows, took) = (BTreeMap::new(), Vec::new());
        let (paused, verified, landed, left) = (false, 0, 0, 0);
        let mut summary = Self { rows, paused, took, verified, landed, left, worked_off };
        for written in store.queue_log(target, None)?.1 {
            summary.fold(written);
        }
        Ok(summary)
    }

    fn fold(&mut self, QueueLogEntry { at, event }: QueueLogEntry) {
        match event {
            QueueEvent::Added { candidate: c, priority, after, .. } => {
                // Added again while it waits, it keeps its age, and what was said of it.
                let old = self.rows.get(&c.entry).filter(|row| row.state == BranchState::Waits);
                let approved = old.and_then(|row| row.approved.clone());
                let since = old.map_or(at, |row| row.since);
                let seq = old.map_or(self.rows.len(), |row| row.seq);
                let (commit, state) = (c.commit, BranchState::Waits);
                let row = BranchRow { seq, commit, priority, after, since, approved, state };
                self.rows.insert(c.entry, row);
            }
            QueueEvent::Replaced(c) => {
                if let Some(row) = self.rows.get_mut(&c.entry) {
                    row.commit = c.commit;
                }
            }
            QueueEvent::Approved { candidate: c, .. } => {
                if let Some(row) = self.rows.get_mut(&c.entry) {
                    row.approved = Some(c.commit);
                }
            }
            QueueEvent::Removed { entry, why } => self.ends(&entry, BranchState::Removed(why)),
            QueueEvent::Ejected { candidate, reason: why } => {
                self.left += 1;
                self.ends(&candidate.entry, BranchState::Left(why));
            }
            QueueEvent::Landed { new, entries, .. } => {
                self.landed += entries.len();
                entries.iter().for_each(|c| self.ends(&c.entry, BranchState::Landed(new.clone())));
            }
            QueueEvent::Paused { .. } => self.paused = true,
            QueueEvent::Resumed { .. } => self.paused = false,
            QueueEvent::Verified { ms, .. } => {
                self.took.push(ms);
                self.verified += 1;
            }
        }
    }

    fn ends(&mut self, entry: &str, state: BranchState) {
        if let Some(row) = self.rows.get_mut(entry) {
            row.state = state;
        }
    }

    pub(super) fn waits(&self, entry: &str) -> bool {
        self.rows.get(entry).is_some_and(|row| row.state == BranchState::Waits)
    }

    pub(super) fn landed(&self, entry: &str) -> bool {
        self.rows.get(entry).is_some_and(|row| matches!(row.state, BranchState::Landed(_)))
    }

    pub(super) fn is_worked_off(&self) -> bool {
        self.worked_off
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.values().all(|row| row.state != BranchState::Waits)
    }

    /// What has happened so far.
    pub(super) fn tally(&self) -> Tally {
        let Self { landed, left, verified, .. } = *self;
        Tally { landed, left, verified }
    }

    /// In the order in which they are taken; those that are over last.
    fn ordered(&self) -> Vec<(&String, &BranchRow)> {
        let ageing = QueueSettings::default().ageing;
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|(_, row)| {
            (row.state != BranchState::Waits, rank(row.since, row.priority, ageing), row.seq)
        });
        rows
    }
}

fn word(row: &BranchRow, entry: &str, review: bool, now: &[Now]) -> String {
    match &row.state {
        BranchState::Landed(_) => "landed".into(),
        BranchState::Left(Ejection::Rejected { .. }) => "rejected".into(),
        BranchState::Left(Ejection::Conflict { .. }) => "conflict".into(),
        BranchState::Left(Ejection::ChangesRequested { .. }) => "sent back".into(),
        BranchState::Left(Ejection::Blocked { .. }) => "blocked".into(),
        BranchState::Removed(_) => "removed".into(),
        BranchState::Waits if review && row.approved.as_ref() != Some(&row.commit) => {
            "reviewing".into()
        }
        BranchState::Waits if now.iter().any(|n| n.entries.iter().any(|e| e == entry)) => {
            "verifying".into()
        }
        BranchState::Waits => "queued".into(),
    }
}

pub(super) fn run(store: &Store, target: &str, json: bool, all: bool, ui: &Ui) -> Result<u8> {
    let summary = QueueSummary::of(store, target)?;
    let desk = desk(store.clone(), target.to_owned())?;
    let tip = desk.tip()?;
    let rules = desk.rules(&tip).ok();
    let review = rules.as_ref().is_some_and(|rules| rules.job.queue.review);
    let batch = rules.as_ref().map_or(1, |rules| rules.job.queue.batch.max(1));
    let under_way = if summary.worked_off { now(&desk) } else { Vec::new() };
    let rows = summary.ordered();
    let shown = rows.iter().filter(|(_, row)| all || row.state == BranchState::Waits);
    let waiting = rows.iter().filter(|(_, row)| row.state == BranchState::Waits).count();
    let recent = &summary.took[summary.took.len().saturating_sub(RECENT)..];
    let estimate = (!recent.is_empty() && waiting > 0).then(|| {
        let mean = recent.iter().sum::<u64>() / recent.len() as u64;
        mean * waiting.div_ceil(batch) as u64
    });
    let behind = store.behind(target)?;
    let (of_runs, runs_now) = tasks::waiting(store, target)?;
    let entries: Vec<_> =
        shown.map(|(entry, row)| (*entry, *row, word(row, entry, review, &under_way))).collect();
    if json {
        let entries: Vec<_> = entries
            .iter()
            .enumerate()
            .map(|(n, (entry, row, word))| {
                json!({
                    "branch": entry, "state": word, "commit": row.commit.as_str(), "priority": row.priority,
                    "after": row.after, "since": row.since.0,
                    "position": (row.state == BranchState::Waits).then_some(n + 1),
                    "landed_as": if let BranchState::Landed(id) = &row.state { Some(id.as_str()) } else { None },
                    "why": match &row.state {
                        BranchState::Left(why) => Some(work::left(entry, why).join("\n")),
                        BranchState::Removed(why) => Some(why.clone()),
                        BranchState::Waits | BranchState::Landed(_) => None,
                    },
                })
            })
            .collect();
        let verifying: Vec<_> = (under_way.iter())
            .map(|n| json!({"what": n.kind, "branches": n.entries, "since": n.since}))
            .chain(
                runs_now
                    .iter()
                    .map(|n| json!({"what": n.kind, "tasks": n.entries, "since": n.since})),
            )
            .collect();
        let value = json!({
            "v": 1, "target": target, "tip": tip.as_str(), "paused": summary.paused, "running": summary.worked_off,
            "entries": entries, "verifying": verifying, "verifications": summary.verified, "left_ms": estimate,
            "tasks": of_runs.iter().map(tasks::WaitingTask::json).collect::<Vec<_>>(),
            "behind": behind.iter().map(|b| json!({"path": b.path, "repair": b.repair(&tip)})).collect::<Vec<_>>(),
        });
        ui.result(&format!("{value}\n"));
        return Ok(error::OK);
    }
    let mut text = String::new();
    if !(entries.is_empty() && of_runs.is_empty()) {
        let header = ["", "BRANCH", "COMMIT", "STATE", "SINCE", "PRIORITY", "AFTER"];
        let mut cells = vec![header.map(String::from).to_vec()];
        for (n, (entry, row, word)) in entries.iter().enumerate() {
            let position =
                if row.state == BranchState::Waits { (n + 1).to_string() } else { String::new() };
            cells.push(vec![
                position,
                (*entry).clone(),
                row.commit.short().to_owned(),
                word.clone(),
                human::duration(ambient::now().since_ms(row.since)),
                if row.priority == 0 { String::new() } else { row.priority.to_string() },
                row.after.join(" "),
            ]);
        }
        cells.extend(of_runs.iter().map(tasks::WaitingTask::cells));
        text.push_str(&table::columns(&cells));
    }
    for n in under_way.iter().chain(&runs_now) {
        let since = human::duration(ambient::now().since_ms(Timestamp(n.since)));
        text.push_str(&format!("{} {} for {since}\n", n.kind, n.entries.join(", ")));
    }
    if all {
        for (entry, row, _) in &entries {
            if let BranchState::Left(why) = &row.state {
                text.push_str(&work::left(entry, why).join("\n"));
                text.push('\n');
            }
        }
    }
    ui.result(&printable(&text));
    for one in &behind {
        ui.status(&one.told(&tip));
    }
    tasks::summary_lines(&of_runs).iter().for_each(|line| ui.status(line));
    let short = desk.short();
    let mut last = {
        let wait = match waiting {
            0 => "no branch waits".to_owned(),
            1 => "1 branch waits".to_owned(),
            n => format!("{n} branches wait"),
        };
        format!("{wait} to land on `{short}`; {}", summary.tally().text())
    };
    if let Some(ms) = estimate {
        last.push_str(&format!("; about {} left", human::duration(ms)));
    }
    if summary.paused {
        last.push_str("; paused");
    }
    ui.status(&last);
    Ok(error::OK)
}
