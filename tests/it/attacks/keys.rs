//! Two users, or one user with two homes, who work on one copy of a repository.

use std::path::{Path, PathBuf};

use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// Returns the file of the only key of a home.
fn key_file(home: &Path) -> PathBuf {
    let keys = home.join(".local/state/git-harness/keys");
    let files = std::fs::read_dir(keys).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_none()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn second_home_is_refused_by_the_id_of_its_key_until_the_key_is_trusted() {
    let job = TestJob::new(&["alpha", "beta", "gamma", "delta"]).set("limits", "jobs = 1");
    let sandbox = Sandbox::new(job);
    let (home, other) = (sandbox.root().join("home"), sandbox.root().join("other"));
    std::fs::create_dir(&other).unwrap();
    let as_other = [("HOME", other.to_str().unwrap())];
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    sandbox.run_in(&sandbox.repo, &["start", "--only", "beta"], &as_other).exits(0);
    let said = sandbox.run(&["start"]).exits(128).stderr.clone();
    assert!(said.contains("is sealed with the key"), "{said}");
    let trusted = key_file(&home).with_extension("trusted");
    assert!(said.contains(&format!("`{}`", trusted.display())), "{said}");
    for (mine, theirs) in [(&home, &other), (&other, &home)] {
        let key = std::fs::read_to_string(key_file(theirs)).unwrap();
        std::fs::write(key_file(mine).with_extension("trusted"), format!("# them\n{key}\n"))
            .unwrap();
    }
    sandbox.run(&["start", "--only", "gamma"]).exits(0);
    let keys = std::fs::read(&trusted).unwrap();
    std::fs::write(&trusted, "not a key\n").unwrap();
    let said = sandbox.run(&["start"]).exits(128).stderr.clone();
    assert!(said.contains("line 1 of") && said.contains("is no key"), "{said}");
    std::fs::write(&trusted, keys).unwrap();
    sandbox.run_in(&sandbox.repo, &["start"], &as_other).exits(0);
    assert_eq!(sandbox.status()["counts"]["done"], 4, "{}", sandbox.status());
}
