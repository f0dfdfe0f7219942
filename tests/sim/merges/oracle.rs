//! Trains built by this program, and the same merges by git in a fresh clone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use git_harness::domain::id::Oid;
use git_harness::domain::queue::EntryId;
use git_harness::store::Store;
use git_harness::testing::Git;
use git_harness::testing::job::MergeStyle;
use git_harness::testing::landing::{CarRequest, CarSubject, Merger, TargetHistory, TrainBuilder};
use git_harness::testing::repo::Repo;

use super::TrialCounts;
use super::history::MergeTrial;

/// A folder for trials, with the git that a search path finds first.
pub(super) struct Workshop {
    dir: tempfile::TempDir,
    path: OsString,
    takes_merge_base: bool,
}

/// The result of a merge.
#[derive(Debug, PartialEq, Eq)]
enum Merged {
    Tree(String),
    Conflict(BTreeSet<String>),
}

impl Workshop {
    pub(super) fn new(path: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("harness-merges-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        let mut workshop = Self { dir, path: path.into(), takes_merge_base: true };
        let version = workshop.git(workshop.dir.path(), &["--version"]);
        let numbers: Vec<u32> =
            version.split(['.', ' ']).filter_map(|word| word.parse().ok()).collect();
        workshop.takes_merge_base = numbers[..2] >= [2, 40][..];
        workshop
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn command(&self, dir: &Path, args: &[&str]) -> Command {
        // `Command` searches the path of the child's environment.
        let mut command = Command::new("git");
        command.args(args).current_dir(dir).env_clear();
        command.env("PATH", &self.path).env("HOME", self.home());
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "T").env(format!("GIT_{role}_EMAIL"), "t@t");
        }
        command
    }

    fn git(&self, dir: &Path, args: &[&str]) -> String {
        let out = self.command(dir, args).output().unwrap();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "git {args:?}: {errors}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Builds the trains of a trial and compares each merge with git's.
    pub(super) fn run(&self, trial: &MergeTrial, name: &str, counts: &mut TrialCounts) {
        let dir = self.dir.path().join("trial");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(self.home().join(".gitconfig"), &trial.user_config).unwrap();
        let source = dir.join("source");
        self.git(&dir, &["init", "--quiet", "--bare", "--template=", "source"]);
        configure(&source, trial);
        let ids = self.import(&source, trial);
        self.git(&dir, &["clone", "--quiet", "--shared", "--no-checkout", "source", "clone"]);
        let clone = dir.join("clone");
        configure(&clone.join(".git"), trial);

        let store = self.open(&source);
        let (merger, who) = (Merger::new(&store), store.repo().identity());
        let builder = TrainBuilder { repo: store.repo(), merger: &merger, who: &who };
        let merge = if trial.squash { MergeStyle::Squash } else { MergeStyle::Merge };
        let names: Vec<EntryId> = (0..trial.branches.len())
            .map(|branch| EntryId::parse(&format!("b{branch}")).unwrap())
            .collect();
        let mut history = TargetHistory::default();
        let mut tip = ids[trial.target].clone();
        let mut landed: BTreeSet<usize> = BTreeSet::new();
        for train in [0..trial.landed_before, trial.landed_before..trial.branches.len()] {
            history.update(store.repo(), &tip, None).unwrap();
            let request = |branch: usize| CarRequest {
                entry: &names[branch],
                candidate: &ids[trial.branches[branch].tip],
                merge,
                subject: CarSubject::Branch,
                base: recorded_base(trial, branch, &landed)
                    .filter(|_| trial.gives_base)
                    .map(|at| &ids[at]),
            };
            let requests: Vec<CarRequest<'_>> = train.clone().map(request).collect();
            let built = match builder.build(&tip, &requests, &history) {
                Ok(built) => built,
                Err(error) => {
                    counts.differences.push(format!("{name}: {error:#}"));
                    return;
                }
            };
            for branch in train {
                let candidate = &ids[trial.branches[branch].tip];
                let base = recorded_base(trial, branch, &landed).map(|at| &ids[at]);
                let want = self.merge(&clone, &tip, candidate, base);
                let car = built.cars.iter().find(|car| car.entry == names[branch]);
                let conflict = built.conflicts.iter().find(|c| c.entry == names[branch]);
                let got = match (car, conflict) {
                    (Some(car), None) => Merged::Tree(car.tree.to_string()),
                    (None, Some(conflict)) => {
                        Merged::Conflict(conflict.paths.iter().cloned().collect())
                    }
                    (_, _) => panic!("{name}: branch {branch} has no result or two"),
                };
                counts.merges += 1;
                counts.recorded += usize::from(base.is_some());
                counts.conflicts += usize::from(conflict.is_some());
                if got != want {
                    counts
                        .differences
                        .push(format!("{name}, branch {branch}: {got:?}, git: {want:?}"));
                    return;
                }
                if let Some(car) = car {
                    landed.insert(branch);
                    tip = car.commit.clone();
                }
            }
        }
    }

    /// Opens the state of a repository, in an environment whose settings must not count.
    fn open(&self, source: &Path) -> Store {
        let repo = Repo::discover(source).unwrap();
        let environment: BTreeMap<OsString, OsString> = [
            ("PATH", self.path.clone()),
            ("HOME", self.home().into()),
            ("GIT_CONFIG_COUNT", "2".into()),
            ("GIT_CONFIG_KEY_0", "merge.renames".into()),
            ("GIT_CONFIG_VALUE_0", "false".into()),
            ("GIT_CONFIG_KEY_1", "merge.default".into()),
            ("GIT_CONFIG_VALUE_1", "union".into()),
            ("GIT_ATTR_SOURCE", "no-such-commit".into()),
        ]
        .map(|(name, value)| (name.into(), value))
        .into();
        let git = Git::find(repo.common_dir(), &source.join("harness/git"), &environment).unwrap();
        Store::open(repo, git).unwrap()
    }

    /// Writes the commits and returns their ids.
    fn import(&self, source: &Path, trial: &MergeTrial) -> Vec<Oid> {
        let mut stream = String::new();
        for (at, commit) in trial.commits.iter().enumerate() {
            let message = format!("commit {at}");
            let time = 1_700_000_000 + at;
            writeln!(stream, "commit refs/trial/{at}\nmark :{}", at + 1).unwrap();
            writeln!(stream, "committer T <t@t> {time} +0000").unwrap();
            writeln!(stream, "data {}\n{message}", message.len()).unwrap();
            for (nth, parent) in commit.parents.iter().enumerate() {
                let word = if nth == 0 { "from" } else { "merge" };
                writeln!(stream, "{word} :{}", parent + 1).unwrap();
            }
            stream.push_str("deleteall\n");
            for (path, (mode, text)) in &commit.files {
                writeln!(stream, "M {} inline {path}\ndata {}", mode.as_str(), text.len()).unwrap();
                writeln!(stream, "{text}").unwrap();
            }
        }
        writeln!(stream, "reset refs/heads/main\nfrom :{}", trial.target + 1).unwrap();
        let mut child = self
            .command(source, &["fast-import", "--quiet", "--export-marks=marks"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let marks = std::fs::read_to_string(source.join("marks")).unwrap();
        let ids: BTreeMap<usize, Oid> = marks
            .lines()
            .map(|line| {
                let (mark, id) = line[1..].split_once(' ').unwrap();
                (mark.parse().unwrap(), Oid::parse(id).unwrap())
            })
            .collect();
        ids.into_values().collect()
    }

    fn parents(&self, clone: &Path, commit: &str) -> String {
        self.git(clone, &["log", "-1", "--format=%P", commit])
    }

    /// Merges two commits in the clone, with `onto` checked out.
    fn merge(&self, clone: &Path, onto: &Oid, candidate: &Oid, base: Option<&Oid>) -> Merged {
        let (onto, candidate) = (onto.as_str(), candidate.as_str());
        self.git(clone, &["checkout", "--quiet", "--force", "--detach", onto]);
        let option = base.map(|base| format!("--merge-base={base}"));
        let mut args = vec!["merge-tree", "--write-tree", "-z"];
        match base {
            Some(base) if !self.takes_merge_base => {
                // The recorded base becomes the only parent of both. git refuses a graft that
                // changes nothing.
                for commit in [onto, candidate] {
                    let graft = ["replace", "--graft", commit, base.as_str()];
                    let refused = !self.command(clone, &graft).output().unwrap().status.success();
                    assert!(!refused || self.parents(clone, commit) == base.as_str());
                }
            }
            Some(_) | None => args.extend(option.as_deref()),
        }
        args.extend([onto, candidate]);
        let out = self.command(clone, &args).output().unwrap();
        let grafted =
            if self.takes_merge_base { String::new() } else { self.git(clone, &["replace"]) };
        for id in grafted.lines() {
            self.git(clone, &["replace", "--delete", id]);
        }
        let mut fields = out.stdout.split(|byte| *byte == 0);
        let mut field = || String::from_utf8(fields.next().unwrap_or_default().to_vec()).unwrap();
        let tree = field();
        match out.status.code() {
            Some(0) => return Merged::Tree(tree),
            Some(1) => {}
            Some(_) | None => panic!("git {args:?}: {}", String::from_utf8_lossy(&out.stderr)),
        }
        let mut paths = BTreeSet::new();
        loop {
            let line = field();
            let Some((_, path)) = line.split_once('\t') else { break };
            paths.insert(path.to_owned());
        }
        // Conflicts without stages, such as a folder that was renamed to two folders.
        if paths.is_empty() {
            while let Ok(count) = field().parse::<usize>() {
                let named: Vec<String> = (0..count).map(|_| field()).collect();
                if field().starts_with("CONFLICT") {
                    paths.extend(named);
                }
                field();
            }
        }
        Merged::Conflict(paths)
    }
}

/// Writes the settings and attributes of a trial.
fn configure(git_dir: &Path, trial: &MergeTrial) {
    let path = git_dir.join("config");
    let config = std::fs::read_to_string(&path).unwrap() + &trial.config;
    std::fs::write(path, config).unwrap();
    if let Some(attributes) = &trial.info_attributes {
        std::fs::create_dir_all(git_dir.join("info")).unwrap();
        std::fs::write(git_dir.join("info/attributes"), attributes).unwrap();
    }
}

/// Returns the commit that counts as the merge base: the tip of the squashed branch on which the
/// branch is stacked.
fn recorded_base(trial: &MergeTrial, branch: usize, landed: &BTreeSet<usize>) -> Option<usize> {
    let mut next = trial.branches[branch].stacked.filter(|_| trial.squash);
    while let Some((below, commit)) = next {
        if landed.contains(&below) {
            return Some(commit);
        }
        next = trial.branches[below].stacked;
    }
    None
}
