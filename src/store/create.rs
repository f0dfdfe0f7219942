//! Creates a run: pins everything, then writes the run's ref.

use anyhow::{Context, Result, bail};

use super::chain::{Payload, Tip, chain_commit, put, without};
use super::load::files;
use super::{Expected, RefMove, RunProof, Store, codec, layout};
use crate::ambient;
use crate::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::plan::{Plan, Task};
use crate::domain::state::TaskState;
use crate::failpoint;
use crate::repo;
use crate::wire::VERSION;
use crate::wire::run::{Manifest, TaskFile};

/// The number of refs in one transaction: large enough to be fast, small enough to hold few locks
/// at a time.
const REFS_AT_ONCE: usize = 1_000;

/// The content of a new run.
#[derive(Debug)]
pub struct NewRun<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// The job file's text.
    pub job_text: &'a str,
    /// The plan.
    pub plan: &'a Plan,
    /// The files that the job names: path and content.
    pub pinned: &'a [(String, Vec<u8>)],
    /// The outputs of planning commands: name and content.
    pub inputs: &'a [(String, Vec<u8>)],
    /// True if the run waits for `start`.
    pub paused: bool,
}

impl Store {
    /// Creates a run. The run's ref is the commit point and is written last: a process that is
    /// killed before that leaves no run.
    pub fn create(&self, proof: &RunProof, new: &NewRun) -> Result<()> {
        let run = proof.run();
        if self.read(&layout::run(run))?.is_some() {
            bail!("the run `{run}` exists already");
        }
        let base = new.manifest.base()?;
        self.create_tasks(run, new.plan)?;
        failpoint::hit("create.tasks");
        let target = &new.manifest.target;
        if self.read(target)?.is_none() {
            self.transact(&[RefMove::to(target.clone(), base.clone(), Expected::Absent)])
                .with_context(|| format!("cannot create the target branch `{target}`"))?;
        }
        failpoint::hit("create.target");
        let empty = repo::write_tree(self.repo(), &[])?;
        let mut payloads = vec![
            self.payload(files::MANIFEST, serde_json::to_string_pretty(new.manifest)?.as_bytes())?,
            self.payload(files::JOB, new.job_text.as_bytes())?,
            self.payload(files::PLAN, crate::wire::plan::to_json(new.plan)?.as_bytes())?,
        ];
        for (path, bytes) in new.pinned {
            payloads.push(self.payload(&format!("{}/{path}", files::PINNED), bytes)?);
        }
        for (name, bytes) in new.inputs {
            payloads.push(self.payload(&format!("{}/{name}", files::INPUTS), bytes)?);
        }
        let tree = put(self, &empty, &payloads)?;
        let kind = RunEventKind::Created { paused: new.paused };
        let event = RunEvent { at: ambient::now(), kind };
        let message = codec::write_run(run.as_str(), &event, 1, &ambient::nonce())?;
        // With the base as a parent, the base stays reachable whatever happens to the user's
        // branches.
        let commit = chain_commit(self, &layout::run(run), &tree, &[base], &message)?;
        self.barrier()?;
        failpoint::hit("create.before-run");
        let name = layout::run(run);
        self.transact(&[RefMove::to(name.clone(), commit.clone(), Expected::Absent)])?;
        self.begin_record(&name);
        self.record_tips(&name, std::iter::once((&name, &commit)));
        failpoint::hit("create.run");
        self.barrier()
    }

    /// Returns the tree of a run's chain with another job and the files that the job names.
    pub fn tree_with_job(
        &self,
        tree: &Oid,
        job: &str,
        pinned: &[(String, Vec<u8>)],
    ) -> Result<Oid> {
        let bare = without(self, tree, files::PINNED)?;
        let mut payloads = vec![self.payload(files::JOB, job.as_bytes())?];
        for (path, bytes) in pinned {
            payloads.push(self.payload(&format!("{}/{path}", files::PINNED), bytes)?);
        }
        put(self, &bare, &payloads)
    }

    /// Returns the tree of a run's chain with another plan.
    pub fn tree_with_plan(
        &self,
        tree: &Oid,
        manifest: &Manifest,
        plan: &Plan,
        inputs: &[(String, Vec<u8>)],
    ) -> Result<Oid> {
        let bare = without(self, tree, files::INPUTS)?;
        let mut payloads = vec![
            self.payload(files::MANIFEST, serde_json::to_string_pretty(manifest)?.as_bytes())?,
            self.payload(files::PLAN, crate::wire::plan::to_json(plan)?.as_bytes())?,
        ];
        for (name, bytes) in inputs {
            payloads.push(self.payload(&format!("{}/{name}", files::INPUTS), bytes)?);
        }
        put(self, &bare, &payloads)
    }

    fn payload(&self, path: &str, bytes: &[u8]) -> Result<Payload> {
        let id = repo::write_blob(self.repo(), bytes)?;
        Ok(Payload { path: path.to_owned(), id, is_tree: false })
    }

    /// Creates chains for the tasks of a plan. Replaces chains that are left from a run whose
    /// creation was interrupted, or from an older plan.
    pub fn create_tasks(&self, run: &RunId, plan: &Plan) -> Result<()> {
        let old_tips = self.list(&layout::tasks(run))?;
        let old_tips: std::collections::BTreeMap<_, _> = old_tips.into_iter().collect();
        for tasks in plan.tasks.chunks(REFS_AT_ONCE) {
            let mut moves = Vec::with_capacity(tasks.len());
            for task in tasks {
                let (tip, _) = self.first_event(run, task)?;
                let name = layout::task(run, &task.id);
                let expected = Expected::from_read(old_tips.get(&name).cloned());
                moves.push(RefMove::to(name, tip.commit, expected));
            }
            let replaced = moves.iter().map(|moved| &moved.name);
            self.forget_tips(
                &layout::run(run),
                replaced.filter(|name| old_tips.contains_key(*name)),
            );
            self.transact_in_bulk(&moves).context("cannot create the refs of the tasks")?;
        }
        Ok(())
    }

    /// Writes the first commit of a task's chain. No ref names the commit yet.
    pub(super) fn first_event(&self, run: &RunId, task: &Task) -> Result<(Tip, TaskState)> {
        let file = TaskFile {
            v: VERSION,
            id: task.id.to_string(),
            files: task.files.clone(),
            lines: task.lines,
            tokens: task.tokens,
        };
        let blob = repo::write_blob(self.repo(), &serde_json::to_vec_pretty(&file)?)?;
        let tree = repo::write_tree(self.repo(), &[("task.json".to_owned(), blob)])?;
        let event = TaskEvent { at: ambient::now(), kind: TaskEventKind::Created };
        let mut state = TaskState::default();
        state.apply(&event);
        let nonce = ambient::nonce();
        let message = codec::write_task(run.as_str(), &task.id, &event, &state, &nonce)?;
        let name = layout::task(run, &task.id);
        let commit = chain_commit(self, &name, &tree, &[], &message)?;
        Ok((Tip { commit, tree }, state))
    }

    /// Creates new chains for tasks whose ref was lost or quarantined. If the work of such a task
    /// has landed, recovery finds the work on the target; otherwise the task runs again.
    pub fn recreate_tasks(
        &self,
        proof: &RunProof,
        plan: &Plan,
        missing: &[TaskId],
    ) -> Result<Vec<(TaskId, Tip, TaskState)>> {
        let mut recreated = Vec::new();
        let mut moves = Vec::new();
        for task in plan.tasks.iter().filter(|t| missing.contains(&t.id)) {
            let (tip, state) = self.first_event(proof.run(), task)?;
            let name = layout::task(proof.run(), &task.id);
            moves.push(RefMove::to(name, tip.commit.clone(), Expected::Absent));
            recreated.push((task.id.clone(), tip, state));
        }
        self.forget_tips(&layout::run(proof.run()), moves.iter().map(|moved| &moved.name));
        self.transact(&moves)?;
        Ok(recreated)
    }
}

/// Refuses ref names that cannot exist beside existing refs: git cannot store both `a` and `a/b`.
pub fn refuse_collisions(store: &Store, names: &[String]) -> Result<()> {
    for name in names {
        let mut parent = name.as_str();
        while let Some((shorter, _)) = parent.rsplit_once('/') {
            parent = shorter;
            if parent.matches('/').count() < 2 {
                break;
            }
            if store.read(parent)?.is_some() {
                bail!("`{name}` cannot exist beside the ref `{parent}`: rename one of them");
            }
        }
        if let Some((below, _)) = store.list(&format!("{name}/"))?.into_iter().next() {
            bail!("`{name}` cannot exist beside the ref `{below}`: rename one of them");
        }
    }
    Ok(())
}

/// Returns a name for a new run of a job: `<job>-N`, where N is one more than the largest number in
/// use.
pub fn next_run(store: &Store, job: &str) -> Result<RunId> {
    let runs = store.runs()?;
    let number = |run: &RunId| -> Option<u32> {
        run.as_str().strip_prefix(job)?.strip_prefix('-')?.parse().ok()
    };
    let last = runs.iter().filter_map(number).max().unwrap_or(0);
    Ok(RunId::parse(&format!("{job}-{}", last + 1))?)
}
