//! Tasks that somebody else has made: a command's lines, a list, sections of the job.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::order::{components, levels};
use super::snapshot::{TreePaths, normal};
use super::{discover::PlanFile, names};
use crate::domain::id::TaskId;
use crate::domain::plan::Task;

/// A task as it is handed in: a line of JSON, in this form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TaskLine {
    /// Its name; else it is named after its first file.
    pub id: Option<String>,
    /// Its files. Never empty.
    pub files: Vec<String>,
    /// The names of tasks that land before it.
    pub after: Vec<String>,
    /// Higher goes first.
    pub priority: i64,
    /// What its prompt is told besides.
    pub vars: serde_json::Map<String, serde_json::Value>,
}

/// Reads tasks, one a line; blank lines are none. A JSON array is one of findings.
pub(crate) fn parse(text: &str) -> Result<Vec<TaskLine>> {
    if text.trim_start().starts_with('[') {
        return of_findings(text);
    }
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let at = || format!("line {} is not a task as JSON: {line}", number + 1);
        let task: TaskLine = serde_json::from_str(line).with_context(at)?;
        if let Some((name, _)) = task.vars.iter().find(|(_, value)| has_null(value)) {
            bail!("line {}: `vars` holds null, which no template can use: {name}", number + 1);
        }
        found.push(task);
    }
    Ok(found)
}

/// Tasks from findings, as a review hands them in: one for each file, in the order in which the files come up, with its
/// findings as the variable `findings`.
fn of_findings(text: &str) -> Result<Vec<TaskLine>> {
    let findings: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(text).context("not a JSON array of findings")?;
    let mut order: Vec<String> = Vec::new();
    let mut of: HashMap<String, Vec<serde_json::Value>> = HashMap::new();
    for (number, mut finding) in findings.into_iter().enumerate() {
        let file = finding.get("file").and_then(serde_json::Value::as_str).map(str::to_owned);
        let file = file.with_context(|| format!("the finding {} has no `file`", number + 1))?;
        // What is not known is not said.
        finding.retain(|_, value| !has_null(value));
        let those = of.entry(file.clone()).or_insert_with(|| {
            order.push(file);
            Vec::new()
        });
        those.push(finding.into());
    }
    let task = |file: String| {
        let found = of.remove(&file).unwrap_or_default();
        let vars = [("findings".to_owned(), found.into())].into_iter().collect();
        TaskLine { files: vec![file], vars, ..TaskLine::default() }
    };
    Ok(order.into_iter().map(task).collect())
}

fn has_null(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(list) => list.iter().any(has_null),
        serde_json::Value::Object(map) => map.values().any(has_null),
        serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => false,
    }
}

/// How the tasks are put in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListOrdering<'a> {
    /// What each file of the plan needs; none where nobody asked.
    pub needs: &'a [Vec<usize>],
    /// Whether a higher priority goes first.
    pub by_priority: bool,
}

/// The plan's tasks from those that were listed, and what a person should know. `files` are those of the plan, sorted by
/// path; what lies outside of it is left out of the tasks, and tasks of which nothing is left are, too.
pub(super) fn tasks(
    listed: &[TaskLine],
    files: &[PlanFile],
    snapshot: &TreePaths,
    rules: ListOrdering<'_>,
) -> Result<(Vec<Task>, Vec<String>)> {
    let mut drafts: Vec<(&TaskLine, Vec<usize>)> = Vec::new();
    let mut dropped = BTreeMap::new();
    for task in listed {
        let mut own = Vec::new();
        for path in &task.files {
            let plain = normal(path).unwrap_or_default();
            ensure!(
                snapshot.has(&plain),
                "the task {} names a file that is not in the base commit: {path}",
                called(task)
            );
            own.extend(files.binary_search_by(|f| f.path.as_str().cmp(&plain)).ok());
        }
        ensure!(!task.files.is_empty(), "the task {} has no files", called(task));
        own.sort_unstable();
        own.dedup();
        if own.is_empty() {
            dropped.insert(called(task), task.id.clone());
        } else {
            drafts.push((task, own));
        }
    }
    let mut warnings = Vec::new();
    if let Some((first, _)) = dropped.iter().next() {
        warnings.push(format!(
            "{} of the listed tasks have no file that `include`, `exclude` and the scope leave in the plan, such as {first}",
            dropped.len()
        ));
    }
    let ids = ids(&drafts, files)?;
    let numbers: HashMap<&str, usize> =
        ids.iter().enumerate().map(|(n, id)| (id.as_str(), n)).collect();
    let mut after = vec![Vec::new(); drafts.len()];
    for (number, (task, _)) in drafts.iter().enumerate() {
        for name in &task.after {
            match numbers.get(name.as_str()) {
                Some(other) if *other != number => after[number].push(*other),
                Some(_) => bail!("the task `{name}` waits for itself"),
                None if dropped.values().any(|id| id.as_ref() == Some(name)) => {}
                None => {
                    bail!("the task `{}` waits for one that is not listed: {name}", ids[number])
                }
            }
        }
    }
    if let Some(circle) = components(&after).iter().find(|group| group.len() > 1) {
        let names: Vec<_> = circle.iter().take(8).map(|n| ids[*n].as_str()).collect();
        bail!("tasks wait for each other in a circle by their `after`: {}", names.join(", "));
    }
    add_imports(&mut after, &drafts, rules.needs, &ids, &mut warnings);
    let levels = levels(&after);
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    if rules.by_priority {
        order.sort_by_key(|n| (std::cmp::Reverse(drafts[*n].0.priority), *n));
    } else {
        order.sort_by_key(|n| (levels[*n], *n));
    }
    let task = |number: usize| {
        let (listed, own) = &drafts[number];
        let own = || own.iter().map(|f| &files[*f]);
        let mut after: Vec<_> = after[number].iter().map(|n| ids[*n].clone()).collect();
        after.sort_unstable();
        Task {
            id: ids[number].clone(),
            files: own().map(|f| f.path.clone()).collect(),
            after,
            lines: own().map(|f| f.lines).sum(),
            tokens: own().map(|f| f.tokens).sum(),
            level: levels[number],
            vars: if listed.vars.is_empty() {
                String::new()
            } else {
                serde_json::Value::Object(listed.vars.clone()).to_string()
            },
        }
    };
    Ok((order.into_iter().map(task).collect(), warnings))
}

/// As what an error names a task.
fn called(task: &TaskLine) -> String {
    match (&task.id, task.files.first()) {
        (Some(id), _) => format!("`{id}`"),
        (None, Some(file)) => format!("of `{file}`"),
        (None, None) => "without a name".to_owned(),
    }
}

/// Their own names, or names after their first files.
fn ids(drafts: &[(&TaskLine, Vec<usize>)], files: &[PlanFile]) -> Result<Vec<TaskId>> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let nameless = drafts.iter().filter(|(task, _)| task.id.is_none());
    let paths: Vec<&str> = nameless.map(|(_, own)| files[own[0]].path.as_str()).collect();
    for path in &paths {
        *seen.entry(path).or_default() += 1;
    }
    let mut so_far: HashMap<&str, usize> = HashMap::new();
    let mut pairs = Vec::with_capacity(paths.len());
    for path in paths {
        let nth = so_far.entry(path).or_default();
        *nth += 1;
        pairs.push((path, (seen[path] > 1).then_some(*nth)));
    }
    let mut made = names::task_ids(&pairs)?.into_iter();
    let mut ids = Vec::with_capacity(drafts.len());
    let mut known = std::collections::HashSet::new();
    for (task, _) in drafts {
        let id = match &task.id {
            Some(id) => TaskId::parse(id)?,
            None => made.next().context("a task has no name")?,
        };
        ensure!(known.insert(id.clone()), "two tasks have one name: `{id}`");
        ids.push(id);
    }
    Ok(ids)
}

/// Adds what the tasks' files need to what they wait for, as far as that makes no circle.
fn add_imports(
    after: &mut [Vec<usize>],
    drafts: &[(&TaskLine, Vec<usize>)],
    needs: &[Vec<usize>],
    ids: &[TaskId],
    warnings: &mut Vec<String>,
) {
    let mut homes: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, (_, own)) in drafts.iter().enumerate() {
        for file in own {
            homes.entry(*file).or_default().push(number);
        }
    }
    let mut all = after.to_vec();
    for (number, (_, own)) in drafts.iter().enumerate() {
        let needed = own.iter().filter_map(|f| needs.get(*f)).flatten();
        let others = needed.filter_map(|f| homes.get(f)).flatten();
        all[number].extend(others.filter(|other| **other != number));
        all[number].sort_unstable();
        all[number].dedup();
    }
    // What the tasks say themselves has no circle, so in their order by that nothing they say is given up.
    let said = levels(after);
    for group in components(&all).into_iter().filter(|group| group.len() > 1) {
        let names: Vec<_> = group.iter().take(8).map(|n| ids[*n].as_str()).collect();
        warnings.push(format!(
            "{} tasks need each other's files in a circle, so some of them begin before what they need has landed: {}",
            group.len(),
            names.join(", ")
        ));
        for number in &group {
            let rank = |n: usize| (said[n], n);
            all[*number].retain(|to| group.binary_search(to).is_err() || rank(*to) < rank(*number));
        }
    }
    after.clone_from_slice(&all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planning::tests::{blobs, repository};

    const TREE: [&str; 4] = ["a.js", "b.js", "c.js", "d/e.js"];

    /// The tasks as text, with the warnings behind them: `level id: files > after (vars)`.
    fn made(
        lines: &str,
        planned: &[&str],
        needs: &[Vec<usize>],
        by_priority: bool,
    ) -> Result<String> {
        let (_dir, repo) = repository();
        let base = blobs(&repo, &TREE.map(|path| (path, "x\n")));
        let snapshot = TreePaths::of(&repo, base).unwrap();
        let file =
            |p: &&str| PlanFile { path: (*p).into(), lines: 1, bytes: 2, tokens: 1, id: base };
        let files: Vec<_> = planned.iter().map(file).collect();
        let rules = ListOrdering { needs, by_priority };
        let (tasks, warnings) = tasks(&parse(lines)?, &files, &snapshot, rules)?;
        let show = |t: &Task| {
            let after: Vec<_> = t.after.iter().map(|a| format!(" > {a}")).collect();
            format!("{} {}: {}{}{}", t.level, t.id, t.files.join(" "), after.concat(), t.vars)
        };
        let mut lines: Vec<_> = tasks.iter().map(show).collect();
        lines.extend(warnings);
        Ok(lines.join("\n"))
    }

    fn all(lines: &str) -> Result<String> {
        made(lines, &TREE, &[], false)
    }

    #[test]
    fn lines_become_tasks() {
        let lines = r#"{"id": "late", "files": ["./a.js"], "after": ["early"], "vars": {"x": [1, "two"]}}

            {"id": "early", "files": ["c.js", "b.js", "b.js"]}
            {"files": ["d/e.js"], "priority": 3}
            {"files": ["d/e.js", "a.js"]}"#;
        assert_eq!(
            all(lines).unwrap(),
            "0 early: b.js c.js\n0 d__e_dot_js: d/e.js\n0 a_dot_js: a.js d/e.js\n\
             1 late: a.js > early{\"x\":[1,\"two\"]}"
        );
        let first = made(lines, &TREE, &[], true).unwrap();
        assert!(first.starts_with("0 d__e_dot_js"), "{first}");
        assert!(first.contains("1 late: a.js > early{\"x\":[1,\"two\"]}\n0 early"), "{first}");
    }

    #[test]
    fn what_the_scope_leaves_out_is_not_in_the_tasks() {
        let lines = r#"{"id": "one", "files": ["a.js", "b.js"]}
            {"id": "two", "files": ["c.js"]}
            {"id": "three", "files": ["d/e.js"], "after": ["two"]}"#;
        let made = made(lines, &["b.js", "d/e.js"], &[], false).unwrap();
        let (tasks, warning) = made.rsplit_once('\n').unwrap();
        assert_eq!(tasks, "0 one: b.js\n0 three: d/e.js");
        assert!(warning.starts_with("1 of the listed tasks") && warning.ends_with("`two`"));
    }

    #[test]
    fn imports_are_added_where_they_make_no_circle() {
        let lines = r#"{"id": "a", "files": ["a.js"]}
            {"id": "b", "files": ["b.js"], "after": ["a"]}
            {"id": "c", "files": ["c.js"]}"#;
        let files = ["a.js", "b.js", "c.js"];
        // a.js needs c.js.
        let free = made(lines, &files, &[vec![2], vec![], vec![]], false).unwrap();
        assert_eq!(free, "0 c: c.js\n1 a: a.js > c\n2 b: b.js > a");
        // a.js needs b.js, whose task waits for it.
        let round = made(lines, &files, &[vec![1], vec![], vec![]], false).unwrap();
        let (tasks, warning) = round.rsplit_once('\n').unwrap();
        assert_eq!(tasks, "0 a: a.js\n0 c: c.js\n1 b: b.js > a");
        assert!(warning.ends_with(": a, b"), "{warning}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let table = [
            (r#"{"files": ["a.js"]} x"#, "line 1 is not a task"),
            ("{\"files\": [\"a.js\"]}\n{\"file\": []}", "line 2 is not a task"),
            (r#"{"files": ["a.js"], "vars": {"deep": [{"x": null}]}}"#, "null"),
            (r#"{"id": "x", "files": []}"#, "the task `x` has no files"),
            (r#"{"files": ["gone.js"]}"#, "of `gone.js` names a file that is not in the base"),
            (r#"{"id": "Bad Name", "files": ["a.js"]}"#, "Bad Name"),
            (
                "{\"id\": \"x\", \"files\": [\"a.js\"]}\n{\"id\": \"x\", \"files\": [\"b.js\"]}",
                "two tasks have one name: `x`",
            ),
            (r#"{"id": "x", "files": ["a.js"], "after": ["x"]}"#, "waits for itself"),
            (
                r#"{"id": "x", "files": ["a.js"], "after": ["y"]}"#,
                "`x` waits for one that is not listed: y",
            ),
            (
                "{\"id\": \"x\", \"files\": [\"a.js\"], \"after\": [\"y\"]}\n{\"id\": \"y\", \"files\": [\"b.js\"], \"after\": [\"x\"]}",
                "in a circle by their `after`: x, y",
            ),
        ];
        for (lines, words) in table {
            let err = format!("{:#}", all(lines).unwrap_err());
            assert!(err.contains(words), "{lines}: {err}");
        }
    }
}
