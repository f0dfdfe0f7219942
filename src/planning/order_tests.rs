//! Plans with dependencies: for any graph of imports, tasks have no cycle, every file is planned,
//! and the plan is reproducible.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{all, blobs, repository};
use super::*;
use crate::domain::id::TaskId;

fn spec(group: Grouping, max_files: usize) -> PlanSpec<'static> {
    PlanSpec {
        include: &all,
        group,
        order: TaskOrder::Dependency,
        max_files,
        max_lines: 3000,
        scope_dir: "",
        scope_files: &all,
        edges: None,
        listed: None,
        is_done: &|_| false,
        token_limit: None,
    }
}

fn planned(files: &[(&str, &str)], spec: &PlanSpec<'_>) -> PlanningResult {
    let (_dir, repo) = repository();
    plan(&repo, blobs(&repo, files), spec, &mut PlanCache::default()).unwrap()
}

/// Returns the tasks as text: `level id: files > dependencies`.
fn shown(planned: &PlanningResult) -> Vec<String> {
    let lines = planned.plan.tasks.iter().map(|t| {
        let after: Vec<_> = t.after.iter().map(TaskId::as_str).collect();
        let wait = if after.is_empty() { String::new() } else { format!(" > {}", after.join(" ")) };
        format!("{} {}: {}{wait}", t.level, t.id, t.files.join(" "))
    });
    lines.collect()
}

const CHAIN: [(&str, &str); 4] = [
    ("a.js", "import './m/b'; import './m/c'"),
    ("m/b.js", "import './c'"),
    ("m/c.js", ""),
    ("z.js", ""),
];

#[test]
fn imported_files_come_first() {
    let made = planned(&CHAIN, &spec(Grouping::File, 40));
    assert_eq!(
        shown(&made),
        [
            "0 m__c_dot_js: m/c.js",
            "0 z_dot_js: z.js",
            "1 m__b_dot_js: m/b.js > m__c_dot_js",
            "2 a_dot_js: a.js > m__b_dot_js m__c_dot_js"
        ]
    );
    assert_eq!(made.warnings, [""; 0]);
    let free = planned(&CHAIN, &PlanSpec { order: TaskOrder::None, ..spec(Grouping::File, 40) });
    assert_eq!(
        shown(&free),
        ["0 a_dot_js: a.js", "0 m__b_dot_js: m/b.js", "0 m__c_dot_js: m/c.js", "0 z_dot_js: z.js"]
    );
}

#[test]
fn cycle_is_one_task_or_is_split_with_a_warning() {
    let cycle = [
        ("a.js", "import './b'"),
        ("b.js", "import './c'"),
        ("c.js", "import './a'; import './leaf'"),
        ("leaf.js", ""),
        ("top.js", "import './b'"),
    ];
    let made = planned(&cycle, &spec(Grouping::File, 3));
    assert_eq!(
        shown(&made),
        [
            "0 leaf_dot_js: leaf.js",
            "1 a_dot_js: a.js b.js c.js > leaf_dot_js",
            "2 top_dot_js: top.js > a_dot_js"
        ]
    );
    assert_eq!(made.warnings, [""; 0]);
    let made = planned(&cycle, &spec(Grouping::File, 2));
    assert_eq!(
        shown(&made),
        [
            "0 leaf_dot_js: leaf.js",
            "1 a_dot_js_part_2: b.js c.js > leaf_dot_js",
            "2 a_dot_js_part_1: a.js > a_dot_js_part_2",
            "2 top_dot_js: top.js > a_dot_js_part_2"
        ]
    );
    assert_eq!(made.warnings.len(), 1);
    assert!(made.warnings[0].ends_with(": a.js → b.js → c.js → a.js"), "{:?}", made.warnings);
}

#[test]
fn related_files_share_a_task() {
    let files = [
        ("page1.js", "import './part1'; import './shared'"),
        ("page2.js", "import './part2'; import './shared'"),
        ("part1.js", ""),
        ("part2.js", ""),
        ("shared.js", ""),
        ("alone.js", ""),
    ];
    assert_eq!(
        shown(&planned(&files, &spec(Grouping::Dependency, 3))),
        [
            "0 alone_dot_js: alone.js",
            "0 page1_dot_js: page1.js part1.js shared.js",
            "1 page2_dot_js: page2.js part2.js > page1_dot_js",
        ]
    );
}

#[test]
fn folders_in_a_cycle_are_joined_or_split() {
    let files = [
        ("m/1.js", "import '../n/1'"),
        ("m/2.js", ""),
        ("n/1.js", "import '../m/2'"),
        ("n/2.js", "import '../m/1'"),
        ("o/1.js", "import '../n/2'"),
        ("o/2.js", ""),
    ];
    let made = planned(&files, &spec(Grouping::Directory, 4));
    assert_eq!(shown(&made), ["0 root: m/1.js m/2.js n/1.js n/2.js", "1 o: o/1.js o/2.js > root"]);
    let made = planned(&files, &spec(Grouping::Directory, 2));
    assert_eq!(
        shown(&made),
        [
            "0 m_part_2: m/2.js",
            "1 n_part_1: n/1.js > m_part_2",
            "2 m_part_1: m/1.js > n_part_1",
            "3 n_part_2: n/2.js > m_part_1",
            "4 o: o/1.js o/2.js > n_part_2"
        ]
    );
    assert_eq!(made.warnings.len(), 1, "{:?}", made.warnings);
    assert!(made.warnings[0].ends_with(": m, n"), "{:?}", made.warnings);
}

/// Returns a tree of files that import each other along these edges.
fn random(edges: &[(usize, usize)]) -> BTreeMap<String, String> {
    let path =
        |n: usize| format!("{}/{}f{n}.js", n % 4, if n.is_multiple_of(3) { "deep/" } else { "" });
    let mut files: BTreeMap<String, String> = (0..24).map(|n| (path(n), "\n".repeat(n))).collect();
    for (from, to) in edges {
        let up = if from.is_multiple_of(3) { "../../" } else { "../" };
        files.entry(path(*from)).or_default().push_str(&format!("import '{up}{}';\n", path(*to)));
    }
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn plans_of_random_graphs_have_no_cycle_and_every_file(
        edges in prop::collection::vec((0_usize..24, 0_usize..24), 0..60),
        max_files in 1_usize..9,
        max_lines in 10_u64..200,
    ) {
        let tree = random(&edges);
        let files: Vec<_> = tree.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
        let (_dir, repo) = repository();
        let base = blobs(&repo, &files);
        for group in [Grouping::File, Grouping::Directory, Grouping::Dependency] {
            let spec = PlanSpec { max_lines, ..spec(group, max_files) };
            let mut cache = PlanCache::default();
            let made = plan(&repo, base, &spec, &mut cache).unwrap();
            prop_assert_eq!(&plan(&repo, base, &spec, &mut cache).unwrap(), &made);
            let tasks = &made.plan.tasks;
            let mut all: Vec<_> = tasks.iter().flat_map(|t| &t.files).collect();
            all.sort();
            prop_assert_eq!(all, tree.keys().collect::<Vec<_>>());
            let levels: BTreeMap<_, _> = tasks.iter().map(|t| (&t.id, t.level)).collect();
            let home: BTreeMap<_, _> =
                tasks.iter().flat_map(|t| t.files.iter().map(move |f| (f, t))).collect();
            for task in tasks {
                // The level is one above the highest level of the dependencies, so there is no
                // cycle.
                let deepest = task.after.iter().map(|id| levels[id] + 1).max().unwrap_or(0);
                prop_assert_eq!(task.level, deepest);
                prop_assert!(task.files.len() == 1
                    || (task.files.len() <= max_files && task.lines <= max_lines));
                prop_assert!(!task.after.contains(&task.id));
            }
            // Tasks wait for all imports, except in cycles that were split.
            if made.warnings.iter().all(|w| !w.contains("do not fit into one task")) {
                let (files, _) = files::plan_files(&repo, base, &spec, &mut cache).unwrap();
                let graph = imports::import_graph(&repo, base, &files, &mut cache).unwrap();
                for (from, needs) in graph.needs.iter().enumerate() {
                    let task = home[&files[from].path];
                    for to in needs {
                        let other = home[&files[*to].path];
                        prop_assert!(task.id == other.id || task.after.contains(&other.id));
                    }
                }
            }
        }
    }
}
