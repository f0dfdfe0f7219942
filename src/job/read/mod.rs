//! Building a job from the sections of the file: the meaning of each key, its default, and the
//! checks of its value.

mod agent;
mod ast_equal;
mod network;
mod output;
mod plan;

use std::collections::BTreeSet;
use std::time::Duration;

use super::errors::ValueError;
use super::globs::{PathGlobs, ScopePattern};
use super::names::{branch_name, check_job_name};
use super::placeholders::CommandKind;
use super::sandbox::{SandboxMode, SandboxSection};
use super::schema::{
    BaseCheck, Check, CheckWhen, Job, JobKind, JobSection, LimitsSection, MergeStyle,
    OutputSection, PresetsSection, QueueSection, RetrySection, RulesChangeMode, ScopeSection,
};
use super::section::Section;
use super::values::{SpannedText, unknown_word};

const MINUTE: Duration = Duration::from_secs(60);

/// Reads all sections. The result is valid only if no error was added.
pub(super) fn job(top: &Section<'_>) -> Job {
    let job = job_section(&top.section("job"));
    let output = output::output(top, job.kind);
    Job {
        plan: plan::plan(&top.section("plan")),
        agent: agent::agent(top, job.kind),
        worktree: agent::worktree(&top.section("worktree")),
        sandbox: sandbox(&top.section("sandbox")),
        checks: checks(&top.sections("check"), output.as_ref()),
        scope: scope(&top.section("scope"), output.as_ref()),
        evaluate: agent::evaluate(top),
        retry: retry(&top.section("retry"), job.kind),
        limits: limits(&top.section("limits")),
        queue: queue(&top.section("queue"), job.kind),
        presets: presets(top),
        job,
        output,
    }
}

/// Refuses presets that are not tables. The preset resolver checks their contents.
fn presets(top: &Section<'_>) -> PresetsSection {
    let section = top.section("presets");
    for (name, value) in section.table().into_iter().flatten() {
        if !value.get_ref().is_table() {
            let error =
                ValueError::new(format!("must hold tables, and `{}` is none", name.get_ref()))
                    .hint(format!(
                        "write it as [presets.{}], with its keys in the lines below",
                        name.get_ref()
                    ));
            top.add_error(value.span().start, "presets", error);
        }
    }
    PresetsSection::default()
}

/// Returns a whole number of at least `least`. The upper bound keeps sums of such numbers far from
/// overflow.
fn count<T: TryFrom<u64>>(section: &Section<'_>, key: &'static str, least: u64, default: T) -> T {
    const MAX: u64 = 1_000_000_000;
    let written = section.whole(key, least..=MAX);
    written.and_then(|(n, _)| T::try_from(n).ok()).unwrap_or(default)
}

/// Returns the value of a checked text. An error is added at the position of the text.
fn checked<T>(
    section: &Section<'_>,
    key: &str,
    text: SpannedText<'_>,
    result: Result<T, ValueError>,
) -> Option<T> {
    result.map_err(|error| section.add_error(text.at, key, error)).ok()
}

fn job_section(section: &Section<'_>) -> JobSection {
    let goal = section.text("goal");
    if section.find("goal").is_none() {
        section.missing("goal", "say in a sentence what is to be done: `goal = \"…\"` in [job]");
    }
    let name = section.any_text("name").and_then(|name| {
        checked(section, "name", name, check_job_name(name.text)).map(|()| name.text.to_owned())
    });
    let base = section.text("base").and_then(|base| {
        let is_valid = !base.text.starts_with('-') && !base.text.contains(char::is_control);
        let error = || ValueError::new(format!("is not a revision: \"{}\"", base.text));
        checked(section, "base", base, is_valid.then(|| base.text.to_owned()).ok_or_else(error))
    });
    let target = section
        .text("target")
        .and_then(|target| checked(section, "target", target, branch_name(target.text)));
    JobSection {
        name,
        goal: goal.map_or_else(String::new, |goal| goal.text.trim().to_owned()),
        base: base.unwrap_or_else(|| "HEAD".into()),
        target,
        kind: section.choice(
            "kind",
            &[("change", JobKind::Change), ("report", JobKind::Report)],
            JobKind::Change,
        ),
        base_check: section.choice(
            "base-check",
            &[("stop", BaseCheck::Stop), ("warn", BaseCheck::Warn)],
            BaseCheck::Stop,
        ),
    }
}

/// The names of checks that are built in and appear in findings.
const BUILT_IN: [&str; 6] = ["agent", "setup", "scope", "merge", "review", "evaluate"];

/// Reads all `[[check]]` sections.
fn checks(sections: &[Section<'_>], output: Option<&OutputSection>) -> Vec<Check> {
    // Reports do not land.
    let possible = CheckWhen { task: true, landing: output.is_none() };
    let mut names = BTreeSet::new();
    let mut checks = Vec::with_capacity(sections.len());
    for section in sections {
        if section.find("name").is_none() {
            section.missing("name", "every check needs a name of its own: `name = \"types\"`");
        }
        let built_in = section.find("ast-equal").is_some();
        let output_check = section.find("output").is_some();
        if section.find("run").is_none() && !built_in && !output_check {
            section.missing("run", "write it like `run = [\"npm\", \"test\"]`");
        }
        let name = section.text("name");
        if let Some(name) = name {
            let result = if names.insert(name.text) {
                check_name(name.text)
            } else {
                Err(ValueError::new(format!("is used twice: \"{}\"", name.text))
                    .hint("give every check a name of its own"))
            };
            checked(section, "name", name, result);
        }
        if let (Some(value), false) = (section.find("schema"), output_check) {
            let error = ValueError::new("has a meaning only beside `output`");
            section.add_error(value.span().start, "schema", error);
        }
        checks.push(Check {
            name: name.map_or_else(String::new, |name| name.text.to_owned()),
            run: section.argv("run", CommandKind::Check).unwrap_or_default(),
            ast_equal: if built_in { ast_equal::ast_equal(section) } else { None },
            output_check: if output_check { output::output_check(section, output) } else { None },
            timeout: section.duration("timeout", 5 * MINUTE),
            when: when(section, possible),
            version: section.argv("version", CommandKind::Check),
            env: agent::environment(section),
            cache: section.flag("cache", true),
            network: network::check(section),
        });
    }
    checks
}

/// Checks the name of a check.
fn check_name(name: &str) -> Result<(), ValueError> {
    const MAX_BYTES: usize = 100;
    if BUILT_IN.contains(&name) {
        return Err(ValueError::new(format!("is the name of a built-in check: \"{name}\""))
            .hint(format!("use another, such as \"{name}-check\"")));
    }
    if name.len() > MAX_BYTES || name.contains(char::is_control) || name.trim() != name {
        return Err(ValueError::new(format!(
            "must be one line of at most {MAX_BYTES} bytes without spaces around it: {name:?}"
        )));
    }
    Ok(())
}

/// Reads `when` of a check. The default is every stage that is possible in this job.
fn when(section: &Section<'_>, possible: CheckWhen) -> CheckWhen {
    let Some(words) = section.texts("when", "[\"task\", \"landing\"]") else {
        return possible;
    };
    let mut when = CheckWhen { task: false, landing: false };
    for word in &words {
        match word.text {
            "task" => when.task = true,
            "landing" if !possible.landing => {
                let error = ValueError::new("cannot be \"landing\" with `kind = \"report\"`")
                    .hint("an output file does not land: leave `when` out");
                section.add_error(word.at, "when", error);
            }
            "landing" => when.landing = true,
            other => {
                let error = unknown_word(other, ["task", "landing"].into_iter());
                section.add_error(word.at, "when", error);
            }
        }
    }
    if words.is_empty() {
        let at = section.find("when").map_or(0, |value| value.span().start);
        let error = ValueError::new("may not be empty: the check would never run");
        section.add_error(at, "when", error.hint("leave it out for both"));
    }
    when
}

fn sandbox(section: &Section<'_>) -> SandboxSection {
    let modes =
        [("auto", SandboxMode::Auto), ("require", SandboxMode::Require), ("off", SandboxMode::Off)];
    let caches = section.texts("caches", "[\"~/.cache/my-tool\"]").unwrap_or_default();
    for cache in &caches {
        let path = cache.text.strip_prefix("~/").or_else(|| cache.text.strip_prefix('/'));
        if !path.is_some_and(|path| path.split('/').all(|name| !["", ".", ".."].contains(&name))) {
            let error =
                ValueError::new(format!("has an entry that is not a folder: \"{}\"", cache.text));
            let hint = "a folder is absolute, or in your home such as \"~/.cache/my-tool\"";
            section.add_error(cache.at, "caches", error.hint(hint));
        }
    }
    SandboxSection {
        mode: section.choice("mode", &modes, SandboxMode::Auto),
        network: network::sandbox(section),
        caches: caches.iter().map(|cache| cache.text.to_owned()).collect(),
    }
}

fn scope(section: &Section<'_>, output: Option<&OutputSection>) -> ScopeSection {
    const MAX_FILE_SIZE: u64 = 50 << 20;
    let max_file_size = section.size("max-file-size", MAX_FILE_SIZE);
    if let Some(output) = output {
        for key in ["write", "always"] {
            if let Some(value) = section.find(key) {
                let error = ValueError::new("cannot be used with `kind = \"report\"`")
                    .hint("its tasks may write only the output file");
                section.add_error(value.span().start, key, error);
            }
        }
        let path = PathGlobs::new(&[&globset::escape(&output.path)]).unwrap_or_default();
        return ScopeSection {
            write: vec![ScopePattern::Glob(path)],
            always: PathGlobs::default(),
            read_only: section.globs("read-only").unwrap_or_default(),
            max_file_size,
            protect: section.globs("protect").unwrap_or_default(),
        };
    }
    let write = section.texts("write", "[\"{task.files}\"]").map(|patterns| {
        let parse = |p: SpannedText<'_>| checked(section, "write", p, ScopePattern::parse(p.text));
        patterns.into_iter().filter_map(parse).collect()
    });
    ScopeSection {
        write: write.unwrap_or_else(|| vec![ScopePattern::TaskFiles { ext: None }]),
        always: section.globs("always").unwrap_or_default(),
        read_only: section.globs("read-only").unwrap_or_default(),
        max_file_size,
        protect: section.globs("protect").unwrap_or_default(),
    }
}

fn retry(section: &Section<'_>, kind: JobKind) -> RetrySection {
    let share = |key, default: f64| {
        let share = section.decimal(key, 0.0..=1.0, "a share such as 0.05").unwrap_or(default);
        // `decimal` has checked the range, so the cast does not truncate.
        (share * 1e6).round() as u32
    };
    let is_change = kind == JobKind::Change;
    let from_candidate = section.choice("from", &[("candidate", true), ("base", false)], is_change);
    if let (Some(value), true, false) = (section.find("from"), from_candidate, is_change) {
        let error = ValueError::new("cannot be \"candidate\" with `kind = \"report\"`")
            .hint("a report is written anew; leave `from` out");
        section.add_error(value.span().start, "from", error);
    }
    RetrySection {
        resume: count(section, "resume", 0, 2),
        feedback: count(section, "feedback", 0, 3),
        from_candidate,
        infra: count(section, "infra", 0, 5),
        redispatch: count(section, "redispatch", 0, 1),
        redispatch_below: share("redispatch-below", 0.05),
        halt_above: share("halt-above", 0.10),
        halt_after: count(section, "halt-after", 1, 20),
    }
}

fn limits(section: &Section<'_>) -> LimitsSection {
    /// More tokens than any run uses.
    const MAX_TOKENS: u64 = 1_000_000_000_000_000;
    const MAX_USD: f64 = 1e9;
    /// An exabyte, in megabytes.
    const MAX_MB: u64 = 1_000_000_000_000;
    let tokens = |key| section.whole(key, 1..=MAX_TOKENS).map(|(n, _)| n);
    let usd = |key| section.decimal(key, 0.000_001..=MAX_USD, "an amount such as 100.0");
    LimitsSection {
        jobs: count(section, "jobs", 1, 4),
        tokens: tokens("tokens"),
        tokens_per_task: tokens("tokens-per-task"),
        cost_usd: usd("cost-usd"),
        cost_per_task: usd("cost-per-task"),
        min_free_mb: section.whole("min-free-mb", 0..=MAX_MB).map_or(100, |(n, _)| n),
    }
}

fn queue(section: &Section<'_>, kind: JobKind) -> QueueSection {
    /// The largest train of the merge queue.
    const MAX_BATCH: u64 = 64;
    /// More verifications at a time than any machine can run.
    const MAX_AHEAD: u64 = 256;
    let size = |key, most: u64, default| {
        section.whole(key, 1..=most).and_then(|(n, _)| usize::try_from(n).ok()).unwrap_or(default)
    };
    let review = section.choice("review", &[("none", false), ("required", true)], false);
    if let (Some(value), true, JobKind::Report) = (section.find("review"), review, kind) {
        let error = ValueError::new("cannot be \"required\" with `kind = \"report\"`")
            .hint("an output file does not land; `[evaluate]` can judge it");
        section.add_error(value.span().start, "review", error);
    }
    QueueSection {
        review,
        rules_change: section.choice(
            "rules-change",
            &[
                ("both", RulesChangeMode::Both),
                ("review", RulesChangeMode::Review),
                ("refuse", RulesChangeMode::Refuse),
            ],
            RulesChangeMode::Both,
        ),
        batch: size("batch", MAX_BATCH, 64),
        ahead: size("ahead", MAX_AHEAD, 1),
        each: section.flag("each", false),
        merge: section.choice(
            "merge",
            &[("squash", MergeStyle::Squash), ("merge", MergeStyle::Merge)],
            MergeStyle::Squash,
        ),
        sign: section.flag_or("sign", "config"),
        pre_land: section.argv("pre-land", CommandKind::Hook),
        post_land: section.argv("post-land", CommandKind::Hook),
        keep_branches: section.flag("keep-branches", false),
        trust_verdicts: section.flag("trust-verdicts", false),
    }
}

/// Checks that a relative path stays in the repository. Returns the path without a leading `./` and
/// without a trailing `/`.
fn inside_repository(text: &str) -> Result<&str, ValueError> {
    let plain = text.strip_prefix("./").unwrap_or(text);
    if plain.starts_with('/') || plain.split('/').any(|part| part == "..") {
        return Err(ValueError::new(format!("must be a path inside the repository: \"{text}\""))
            .hint(
                "write it relative to the repository's top, without a leading `/` and without `..`",
            ));
    }
    Ok(plain.trim_end_matches('/'))
}
