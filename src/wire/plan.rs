//! The plan as JSON: the form in which it is printed and stored.
//!
//! Unknown fields are refused here, unlike elsewhere: the plan's id is the hash of all fields of
//! all tasks.

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{VERSION, decode};
use crate::domain::id::{Oid, TaskId};
use crate::domain::plan::{Plan, Task};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTask {
    id: String,
    files: Vec<String>,
    after: Vec<String>,
    tokens: u64,
    lines: u64,
    level: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vars: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePlan {
    v: u32,
    plan: String,
    tasks: Vec<WireTask>,
}

/// Returns the plan in its canonical bytes: one line for each task, and a newline at the end.
pub(crate) fn to_json(plan: &Plan) -> Result<String> {
    let tasks = task_lines(plan)?;
    let id = hash(&tasks)?;
    let mut out = format!("{{\"v\":{VERSION},\"plan\":\"{id}\",\"tasks\":[");
    for (index, task) in tasks.iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        out.push_str(task);
    }
    out.push_str(if tasks.is_empty() { "]}\n" } else { "\n]}\n" });
    Ok(out)
}

/// Returns the id of a plan: the SHA-1 of the git blob that holds its tasks as compact JSON. The
/// object format of the repository does not matter. `jq -cj .tasks | git hash-object --stdin`
/// prints the same id.
pub(crate) fn plan_id(plan: &Plan) -> Result<Oid> {
    hash(&task_lines(plan)?)
}

/// Reads a plan and verifies its id.
pub(crate) fn from_json(text: &str) -> Result<Plan> {
    let (plan, stated) = parse(text)?;
    let mut ids = std::collections::HashSet::new();
    for task in &plan.tasks {
        let id = &task.id;
        ensure!(ids.insert(id), "the plan has two tasks of the same name: `{id}`");
    }
    for task in &plan.tasks {
        if let Some(missing) = task.after.iter().find(|id| !ids.contains(*id)) {
            bail!(
                "the plan's task `{}` depends on a task that does not exist: `{missing}`",
                task.id
            );
        }
    }
    let id = plan_id(&plan)?;
    ensure!(id.as_str() == stated, "the plan is damaged: its tasks hash to {id}, not to: {stated}");
    Ok(plan)
}

/// Reads a plan without verifying its id. The verification takes longer than the reading.
pub(crate) fn from_json_unverified(text: &str) -> Result<Plan> {
    parse(text).map(|(plan, _)| plan)
}

/// Returns a plan and its stated id.
fn parse(text: &str) -> Result<(Plan, String)> {
    // A plan of another version may have another form: then the error names the version.
    let wire = match serde_json::from_str::<WirePlan>(text) {
        Ok(wire) if wire.v == VERSION => wire,
        Ok(_) | Err(_) => decode::<WirePlan>("plan.json", text.as_bytes())?,
    };
    let mut tasks: Vec<Task> = Vec::with_capacity(wire.tasks.len());
    for task in wire.tasks {
        ensure!(!task.files.is_empty(), "the plan has a task without files: `{}`", task.id);
        let after = task.after.iter().map(|id| TaskId::parse(id)).collect::<Result<_, _>>()?;
        let id = TaskId::parse(&task.id)?;
        let WireTask { files, tokens, lines, level, .. } = task;
        let vars = task.vars.map_or_else(String::new, |v| serde_json::Value::Object(v).to_string());
        tasks.push(Task { id, files, after, lines, tokens, level, vars });
    }
    Ok((Plan { tasks }, wire.plan))
}

/// Returns each task as compact JSON.
fn task_lines(plan: &Plan) -> Result<Vec<String>> {
    let line = |task: &Task| {
        let vars = Some(&task.vars).filter(|v| !v.is_empty()).map(|v| serde_json::from_str(v));
        serde_json::to_string(&WireTask {
            vars: vars.transpose()?,
            id: task.id.to_string(),
            files: task.files.clone(),
            after: task.after.iter().map(ToString::to_string).collect(),
            tokens: task.tokens,
            lines: task.lines,
            level: task.level,
        })
    };
    plan.tasks.iter().map(|task| line(task).context("cannot write the plan")).collect()
}

fn hash(tasks: &[String]) -> Result<Oid> {
    let content = format!("[{}]", tasks.join(","));
    let (sha1, blob) = (gix::hash::Kind::Sha1, gix::objs::Kind::Blob);
    let id = gix::objs::compute_hash(sha1, blob, content.as_bytes())
        .map_err(|err| anyhow::anyhow!(err).context("cannot hash the plan"))?;
    Ok(Oid::parse(&id.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Plan {
        let task = |id: &str, files: &[&str], after: &[&str]| Task {
            id: TaskId::parse(id).unwrap(),
            files: files.iter().map(ToString::to_string).collect(),
            after: after.iter().map(|id| TaskId::parse(id).unwrap()).collect(),
            lines: 12,
            tokens: 90,
            level: 0,
            vars: String::new(),
        };
        Plan {
            tasks: vec![task("a", &["a/ü \"x\".js"], &[]), task("b", &["b.js", "c.js"], &["a"])],
        }
    }

    #[test]
    fn plan_has_canonical_bytes() {
        // The id: `jq -cj .tasks | git hash-object --stdin`.
        let text = concat!(
            r#"{"v":1,"plan":"45db8f4d84ad944d5acd30e16104588206f6e119","tasks":["#,
            "\n",
            r#"{"id":"a","files":["a/ü \"x\".js"],"after":[],"tokens":90,"lines":12,"level":0},"#,
            "\n",
            r#"{"id":"b","files":["b.js","c.js"],"after":["a"],"tokens":90,"lines":12,"level":0}"#,
            "\n]}\n"
        );
        assert_eq!(to_json(&sample()).unwrap(), text);
        assert_eq!(from_json(text).unwrap(), sample());
    }

    #[test]
    fn plan_without_tasks_round_trips() {
        // The id: `printf '[]' | git hash-object --stdin`.
        let text = "{\"v\":1,\"plan\":\"0637a088a01e8ddab3bf3fa98dbe804cbde1a0dc\",\"tasks\":[]}\n";
        assert_eq!(to_json(&Plan::default()).unwrap(), text);
        assert_eq!(from_json(text).unwrap(), Plan::default());
    }

    #[test]
    fn damaged_or_foreign_plan_is_refused() {
        let valid = to_json(&sample()).unwrap();
        for (from, to, words) in [
            ("\"v\":1", "\"v\":99", "plan.json: format 99, this git-harness reads 1"),
            ("b.js", "x.js", "damaged"),
            ("\"id\":\"b\"", "\"id\":\"a\"", "same name"),
            ("\"id\":\"b\"", "\"id\":\"result\"", "result"),
            ("[\"b.js\",\"c.js\"]", "[]", "without files"),
            ("\"level\"", "\"depth\"", "depth"),
            ("[\"a\"]", "[\"c\"]", "depends on a task that does not exist: `c`"),
        ] {
            let err = format!("{:#}", from_json(&valid.replace(from, to)).unwrap_err());
            assert!(err.contains(words), "{from} -> {to}: {err}");
        }
    }
}
