//! Attacks of an agent, and of the code that a check runs, on a run with a sandbox: none may have
//! an effect outside. Prints a table. Skipped, with a line that says so, where no sandbox can be
//! made.

use std::process::Command;

use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// Returns the reason why the attacks are skipped, if this machine has no sandbox.
pub(crate) fn missing_sandbox() -> Option<String> {
    let probe = ["--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "true"];
    let made = Command::new("bwrap").args(probe).output();
    let works = made.as_ref().is_ok_and(|output| output.status.success());
    (!works).then(|| format!("skipped: no sandbox (bubblewrap, user namespaces) here: {made:?}"))
}

/// Returns a job in a sandbox. The agents of its tasks may commit.
fn job(tasks: &[&str]) -> TestJob {
    TestJob::new(tasks).set("sandbox", "mode = \"require\"").set("retry", "redispatch = 0")
}

/// A private text of the user.
const PRIVATE: &str = "PRIVATE-KEY-OF-THE-USER";

/// Gives the user a stash, a remote, a second worktree, a private file and a file in `/tmp`.
fn with_belongings(job: TestJob) -> Sandbox {
    let sandbox = Sandbox::new(job);
    let root = sandbox.root();
    sandbox.write("shared", "one\ntwo\nthree\nstashed\n");
    sandbox.git(&["stash", "push", "--quiet", "shared"]);
    let origin = root.join("origin.git").to_string_lossy().into_owned();
    sandbox.git(&["init", "--quiet", "--bare", &origin]);
    sandbox.git(&["remote", "add", "origin", &origin]);
    sandbox.git(&["push", "--quiet", "origin", "main"]);
    let second = root.join("second").to_string_lossy().into_owned();
    sandbox.git(&["worktree", "add", "--quiet", &second, "feature"]);
    for file in ["home/private", "home/.bashrc", "second/private"] {
        std::fs::write(root.join(file), PRIVATE).unwrap();
    }
    sandbox.remember();
    sandbox
}

/// Returns the state that the attacks must not change.
fn outside(sandbox: &Sandbox) -> Vec<String> {
    let root = sandbox.root();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
    let mut state = vec![read("home/private"), read("home/.bashrc"), read("second/private")];
    state.push(sandbox.git(&["stash", "list"]));
    state.push(sandbox.git(&[
        "--git-dir",
        &root.join("origin.git").to_string_lossy(),
        "for-each-ref",
    ]));
    state.push(sandbox.git(&["fsck", "--connectivity-only", "--no-dangling"]));
    state.push(sandbox.git(&["worktree", "list"]).lines().count().min(2).to_string());
    let made = ["/etc/harness-evil", "/usr/harness-evil", "/tmp/harness-evil", "/harness-evil"];
    state.extend(made.iter().map(|path| std::path::Path::new(path).exists().to_string()));
    state
}

/// Attacks as shell code. `$REPO` is the user's work tree, `$ROOT` the folder around it. The output
/// of all goes into a file of the candidate.
const ATTACKS: [(&str, &str); 24] = [
    (
        "hooks",
        "mkdir -p $REPO/.git/hooks; echo 'echo EVIL' >$REPO/.git/hooks/pre-commit; chmod +x $REPO/.git/hooks/pre-commit",
    ),
    (
        "configuration",
        "git config core.hooksPath /evil; git config --file $REPO/.git/config core.bare true",
    ),
    (
        "filter in the configuration",
        "git config filter.x.smudge evil; echo '* filter=x' >>$REPO/.git/info/attributes",
    ),
    ("packed refs", "echo \"$(git rev-parse HEAD) refs/heads/main\" >$REPO/.git/packed-refs"),
    (
        "branches of the user",
        "git update-ref refs/heads/main HEAD; git branch -f feature; git tag -f v1",
    ),
    ("stash of the user", "git stash clear; rm -rf $REPO/.git/refs/stash $REPO/.git/logs"),
    ("alternates", "echo /evil >$REPO/.git/objects/info/alternates"),
    ("objects", "rm -rf $REPO/.git/objects; rm -rf /run/harness/objects/*"),
    ("grafts and replace refs", "git replace -f HEAD HEAD~0; echo x >$REPO/.git/info/grafts"),
    ("refs of the program", "git for-each-ref refs/harness; ls $REPO/.git/harness"),
    (
        "forged outcome",
        "for d in $REPO/.git/harness/runs/*/checks/*; do echo '{}' >$d/outcome.json; done",
    ),
    ("pinned rules", "echo EVIL >$REPO/.git/harness/runs/job-1/pinned/check.sh"),
    (
        "work tree of the user",
        "echo EVIL >$REPO/README; rm -f $REPO/untracked; rm -rf $REPO/shared",
    ),
    (
        "other worktrees",
        "ls -A $REPO.harness $REPO.harness/*; echo EVIL >$REPO.harness/job-1/p02/beta",
    ),
    ("linked worktree of the user", "cat $ROOT/second/private; echo EVIL >$ROOT/second/private"),
    ("home", "cat $ROOT/home/private; echo EVIL >$ROOT/home/.bashrc; rm -rf $ROOT/home"),
    ("environment of the supervisor", "cat /proc/*/environ | tr '\\0' '\\n' | grep SUPER"),
    (
        "processes outside",
        "kill -9 $PPID; for p in /proc/[0-9]*; do echo process ${p#/proc/}; done",
    ),
    ("system files", "for f in /etc /usr /tmp ''; do echo EVIL >$f/harness-evil; done"),
    ("shadow passwords", "cat /etc/shadow"),
    ("root", "echo \"user $(id -u)\"; grep CapEff /proc/self/status"),
    ("remote", "git push origin HEAD:main; git push $ROOT/origin.git HEAD:main"),
    ("sockets", "ls -A /run"),
    (
        "HEAD on the branch of the user",
        "git symbolic-ref HEAD refs/heads/main; git commit -q --allow-empty -m EVIL",
    ),
];

fn script(sandbox: &Sandbox, output: &str) -> String {
    let (repo, root) = (sandbox.repo.display(), sandbox.root());
    let mut script = format!("REPO={repo} ROOT={}\n", root.display());
    for (name, attack) in ATTACKS {
        script.push_str(&format!("(set +e; echo '== {name}'; {attack}) >>{output} 2>&1 || true\n"));
    }
    script
}

/// Returns the effects of the attacks.
fn effects(sandbox: &Sandbox, before: &[String], output: &str) -> Vec<String> {
    let mut effects = sandbox.harmed();
    let after = outside(sandbox);
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
    effects.extend(changed.map(|(before, after)| format!("{before:?} became {after:?}")));
    let section = |name: &str| {
        let start = output.split(&format!("== {name}\n")).nth(1).unwrap_or_default();
        start.split("== ").next().unwrap_or_default().to_owned()
    };
    let leaks = [
        ("refs of the program", "refs/harness"),
        ("refs of the program", "runs"),
        ("other worktrees", "p02:\n."),
        ("linked worktree of the user", PRIVATE),
        ("home", PRIVATE),
        ("environment of the supervisor", "SUPERSECRET"),
        ("shadow passwords", "root:"),
        ("root", "user 0\n"),
    ];
    for (name, leak) in leaks {
        let section = section(name);
        effects.extend(section.contains(leak).then(|| format!("{name}: {section}")));
    }
    let processes = section("processes outside").matches("process ").count();
    effects.extend((processes > 8).then(|| format!("processes outside: {processes} are seen")));
    effects
}

/// Returns the table of the attacks.
fn table(effects: &[String]) -> String {
    let result = if effects.is_empty() { "no effect" } else { "see the effects" };
    ATTACKS.iter().map(|(name, _)| format!("{name:35} {result}\n")).collect()
}

#[test]
fn attacks_of_a_sandboxed_agent_have_no_effect_outside() {
    if let Some(why) = missing_sandbox() {
        println!("{why}");
        return;
    }
    let sandbox = with_belongings(job(&["alpha", "beta"]));
    let before = outside(&sandbox);
    sandbox.script(
        "alpha",
        &format!(
            "{}edit alpha done; cat attack.log >>alpha; rm attack.log",
            script(&sandbox, "attack.log")
        ),
    );
    let run =
        sandbox.run_in(&sandbox.repo, &["start"], &[("SUPERSECRET", "SUPERSECRET-of-the-user")]);
    run.exits(0);
    let output = sandbox.landed("alpha");
    let effects = effects(&sandbox, &before, &output);
    println!("an agent in the sandbox:\n{}", table(&effects));
    assert!(effects.is_empty(), "{effects:#?}\n{output}");
    assert_eq!(sandbox.task("beta")["state"], "done");
}

#[test]
fn attacks_of_a_sandboxed_check_have_no_effect_and_no_network() {
    if let Some(why) = missing_sandbox() {
        println!("{why}");
        return;
    }
    let check = "[ $(grep -c : /proc/net/dev) -le 1 ] && [ ! -e $HOME/private ] || exit 1\n\
        if grep -q 'REPO=' attack; then exec sh ./attack; fi";
    let job = job(&["alpha", "attack"]).check("attacks", &["sh", "-c", check], "");
    let sandbox = with_belongings(job);
    let before = outside(&sandbox);
    let attack = script(&sandbox, "$TMPDIR/attack.log");
    std::fs::write(sandbox.root().join("scripts/attack.body"), format!("{attack}exit 0\n"))
        .unwrap();
    sandbox.script("attack", "cat \"$HARNESS_SCRIPTS/attack.body\" >attack");
    sandbox.run_in(&sandbox.repo, &["start"], &[]).exits(0);
    let effects = effects(&sandbox, &before, "");
    println!("a check in the sandbox:\n{}", table(&effects));
    assert!(effects.is_empty(), "{effects:#?}");
}

#[test]
fn everything_that_git_does_works_in_the_sandbox_and_the_commits_are_imported() {
    if let Some(why) = missing_sandbox() {
        println!("{why}");
        return;
    }
    let sandbox = with_belongings(job(&["alpha"]).set("queue", "merge = \"merge\""));
    let script = "[ \"$PWD\" = /run/harness/worktree ] && [ \"$HARNESS_WORKTREE\" = \"$PWD\" ]\n\
        [ \"$(git rev-parse --show-toplevel)\" = \"$PWD\" ] && [ -z \"$(git status --porcelain)\" ]\n\
        edit alpha one; propose first; edit alpha two; git stash --quiet; git stash pop --quiet\n\
        propose second; git branch topic; git branch -D --quiet topic; git gc --quiet; git pack-refs --all\n\
        git config alias.x status; git fsck --no-dangling; git log --oneline main feature >/dev/null\n\
        git worktree list >/dev/null; [ -z \"$(git stash list)\" ]";
    sandbox.script("alpha", script);
    sandbox.run_in(&sandbox.repo, &["start"], &[]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "two");
    let log = sandbox.git(&["log", "--format=%s", "harness/job-1/result"]);
    assert!(log.contains("first") && log.contains("second"), "{log}");
    assert!(sandbox.harmed().is_empty(), "{:?}", sandbox.harmed());
}

#[test]
fn work_that_a_sandboxed_agent_did_not_commit_is_saved() {
    if let Some(why) = missing_sandbox() {
        println!("{why}");
        return;
    }
    let sandbox = Sandbox::new(job(&["alpha"]));
    sandbox.script("alpha", "edit alpha one; propose first; edit alpha two");
    sandbox.run_in(&sandbox.repo, &["start"], &[]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "two");
    assert_eq!(sandbox.status()["sandbox"], "bubblewrap");
}

#[test]
fn sandboxed_agents_end_at_the_timeout_and_leave_nothing() {
    if let Some(why) = missing_sandbox() {
        println!("{why}");
        return;
    }
    let job = job(&["alpha"]).set("agent", "timeout = \"2s\"").set("retry", "feedback = 0");
    let sandbox = Sandbox::new(job);
    sandbox.script(
        "alpha",
        "trap 'edit alpha stopped; exit 3' TERM; (sleep 600 &); while :; do sleep 0.1; done",
    );
    sandbox.run_in(&sandbox.repo, &["start"], &[]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "stopped", "the agent got the signal");
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
}

#[test]
fn a_required_sandbox_that_is_missing_refuses_before_anything_is_written() {
    let sandbox = Sandbox::new(job(&["alpha"]));
    let path = sandbox.root().join("bin");
    std::fs::create_dir(&path).unwrap();
    for program in ["git", "sh"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|folder| folder.join(program))
            .find(|file| file.is_file());
        std::os::unix::fs::symlink(found.unwrap(), path.join(program)).unwrap();
    }
    let before = sandbox.git(&["for-each-ref"]);
    let output = sandbox.run_in(&sandbox.repo, &["start"], &[("PATH", &path.to_string_lossy())]);
    output.exits(128).says("the job requires a sandbox: there is no program `bwrap` in PATH");
    assert_eq!(sandbox.git(&["for-each-ref"]), before);
}
