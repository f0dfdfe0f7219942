//! Import graphs of real packages, compared with independent tools: madge for JavaScript, Python's
//! own parser and finder. Every difference is listed with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{harness, program, sh, text};

/// The JavaScript tool, pinned, so that its results stay the same.
const MADGE: &str = "madge@8.0.0";

type EdgeSet = BTreeSet<(String, String)>;

/// Parses edges from an object of paths, as far as both ends are among the files.
fn edges(printed: &str, prefix: &str, files: &BTreeSet<String>) -> EdgeSet {
    let graph: BTreeMap<String, Vec<String>> = serde_json::from_str(printed).unwrap();
    let path = |name: &str| {
        let mut parts: Vec<&str> = prefix.split('/').filter(|p| !p.is_empty()).collect();
        for part in name.split('/') {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        parts.join("/")
    };
    let mut found = EdgeSet::new();
    for (from, list) in graph {
        found.extend(list.iter().map(|to| (path(&from), path(to))));
    }
    found.retain(|(from, to)| from != to && files.contains(from) && files.contains(to));
    found
}

/// Creates a repository of a package's folder, with a job of all files of a kind.
fn repository(folder: &Path, name: &str, from: &Path, kept: &[&str], glob: &str) -> PathBuf {
    let repo = folder.join(name);
    std::fs::create_dir_all(&repo).unwrap();
    for one in kept {
        let line = format!("cp -r {} .", from.join(one).display());
        text(&repo, &line);
    }
    let job = format!(
        "[job]\ngoal = \"g\"\n[plan]\ninclude = [\"{glob}\"]\norder = \"dependency\"\n[agent]\ncommand = [\"true\"]\n"
    );
    std::fs::write(repo.join("harness.toml"), job).unwrap();
    text(
        &repo,
        "git init -q -b main && git add -A && git -c user.name=t -c user.email=t@localhost commit -qm base",
    );
    repo
}

/// Returns our edges, and the files.
fn ours(repo: &Path) -> (EdgeSet, BTreeSet<String>) {
    let printed = text(repo, &format!("{} plan --edges", program()));
    let graph: BTreeMap<String, Vec<String>> = serde_json::from_str(&printed).unwrap();
    let files: BTreeSet<String> = graph.keys().cloned().collect();
    (edges(&printed, "", &files), files)
}

/// Asserts that the graphs are equal but for these differences: `+` for an edge that only we find,
/// `-` for an edge that only the other tool finds.
#[track_caller]
fn assert_same(ours: &EdgeSet, theirs: &EdgeSet, explained: &[&str]) {
    let more = ours.difference(theirs).map(|(a, b)| format!("+ {a} > {b}"));
    let less = theirs.difference(ours).map(|(a, b)| format!("- {a} > {b}"));
    let found: BTreeSet<String> = more.chain(less).collect();
    let explained: BTreeSet<String> = explained.iter().map(ToString::to_string).collect();
    assert_eq!(found, explained);
}

/// Asserts that the plan is valid, complete and deterministic.
fn assert_plan(repo: &Path, files: &BTreeSet<String>) {
    let plan = |group: &str| {
        let job = std::fs::read_to_string(repo.join("harness.toml")).unwrap();
        let job = job.replace("[plan]\n", &format!("[plan]\ngroup = \"{group}\"\n"));
        std::fs::write(repo.join("other.toml"), job).unwrap();
        text(repo, &format!("{} plan --json other.toml", program()))
    };
    for group in ["file", "directory", "dependency"] {
        let first = plan(group);
        std::fs::remove_file(repo.join(".git/harness/plan-cache")).unwrap();
        assert_eq!(plan(group), first, "{group}");
        let value: serde_json::Value = serde_json::from_str(&first).unwrap();
        let mut levels = BTreeMap::new();
        let mut planned = Vec::new();
        for task in value["tasks"].as_array().unwrap() {
            levels.insert(task["id"].as_str().unwrap(), task["level"].as_u64().unwrap());
            let after = task["after"].as_array().unwrap();
            let deepest = after.iter().map(|id| levels[id.as_str().unwrap()] + 1).max();
            assert_eq!(task["level"].as_u64(), Some(deepest.unwrap_or(0)), "{task}");
            let own = task["files"].as_array().unwrap().iter();
            planned.extend(own.map(|f| f.as_str().unwrap().to_owned()));
        }
        planned.sort();
        assert_eq!(planned, files.iter().cloned().collect::<Vec<_>>(), "{group}");
    }
}

/// Returns a folder with a package of npm and with madge, or the reason why there is none.
fn npm(package: &str) -> Result<PathBuf, String> {
    for tool in ["npm", "node"] {
        if !sh(Path::new("/"), &format!("{tool} --version")).status.success() {
            return Err(format!("`{tool}` is not installed"));
        }
    }
    let folder = tempfile::Builder::new().prefix("harness-graph-").tempdir().unwrap().keep();
    let fetched = sh(
        &folder,
        &format!(
            "npm pack --silent {package} && tar xf *.tgz && npm install --silent --prefix tools {MADGE}"
        ),
    );
    if fetched.status.success() {
        Ok(folder)
    } else {
        let message = String::from_utf8_lossy(&fetched.stderr).trim().to_owned();
        Err(format!("npm cannot fetch {package} and {MADGE}: {message}"))
    }
}

/// Compares our edges of a package with those of madge in one folder.
fn compare(package: &str, kept: &[&str], source: &str, least: usize, explained: &[&str]) {
    let folder = match npm(package) {
        Ok(folder) => folder,
        Err(why) => return println!("SKIPPED {package}: {why}"),
    };
    let repo = repository(&folder, "repo", &folder.join("package"), kept, &format!("{source}/**"));
    let (ours, files) = ours(&repo);
    let modules = files.iter().filter(|f| f.ends_with(".js")).count();
    assert!(modules >= least, "{modules} modules");
    // madge exits before a pipe is drained, so it writes to a file.
    let madge =
        format!("../tools/node_modules/.bin/madge --json {source} >../theirs && cat ../theirs");
    let theirs = edges(&text(&repo, &madge), source, &files);
    println!("{package}: {modules} modules, {} edges, by madge {}", ours.len(), theirs.len());
    assert_same(&ours, &theirs, explained);
    assert_plan(&repo, &files);
    // With equal graphs, madge's graph gives the same plan.
    if explained.is_empty() {
        let job = std::fs::read_to_string(repo.join("harness.toml")).unwrap();
        let tool = folder.join("tools/node_modules/.bin/madge").display().to_string();
        let edges = format!("[plan]\nedges = [\"{tool}\", \"--json\", \"{source}\"]\n");
        std::fs::write(repo.join("by-madge.toml"), job.replace("[plan]\n", &edges)).unwrap();
        let plan = |job: &str| text(&repo, &format!("{} plan --json {job}", program()));
        assert_eq!(plan("by-madge.toml"), plan("harness.toml"));
    }
    assert_eq!(harness(&repo, &["validate"]), 0);
}

#[test]
fn a_package_of_commonjs_modules_has_the_edges_that_madge_finds() {
    compare("eslint@8.57.1", &["package.json", "lib", "conf", "messages"], "lib", 300, &[]);
}

#[test]
fn a_package_of_es_modules_has_the_edges_that_madge_finds() {
    compare("three@0.170.0", &["package.json", "src"], "src", 300, &[]);
}

#[test]
fn a_python_package_has_the_edges_that_python_finds() {
    let folder = tempfile::Builder::new().prefix("harness-graph-").tempdir().unwrap().keep();
    let fetched = sh(
        &folder,
        "python3 -m pip download --quiet --no-deps --only-binary :all: django==5.1.4 && python3 -m zipfile -e *.whl package",
    );
    if !fetched.status.success() {
        let message = String::from_utf8_lossy(&fetched.stderr).trim().to_owned();
        return println!("SKIPPED django: pip cannot fetch it: {message}");
    }
    let repo = repository(&folder, "repo", &folder.join("package"), &["django"], "**/*.py");
    let (ours, files) = ours(&repo);
    assert!(files.len() > 800, "{} modules", files.len());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real/edges.py");
    let theirs = edges(&text(&repo, &format!("python3 {} .", script.display())), "", &files);
    println!("django: {} modules, {} edges, by Python {}", files.len(), ours.len(), theirs.len());
    assert_same(&ours, &theirs, &[]);
    assert_plan(&repo, &files);
}
