//! From sections to a job: what each key means, its default, and what is refused.

mod agent;
mod ast_equal;
mod output;
mod plan;

use std::collections::BTreeSet;
use std::time::Duration;

use super::errors::ValueError;
use super::globs::{PathGlobs, ScopePattern};
use super::names::{branch_name, check_job_name};
use super::placeholders::CommandKind;
use super::schema::{
    BaseCheck, Check, CheckWhen, Job, JobKind, JobSection, LimitsSection, MergeStyle,
    OutputSection, PresetsSection, QueueSection, RetrySection, ScopeSection,
};
use super::section::Section;
use super::values::{Choice, SpannedText, unknown_word};

const MINUTE: Duration = Duration::from_secs(60);

/// Reads all sections. The result means something only if nothing was noted as wrong.
pub(super) fn job(top: &Section<'_>) -> Job {
    let job = job_section(&top.section("job"));
    let output = output::output(top, job.kind);
    Job {
        plan: plan::plan(&top.section("plan")),
        agent: agent::agent(top, job.kind),
        worktree: agent::worktree(&top.section("worktree")),
        checks: checks(&top.sections("check"), output.as_ref()),
        scope: scope(&top.section("scope"), output.as_ref()),
        evaluate: agent::evaluate(top),
        retry: retry(&top.section("retry")),
        limits: limits(&top.section("limits")),
        queue: queue(&top.section("queue"), job.kind),
        presets: presets(top),
        job,
        output,
    }
}

/// What is no table is refused here; the rest is looked at where presets are put together.
fn presets(top: &Section<'_>) -> PresetsSection {
    let section = top.section("presets");
    for (name, value) in section.table().into_iter().flatten() {
        if !value.get_ref().is_table() {
            let fault =
                ValueError::new(format!("must hold tables, and `{}` is none", name.get_ref()))
                    .hint(format!(
                        "write it as [presets.{}], with its keys in the lines below",
                        name.get_ref()
                    ));
            top.refuse(value.span().start, "presets", fault);
        }
    }
    PresetsSection::default()
}

/// A whole number of at least `least`. The ceiling keeps every sum of such numbers far from overflow.
fn count<T: TryFrom<u64>>(section: &Section<'_>, key: &'static str, least: u64, default: T) -> T {
    const MOST: u64 = 1_000_000_000;
    let written = section.whole(key, least..=MOST);
    written.and_then(|(n, _)| T::try_from(n).ok()).unwrap_or(default)
}

/// What a checker says of a text, noted at the text.
fn noted<T>(
    section: &Section<'_>,
    key: &str,
    text: SpannedText<'_>,
    said: Result<T, ValueError>,
) -> Option<T> {
    said.map_err(|fault| section.refuse(text.at, key, fault)).ok()
}

fn job_section(section: &Section<'_>) -> JobSection {
    let goal = section.text("goal");
    if section.find("goal").is_none() {
        section.missing("goal", "say in a sentence what is to be done: `goal = \"…\"` in [job]");
    }
    let name = section.any_text("name").and_then(|name| {
        noted(section, "name", name, check_job_name(name.text)).map(|()| name.text.to_owned())
    });
    let base = section.text("base").and_then(|base| {
        let good = !base.text.starts_with('-') && !base.text.contains(char::is_control);
        let fault = || ValueError::new(format!("is not a revision: \"{}\"", base.text));
        noted(section, "base", base, good.then(|| base.text.to_owned()).ok_or_else(fault))
    });
    let target = section
        .text("target")
        .and_then(|target| noted(section, "target", target, branch_name(target.text)));
    JobSection {
        name,
        goal: goal.map_or_else(String::new, |goal| goal.text.trim().to_owned()),
        base: base.unwrap_or_else(|| "HEAD".into()),
        target,
        kind: section.choice(
            "kind",
            &[Choice::Now("change", JobKind::Change), Choice::Now("report", JobKind::Report)],
            JobKind::Change,
        ),
        base_check: section.choice(
            "base-check",
            &[Choice::Now("stop", BaseCheck::Stop), Choice::Now("warn", BaseCheck::Warn)],
            BaseCheck::Stop,
        ),
    }
}

/// The names under which findings appear that no check of the job has made.
const BUILT_IN: [&str; 5] = ["agent", "scope", "merge", "review", "evaluate"];

fn checks(sections: &[Section<'_>], output: Option<&OutputSection>) -> Vec<Check> {
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
            let said = check_name(name.text, names.insert(name.text));
            noted(section, "name", name, said);
        }
        if let (Some(value), false) = (section.find("schema"), output_check) {
            let fault = ValueError::new("has a meaning only beside `output`");
            section.refuse(value.span().start, "schema", fault);
        }
        checks.push(Check {
            name: name.map_or_else(String::new, |name| name.text.to_owned()),
            run: section.argv("run", CommandKind::Check).unwrap_or_default(),
            ast_equal: if built_in { ast_equal::ast_equal(section) } else { None },
            output_check: if output_check { output::output_check(section, output) } else { None },
            timeout: section.duration("timeout", 5 * MINUTE),
            when: when(section, output.is_some()),
            version: section.argv("version", CommandKind::Check),
            cache: section.flag("cache", true),
        });
    }
    checks
}

fn check_name(name: &str, new: bool) -> Result<(), ValueError> {
    const LONGEST: usize = 100;
    if !new {
        return Err(ValueError::new(format!("is used twice: \"{name}\""))
            .hint("give every check a name of its own"));
    }
    if BUILT_IN.contains(&name) {
        return Err(ValueError::new(format!("is the name of a built-in check: \"{name}\""))
            .hint(format!("use another, such as \"{name}-check\"")));
    }
    if name.len() > LONGEST || name.contains(char::is_control) || name.trim() != name {
        return Err(ValueError::new(format!(
            "must be one line of at most {LONGEST} bytes without spaces around it: {name:?}"
        )));
    }
    Ok(())
}

fn when(section: &Section<'_>, report: bool) -> CheckWhen {
    // Reports do not land.
    let default = CheckWhen { task: true, landing: !report };
    let Some(words) = section.texts("when", "[\"task\", \"landing\"]") else {
        return default;
    };
    let mut when = CheckWhen { task: false, landing: false };
    for word in &words {
        match word.text {
            "task" => when.task = true,
            "landing" if report => {
                let fault = ValueError::new("cannot be \"landing\" with `kind = \"report\"`")
                    .hint("what is handed in does not land: leave `when` out");
                section.refuse(word.at, "when", fault);
            }
            "landing" => when.landing = true,
            other => {
                let fault = unknown_word(other, ["task", "landing"].into_iter());
                section.refuse(word.at, "when", fault);
            }
        }
    }
    if words.is_empty() {
        let at = section.find("when").map_or(0, |value| value.span().start);
        let fault = ValueError::new("may not be empty: the check would never run");
        section.refuse(at, "when", fault.hint("leave it out for both"));
    }
    when
}

fn scope(section: &Section<'_>, output: Option<&OutputSection>) -> ScopeSection {
    if let Some(output) = output {
        for key in ["write", "always"] {
            if let Some(value) = section.find(key) {
                let fault = ValueError::new("cannot be used with `kind = \"report\"`")
                    .hint("its tasks may write what they hand in and nothing else");
                section.refuse(value.span().start, key, fault);
            }
        }
        let path = PathGlobs::new(&[&globset::escape(&output.path)]).unwrap_or_default();
        return ScopeSection {
            write: vec![ScopePattern::Glob(path)],
            always: PathGlobs::default(),
            read_only: section.globs("read-only").unwrap_or_default(),
        };
    }
    let write = section.texts("write", "[\"{task.files}\"]").map(|patterns| {
        let parse = |p: SpannedText<'_>| noted(section, "write", p, ScopePattern::parse(p.text));
        patterns.into_iter().filter_map(parse).collect()
    });
    ScopeSection {
        write: write.unwrap_or_else(|| vec![ScopePattern::TaskFiles { ext: None }]),
        always: section.globs("always").unwrap_or_default(),
        read_only: section.globs("read-only").unwrap_or_default(),
    }
}

fn retry(section: &Section<'_>) -> RetrySection {
    let share = |key, default: f64| {
        let share = section.decimal(key, 0.0..=1.0, "a share such as 0.05").unwrap_or(default);
        // In range, so that nothing is cut off.
        (share * 1e6).round() as u32
    };
    RetrySection {
        resume: count(section, "resume", 0, 2),
        feedback: count(section, "feedback", 0, 3),
        infra: count(section, "infra", 0, 5),
        redispatch: count(section, "redispatch", 0, 1),
        redispatch_below: share("redispatch-below", 0.05),
        halt_above: share("halt-above", 0.10),
        halt_after: count(section, "halt-after", 1, 20),
    }
}

fn limits(section: &Section<'_>) -> LimitsSection {
    /// More than any run will ever have.
    const MOST_TOKENS: u64 = 1_000_000_000_000_000;
    const MOST_USD: f64 = 1e9;
    /// An exabyte.
    const MOST_MB: u64 = 1_000_000_000_000;
    let tokens = |key| section.whole(key, 1..=MOST_TOKENS).map(|(n, _)| n);
    let usd = |key| section.decimal(key, 0.000_001..=MOST_USD, "an amount such as 100.0");
    LimitsSection {
        jobs: count(section, "jobs", 1, 4),
        tokens: tokens("tokens"),
        tokens_per_task: tokens("tokens-per-task"),
        cost_usd: usd("cost-usd"),
        cost_per_task: usd("cost-per-task"),
        min_free_mb: section.whole("min-free-mb", 0..=MOST_MB).map_or(100, |(n, _)| n),
    }
}

fn queue(section: &Section<'_>, kind: JobKind) -> QueueSection {
    /// As many as the merge queue ever takes together.
    const LARGEST: u64 = 16;
    /// More than this many places are no machine's.
    const MOST_PLACES: u64 = 256;
    let size = |key, most: u64, default| {
        section.whole(key, 1..=most).and_then(|(n, _)| usize::try_from(n).ok()).unwrap_or(default)
    };
    let review = section.choice(
        "review",
        &[Choice::Now("none", false), Choice::Now("required", true)],
        false,
    );
    if let (Some(value), true, JobKind::Report) = (section.find("review"), review, kind) {
        let fault = ValueError::new("cannot be \"required\" with `kind = \"report\"`")
            .hint("what is handed in does not land; `[evaluate]` can judge it");
        section.refuse(value.span().start, "review", fault);
    }
    QueueSection {
        review,
        batch: size("batch", LARGEST, 8),
        ahead: size("ahead", MOST_PLACES, 1),
        each: section.flag("each", false),
        merge: section.choice(
            "merge",
            &[Choice::Now("squash", MergeStyle::Squash), Choice::Now("merge", MergeStyle::Merge)],
            MergeStyle::Squash,
        ),
        pre_land: section.argv("pre-land", CommandKind::Hook),
        post_land: section.argv("post-land", CommandKind::Hook),
        keep_branches: section.flag("keep-branches", false),
        trust_verdicts: section.flag("trust-verdicts", false),
    }
}

/// A relative path that stays in the repository, without `./` in front and `/` behind.
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
