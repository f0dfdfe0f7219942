//! Plans of small bare repositories.

use crate::wire::plan::{from_json, to_json};
use std::collections::BTreeSet;

use gix::objs::tree::EntryKind;
use tempfile::TempDir;

use super::*;

pub(super) fn repository() -> (TempDir, gix::Repository) {
    let dir = tempfile::tempdir().unwrap();
    let repo = gix::init_bare(dir.path()).unwrap();
    (dir, repo)
}

/// Writes a tree with these entries.
fn tree<'a>(
    repo: &gix::Repository,
    entries: impl IntoIterator<Item = (&'a [u8], EntryKind, &'a [u8])>,
) -> ObjectId {
    let mut editor = repo.edit_tree(ObjectId::empty_tree(gix::hash::Kind::Sha1)).unwrap();
    for (path, kind, content) in entries {
        let id = match kind {
            EntryKind::Commit => ObjectId::from_bytes_or_panic(&[7; 20]),
            EntryKind::Tree | EntryKind::Blob | EntryKind::BlobExecutable | EntryKind::Link => {
                repo.write_blob(content).unwrap().detach()
            }
        };
        editor.upsert(gix::bstr::BStr::new(path), kind, id).unwrap();
    }
    editor.write().unwrap().detach()
}

pub(super) fn blobs(repo: &gix::Repository, files: &[(&str, &str)]) -> ObjectId {
    tree(repo, files.iter().map(|(p, c)| (p.as_bytes(), EntryKind::Blob, c.as_bytes())))
}

fn is_js(path: &str) -> bool {
    path.ends_with(".js")
}

pub(super) fn all(_: &str) -> bool {
    true
}

fn spec(group: Grouping) -> PlanSpec<'static> {
    PlanSpec {
        include: &is_js,
        group,
        order: TaskOrder::None,
        edges: None,
        listed: None,
        is_done: &|_| false,
        token_limit: None,
        max_files: 40,
        max_lines: 3000,
        scope_dir: "",
        scope_files: &all,
    }
}

fn planned(repo: &gix::Repository, base: ObjectId, spec: &PlanSpec<'_>) -> Result<PlanningResult> {
    plan(repo, base, spec, &mut PlanCache::default())
}

/// Returns the tasks as text: `id: files`.
fn shown(plan: &Plan) -> Vec<String> {
    plan.tasks.iter().map(|t| format!("{}: {}", t.id, t.files.join(" "))).collect()
}

#[test]
fn files_and_folders_become_tasks() {
    let (_dir, repo) = repository();
    let base = blobs(
        &repo,
        &[
            ("src/b.js", "1\n2\n"),
            ("src/a.js", "1\n2"),
            ("top.js", ""),
            ("src/x/c.js", "\n"),
            ("d.ts", ""),
        ],
    );
    let files = planned(&repo, base, &spec(Grouping::File)).unwrap();
    assert_eq!(
        shown(&files.plan),
        [
            "src__a_dot_js: src/a.js",
            "src__b_dot_js: src/b.js",
            "src__x__c_dot_js: src/x/c.js",
            "top_dot_js: top.js"
        ]
    );
    assert_eq!(files.plan.tasks.iter().map(|t| t.lines).collect::<Vec<_>>(), [2, 2, 1, 0]);
    assert_eq!(files.plan.tasks.iter().map(|t| t.tokens).collect::<Vec<_>>(), [1, 2, 1, 0]);
    assert_eq!(files.unplanned, UnplannedFiles { excluded: 1, ..UnplannedFiles::default() });

    let dirs = planned(&repo, base, &spec(Grouping::Directory)).unwrap();
    assert_eq!(shown(&dirs.plan), ["root: src/a.js src/b.js src/x/c.js top.js"]);
    assert_eq!(dirs.plan.tasks[0].lines, 5);

    let parts =
        planned(&repo, base, &PlanSpec { max_lines: 3, ..spec(Grouping::Directory) }).unwrap();
    assert_eq!(
        shown(&parts.plan),
        ["src_part_1: src/a.js", "src_part_2: src/b.js src/x/c.js", "root: top.js"]
    );
}

#[test]
fn scope_limits_the_plan_to_a_folder_or_glob() {
    let (_dir, repo) = repository();
    let base = blobs(&repo, &[("a/x.js", ""), ("a/y.js", ""), ("ab/x.js", ""), ("a/b/x.js", "")]);
    let run = |scope_dir, scope_files: &dyn Fn(&str) -> bool| {
        let made =
            planned(&repo, base, &PlanSpec { scope_dir, scope_files, ..spec(Grouping::File) });
        made.map(|p| p.plan.tasks.iter().map(|t| t.files.join(" ")).collect::<Vec<_>>())
    };
    for dir in ["a", "a/", "./a"] {
        assert_eq!(run(dir, &all).unwrap(), ["a/b/x.js", "a/x.js", "a/y.js"]);
    }
    for dir in ["", ".", "./"] {
        assert_eq!(run(dir, &|p| p.ends_with("y.js")).unwrap(), ["a/y.js"]);
    }
    assert_eq!(run("a/b", &all).unwrap(), ["a/b/x.js"]);
    assert!(run("b", &all).unwrap_err().to_string().contains("not in the base commit"));
    assert!(run("a/x.js", &all).unwrap_err().to_string().contains("not a directory"));
}

#[test]
fn binary_files_links_and_submodules_are_left_out() {
    let (_dir, repo) = repository();
    let late = [vec![b'x'; 9000], vec![0]].concat();
    let base = tree(
        &repo,
        [
            (b"good.js".as_slice(), EntryKind::Blob, b"x".as_slice()),
            (b"run.js", EntryKind::BlobExecutable, b"x"),
            (b"late.js", EntryKind::Blob, &late),
            (b"z/bin.js", EntryKind::Blob, b"a\0b"),
            (b"a/bin.js", EntryKind::Blob, b"\0"),
            (b"bin.png", EntryKind::Blob, b"\0"),
            (b"link.js", EntryKind::Link, b"good.js"),
            (b"link", EntryKind::Link, b"good.js"),
            (b"sub.js", EntryKind::Commit, b""),
            (b"sub", EntryKind::Commit, b""),
            (b"d/\xff.js", EntryKind::Blob, b"x"),
            (b"d/\xff.c", EntryKind::Blob, b"x"),
        ],
    );
    let made = planned(&repo, base, &spec(Grouping::File)).unwrap();
    let files: Vec<_> = made.plan.tasks.iter().map(|t| t.files.join(" ")).collect();
    assert_eq!(files, ["good.js", "late.js", "run.js"]);
    assert_eq!(
        made.unplanned,
        UnplannedFiles {
            excluded: 4,
            submodules: 1,
            links: vec!["link.js".into()],
            binary: vec!["a/bin.js".into(), "z/bin.js".into()],
            not_utf8: vec!["d/\u{FFFD}.js".into()],
        }
    );
}

#[test]
fn error_for_a_missing_object_names_the_file() {
    let (dir, repo) = repository();
    let base = blobs(&repo, &[("src/a.js", "some text"), ("src/b.js", "other text")]);
    let id = repo.write_blob("some text").unwrap().to_string();
    std::fs::remove_file(dir.path().join("objects").join(&id[..2]).join(&id[2..])).unwrap();
    let err = planned(&repo, base, &spec(Grouping::File)).unwrap_err();
    assert!(format!("{err:#}").contains("`src/a.js`"), "{err:#}");
}

#[test]
fn plan_of_a_commit_equals_the_plan_of_its_tree() {
    let (_dir, repo) = repository();
    let tree = blobs(&repo, &[("a.js", "x")]);
    let who = gix::actor::SignatureRef {
        name: "t".into(),
        email: "t@example.org".into(),
        time: "0 +0000",
    };
    let none = Vec::<ObjectId>::new();
    let commit = repo.commit_as(who, who, "refs/heads/x", "m", tree, none).unwrap().detach();
    let of_commit = planned(&repo, commit, &spec(Grouping::File)).unwrap();
    assert_eq!(of_commit, planned(&repo, tree, &spec(Grouping::File)).unwrap());
    assert_eq!(of_commit.plan.tasks.len(), 1);
}

#[test]
fn line_counts_are_none_for_folders_missing_and_binary_files() {
    let (_dir, repo) = repository();
    let base = blobs(&repo, &[("a/x.js", "1\n2\n3"), ("bin", "\0")]);
    let paths = ["a/x.js", "a", "gone/y.js", "bin"].map(String::from);
    assert_eq!(line_counts(&repo, base, &paths).unwrap(), [Some(3), None, None, None]);
}

#[test]
fn plan_of_10_000_files_is_complete_and_reproducible() {
    let (_dir, repo) = repository();
    let file = |i: usize| {
        // Deep paths, upper case, spaces, and paths that differ in case only.
        let path = match i % 5 {
            0 => format!("packages/p{}/src/m{i}.js", i % 97),
            1 => format!("packages/p{}/SRC/M{i}.js", i % 97),
            2 => format!("lib/some dir/x {i}.js"),
            3 => format!("{}/f_{i}.test.js", "a/very/deep/tree/of/folders".repeat(1 + i % 7)),
            _ => format!("top_{}_{i}.js", i % 13),
        };
        (path, "let x = 1;\n".repeat(1 + i % 50))
    };
    let files: Vec<_> = (0..10_000).map(file).collect();
    let base =
        tree(&repo, files.iter().map(|(p, c)| (p.as_bytes(), EntryKind::Blob, c.as_bytes())));
    for group in [Grouping::File, Grouping::Directory] {
        let first = planned(&repo, base, &spec(group)).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(7).build().unwrap();
        let other = gix::open(repo.path()).unwrap().into_sync();
        let second = pool.install(|| {
            // With another handle and another number of threads.
            planned(&other.to_thread_local(), base, &spec(group)).unwrap()
        });
        assert_eq!(to_json(&first.plan).unwrap(), to_json(&second.plan).unwrap());
        assert_eq!(from_json(&to_json(&first.plan).unwrap()).unwrap(), first.plan);

        let planned: Vec<_> = first.plan.tasks.iter().flat_map(|t| &t.files).collect();
        assert_eq!(planned.len(), files.len());
        assert_eq!(planned.iter().collect::<BTreeSet<_>>().len(), files.len());
        let ids: BTreeSet<_> = first.plan.tasks.iter().map(|t| t.id.as_str()).collect();
        assert_eq!(ids.len(), first.plan.tasks.len());
        let firsts: Vec<_> = first.plan.tasks.iter().map(|t| &t.files[0]).collect();
        assert!(firsts.is_sorted());
        for task in first.plan.tasks.iter().filter(|t| t.files.len() > 1) {
            assert!(task.files.len() <= 40 && task.lines <= 3000 && task.files.is_sorted());
        }
    }
}

#[test]
fn token_limit_splits_tasks() {
    let (_dir, repo) = repository();
    let heavy = "const word = another + word * 3;\n".repeat(10);
    let files: Vec<(String, String)> =
        (0..6).map(|n| (format!("src/f{n}.js"), heavy.clone())).collect();
    let list: Vec<_> = files.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
    let base = blobs(&repo, &list);
    let counted = count_tokens(heavy.as_bytes());
    let limited_spec = |max_tokens| PlanSpec {
        token_limit: Some(TokenLimit { max_tokens, factor: 1_000 }),
        ..spec(Grouping::Directory)
    };
    let sizes = |max_tokens| {
        let planned = planned(&repo, base, &limited_spec(max_tokens)).unwrap();
        let sizes: Vec<_> = planned.plan.tasks.iter().map(|t| t.files.len()).collect();
        assert!(planned.plan.tasks.iter().all(|t| t.tokens == counted * t.files.len() as u64));
        (sizes, planned.warnings.len())
    };
    assert_eq!(sizes(counted * 6), (vec![6], 0));
    assert_eq!(sizes(counted * 2), (vec![2, 2, 2], 0));
    assert_eq!(sizes(counted * 6 - 1), (vec![5, 1], 0));
    // A file above the limit has a task of its own, and a warning.
    let (sizes, warnings) = sizes(counted - 1);
    assert_eq!((sizes.len(), warnings), (6, 6));
    let warnings = planned(&repo, base, &limited_spec(counted - 1)).unwrap().warnings;
    let first = &warnings[0];
    assert!(first.starts_with("src/f0.js has about ") && first.contains("`fill`"), "{first}");
}
