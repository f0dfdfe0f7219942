//! Authors and messages of squashed branches.

use super::QueueSandbox;

impl QueueSandbox {
    /// Commits a new file on a branch, with an author and a message.
    fn commit_by(&self, branch: &str, author: &str, message: &str) {
        let place = self.sandbox.root().join("mine");
        let path = place.to_str().unwrap();
        self.sandbox.git(&["worktree", "add", "--quiet", path, branch]);
        let count = std::fs::read_dir(&place).unwrap().count();
        std::fs::write(place.join(format!("new-{count}")), "new\n").unwrap();
        self.sandbox.try_git(&place, &["add", "--all"]).exits(0);
        let author = format!("--author={author} <{}@example.org>", author.to_lowercase());
        self.sandbox.try_git(&place, &["commit", "--quiet", &author, "-m", message]).exits(0);
        self.sandbox.git(&["worktree", "remove", "--force", path]);
    }

    /// Lands a branch and returns the author and the message of its commit.
    fn landed_text(&self, branch: &str) -> String {
        self.add(&[branch]);
        self.sandbox.run(&["queue", "run"]).exits(0);
        let text = self.sandbox.git(&["log", "-1", "--format=%an <%ae>%n%B", "main"]);
        let work = self.sandbox.git(&["rev-parse", branch]);
        text.trim_end().replace(&work, "WORK")
    }
}

#[test]
fn squash_does_not_make_the_merger_of_the_target_the_author() {
    let queue = QueueSandbox::new("");
    queue.sandbox.git(&["branch", "login", "main"]);
    queue.commit_by(
        "login",
        "Bob",
        "login: check\n\nCloses #12\n\nSigned-off-by: Bob <bob@example.org>",
    );
    queue.commit_by("login", "Bob", "login: lock out\n\nCVE-2026-1234");
    queue.branch("other", "main", &[("f1", "other\n")]);
    queue.sandbox.git(&["reset", "--quiet", "--keep", "other"]);
    let tree = queue.sandbox.git(&["merge-tree", "--write-tree", "login", "main"]);
    let merge = ["commit-tree", &tree, "-p", "login", "-p", "main", "-m", "Merge branch 'main'"];
    let merge = queue.sandbox.git(&merge);
    queue.sandbox.git(&["branch", "--force", "login", &merge]);
    let want = "Bob <bob@example.org>\nlogin: check\n\n* login: check\n\nCloses #12\n\n* login: lock out\n\n\
                CVE-2026-1234\n\nSigned-off-by: Bob <bob@example.org>\nHarness-Branch: login\nHarness-Work: WORK";
    assert_eq!(queue.landed_text("login"), want);
}

#[test]
fn squash_keeps_all_authors_and_one_block_of_trailers() {
    let queue = QueueSandbox::new("");
    queue.sandbox.git(&["branch", "parser", "main"]);
    queue.commit_by("parser", "Bob", "parser: rewrite\n\nBecause.\n\nFixes: #77");
    queue.commit_by("parser", "Eve", "printer: rewrite\n\nCo-authored-by: Zoe <zoe@example.org>");
    let text = queue.landed_text("parser");
    assert!(text.starts_with("Bob <bob@example.org>\nparser: rewrite\n\n"), "{text}");
    let trailers = queue.sandbox.git(&["log", "-1", "--format=%(trailers:only)", "main"]);
    let work = queue.sandbox.git(&["rev-parse", "parser"]);
    let want = format!(
        "Fixes: #77\nCo-authored-by: Zoe <zoe@example.org>\nCo-authored-by: Eve <eve@example.org>\n\
         Harness-Branch: parser\nHarness-Work: {work}"
    );
    assert_eq!(trailers, want);
}

#[test]
fn squash_converts_other_encodings_and_keeps_long_subjects() {
    let queue = QueueSandbox::new("");
    queue.sandbox.git(&["branch", "german", "main"]);
    queue.commit_by("german", "Bob", "x");
    let text = queue.sandbox.root().join("message");
    std::fs::write(&text, b"Gr\xfc\xdfe\naus K\xf6ln\n").unwrap();
    let tree = queue.sandbox.git(&["rev-parse", "german^{tree}"]);
    let encoding = "i18n.commitEncoding=ISO-8859-1";
    let commit = ["-c", encoding, "commit-tree", &tree, "-p", "main", "-F", text.to_str().unwrap()];
    let commit = queue.sandbox.git(&commit);
    queue.sandbox.git(&["branch", "--force", "german", &commit]);
    let landed = queue.landed_text("german");
    assert!(
        landed.contains("\nGr\u{fc}\u{df}e\naus K\u{f6}ln\n\nHarness-Branch: german"),
        "{landed}"
    );
}
