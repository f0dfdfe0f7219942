//! The section `[plan]`.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::{checked, count, inside_repository};
use crate::job::errors::ValueError;
use crate::job::globs::PathGlobs;
use crate::job::placeholders::CommandKind;
use crate::job::plan::{ListedTask, PlanSection, TaskOrder, TaskSource, TokenBudget};
use crate::job::section::{Section, SpannedValue};

/// Reads `[plan]`.
pub(super) fn plan(section: &Section<'_>) -> PlanSection {
    if let Some(value) = section.find("include")
        && value.get_ref().as_array().is_some_and(|list| list.is_empty())
    {
        let error = ValueError::new("may not be empty: no file would be planned");
        let error = error.hint("everything is `include = [\"**\"]`");
        section.add_error(value.span().start, "include", error);
    }
    let scope = section.section("scope");
    let scope_dir = scope.any_text("dir").and_then(|dir| {
        checked(&scope, "dir", dir, inside_repository(dir.text).map(str::to_owned))
    });
    let scope_files = scope.any_text("files").and_then(|files| {
        let result = files
            .text
            .is_empty()
            .then(PathGlobs::default)
            .map_or_else(|| PathGlobs::new(&[files.text]), Ok);
        checked(&scope, "files", files, result).map(|_| files.text.to_owned())
    });
    let everything = || PathGlobs::new(&["**"]).unwrap_or_default();
    let list = section.text("list").and_then(|list| {
        checked(section, "list", list, inside_repository(list.text).map(str::to_owned))
    });
    let plan = PlanSection {
        include: section.globs("include").unwrap_or_else(everything),
        exclude: section.globs("exclude").unwrap_or_default(),
        group: section.choice(
            "group",
            &[
                ("file", TaskSource::File),
                ("directory", TaskSource::Directory),
                ("dependency", TaskSource::Dependency),
                ("command", TaskSource::Command),
                ("list", TaskSource::List),
            ],
            TaskSource::File,
        ),
        order: section.choice(
            "order",
            &[
                ("none", TaskOrder::None),
                ("dependency", TaskOrder::Dependency),
                ("priority", TaskOrder::Priority),
            ],
            TaskOrder::None,
        ),
        max_files: count(section, "max-files", 1, 40),
        max_lines: count(section, "max-lines", 1, 3000),
        budget: token_budget(section),
        scope_dir: scope_dir.unwrap_or_default(),
        scope_files: scope_files.unwrap_or_default(),
        vars: section.section("vars").table().map_or_else(BTreeMap::new, |t| vars(t, section)),
        command: section.argv("command", CommandKind::Plan),
        list,
        tasks: section.sections("task").iter().map(task).collect(),
        edges: section.argv("edges", CommandKind::Plan),
    };
    check_combinations(section, &plan);
    plan
}

/// Refuses combinations of keys that have no meaning.
fn check_combinations(section: &Section<'_>, plan: &PlanSection) {
    let at = |key| section.find(key).map(|value| value.span().start);
    let only_with = |key, is_used: bool, other: &str| {
        if let (Some(at), false) = (at(key), is_used) {
            section.add_error(at, key, ValueError::new(format!("means nothing without `{other}`")));
        }
    };
    let has_listed_tasks = matches!(plan.group, TaskSource::Command | TaskSource::List);
    only_with("command", plan.group == TaskSource::Command, "group = \"command\"");
    only_with("list", plan.group == TaskSource::List, "group = \"list\"");
    only_with("task", plan.group == TaskSource::List, "group = \"list\"");
    let has_dependencies =
        plan.order == TaskOrder::Dependency || plan.group == TaskSource::Dependency;
    only_with("edges", has_dependencies, "order = \"dependency\"");
    if plan.order == TaskOrder::Priority && !has_listed_tasks {
        let error = ValueError::new("can be `\"priority\"` only if the tasks state a priority");
        let error = error.hint("these come with `group = \"command\"` or `group = \"list\"`");
        section.add_error(at("order").unwrap_or(0), "order", error);
    }
    if plan.group == TaskSource::Command && at("command").is_none() {
        section.missing("command", "write it like `command = [\"node\", \"discover.js\"]`");
    }
    if plan.group == TaskSource::List {
        match (at("list"), at("task")) {
            (None, None) => section.missing(
                "list",
                "name a file with one JSON object for each task, one on each line, or write sections [[plan.task]]",
            ),
            (Some(at), Some(_)) => {
                let error = ValueError::new("cannot be used beside sections [[plan.task]]");
                section.add_error(at, "list", error);
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
    }
}

/// Reads a `[[plan.task]]`.
fn task(section: &Section<'_>) -> ListedTask {
    let strings = |key, example| -> Vec<String> {
        let texts = section.texts(key, example).unwrap_or_default();
        texts.iter().map(|t| t.text.to_owned()).collect()
    };
    let files = strings("files", "[\"src/a.js\"]");
    if files.is_empty() {
        section.missing("files", "every task needs some: `files = [\"src/a.js\"]`");
    }
    let table = section.find("vars").and_then(|value| {
        let table = value.get_ref().as_table();
        if table.is_none() {
            section.add_type_error("vars", value, "a table such as { style = \"strict\" }", None);
        }
        table
    });
    ListedTask {
        id: section.text("id").map(|id| id.text.to_owned()),
        files,
        after: strings("after", "[\"other-task\"]"),
        priority: count(section, "priority", 0, 0),
        vars: table.map_or_else(BTreeMap::new, |table| vars(table, section)),
    }
}

/// Reads the token budget. A plan has a budget if any of the three keys is set.
fn token_budget(section: &Section<'_>) -> Option<TokenBudget> {
    /// More tokens than the window of any model.
    const MAX_WINDOW: u64 = 1_000_000_000;
    let keys = ["context-window", "fill", "token-factor"];
    if keys.into_iter().all(|key| section.find(key).is_none()) {
        return None;
    }
    let window = section.whole("context-window", 1_000..=MAX_WINDOW);
    let fill = section.decimal("fill", 0.01..=0.8, "a share such as 0.30");
    let factor = section.decimal("token-factor", 0.1..=10.0, "a number such as 1.15");
    // `decimal` has checked the range, so the cast does not truncate.
    let thousandths = |number: f64| (number * 1_000.0).round() as u64;
    let defaults = TokenBudget::default();
    Some(TokenBudget {
        context_window: window.map_or(defaults.context_window, |(n, _)| n),
        fill: fill.map_or(defaults.fill, thousandths),
        factor: factor.map_or(defaults.factor, thousandths),
    })
}

/// Reads a table of variables for the prompt template.
fn vars(table: &DeTable<'_>, plan: &Section<'_>) -> BTreeMap<String, toml::Value> {
    let read = |value: &SpannedValue<'_>| {
        variable(value).map_err(|at| {
            let error =
                ValueError::new("cannot hold a date, an infinity or a number beyond 64 bits");
            plan.add_error(at, "vars", error.hint("write it as a string"));
        })
    };
    table
        .iter()
        .filter_map(|(key, value)| Some((key.get_ref().to_string(), read(value).ok()?)))
        .collect()
}

/// Converts a value for the prompt template. The error is the offset of a value that templates
/// cannot use.
fn variable(value: &SpannedValue<'_>) -> Result<toml::Value, usize> {
    let at = value.span().start;
    Ok(match value.get_ref() {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            toml::Value::Integer(number.map_err(|_| at)?)
        }
        DeValue::Float(number) => {
            let number = number.as_str().parse::<f64>().ok().filter(|n| n.is_finite());
            toml::Value::Float(number.ok_or(at)?)
        }
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        DeValue::Datetime(_) => return Err(at),
        DeValue::Array(list) => {
            toml::Value::Array(list.iter().map(variable).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let entry =
                |(k, v): (&toml::Spanned<_>, _)| Ok((String::from(key_text(k)), variable(v)?));
            toml::Value::Table(table.iter().map(entry).collect::<Result<_, usize>>()?)
        }
    })
}

fn key_text<'k>(key: &'k toml::Spanned<toml::de::DeString<'_>>) -> &'k str {
    key.get_ref()
}
