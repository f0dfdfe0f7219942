//! `queue list`: the branches and tasks that wait, the verifications under way, and the outcomes of
//! branches that no longer wait.

use std::collections::BTreeSet;

use anyhow::Result;

use super::summary::{BranchRow, BranchState, QueueSummary};
use super::tasks::{self, WaitingTask};
use super::{context, events};
use crate::ambient;
use crate::cli::QueueListArgs;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::shell::shell_quote;
use crate::engine::queue::status::{self, ActiveVerification};
use crate::error;
use crate::store::Store;
use crate::store::checkouts::Behind;
use crate::ui::{Ui, human, printable, table};
use crate::wire::cli;
use crate::wire::queue::Ejection;

/// The number of most recent verifications whose mean duration is used for estimates.
const RECENT: usize = 20;

/// `git harness queue list`
pub(super) fn run(store: &Store, target: &str, args: &QueueListArgs, ui: &Ui) -> Result<u8> {
    let listing = Listing::read(store, target)?;
    let branches = listing.branches(args.all);
    if args.json {
        ui.json(&listing.wire(&branches))?;
        return Ok(error::OK);
    }
    ui.result(&printable(&listing.text(&branches)));
    for behind in &listing.behind {
        ui.status(&behind.message(&listing.tip));
    }
    listing.problem.iter().for_each(|problem| ui.status(problem));
    tasks::summary_lines(&listing.tasks).iter().for_each(|line| ui.status(line));
    ui.status(&listing.last_line());
    ui.status(&format!("next: {}", listing.next.1));
    Ok(error::OK)
}

/// A branch with its row and the word for its state.
type ListedBranch<'a> = (&'a str, &'a BranchRow, &'static str);

/// A queue and everything that waits for its target.
struct Listing {
    target: String,
    /// The target's name for people.
    short: String,
    tip: Oid,
    summary: QueueSummary,
    /// True if branches need an approval.
    review: bool,
    /// The branches that need an approval because they change rule files.
    changes_rules: BTreeSet<String>,
    /// The longest train.
    batch: usize,
    /// True if every commit of a train needs a verdict.
    each: bool,
    /// Verifications under way.
    verifying: Vec<ActiveVerification>,
    tasks: Vec<WaitingTask>,
    behind: Vec<Behind>,
    /// The reason why nothing lands.
    problem: Option<String>,
    /// The word for the next command that helps, and the command.
    next: (&'static str, String),
}

/// Converts joint failures for `--json`.
fn fails_with<'a>(failures: Vec<(Option<&'a str>, &'a Oid)>) -> Vec<cli::FailsWith<'a>> {
    let convert = |(entry, commit): (_, &'a Oid)| cli::FailsWith { entry, commit: commit.as_str() };
    failures.into_iter().map(convert).collect()
}

impl Listing {
    fn read(store: &Store, target: &str) -> Result<Self> {
        let summary = QueueSummary::read(store, target)?;
        let context = context(store.clone(), target.to_owned())?;
        let tip = context.tip()?;
        let rules = context.rules(&tip).ok();
        let status = status::read(&context);
        let (verifying, problem) = match summary.running {
            true => (status.verifying, status.problem),
            // Keepers may be running even without a worker (`poll`).
            false => {
                let of_keepers = status::of_keepers(&context, &|entry| summary.is_task(entry));
                (of_keepers, status.left_problem(&tip))
            }
        };
        let tasks = tasks::waiting(store, target, &verifying)?;
        let mut changes_rules = BTreeSet::new();
        if let Some(rules) = rules.as_ref().filter(|rules| rules.reviews_rules()) {
            for (entry, row) in summary.branches.iter().filter(|(_, row)| row.is_waiting()) {
                // A commit that is gone is named elsewhere.
                let changed = context.changed_rule_files(rules, &tip, &row.commit);
                if changed.is_ok_and(|files| !files.is_empty()) {
                    changes_rules.insert(entry.clone());
                }
            }
        }
        let is_default = super::target(store, None).is_ok_and(|default| default == target);
        let mut listing = Self {
            next: ("", String::new()),
            changes_rules,
            target: target.to_owned(),
            short: context.short().to_owned(),
            review: rules.as_ref().is_some_and(|rules| rules.job.queue.review),
            each: rules.as_ref().is_some_and(|rules| rules.job.queue.each),
            batch: rules.as_ref().map_or(1, |rules| rules.job.queue.batch.max(1)),
            verifying,
            behind: store.behind(target)?,
            problem,
            tip,
            summary,
            tasks,
        };
        // The last line says that a queue is paused.
        let shows_problem = !listing.summary.paused && listing.has_entries();
        listing.problem = listing.problem.filter(|_| shows_problem);
        listing.next = listing.next_command(is_default);
        Ok(listing)
    }

    /// Returns the next command that helps, with its word in JSON.
    fn next_command(&self, is_default: bool) -> (&'static str, String) {
        let queue = |code, action: &str| {
            let option = match is_default {
                true => String::new(),
                false => format!(" --target {}", shell_quote(&self.short)),
            };
            (code, format!("git harness queue {action}{option}"))
        };
        let branches = self.branches(false);
        let mut reviewing = branches.iter().filter(|(_, _, state)| *state == "reviewing");
        if self.summary.paused {
            return queue("resume-queue", "resume");
        }
        if let (Some((branch, ..)), true) =
            (reviewing.next(), branches.iter().all(|(_, _, state)| *state == "reviewing"))
        {
            return queue("approve", &format!("approve {}", shell_quote(branch)));
        }
        match (branches.is_empty(), self.summary.running, self.tasks.first()) {
            (false, false, _) => queue("run-queue", "run"),
            (false, true, _) => queue("list-queue", "list"),
            (true, _, Some(task)) => task.next(),
            (true, _, None) => queue("add", "add BRANCH"),
        }
    }

    /// Returns the branches that wait. With `all`, also returns the branches that have landed or
    /// left.
    fn branches(&self, all: bool) -> Vec<ListedBranch<'_>> {
        let size = if self.each { self.batch } else { self.summary.train_size(self.batch) };
        let mut rows = self.summary.ordered(size, &|entry, row| self.is_reviewing(entry, row));
        // What is verified now lands before what waits.
        let verifying: Vec<&String> =
            self.verifying.iter().flat_map(|work| work.entries()).collect();
        rows.sort_by_key(|(entry, row)| {
            let position = verifying.iter().position(|name| name == entry);
            (!row.is_waiting(), position.unwrap_or(usize::MAX))
        });
        let rows = rows.into_iter().filter(|(_, row)| all || row.is_waiting());
        rows.map(|(entry, row)| (entry, row, self.state_word(entry, row))).collect()
    }

    fn state_word(&self, entry: &str, row: &BranchRow) -> &'static str {
        match &row.state {
            BranchState::Landed(_) => "landed",
            BranchState::Ejected(Ejection::Rejected { .. }) => "rejected",
            BranchState::Ejected(Ejection::Conflict { .. }) => "conflict",
            BranchState::Ejected(Ejection::ChangesRequested { .. }) => "sent back",
            BranchState::Ejected(Ejection::Blocked { .. }) => "blocked",
            BranchState::Removed(_) => "removed",
            BranchState::Waiting if self.is_reviewing(entry, row) => "reviewing",
            BranchState::Waiting if self.is_verifying(entry) => "verifying",
            BranchState::Waiting => "queued",
        }
    }

    fn is_reviewing(&self, entry: &str, row: &BranchRow) -> bool {
        let needs_approval = self.review || self.changes_rules.contains(entry);
        needs_approval && row.approved.as_ref() != Some(&row.commit)
    }

    fn is_verifying(&self, entry: &str) -> bool {
        self.verifying.iter().any(|work| work.branches.iter().any(|e| e == entry))
    }

    fn has_entries(&self) -> bool {
        self.waiting() > 0 || !self.tasks.is_empty()
    }

    fn waiting(&self) -> usize {
        self.summary.branches.values().filter(|row| row.is_waiting()).count()
    }

    /// Estimates the time until the queue is empty, in milliseconds.
    fn left_ms(&self) -> Option<u64> {
        let all = &self.summary.verification_ms;
        let recent = &all[all.len().saturating_sub(RECENT)..];
        let waiting = self.waiting();
        (!recent.is_empty() && waiting > 0).then(|| {
            let mean = recent.iter().sum::<u64>() / recent.len() as u64;
            mean * waiting.div_ceil(self.summary.train_size(self.batch)) as u64
        })
    }

    /// Converts the queue for `--json`.
    fn wire<'a>(&'a self, branches: &[ListedBranch<'a>]) -> cli::Queue<'a> {
        let entries = branches.iter().enumerate().map(|(n, (entry, row, state))| {
            let (landed_as, why) = match &row.state {
                BranchState::Landed(Some(commit)) => (Some(commit.as_str()), None),
                BranchState::Landed(None) => (None, Some(events::nothing_landed(entry))),
                BranchState::Ejected(reason) => {
                    (None, Some(events::ejection(entry, reason).join("\n")))
                }
                BranchState::Removed(why) => (None, Some(why.clone())),
                BranchState::Waiting => (None, None),
            };
            cli::QueuedBranch {
                branch: entry,
                state,
                commit: row.commit.as_str(),
                priority: row.priority,
                after: &row.after,
                since: row.since.0,
                position: row.is_waiting().then_some(n + 1),
                landed_as,
                why,
                fails_with: fails_with(self.summary.joint_failures_of(entry)),
            }
        });
        let some = |names: &'a Vec<String>| (!names.is_empty()).then_some(names.as_slice());
        let verifying = self.verifying.iter().map(|work| cli::Verifying {
            what: &work.kind,
            branches: some(&work.branches),
            tasks: some(&work.tasks),
            since: work.since,
        });
        let behind = self.behind.iter();
        cli::Queue {
            v: cli::Version,
            target: &self.target,
            tip: self.tip.as_str(),
            paused: self.summary.paused,
            problem: self.problem.as_deref(),
            running: self.summary.running,
            entries: entries.collect(),
            verifying: verifying.collect(),
            verifications: self.summary.verification_ms.len(),
            left_ms: self.left_ms(),
            tasks: self.tasks.iter().map(WaitingTask::wire).collect(),
            behind: behind
                .map(|b| cli::StaleCheckout { path: &b.path, repair: b.repair(&self.tip) })
                .collect(),
            next_action: cli::NextAction { code: self.next.0, command: &self.next.1 },
        }
    }

    /// Formats the queue as a table for people.
    fn text(&self, branches: &[ListedBranch<'_>]) -> String {
        let mut text = String::new();
        if !(branches.is_empty() && self.tasks.is_empty()) {
            let header = ["", "BRANCH", "COMMIT", "STATE", "SINCE", "PRIORITY", "AFTER"];
            let mut rows = vec![header.map(String::from).to_vec()];
            for (n, (entry, row, state)) in branches.iter().enumerate() {
                rows.push(vec![
                    if row.is_waiting() { (n + 1).to_string() } else { String::new() },
                    (*entry).to_owned(),
                    row.commit.short().to_owned(),
                    (*state).to_owned(),
                    human::duration(ambient::now().since_ms(row.since)),
                    if row.priority == 0 { String::new() } else { row.priority.to_string() },
                    row.after.join(" "),
                ]);
            }
            rows.extend(self.tasks.iter().map(WaitingTask::cells));
            text.push_str(&table::columns(&rows));
        }
        for work in &self.verifying {
            let since = human::duration(ambient::now().since_ms(Timestamp(work.since)));
            text.push_str(&format!(
                "{} {} for {since}\n",
                work.kind,
                work.entries().cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        for (entry, row, _) in branches {
            let why = match &row.state {
                BranchState::Ejected(reason) => events::ejection(entry, reason),
                BranchState::Landed(None) => vec![events::nothing_landed(entry)],
                BranchState::Landed(Some(_)) | BranchState::Removed(_) | BranchState::Waiting => {
                    Vec::new()
                }
            };
            why.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        // List the rejected entries that fail together with a listed landed branch.
        for (rejected, candidate, partner) in self.summary.joint_failures() {
            let landed = partner.entry.as_deref().unwrap_or_default();
            if branches.iter().any(|(entry, ..)| *entry == landed) {
                let line = events::joint_failure(landed, rejected, candidate);
                text.push_str(&format!("{line}\n"));
            }
        }
        text
    }

    /// Formats the counts as one line.
    fn last_line(&self) -> String {
        let waiting = match self.waiting() {
            0 => "no branch waits".to_owned(),
            1 => "1 branch waits".to_owned(),
            n => format!("{n} branches wait"),
        };
        let tally = self.summary.tally().text();
        let mut line = format!("{waiting} to land on `{}`; {tally}", self.short);
        if let Some(ms) = self.left_ms() {
            line.push_str(&format!("; about {} left", human::duration(ms)));
        }
        if self.summary.paused {
            line.push_str("; paused");
        }
        line
    }
}
