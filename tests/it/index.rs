//! `status` with its index of tips: a stale, broken or missing index never changes the output.

use std::path::PathBuf;

use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// Returns the files of the index.
fn files(sandbox: &Sandbox) -> Vec<PathBuf> {
    let folder = sandbox.repo.join(".git/harness/index");
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn status_is_right_with_a_stale_or_broken_index() {
    let names: Vec<String> = (0..80).map(|n| format!("t{n:02}")).collect();
    let tasks: Vec<&str> = names.iter().map(String::as_str).collect();
    let sandbox = Sandbox::new(TestJob::bare(&tasks));
    sandbox.run(&["start", "--paused"]).exits(0);
    let first = sandbox.status();
    assert_eq!(files(&sandbox).len(), 1, "what has just moved is only indexed by its commits");
    // Refs that have not moved for a while are indexed as one segment.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let rest = || {
        for path in ["packed-refs", "refs/harness/tasks/job-1"] {
            if let Ok(file) = std::fs::File::open(sandbox.repo.join(".git").join(path)) {
                file.set_modified(old).unwrap();
            }
        }
    };
    rest();
    assert_eq!(sandbox.status(), first);
    assert_eq!(files(&sandbox).len(), 2);
    assert_eq!(sandbox.status(), first);

    // A moved ref is noticed at once.
    sandbox.run(&["skip", "t07", "-m", "not this one"]).exits(0);
    assert_eq!(sandbox.task("t07")["state"], "skipped");
    sandbox.git(&["pack-refs", "--all"]);
    assert_eq!(sandbox.task("t07")["state"], "skipped");
    let before = sandbox.git(&["rev-parse", "refs/harness/tasks/job-1/t07^"]);
    let tip = sandbox.git(&["rev-parse", "refs/harness/tasks/job-1/t07"]);
    rest();
    sandbox.status();
    sandbox.git(&["update-ref", "refs/harness/tasks/job-1/t07", &before]);
    assert_eq!(sandbox.task("t07")["state"], "todo");
    sandbox.git(&["update-ref", "refs/harness/tasks/job-1/t07", &tip]);

    // A damaged, truncated or missing file is rebuilt.
    let whole = sandbox.status();
    for file in files(&sandbox) {
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(sandbox.status(), whole);
        let mut bad = bytes.clone();
        bad[bytes.len() / 3] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        assert_eq!(sandbox.status(), whole);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(sandbox.status(), whole);
    }
    // Without any index the output is the same.
    std::fs::remove_dir_all(sandbox.repo.join(".git/harness/index")).unwrap();
    std::fs::write(sandbox.repo.join(".git/harness/index"), "").unwrap();
    assert_eq!(sandbox.status(), whole);
}
