//! Folders of worktrees that an agent replaces by links or by folders of the user.

use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// Creates a run of which the agent of `beta` replaces the folder of the run's worktrees by a link
/// to a folder of the user.
fn replaced() -> Sandbox {
    let job = TestJob::new(&["alpha", "beta"])
        .set("limits", "jobs = 1")
        .set("retry", "feedback = 0\ninfra = 0");
    let sandbox = Sandbox::new(job);
    let precious = sandbox.root().join("home/precious");
    std::fs::create_dir_all(precious.join("tasks")).unwrap();
    std::fs::create_dir_all(precious.join("p01")).unwrap();
    for file in ["thesis", "tasks/list", "p01/notes"] {
        std::fs::write(precious.join(file), "mine\n").unwrap();
    }
    sandbox.script(
        "beta",
        "edit beta done; run=$(dirname \"$PWD\")\n\
         [ -L \"$run\" ] || { mv \"$run\" \"$run.moved\"; ln -s \"$HOME/precious\" \"$run\"; }",
    );
    sandbox
}

/// Returns the sorted paths of all files and folders in the user's folder.
fn precious(sandbox: &Sandbox) -> Vec<String> {
    let root = sandbox.root().join("home/precious");
    let (mut left, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

#[test]
fn sweep_never_deletes_through_a_link_in_place_of_the_worktrees() {
    let sandbox = replaced();
    let before = precious(&sandbox);
    assert_ne!(sandbox.run(&["start"]).code, 0);
    assert_eq!(precious(&sandbox), before, "the run changed the user's folder");
    let sweep = sandbox.run(&["sweep"]).exits(128);
    assert!(sweep.stderr.contains("is not the folder that git-harness made"), "{}", sweep.stderr);
    assert_eq!(precious(&sandbox), before, "sweep changed the user's folder");
    // The run continues when the folder is back.
    let folder = sandbox.root().join("repo.harness/job-1");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(folder.with_extension("moved"), &folder).unwrap();
    sandbox.script("beta", "edit beta done");
    drop(sandbox.run(&["retry", "--failed"]));
    sandbox.run(&["start", "--force"]).exits(0);
    sandbox.run(&["sweep"]).exits(0);
    assert_eq!(precious(&sandbox), before);
    assert!(!folder.exists());
}

#[test]
fn folder_in_place_of_a_worktree_is_set_aside_and_not_deleted() {
    let job = TestJob::new(&["alpha", "beta"]).set("limits", "jobs = 1");
    let sandbox = Sandbox::new(job);
    // The agent of `alpha` moves a folder of the user to where its worktree was.
    let precious = sandbox.root().join("home/precious");
    std::fs::create_dir_all(&precious).unwrap();
    std::fs::write(precious.join("thesis"), "mine\n").unwrap();
    std::fs::write(precious.join(".gitignore"), "thesis\n").unwrap();
    sandbox
        .script("alpha.1", "here=$PWD; cd ..; rm -rf \"$here\"; mv \"$HOME/precious\" \"$here\"");
    drop(sandbox.run(&["start"]));
    drop(sandbox.run(&["start"]));
    sandbox.run(&["sweep"]).exits(0);
    let folder = sandbox.root().join("repo.harness/job-1");
    let thesis = folder.join("p01.aside-1/thesis");
    assert_eq!(std::fs::read_to_string(thesis).unwrap(), "mine\n");
}

#[test]
fn kept_tool_of_the_checks_that_an_agent_overwrites_is_made_anew() {
    let tool = "mkdir -p kept; printf '#!/bin/sh\\n! grep -n BAD alpha beta\\n' >kept/tool; chmod +x kept/tool";
    let setup = format!("setup = [['sh', '-c', \"\"\"{tool}\"\"\"]]\nkeep = [\"kept\"]");
    let job = TestJob::bare(&["alpha", "beta"])
        .set("sandbox", "mode = \"off\"")
        .set("limits", "jobs = 1")
        .set("retry", "feedback = 0")
        .set("worktree", &setup)
        .check("tool", &["kept/tool"], "when = [\"task\"]");
    let sandbox = Sandbox::new(job);
    // A set-up runs again before each check if git does not ignore its files.
    sandbox.write(".gitignore", "kept\n");
    sandbox.git(&["add", ".gitignore"]);
    sandbox.git(&["commit", "--quiet", "--message", "ignore"]);
    sandbox.script(
        "beta",
        r#"edit beta BAD
           until git show harness/job-1/result:alpha | grep -q done; do sleep 0.05; done
           find "$(dirname "$(dirname "$PWD")")" -path '*/kept/tool' ! -path "$PWD/*" >"$HOME/tools"
           while read -r tool; do printf '#!/bin/sh\nexit 0\n' >"$tool"; done <"$HOME/tools""#,
    );
    sandbox.run(&["start"]).exits(1);
    let tools = std::fs::read_to_string(sandbox.sign("tools")).unwrap();
    assert!(tools.lines().count() > 0, "the attack did not take place");
    assert_eq!(sandbox.landed("beta"), "to be done");
}
