//! `ast-equal` on real TypeScript: a file equals the file that the TypeScript compiler strips of
//! types.

use std::path::Path;

use git_harness::testing::ast_equal::{AstEqualOptions, SourceFile, compare};

use super::{sh, text};

/// The compiler, and packages that publish TypeScript sources. Pinned, so that a failure is a
/// change of ours.
const COMPILER: &str = "typescript@5.9.3";
const PACKAGES: [&str; 4] =
    ["effect@3.18.4", "rxjs@7.8.2", "zod@4.1.12", "@tanstack/react-query@5.90.5"];

fn fetch(dir: &Path) -> Result<(), String> {
    for tool in ["npm", "node"] {
        if !sh(Path::new("/"), &format!("{tool} --version")).status.success() {
            return Err(format!("`{tool}` is not installed"));
        }
    }
    for (number, package) in [COMPILER].iter().chain(&PACKAGES).enumerate() {
        let line =
            format!("mkdir {number} && cd {number} && npm pack --silent {package} && tar xf *.tgz");
        let packed = sh(dir, &line);
        if !packed.status.success() {
            let message = String::from_utf8_lossy(&packed.stderr).trim().to_owned();
            return Err(format!("npm cannot fetch {package}: {message}"));
        }
    }
    Ok(())
}

#[test]
fn files_stripped_by_the_typescript_compiler_are_equal_to_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if let Err(why) = fetch(dir) {
        println!("SKIPPED files stripped by the TypeScript compiler: {why}");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real/strip.cjs");
    let folders: Vec<_> = (1..=PACKAGES.len()).map(|n| format!("{n}/package/src")).collect();
    let script = script.display();
    let pairs =
        text(dir, &format!("mkdir out && node {script} 0/package out {}", folders.join(" ")));
    let options = AstEqualOptions { ts_comments: true, ..AstEqualOptions::default() };
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in pairs.lines() {
        let (typed, stripped) = line.split_once('\t').unwrap();
        let read = |path: &str| std::fs::read_to_string(dir.join(path)).unwrap();
        let (old, new) = (read(stripped), read(typed));
        let (from, to) =
            (SourceFile { path: stripped, text: &old }, SourceFile { path: typed, text: &new });
        count += 1;
        match compare(&from, &to, &options) {
            Ok(found) if found.is_equal() => {}
            Ok(found) => wrong.push(format!("{typed}\n{}", found.differences[0])),
            Err(e) => wrong.push(e.to_string()),
        }
    }
    println!("{count} files stripped by {COMPILER}");
    assert!(count >= 200, "{count} files of {PACKAGES:?}");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
