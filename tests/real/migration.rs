//! The recipe `js-to-ts` on a real package, from its first commit to the last landing, with real
//! `tsc` and an agent that migrates. Independent programs judge the result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use git_harness::testing::ast_equal::{AstEqualOptions, SourceFile, compare};

use super::{PACKAGE, harness, program, sh, text};

/// Pinned, so that a failure is a change of ours.
const TOOLS: &str = "typescript@5.9.3 acorn@8.15.0";

const SETTINGS: &str = r#"{
  "compilerOptions": {
    "strict": true, "noEmit": true, "allowJs": true, "verbatimModuleSyntax": true, "types": [], "lib": ["esnext"],
    "target": "esnext", "module": "esnext", "moduleResolution": "bundler"
  },
  "include": ["modules"]
}
"#;

/// The replacement of `[agent]` of the recipe. The prompt stays, and must render for every task.
const AGENT: &str = r#"[agent]
preset = "command"
command = ["node", ".harness/migrate.cjs", "{task.files}"]
prompt = ".harness/prompt.md"

"#;

fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

fn recipe(name: &str) -> String {
    let text = std::fs::read_to_string(fixtures("recipes/js-to-ts").join(name)).unwrap();
    text.replace("{{ name }}", "js-to-ts")
}

/// Creates a repository with the recipe's files and an edited job.
fn repository(repo: &Path, job: &str) {
    std::fs::create_dir_all(repo).unwrap();
    text(repo, "git init -q -b main");
    assert_eq!(harness(repo, &["init", "--recipe", "js-to-ts"]), 0);
    assert_eq!(std::fs::read_to_string(repo.join("harness.toml")).unwrap(), recipe("harness.toml"));
    std::fs::write(repo.join("harness.toml"), job).unwrap();
    std::fs::write(repo.join(".gitignore"), "node_modules\n").unwrap();
    text(repo, "git add -A && git -c user.name=t -c user.email=t@localhost commit -qm base");
}

/// Returns the job as a user edits it for this package, with an agent that needs no model.
fn edited(group: &str) -> String {
    let mut job = recipe("harness.toml");
    let agent = job.find("[agent]\n").unwrap()..job.find("[worktree]\n").unwrap();
    job.replace_range(agent, AGENT);
    for (from, to) in [
        ("group = \"file\"", group),
        ("include = [\"src/**/*.{js,jsx,mjs,cjs}\"]", "include = [\"modules/**/*.{js,mjs,cjs}\"]"),
        ("# setup = [[\"npm\", \"ci\"]]", "setup = [[\"npm\", \"ci\", \"--prefer-offline\"]]"),
    ] {
        assert_eq!(job.matches(from).count(), 1, "{from}");
        job = job.replace(from, to);
    }
    job
}

/// Returns the package with its tools and the job, or the reason why there is none.
fn package(folder: &Path, group: &str) -> Result<PathBuf, String> {
    for tool in ["npm", "node"] {
        if !sh(Path::new("/"), &format!("{tool} --version")).status.success() {
            return Err(format!("`{tool}` is not installed"));
        }
    }
    let repo = folder.join("repo");
    std::fs::create_dir_all(repo.join(".harness")).unwrap();
    std::fs::write(repo.join("package.json"), "{\"private\": true, \"type\": \"module\"}\n")
        .unwrap();
    std::fs::write(repo.join("tsconfig.json"), SETTINGS).unwrap();
    std::fs::copy(fixtures("real/migrate.cjs"), repo.join(".harness/migrate.cjs")).unwrap();
    let fetched = sh(
        &repo,
        &format!(
            "(cd .. && npm pack --loglevel=error {PACKAGE} && tar xf *.tgz) && cp -r ../package/modules . \
             && rm modules/package.json modules/.eslintrc && npm install --loglevel=error --no-audit --no-fund --save-dev --save-exact {TOOLS}"
        ),
    );
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stderr).trim().to_owned();
        return Err(format!("npm cannot fetch {PACKAGE} {TOOLS}: {said}"));
    }
    repository(&repo, &edited(group));
    Ok(repo)
}

/// Returns the renamed modules of each landed commit, in order. A commit changes nothing else.
fn landings(repo: &Path, target: &str) -> Vec<Vec<String>> {
    let log =
        format!("git log --first-parent --reverse -M --format=%x3a --name-status main..{target}");
    let mut commits = Vec::new();
    for line in text(repo, &log).lines().filter(|l| !l.is_empty()) {
        if line == ":" {
            commits.push(Vec::new());
            continue;
        }
        let parts: Vec<_> = line.split('\t').collect();
        let [kind, from, to] = parts[..] else { panic!("no rename: {line}") };
        assert!(kind.starts_with('R'), "{line}");
        assert_eq!(from.replace(".js", ".ts"), to);
        commits.last_mut().unwrap().push(from.to_owned());
    }
    commits
}

/// Asserts that every module has landed once, after the modules that its text imports.
fn assert_order(repo: &Path, landings: &[Vec<String>], modules: usize) {
    let mut when = BTreeMap::new();
    for (number, files) in landings.iter().enumerate() {
        for file in files {
            assert_eq!(when.insert(file.clone(), number), None, "{file} lands once");
        }
    }
    assert_eq!(when.len(), modules, "every module has landed");
    let mut edges = 0;
    for (file, number) in &when {
        let code = text(repo, &format!("git show main:{file}"));
        for part in code.split("from './").skip(1) {
            let import = format!("modules/{}", part.split('\'').next().unwrap());
            assert!(when[&import] <= *number, "{file} before {import}");
            edges += 1;
        }
    }
    assert!(edges > modules, "{edges} imports");
}

#[test]
fn a_package_migrates_to_typescript() {
    // A compiler run for each of 161 modules takes too long for a test, so a task has about six.
    migrates("group = \"dependency\"\nmax-files = 8", 25);
}

#[test]
#[ignore = "the same with a task for each module: five minutes on two idle cores"]
fn a_package_migrates_to_typescript_file_by_file() {
    migrates("group = \"file\"", 161);
}

/// Migrates the package from its base to the last landing, in at least so many tasks.
fn migrates(group: &str, least: usize) {
    let folder = tempfile::Builder::new().prefix("harness-migration-").tempdir().unwrap();
    let repo = match package(folder.path(), group) {
        Ok(repo) => repo,
        Err(why) => return println!("SKIPPED the migration to TypeScript: {why}"),
    };
    let modules: usize = text(&repo, "git ls-files modules | grep -c '[.]js$'").parse().unwrap();
    assert!(modules >= 100, "{modules} modules");

    let began = Instant::now();
    let line = format!("{} start --jobs 4 --run m </dev/null >../said 2>&1", program());
    let code = sh(&repo, &line).status.code();
    let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
    assert_eq!(code, Some(0), "{said}");
    let seconds = began.elapsed().as_secs();

    let status = text(&repo, &format!("{} status --porcelain m", program()));
    let again = status.lines().filter(|l| l.split(' ').nth(2) != Some("1")).count();
    println!(
        "{PACKAGE}: {modules} modules in {} tasks, {again} with more than one attempt, {seconds} s",
        status.lines().count()
    );
    assert!(status.lines().all(|l| l.starts_with("done")), "{status}");
    assert!(status.lines().count() >= least, "{status}");
    let target = "harness/m/result";
    assert_order(&repo, &landings(&repo, target), modules);

    // As one diff, and by the history of each file.
    let summary = text(&repo, &format!("git diff -M --summary main {target}"));
    assert_eq!(summary.lines().filter(|l| l.trim().starts_with("rename")).count(), modules);
    assert_eq!(summary.lines().count(), modules, "{summary}");
    let history = format!(
        "for f in $(git ls-tree -r --name-only {target} modules); do git log --follow --format=%h {target} -- $f | wc -l; done | sort -u"
    );
    assert_eq!(text(&repo, &history), "2", "the base and the migration");

    // The result is strict TypeScript without a comment that silences the compiler.
    let out = folder.path().join("out");
    let line = format!(
        "mkdir {0} && git archive {target} | tar x -C {0} && ln -s {1}/node_modules {0}",
        out.display(),
        repo.display()
    );
    text(&repo, &line);
    let typescript = "node_modules/.bin/tsc --noEmit --strict --allowJs false -p tsconfig.json";
    text(&out, typescript);
    let seen =
        text(&out, &format!("{typescript} --listFilesOnly | grep -c '/out/modules/.*[.]ts$'"));
    assert_eq!(seen, modules.to_string(), "the compiler has looked at every module");
    assert_eq!(text(&out, "find modules -type f ! -name '*.ts'"), "");
    assert_eq!(text(&out, "grep -rEl '@ts-(nocheck|ignore|expect-error)' modules || true"), "");
    assert_eq!(text(&repo, &format!("git diff --name-only main {target} -- . ':!modules'")), "");

    // Other parsers than ours find the same program, and would find a difference.
    let same = format!("node {} . ../package/modules modules", fixtures("real/same.cjs").display());
    assert!(text(&out, &same).contains(&format!("{modules} compared, 0 different")));
    text(
        &out,
        "sed -i.bak 's/length - 1/length + 1/' modules/last.ts && ! cmp -s modules/last.ts modules/last.ts.bak",
    );
    assert!(!sh(&out, &same).status.success(), "a changed operator is noticed");
}

#[test]
fn the_recipe_as_it_comes_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("src/a.js"), "export default 1;\n").unwrap();
    repository(folder.path(), &recipe("harness.toml"));
    assert_eq!(harness(folder.path(), &["validate"]), 0);
}

#[test]
fn the_example_in_the_prompt_keeps_the_rules_that_it_shows() {
    let prompt = recipe("prompt.md");
    let block = |language: &str| {
        let after = prompt.split_once(&format!("```{language}\n")).unwrap().1;
        after.split_once("```").unwrap().0.to_owned()
    };
    let (before, after) = (block("js"), block("ts"));
    let (from, to) =
        (SourceFile { path: "a.js", text: &before }, SourceFile { path: "a.ts", text: &after });
    assert!(compare(&from, &to, &AstEqualOptions::default()).unwrap().is_equal());
}
