//! The sandbox of an assignment: its folders, its private `.git`, and the import of the commits
//! that an agent made there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::caches::CacheFolders;
use super::files;
use crate::domain::id::Oid;
use crate::domain::termination::Termination;
use crate::process::{self, Command, Confinement, Containment, Environ, Git, StopFlag};
use crate::repo::{self, PrivateGit, Repo, Worktree};
use crate::sandbox::{self, AssignmentFolders, CacheOverlays};
use crate::wire::keeper::{Assignment, SandboxSpec, SessionWork, Work};

/// The name of the sandbox in records.
pub(super) const NAME: &str = "bubblewrap";

/// The folder of the sandbox in the assignment's folder.
const FOLDER: &str = "sandbox";

/// The folder of the imported pack in the sandbox's folder.
const IMPORT: &str = "import";

/// Packs the commits of the worktree's `HEAD` and of the stash that the base does not have. It runs
/// in the sandbox, since the private `.git` can make git run any program.
const PACK: &str = r#"
tip=$(git rev-parse --quiet --verify "HEAD^{commit}") || tip=$1
stash=$(git log --walk-reflogs --format=%H --max-count=20 refs/stash -- 2>/dev/null)
[ "$tip" != "$1" ] || [ -n "$stash" ] || exit 0
printf '%s\n' "$tip" $stash "^$1" | git pack-objects --quiet --revs --thin --stdout >"$2/pack" || exit 1
printf '%s\n' "$tip" $stash >"$2/tips"
"#;

/// The time limit for packing.
const PACK_TIMEOUT: Duration = Duration::from_secs(300);

/// The largest pack that is imported, in bytes.
const MAX_PACK: u64 = 1024 * 1024 * 1024;

/// The largest file with object ids.
const MAX_IDS: u64 = 4096;

/// The work of an agent in its private `.git`.
#[derive(Debug, Default)]
pub(super) struct AgentCommits {
    /// The last commit on top of the base. `None` if there is none that can be taken: the content
    /// of the worktree is saved anyway.
    pub(super) head: Option<Oid>,
    /// The entries of the stash, newest first.
    pub(super) stash: Vec<Oid>,
    /// The index that the agent's git used, if it is not the worktree's own.
    pub(super) index: Option<PathBuf>,
}

/// The sandbox of an assignment.
#[derive(Debug)]
pub(super) struct AssignmentSandbox {
    spec: SandboxSpec,
    folders: AssignmentFolders,
    git: PrivateGit,
    caches: CacheFolders,
}

impl AssignmentSandbox {
    /// Makes the folders of the assignment's sandbox, and the private `.git`. Returns `None` if the
    /// assignment has no sandbox.
    pub(super) fn prepare(
        repo: &Repo,
        dir: &Path,
        (assignment, env): (&Assignment, &Environ),
        worktree: &Worktree,
    ) -> Result<Option<Self>> {
        let Some(sandbox) = Self::describe(repo, dir, (assignment, env), worktree)? else {
            return Ok(None);
        };
        let folders = &sandbox.folders;
        std::fs::create_dir_all(dir.join(FOLDER))?;
        std::fs::create_dir_all(&folders.tmp)?;
        std::fs::write(&folders.empty, "")?;
        if let Some(users) = &folders.users {
            std::fs::write(users, user_list(sandbox.spec.home.as_deref()))?;
        }
        for file in &folders.writable {
            // Created, and not truncated: a setup command may run before the session.
            std::fs::OpenOptions::new().create(true).append(true).open(file)?;
        }
        if let Some(home) = &folders.home {
            fill_home(home, &sandbox.spec)?;
            let links = sandbox.spec.links.iter().map(|(at, _)| at);
            remove_old_links(home, &sandbox.spec, links.chain(folders.named.links.keys()))?;
        }
        sandbox.caches.make()?;
        let stores: Vec<PathBuf> = (0..folders.objects.len()).map(sandbox::object_store).collect();
        sandbox.git.write(repo, worktree, Path::new(sandbox::WORKTREE), &stores)?;
        Ok(Some(sandbox))
    }

    /// Describes the sandbox without creating its folders. Returns `None` if the assignment has no
    /// sandbox.
    fn describe(
        repo: &Repo,
        dir: &Path,
        (assignment, env): (&Assignment, &Environ),
        worktree: &Worktree,
    ) -> Result<Option<Self>> {
        let Some(spec) = assignment.sandbox.as_ref().map(sandbox::existing) else {
            return Ok(None);
        };
        let common_dir = repo.common_dir();
        let own = dir.join(FOLDER);
        let git = PrivateGit::at(own.join("git"), worktree);
        let stores = repo::object_stores(repo)?;
        let session = session(&assignment.work);
        let is_named = |path: &PathBuf| {
            let path = path.to_string_lossy();
            session.is_some_and(|session| session.argv.iter().any(|a| a.contains(&*path)))
        };
        let readable = [files::PROMPT, files::FEEDBACK].map(|name| dir.join(name));
        let is_root = rustix::process::geteuid().is_root();
        let search = env.value("PATH").unwrap_or_default();
        let excluded = [common_dir, &worktree.path, &assignment.worktree.path];
        let named = sandbox::named_paths(&spec, command_lines(assignment), search, &excluded);
        let caches = CacheFolders::at(&assignment.worktree, &spec);
        let folders = AssignmentFolders {
            common_dir: common_dir.to_path_buf(),
            private_git: git.path.clone(),
            objects: stores.stores,
            alternates: stores.alternates,
            worktree: worktree.path.clone(),
            worktree_name: assignment.worktree.path.clone(),
            tmp: dir.join(files::TMP),
            // Beside the worktree's record: a later session in the worktree may continue this one.
            home: session.map(|_| assignment.worktree.index.with_extension(files::HOME)),
            readable: readable.into_iter().filter(|path| path.is_file()).collect(),
            writable: Some(dir.join(files::LAST_MESSAGE)).filter(is_named).into_iter().collect(),
            named,
            overlays: caches.commands(),
            empty: own.join("empty"),
            users: is_root.then(|| own.join("passwd")),
        };
        Ok(Some(Self { spec, folders, git, caches }))
    }

    /// Returns the sandbox of setup commands: with the machine's network, since they fetch
    /// packages, and without the files in the session's home.
    pub(super) fn setup_confinement(&self) -> Confinement {
        let spec = SandboxSpec { network: true, ..self.spec.clone() };
        let overlays = self.caches.setup();
        let folders = AssignmentFolders { home: None, overlays, ..self.folders.clone() };
        sandbox::confine(&spec, &folders)
    }

    /// Returns the sandbox of the assignment's commands.
    pub(super) fn confinement(&self) -> Confinement {
        sandbox::confine(&self.spec, &self.folders)
    }

    /// Imports the commits that the agent made on top of `base`, and the entries of its stash.
    fn import(
        &self,
        repo: &Repo,
        dir: &Path,
        assignment: &Assignment,
        env: &Environ,
        (worktree, base): (&Worktree, &Oid),
    ) -> Result<AgentCommits> {
        if !self.git.has_moved(worktree, base) && !self.git.has_stash() {
            return Ok(AgentCommits::default());
        }
        let folder = dir.join(FOLDER).join(IMPORT);
        std::fs::create_dir_all(&folder)?;
        let mut sandbox = Self {
            spec: SandboxSpec { network: false, ..self.spec.clone() },
            folders: self.folders.clone(),
            git: self.git.clone(),
            caches: CacheFolders::default(),
        };
        sandbox.folders.overlays = CacheOverlays::default();
        sandbox.folders.writable = vec![folder.clone()];
        let folder_text = folder.to_string_lossy().into_owned();
        let argv = ["sh", "-c", PACK, "sh", base.as_str(), &folder_text];
        let (stdout, stderr) = (dir.join("import.out"), dir.join("import.err"));
        let mut packer = Environ::empty();
        for name in ["PATH", "HOME", "LANG"] {
            if let Some(value) = env.value(name) {
                packer.set(name, value);
            }
        }
        let command = Command::new(argv, &worktree.path, &assignment.marker, stdout, stderr)
            .env(packer)
            .timeout(PACK_TIMEOUT)
            // This also runs in the supervisor, when it saves the work of a dead keeper. The
            // supervisor has other children, so the processes are found by the marker.
            .containment(Containment::Marker)
            .sandbox(Some(sandbox.confinement()));
        // A new flag: a request to stop the attempt must not cancel the import.
        let ended = process::run(&command, &StopFlag::new()?)?;
        let tips = repo::read_plain(&folder.join("tips"), MAX_IDS).unwrap_or_default();
        let tips = String::from_utf8_lossy(&tips);
        let tips: Vec<Oid> = tips.lines().map_while(|line| Oid::parse(line).ok()).collect();
        let pack = folder.join("pack");
        let is_plain = std::fs::symlink_metadata(&pack)
            .is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_PACK);
        let (Termination::Exited(0), [tip, stash @ ..], true) =
            (ended.termination, tips.as_slice(), is_plain)
        else {
            return Ok(AgentCommits::default());
        };
        let private = repo.common_dir().join("harness").join("git");
        let env = env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let git = Git::find_unchecked(repo.common_dir(), &private, &env)?;
        if let Err(error) = git.import_pack(&pack, &tips, base, MAX_PACK) {
            process::write_atomic(&dir.join("import.err"), format!("{error:#}\n").as_bytes())?;
            return Ok(AgentCommits::default());
        }
        let is_new = tip != base && repo.is_ancestor(base, tip).unwrap_or(false);
        let head = is_new.then(|| tip.clone());
        Ok(AgentCommits { head, stash: stash.to_vec(), index: None })
    }
}

/// Returns the commits of the agent: those of the private `.git`, once they are imported, if the
/// assignment has a sandbox. Without one, the stash is the user's, and the supervisor watches it.
pub(super) fn agent_commits(
    repo: &Repo,
    dir: &Path,
    (assignment, env): (&Assignment, &Environ),
    (worktree, base): (&Worktree, &Oid),
) -> Result<AgentCommits> {
    match AssignmentSandbox::describe(repo, dir, (assignment, env), worktree)? {
        None => Ok(AgentCommits { head: worktree.head_commit(repo), ..AgentCommits::default() }),
        Some(sandbox) => {
            let commits = sandbox
                .import(repo, dir, assignment, env, (worktree, base))
                .context("cannot import the agent's commits")?;
            Ok(AgentCommits { index: Some(sandbox.git.index()), ..commits })
        }
    }
}

/// Returns true if the private `.git` of an assignment is there: its keeper did not reach the end.
pub(super) fn is_left(dir: &Path) -> bool {
    dir.join(FOLDER).join("git").is_dir()
}

/// Removes what the sandbox of an assignment has left: the private `.git`, the imported pack, and
/// the home of an evaluator, whose session is never continued.
pub(super) fn discard(dir: &Path, assignment: &Assignment) -> Result<()> {
    if let Some(spec) = &assignment.sandbox {
        CacheFolders::at(&assignment.worktree, spec).discard()?;
    }
    let mut left = vec![dir.join(FOLDER)];
    if let Work::Evaluation(_) = assignment.work {
        left.push(assignment.worktree.index.with_extension(files::HOME));
    }
    left.iter().try_for_each(|path| {
        repo::remove_any(path).with_context(|| format!("cannot remove {}", path.display()))
    })
}

/// Makes the home of a session, with copies of the user's files. Nothing flows back.
fn fill_home(home: &Path, spec: &SandboxSpec) -> Result<()> {
    if spec.keeps_home && home.is_dir() {
        return Ok(());
    }
    let made = || format!("cannot make the home of a session: {}", home.display());
    repo::remove_any(home).with_context(made)?;
    std::fs::create_dir_all(home).with_context(made)?;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700)).with_context(made)?;
    let Some(user) = &spec.home else { return Ok(()) };
    for name in &spec.home_files {
        let (from, to) = (user.join(name), home.join(name));
        if from.is_file() {
            std::fs::create_dir_all(to.parent().unwrap_or(home)).with_context(made)?;
            std::fs::copy(from, to).with_context(made)?;
        }
    }
    Ok(())
}

/// Removes the links that an earlier session's sandbox made in the home.
fn remove_old_links<'a>(
    home: &Path,
    spec: &SandboxSpec,
    links: impl Iterator<Item = &'a PathBuf>,
) -> Result<()> {
    let Some(user) = &spec.home else { return Ok(()) };
    for name in links.filter_map(|link| link.strip_prefix(user).ok()) {
        let folder = home.join(name.parent().unwrap_or(name));
        // The earlier session may have put a link to elsewhere on the way.
        if std::fs::canonicalize(&folder).is_ok_and(|real| real == folder) {
            repo::remove_any(&home.join(name))?;
        }
    }
    Ok(())
}

/// Returns the session of an assignment, if it has one.
fn session(work: &Work) -> Option<&SessionWork> {
    match work {
        Work::Attempt(work) => Some(&work.session),
        Work::Evaluation(work) => Some(&work.session),
        Work::Checks(_) => None,
    }
}

/// Returns all command lines of an assignment.
fn command_lines(assignment: &Assignment) -> impl Iterator<Item = &Vec<String>> {
    let checks = match &assignment.work {
        Work::Checks(work) => work.checks.as_slice(),
        Work::Attempt(_) | Work::Evaluation(_) => &[],
    };
    let session = session(&assignment.work).map(|session| &session.argv);
    let of_checks = checks.iter().flat_map(|step| [&step.argv].into_iter().chain(&step.version));
    assignment.worktree.setup.iter().chain(session).chain(of_checks)
}

/// Returns the content of `/etc/passwd` for a sandbox that root starts, with an entry for the
/// ordinary user inside.
fn user_list(home: Option<&Path>) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = process::ORDINARY_ID;
    let home = home.unwrap_or(Path::new("/")).display();
    let others = users.lines().filter(|line| line.split(':').nth(2) != Some(&id.to_string()));
    let mut list: String = others.map(|line| format!("{line}\n")).collect();
    list.push_str(&format!("agent:x:{id}:{id}::{home}:/bin/sh\n"));
    list
}
