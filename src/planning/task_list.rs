//! Listed tasks: from the output of `[plan] command`, the file `[plan] list` or the sections
//! `[[plan.task]]`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::graph::{components, levels};
use super::tree_paths::{TreePaths, normalize};
use super::{files::PlanFile, names};
use crate::domain::id::TaskId;
use crate::domain::plan::Task;

/// A listed task. In a command's output or a list file, each task is a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TaskLine {
    /// The name, or `None` for a task that is named after its first file.
    pub id: Option<String>,
    /// The files. Must not be empty.
    pub files: Vec<String>,
    /// The names of tasks that land before this task.
    pub after: Vec<String>,
    /// The priority. With `order = "priority"`, a higher priority goes first.
    pub priority: i64,
    /// The variables for the prompt template.
    pub vars: serde_json::Map<String, serde_json::Value>,
}

/// Parses listed tasks: one JSON object a line, or a JSON array of findings. Blank lines are
/// ignored.
pub(crate) fn parse_task_list(text: &str) -> Result<Vec<TaskLine>> {
    if text.trim_start().starts_with('[') {
        return tasks_of_findings(text);
    }
    let mut tasks = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let at = || format!("line {} is not a task as JSON: {line}", number + 1);
        let task: TaskLine = serde_json::from_str(line).with_context(at)?;
        if let Some((name, _)) = task.vars.iter().find(|(_, value)| has_null(value)) {
            bail!("line {}: `vars` holds null, which no template can use: {name}", number + 1);
        }
        tasks.push(task);
    }
    Ok(tasks)
}

/// Makes a task for each file that has findings, in the order of first appearance. The task has the
/// findings of the file as the variable `findings`.
fn tasks_of_findings(text: &str) -> Result<Vec<TaskLine>> {
    let findings: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(text).context("not a JSON array of findings")?;
    let mut files: Vec<String> = Vec::new();
    let mut by_file: HashMap<String, Vec<serde_json::Value>> = HashMap::new();
    for (number, mut finding) in findings.into_iter().enumerate() {
        let file = finding.get("file").and_then(serde_json::Value::as_str).map(str::to_owned);
        let file = file.with_context(|| format!("the finding {} has no `file`", number + 1))?;
        // Templates cannot use null.
        finding.retain(|_, value| !has_null(value));
        let file_findings = by_file.entry(file.clone()).or_insert_with(|| {
            files.push(file);
            Vec::new()
        });
        file_findings.push(finding.into());
    }
    let task = |file: String| {
        let findings = by_file.remove(&file).unwrap_or_default();
        let vars = [("findings".to_owned(), findings.into())].into_iter().collect();
        TaskLine { files: vec![file], vars, ..TaskLine::default() }
    };
    Ok(files.into_iter().map(task).collect())
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

/// Returns the paths of all listed tasks.
pub(super) fn listed_paths(listed: &[TaskLine]) -> BTreeSet<String> {
    listed.iter().flat_map(|task| &task.files).filter_map(|path| normalize(path)).collect()
}

/// The ordering of listed tasks.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListOrdering<'a> {
    /// The files that each file of the plan needs. Empty without `order = "dependency"`.
    pub needs: &'a [Vec<usize>],
    /// True if a higher priority goes first.
    pub by_priority: bool,
}

/// Makes the tasks of a plan from listed tasks, and returns the tasks and warnings. `files` are the
/// files of the plan, sorted by path.
///
/// Listed files that are not in the plan are left out of the tasks. Tasks without a remaining file
/// are left out, too.
pub(super) fn tasks(
    listed: &[TaskLine],
    files: &[PlanFile],
    tree: &TreePaths,
    ordering: ListOrdering<'_>,
) -> Result<(Vec<Task>, Vec<String>)> {
    let mut drafts: Vec<(&TaskLine, Vec<usize>)> = Vec::new();
    let mut left_out = BTreeMap::new();
    for task in listed {
        let mut task_files = Vec::new();
        for path in &task.files {
            let plain = normalize(path).unwrap_or_default();
            ensure!(
                tree.has_file(&plain),
                "the task {} names a file that is not in the base commit: {path}",
                describe(task)
            );
            task_files.extend(files.binary_search_by(|f| f.path.as_str().cmp(&plain)).ok());
        }
        ensure!(!task.files.is_empty(), "the task {} has no files", describe(task));
        task_files.sort_unstable();
        task_files.dedup();
        if task_files.is_empty() {
            left_out.insert(describe(task), task.id.clone());
        } else {
            drafts.push((task, task_files));
        }
    }
    let mut warnings = Vec::new();
    if let Some((first, _)) = left_out.iter().next() {
        warnings.push(format!(
            "{} of the listed tasks have no file that `include`, `exclude` and the scope leave in the plan, such as {first}",
            left_out.len()
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
                None if left_out.values().any(|id| id.as_ref() == Some(name)) => {}
                None => {
                    bail!("the task `{}` waits for a task that is not listed: {name}", ids[number])
                }
            }
        }
    }
    if let Some(cycle) = components(&after).iter().find(|component| component.len() > 1) {
        let names: Vec<_> = cycle.iter().take(8).map(|n| ids[*n].as_str()).collect();
        bail!("tasks wait for each other in a cycle by their `after`: {}", names.join(", "));
    }
    add_imports(&mut after, &drafts, ordering.needs, &ids, &mut warnings);
    let levels = levels(&after);
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    if ordering.by_priority {
        order.sort_by_key(|n| (std::cmp::Reverse(drafts[*n].0.priority), *n));
    } else {
        order.sort_by_key(|n| (levels[*n], *n));
    }
    let task = |number: usize| {
        let (listed, task_files) = &drafts[number];
        let task_files = || task_files.iter().map(|f| &files[*f]);
        let mut after: Vec<_> = after[number].iter().map(|n| ids[*n].clone()).collect();
        after.sort_unstable();
        Task {
            id: ids[number].clone(),
            files: task_files().map(|f| f.path.clone()).collect(),
            after,
            lines: task_files().map(|f| f.lines).sum(),
            tokens: task_files().map(|f| f.tokens).sum(),
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

/// Describes a task in an error.
fn describe(task: &TaskLine) -> String {
    match (&task.id, task.files.first()) {
        (Some(id), _) => format!("`{id}`"),
        (None, Some(file)) => format!("of `{file}`"),
        (None, None) => "without a name".to_owned(),
    }
}

/// Returns the id of each task: its listed name, or a name made from the path of its first file.
fn ids(drafts: &[(&TaskLine, Vec<usize>)], files: &[PlanFile]) -> Result<Vec<TaskId>> {
    let mut totals: HashMap<&str, usize> = HashMap::new();
    let unnamed = drafts.iter().filter(|(task, _)| task.id.is_none());
    let paths: Vec<&str> =
        unnamed.map(|(_, task_files)| files[task_files[0]].path.as_str()).collect();
    for path in &paths {
        *totals.entry(path).or_default() += 1;
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut pairs = Vec::with_capacity(paths.len());
    for path in paths {
        let number = counts.entry(path).or_default();
        *number += 1;
        pairs.push((path, (totals[path] > 1).then_some(*number)));
    }
    let mut generated = names::task_ids(&pairs)?.into_iter();
    let mut ids = Vec::with_capacity(drafts.len());
    let mut seen = std::collections::HashSet::new();
    for (task, _) in drafts {
        let id = match &task.id {
            Some(id) => TaskId::parse(id)?,
            None => generated.next().context("a task has no name")?,
        };
        ensure!(seen.insert(id.clone()), "two tasks have one name: `{id}`");
        ids.push(id);
    }
    Ok(ids)
}

/// Adds dependencies by imports to `after`, except dependencies that would close a cycle.
fn add_imports(
    after: &mut [Vec<usize>],
    drafts: &[(&TaskLine, Vec<usize>)],
    needs: &[Vec<usize>],
    ids: &[TaskId],
    warnings: &mut Vec<String>,
) {
    let mut tasks_of_file: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, (_, task_files)) in drafts.iter().enumerate() {
        for file in task_files {
            tasks_of_file.entry(*file).or_default().push(number);
        }
    }
    let mut all_needs = after.to_vec();
    for (number, (_, task_files)) in drafts.iter().enumerate() {
        let needed = task_files.iter().filter_map(|f| needs.get(*f)).flatten();
        let others = needed.filter_map(|f| tasks_of_file.get(f)).flatten();
        all_needs[number].extend(others.filter(|other| **other != number));
        all_needs[number].sort_unstable();
        all_needs[number].dedup();
    }
    // Within a cycle, only dependencies on a task with a lower rank are kept. Listed dependencies
    // always lead to a lower level, so all of them are kept.
    let listed_levels = levels(after);
    for component in components(&all_needs).into_iter().filter(|component| component.len() > 1) {
        let names: Vec<_> = component.iter().take(8).map(|n| ids[*n].as_str()).collect();
        warnings.push(format!(
            "{} tasks need each other's files in a cycle, so some of them start before their dependencies have landed: {}",
            component.len(),
            names.join(", ")
        ));
        for number in &component {
            let rank = |n: usize| (listed_levels[n], n);
            all_needs[*number]
                .retain(|to| component.binary_search(to).is_err() || rank(*to) < rank(*number));
        }
    }
    after.clone_from_slice(&all_needs);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planning::tests::{blobs, repository};

    const TREE: [&str; 4] = ["a.js", "b.js", "c.js", "d/e.js"];

    /// Returns the tasks as text, followed by the warnings: `level id: files > after (vars)`.
    fn tasks_of(
        lines: &str,
        planned: &[&str],
        needs: &[Vec<usize>],
        by_priority: bool,
    ) -> Result<String> {
        let (_dir, repo) = repository();
        let base = blobs(&repo, &TREE.map(|path| (path, "x\n")));
        let tree = TreePaths::of(&repo, base).unwrap();
        let file =
            |p: &&str| PlanFile { path: (*p).into(), lines: 1, bytes: 2, tokens: 1, id: base };
        let files: Vec<_> = planned.iter().map(file).collect();
        let ordering = ListOrdering { needs, by_priority };
        let (tasks, warnings) = tasks(&parse_task_list(lines)?, &files, &tree, ordering)?;
        let show = |t: &Task| {
            let after: Vec<_> = t.after.iter().map(|a| format!(" > {a}")).collect();
            format!("{} {}: {}{}{}", t.level, t.id, t.files.join(" "), after.concat(), t.vars)
        };
        let mut lines: Vec<_> = tasks.iter().map(show).collect();
        lines.extend(warnings);
        Ok(lines.join("\n"))
    }

    fn all(lines: &str) -> Result<String> {
        tasks_of(lines, &TREE, &[], false)
    }

    #[test]
    fn lines_of_json_become_tasks() {
        let lines = r#"{"id": "late", "files": ["./a.js"], "after": ["early"], "vars": {"x": [1, "two"]}}

            {"id": "early", "files": ["c.js", "b.js", "b.js"]}
            {"files": ["d/e.js"], "priority": 3}
            {"files": ["d/e.js", "a.js"]}"#;
        assert_eq!(
            all(lines).unwrap(),
            "0 early: b.js c.js\n0 d__e_dot_js: d/e.js\n0 a_dot_js: a.js d/e.js\n\
             1 late: a.js > early{\"x\":[1,\"two\"]}"
        );
        let first = tasks_of(lines, &TREE, &[], true).unwrap();
        assert!(first.starts_with("0 d__e_dot_js"), "{first}");
        assert!(first.contains("1 late: a.js > early{\"x\":[1,\"two\"]}\n0 early"), "{first}");
    }

    #[test]
    fn files_outside_the_scope_are_left_out_of_tasks() {
        let lines = r#"{"id": "one", "files": ["a.js", "b.js"]}
            {"id": "two", "files": ["c.js"]}
            {"id": "three", "files": ["d/e.js"], "after": ["two"]}"#;
        let text = tasks_of(lines, &["b.js", "d/e.js"], &[], false).unwrap();
        let (tasks, warning) = text.rsplit_once('\n').unwrap();
        assert_eq!(tasks, "0 one: b.js\n0 three: d/e.js");
        assert!(warning.starts_with("1 of the listed tasks") && warning.ends_with("`two`"));
    }

    #[test]
    fn imports_are_added_where_they_make_no_cycle() {
        let lines = r#"{"id": "a", "files": ["a.js"]}
            {"id": "b", "files": ["b.js"], "after": ["a"]}
            {"id": "c", "files": ["c.js"]}"#;
        let files = ["a.js", "b.js", "c.js"];
        // a.js needs c.js.
        let acyclic = tasks_of(lines, &files, &[vec![2], vec![], vec![]], false).unwrap();
        assert_eq!(acyclic, "0 c: c.js\n1 a: a.js > c\n2 b: b.js > a");
        // a.js needs b.js, but the task of b.js waits for the task of a.js.
        let cyclic = tasks_of(lines, &files, &[vec![1], vec![], vec![]], false).unwrap();
        let (tasks, warning) = cyclic.rsplit_once('\n').unwrap();
        assert_eq!(tasks, "0 a: a.js\n0 c: c.js\n1 b: b.js > a");
        assert!(warning.ends_with(": a, b"), "{warning}");
    }

    #[test]
    fn invalid_tasks_are_refused_by_name() {
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
                "`x` waits for a task that is not listed: y",
            ),
            (
                "{\"id\": \"x\", \"files\": [\"a.js\"], \"after\": [\"y\"]}\n{\"id\": \"y\", \"files\": [\"b.js\"], \"after\": [\"x\"]}",
                "in a cycle by their `after`: x, y",
            ),
        ];
        for (lines, words) in table {
            let err = format!("{:#}", all(lines).unwrap_err());
            assert!(err.contains(words), "{lines}: {err}");
        }
    }
}
