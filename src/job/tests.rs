//! Tests of whole job files.

use std::time::Duration;

use super::schema::*;
use super::*;
use crate::contract::ast_equal::AstEqualOptions;
use crate::domain::network::{HostPattern, NetworkAccess};

const COMPLETE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/jobs/complete.toml"));

const REPORT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/jobs/report.toml"));

/// The smallest job file.
const MINIMAL: &str = "[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n";

fn hosts(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| HostPattern::parse(text).unwrap()).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

#[test]
fn complete_job_file_is_parsed() {
    let job = parse(COMPLETE, "complete.toml").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        job.job,
        JobSection {
            name: Some("js-to-ts".into()),
            goal: "Migrate every JavaScript module to TypeScript.".into(),
            base: "HEAD".into(),
            target: Some("main".into()),
            kind: JobKind::Change,
            base_check: BaseCheck::Warn,
        }
    );
    assert!(job.plan.include.matches("lib/a/b.mjs") && !job.plan.include.matches("lib/a.ts"));
    assert!(job.plan.exclude.matches("src/vendor/x.js"));
    assert_eq!((job.plan.group, job.plan.order), (TaskSource::Directory, TaskOrder::Dependency));
    assert_eq!((job.plan.max_files, job.plan.max_lines), (12, 1500));
    assert_eq!((&*job.plan.scope_dir, &*job.plan.scope_files), ("src/utils", "**/*.js"));
    assert_eq!(job.plan.vars.len(), 6);
    assert_eq!(job.plan.vars["names"]["new"].as_str(), Some("ts"));
    assert_eq!(job.plan.vars["targets"][1].as_str(), Some("browser"));
    assert_eq!(
        job.agent,
        AgentSection {
            preset: "my-agent".into(),
            command: strings(&[
                "./tools/my-agent",
                "--prompt",
                "{prompt_file}",
                "--in",
                "{worktree}",
                "{task.files}",
            ]),
            model: Some("large".into()),
            permissions: Some("edit+shell".into()),
            args: strings(&["--fast"]),
            max_turns: Some(60),
            prompt: Some("tools/prompt.md".into()),
            timeout: Duration::from_secs(5400),
            idle_timeout: Duration::from_secs(90),
            timeout_is_set: true,
            idle_timeout_is_set: true,
            env: strings(&["ANTHROPIC_API_KEY"]),
            allow_empty: true,
        }
    );
    assert_eq!(job.sandbox.caches, ["~/.cache/my-tool"]);
    assert_eq!(job.worktree.root_for("proj"), "../proj.places");
    assert_eq!(job.worktree.setup[1], strings(&["sh", "tools/setup.sh", "{worktree}"]));
    assert!(job.worktree.keep.matches("node_modules/a/b"));
    assert_eq!(job.worktree.setup_inputs, ["package-lock.json", "tools/setup.sh"]);
    assert_eq!(
        job.sandbox.network,
        NetworkAccess::Listed(hosts(&["*.example.com", "127.0.0.1:8080"]))
    );
    assert_eq!(
        job.checks[0],
        Check {
            name: "types".into(),
            run: strings(&["npx", "tsc", "--noEmit", "-p", "."]),
            ast_equal: None,
            output_check: None,
            timeout: Duration::from_millis(500),
            when: CheckWhen { task: false, landing: true },
            version: Some(strings(&["npx", "tsc", "--version"])),
            env: strings(&["NODE_OPTIONS"]),
            cache: false,
            network: NetworkAccess::Listed(hosts(&["registry.npmjs.org"])),
        }
    );
    assert_eq!(job.checks[1].timeout, Duration::from_secs(300));
    assert_eq!(job.checks[1].when, CheckWhen { task: true, landing: true });
    assert!(job.checks[1].cache && job.checks.len() == 3);
    let ast_equal = job.checks[2].ast_equal.as_ref().unwrap();
    assert!(ast_equal.from.matches("src/a.js") && ast_equal.to.matches("src/a.tsx"));
    let options = AstEqualOptions {
        extensions: true,
        type_imports: true,
        define_fields: false,
        ts_comments: true,
        max_any: Some(3),
    };
    assert_eq!(ast_equal.options, options);
    assert_eq!(job.scope.write[1], ScopePattern::TaskFiles { ext: Some("ts".into()) });
    let files = strings(&["src/a.js"]);
    for (path, allowed) in [
        ("src/a.ts", true),
        ("types/shared.d.ts", true),
        ("package-lock.json", true),
        ("src/b.ts", false),
        ("tests/a.ts", false),
    ] {
        assert_eq!(job.scope.allows(&files, path), allowed, "{path}");
    }
    assert!(job.scope.protect.matches("ci/check.sh") && !job.scope.protect.matches("src/a.ts"));
    assert!(job.scope.names("package-lock.json") && !job.scope.names("types/shared.d.ts"));
    let evaluate = job.evaluate.as_ref().unwrap();
    assert_eq!((evaluate.rounds, evaluate.agent.prompt.as_deref()), (2, Some("tools/evaluate.md")));
    assert_eq!((&*evaluate.agent.preset, evaluate.agent.max_turns), ("my-agent", Some(20)));
    assert_eq!(evaluate.agent.timeout, Duration::from_secs(1200));
    assert_eq!((evaluate.agent.env.len(), evaluate.agent.args.len()), (1, 1));
    let retry = RetrySection {
        resume: 1,
        feedback: 5,
        from_candidate: false,
        infra: 7,
        redispatch: 2,
        redispatch_below: 20_000,
        halt_above: 500_000,
        halt_after: 10,
    };
    assert_eq!(job.retry, retry);
    let limits = LimitsSection {
        jobs: 8,
        tokens: Some(50_000_000),
        tokens_per_task: Some(2_000_000),
        cost_usd: Some(100.0),
        cost_per_task: Some(5.0),
        min_free_mb: 20_000,
    };
    assert_eq!(job.limits, limits);
    let queue = QueueSection {
        merge: MergeStyle::Merge,
        keep_branches: true,
        review: true,
        rules_change: RulesChangeMode::Review,
        trust_verdicts: true,
        pre_land: Some(vec!["ci/window.sh".into()]),
        post_land: Some(vec!["ci/tell.sh".into(), "--all".into()]),
        batch: 16,
        ahead: 4,
        each: true,
        sign: Some(true),
    };
    assert_eq!(job.queue, queue);
    assert_eq!(job.presets.tables["my-agent"]["extends"].as_str(), Some("claude"));
    assert_eq!(
        possible_files(&job),
        [
            "tools/prompt.md",
            "tools/evaluate.md",
            "tools/my-agent",
            "tools/setup.sh",
            "tools/test.sh",
            "ci/window.sh",
            "ci/tell.sh"
        ]
    );
}

#[test]
fn fixtures_hold_every_key() {
    // A job has one source of tasks. Other tests cover the other sources.
    for section in keys::SECTIONS.iter().filter(|s| s.path != "plan.task") {
        // A key that is refused with every value is in no valid file.
        let is_refused = |key: &&&str| {
            let mut reserved = keys::RESERVED_KEYS.iter().filter(|r| r.section == section.path);
            reserved.any(|r| r.key == **key && r.accepted.is_empty())
        };
        for key in section.keys.iter().filter(|key| !is_refused(key)) {
            let in_fixture =
                COMPLETE.lines().chain(REPORT.lines()).any(|l| l.starts_with(&format!("{key} = ")));
            let is_section = section.path.is_empty();
            let elsewhere = ["scope", "vars", "ast-equal", "list", "edges", "task"];
            assert!(
                in_fixture || is_section || elsewhere.contains(key),
                "{} {key}",
                section.header
            );
        }
    }
}

#[test]
fn report_job_is_parsed() {
    let job = parse(REPORT, "report.toml").unwrap_or_else(|e| panic!("{e}"));
    let output = job.output.clone().unwrap();
    assert_eq!((job.job.kind, &*output.path), (JobKind::Report, "out/review.json"));
    assert_eq!(output.merge, OutputMerge::Command(strings(&["./join.py"])));
    assert_eq!(job.checks[0].when, CheckWhen { task: true, landing: false });
    assert!(job.scope.allows(&[], "out/review.json") && !job.scope.allows(&[], "out/other.json"));
    let named = possible_files(&job);
    for file in ["reviewer", "join.py", "review.example.json", "review.md.j2", "review.schema.json"]
    {
        assert!(named.iter().any(|name| name == file), "{file}: {named:?}");
    }
}

#[test]
fn demo_job_is_valid() {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo/harness.toml"));
    let job = parse(text, "harness.toml").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(possible_files(&job), [".harness/agent.sh", ".harness/check-esm.sh"]);
}

#[test]
fn minimal_job_has_defaults() {
    let job = parse(MINIMAL, "j").unwrap();
    assert_eq!((&*job.job.base, &job.job.target, &job.job.name), ("HEAD", &None, &None));
    assert_eq!(job.job.base_check, BaseCheck::Stop);
    assert!(job.plan.include.matches("a/b") && job.plan.exclude.is_empty());
    assert_eq!(
        (job.plan.group, job.plan.max_files, job.plan.max_lines),
        (TaskSource::File, 40, 3000)
    );
    assert_eq!((&*job.plan.scope_dir, &*job.plan.scope_files), ("", ""));
    assert_eq!(job.agent.timeout, Duration::from_secs(1800));
    assert_eq!(job.agent.idle_timeout, Duration::from_secs(600));
    assert_eq!(job.agent.preset, "command");
    assert!(!job.agent.timeout_is_set && !job.agent.idle_timeout_is_set);
    assert!(job.presets.tables.is_empty());
    assert!(!job.agent.allow_empty && job.agent.prompt.is_none() && job.agent.env.is_empty());
    assert_eq!(job.worktree.root, "../{repo}.harness");
    assert!(job.worktree.setup.is_empty() && job.worktree.keep.is_empty() && job.checks.is_empty());
    assert_eq!(job.scope.write, [ScopePattern::TaskFiles { ext: None }]);
    assert!(job.scope.protect.is_empty());
    let retry = RetrySection {
        resume: 2,
        feedback: 3,
        from_candidate: true,
        infra: 5,
        redispatch: 1,
        redispatch_below: 50_000,
        halt_above: 100_000,
        halt_after: 20,
    };
    assert_eq!(job.retry, retry);
    assert_eq!((job.limits.jobs, job.limits.min_free_mb), (4, 100));
    let queue = QueueSection {
        merge: MergeStyle::Squash,
        keep_branches: false,
        review: false,
        rules_change: RulesChangeMode::Both,
        trust_verdicts: false,
        pre_land: None,
        post_land: None,
        batch: 64,
        ahead: 1,
        each: false,
        sign: None,
    };
    assert_eq!(job.queue, queue);
    assert_eq!(possible_files(&job), Vec::<String>::new());
}

#[test]
fn arguments_that_look_like_relative_paths_are_files() {
    let table = [
        ("./my-agent", Some("my-agent")),
        ("agent.sh", Some("agent.sh")),
        ("a/./b/../c", Some("a/c")),
        ("a/../../c", None),
        ("../c.sh", None),
        ("/bin/sh", None),
        ("sh", None),
        (".", None),
        (".hidden", None),
        ("--config=a.json", None),
        ("{worktree}/a.sh", None),
        ("{{run}}/a.sh", Some("{{run}}/a.sh")),
    ];
    for (argument, expected) in table {
        assert_eq!(as_relative_path(argument).as_deref(), expected, "{argument}");
    }
}

#[test]
fn errors_are_listed_by_position() {
    let text = "[agent]\ntimeout = 3\ncommand = []\n[job]\nnam = 1\n";
    let errors = parse(text, "j").unwrap_err();
    let positions: Vec<_> = errors.errors.iter().map(|e| (e.line, e.column, &*e.key)).collect();
    let expected =
        [(2, 11, "agent.timeout"), (3, 11, "agent.command"), (4, 1, "job.goal"), (5, 1, "job.nam")];
    assert_eq!(positions, expected);
}
