//! `why` and `blame`: the work that a commit or a line comes from, and the checks that it passed.

mod origin;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use self::origin::{Origin, Origins};
use super::names::path_in_repository;
use super::queue::{QueueSummary, joint_failure};
use super::workspace;
use crate::ambient;
use crate::cli as args;
use crate::domain::id::Oid;
use crate::domain::session::Cost;
use crate::error::{self, Advice};
use crate::repo;
use crate::store::notes::NoteLines;
use crate::store::{Store, layout};
use crate::ui::{Ui, human, printable, table};
use crate::wire::cli;

/// `git harness why`
pub(super) fn run(here: &Path, args: &args::WhyArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let commit = store.repo().resolve_commit(args.commit.as_deref().unwrap_or("HEAD"))?;
    let origins = Origins::of(&store)?.find(&commit)?;
    let joint = joint_failures(&store, &commit, &origins)?;
    let queue = unlanded_entries(&store, &commit)?;
    let is_unknown = origins.is_empty() && joint.is_empty() && queue.is_empty();
    if args.json {
        let list = origins.iter().map(wire).collect();
        let fails_with = joint.iter().map(|failure| cli::FailsWith {
            entry: failure.entry.as_deref(),
            commit: failure.commit.as_str(),
        });
        let fails_with = fails_with.collect();
        let why =
            cli::Why { v: cli::Version, commit: commit.as_str(), origins: list, fails_with, queue };
        ui.json(&why)?;
    } else if is_unknown {
        ui.status(&format!(
            "{}: not made by a run or a queue, as far as this repository knows",
            commit.short()
        ));
    } else {
        let info = repo::commit_info(store.repo(), &commit)?;
        let mut text =
            format!("{} {}\n", commit.short(), info.message.lines().next().unwrap_or_default());
        for origin in &origins {
            text.push_str(&page(&store, origin)?);
        }
        let reasons = queue.iter().flat_map(|entry| entry.why.lines());
        reasons.for_each(|line| text.push_str(&format!("    {line}\n")));
        // The reason of a rejected entry names its partner already.
        for failure in joint.iter().filter(|f| !queue.iter().any(|e| e.why.starts_with(&f.text))) {
            text.push_str(&format!("    {}\n", failure.text));
        }
        ui.result(&printable(&text));
    }
    if args.repair && !origins.is_empty() {
        repair(&store, &commit, &origins, ui)?;
    }
    Ok(if is_unknown { error::INCOMPLETE } else { error::OK })
}

/// Returns the branches of all queues whose candidate is `commit` and that have not landed it.
fn unlanded_entries(store: &Store, commit: &Oid) -> Result<Vec<cli::UnlandedEntry>> {
    let mut found = Vec::new();
    for target in store.queued_targets()? {
        let summary = QueueSummary::read(store, &target)?;
        for (entry, why) in summary.unlanded(commit) {
            found.push(cli::UnlandedEntry { target: target.clone(), entry: entry.to_owned(), why });
        }
    }
    Ok(found)
}

/// Two entries of a queue that fail only together.
struct JointFailure {
    text: String,
    /// The other entry, to which the given commit does not belong. `None` if the other commit was
    /// landed by no queue.
    entry: Option<String>,
    commit: Oid,
}

/// Returns the joint failures of a commit. The commit is the candidate of a rejected entry, or has
/// landed.
fn joint_failures(store: &Store, commit: &Oid, origins: &[Origin]) -> Result<Vec<JointFailure>> {
    let is_landed = |landed: &Oid| {
        landed == commit || origins.iter().any(|origin| origin.landed.as_ref() == Some(landed))
    };
    let mut found = Vec::new();
    for target in store.queued_targets()? {
        for (entry, candidate, partner) in QueueSummary::read(store, &target)?.joint_failures() {
            let landed = &partner.commit.0;
            if candidate == commit {
                let text = format!("{entry}: rejected: {partner}");
                let (entry, commit) = (partner.entry.clone(), landed.clone());
                found.push(JointFailure { text, entry, commit });
            } else if is_landed(landed) {
                let name = partner.entry.as_deref().unwrap_or(landed.short());
                let text = joint_failure(name, entry, candidate);
                let (entry, commit) = (Some(entry.to_owned()), candidate.clone());
                found.push(JointFailure { text, entry, commit });
            }
        }
    }
    Ok(found)
}

/// Writes the origins as notes on the commit, so that later look-ups find them at once.
fn repair(store: &Store, commit: &Oid, origins: &[Origin], ui: &Ui) -> Result<()> {
    if origins.iter().all(|origin| origin.by == origin::FoundBy::Note) {
        ui.status("the commit has its note already");
        return Ok(());
    }
    let lines = origins.iter().map(|origin| origin.note.to_string()).collect();
    store.add_notes(layout::NOTES, &NoteLines::from([(commit.clone(), lines)]))?;
    store.barrier()?;
    ui.status(&format!("wrote a note on {}", commit.short()));
    Ok(())
}

/// Converts an origin for `--json`.
fn wire(origin: &Origin) -> cli::Origin<'_> {
    cli::Origin {
        by: origin.by.as_str(),
        landed: origin.landed.as_ref().map(Oid::as_str),
        who: origin.who(),
        note: &origin.note,
    }
}

/// Formats an origin for people.
fn page(store: &Store, origin: &Origin) -> Result<String> {
    let get = |key: &str| origin.note.get(key).and_then(Value::as_str);
    let mut rows: Vec<(&str, String)> = vec![("work", origin.who())];
    if let Some(landed) = &origin.landed {
        rows.push((
            "landed as",
            format!("{} (found by its {})", landed.short(), origin.by.as_str()),
        ));
    }
    if let Some(agent) = get("agent") {
        let model = get("model").map_or(String::new(), |model| format!(", {model}"));
        let program = get("command").map_or(String::new(), |program| format!(", `{program}`"));
        rows.push(("agent", format!("{agent}{model}{program}")));
    }
    for (key, label) in [("session", "session"), ("candidate", "candidate"), ("target", "target")] {
        rows.extend(get(key).map(|value| (label, value.to_owned())));
    }
    rows.extend(get("prompt").map(|blob| ("prompt", format!("git cat-file blob {blob}"))));
    let cost = origin.note.get("cost_usd").and_then(Value::as_f64).and_then(Cost::from_usd);
    rows.extend(cost.map(|cost| ("cost", cost.to_string())));
    let approved = origin.note.get("approved").and_then(|a| a.get("by")).and_then(Value::as_str);
    rows.extend(approved.map(|by| ("approved", by.to_owned())));
    let train = origin.note.get("verified").and_then(|p| p.get("commit")).and_then(Value::as_str);
    let short = |commit: &str| commit.get(..7).unwrap_or(commit).to_owned();
    rows.extend(train.map(|last| {
        ("proved", format!("together with what landed behind it, up to {}", short(last)))
    }));
    rows.extend(checks(store, origin)?.into_iter().map(|check| ("check", check)));
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let line = |(label, value): &(&str, String)| format!("    {label:width$}  {value}\n");
    Ok(rows.iter().map(line).collect())
}

/// Returns the checks that the work passed: from the note of the work, or from the notes of the
/// verified tree.
fn checks(store: &Store, origin: &Origin) -> Result<Vec<String>> {
    let line = |check: &Value, name: &str, passed: &str| -> Option<String> {
        let name = check.get(name)?.as_str()?;
        let word = if check.get(passed)?.as_bool()? { "passed" } else { "failed" };
        let ms = check.get("ms").and_then(Value::as_u64).unwrap_or(0);
        let took = if ms > 0 { format!(" ({})", human::duration(ms)) } else { String::new() };
        Some(format!("{word} {name}{took}"))
    };
    if let Some(list) = origin.note.get("checks").and_then(Value::as_array) {
        return Ok(list.iter().filter_map(|check| line(check, "name", "passed")).collect());
    }
    let Some(tree) = origin.note.get("tree").and_then(Value::as_str) else { return Ok(Vec::new()) };
    let note = store.note(layout::VERDICTS, &Oid::parse(tree)?)?.unwrap_or_default();
    let lines = note.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter_map(|check| line(&check, "check", "pass")).collect())
}

/// `git harness blame`
pub(super) fn blame(here: &Path, args: &args::BlameArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let rev = args.revision.as_deref().unwrap_or("HEAD");
    let commit = store.repo().resolve_commit(rev)?;
    let path = path_in_repository(&store, here, &args.file)?;
    let tree = store.repo().tree_of(&commit)?;
    if store.repo().read_blob_at(&tree, &path)?.is_none() {
        let hint = "name a committed file; uncommitted lines have no origin";
        return Err(Advice::new(format!("`{rev}` has no file `{path}`"), hint).into());
    }
    // Run git as the user would, so that `blame.ignoreRevsFile` applies, which is relative to the
    // work tree.
    let git = store.git().with("GIT_DIR", store.repo().common_dir());
    let git = store.repo().top().map_or(git.clone(), |top| git.with("GIT_WORK_TREE", top));
    let args_of_git = ["blame", "--porcelain", commit.as_str(), "--", &path];
    let blamed = git.as_user(&args_of_git, &ambient::environment())?;
    anyhow::ensure!(blamed.code == Some(0), "git blame: {}", blamed.stderr);
    let text = String::from_utf8_lossy(&blamed.stdout);
    let mut origins = Origins::of(&store)?;
    let mut origins_by_commit: BTreeMap<Oid, Vec<Origin>> = BTreeMap::new();
    let mut rows: Vec<(Oid, usize, String)> = Vec::new();
    let mut at = None;
    for line in text.lines() {
        if let Some(content) = line.strip_prefix('\t') {
            let (commit, number): (Oid, usize) =
                at.clone().context("cannot parse the output of `git blame`")?;
            rows.push((commit, number, content.to_owned()));
        } else if let Some((id, rest)) = line.split_once(' ')
            && let Ok(commit) = Oid::parse(id)
        {
            let number = rest.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
            if !origins_by_commit.contains_key(&commit) {
                origins_by_commit.insert(commit.clone(), origins.find(&commit)?);
            }
            at = Some((commit, number));
        }
    }
    let who = |commit: &Oid| -> String {
        let origins = origins_by_commit.get(commit).map_or(&[][..], Vec::as_slice);
        origins.iter().map(Origin::who).collect::<Vec<_>>().join(" ")
    };
    if args.json {
        let lines = rows.iter().map(|(commit, number, text)| cli::BlamedLine {
            line: *number,
            commit: commit.as_str(),
            text,
        });
        let commits = origins_by_commit
            .iter()
            .map(|(commit, origins)| (commit.as_str(), origins.iter().map(wire).collect()));
        ui.json(&cli::Blame {
            v: cli::Version,
            file: &path,
            lines: lines.collect(),
            commits: commits.collect(),
        })?;
        return Ok(error::OK);
    }
    let width = rows.iter().map(|(commit, ..)| table::width(&who(commit))).max().unwrap_or(0);
    let digits = rows.len().to_string().len();
    let line = |(commit, number, text): &(Oid, usize, String)| {
        let who = table::pad(&who(commit), width);
        format!("{} {who} {number:>digits$}) {text}\n", commit.short())
    };
    ui.result(&printable(&rows.iter().map(line).collect::<String>()));
    Ok(error::OK)
}
