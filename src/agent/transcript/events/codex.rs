//! The events of `codex`.

use serde_json::Value;

use super::{EventContext, SessionUsage, THOUGHT_LINES, TranscriptEntry, TranscriptKind};
use super::{all_text, count, end, error, first_lines, list, note, push, result, text, tool};

pub(super) fn render(
    kind: &str,
    event: &Value,
    context: &mut EventContext,
    entries: &mut Vec<TranscriptEntry>,
) -> bool {
    match kind {
        "thread.started" => note(format!("session {}", text(event, "/thread_id")), entries),
        "turn.started" | "item.updated" => {}
        "turn.completed" => {
            let cached = count(event, "/usage/cached_input_tokens");
            let usage = SessionUsage {
                input: count(event, "/usage/input_tokens").saturating_sub(cached),
                cached,
                output: count(event, "/usage/output_tokens"),
                cost: 0.0,
            };
            end("completed", usage, 0, 0, entries);
        }
        "turn.failed" => {
            let why = text(event, "/error/message");
            // An `error` event has reported the same message right before.
            if why != context.last_message {
                error(why, entries);
            }
            push(TranscriptKind::End, "failed", entries);
        }
        "error" if event.get("message").is_some_and(Value::is_string) => {
            let why = text(event, "/message");
            if why.starts_with("Reconnecting") {
                note(first_lines(why, 3), entries);
            } else {
                error(why, entries);
                why.clone_into(&mut context.last_message);
            }
        }
        "item.started" | "item.completed" => {
            item(event, kind == "item.completed", context, entries);
        }
        _ => return false,
    }
    true
}

fn item(
    event: &Value,
    completed: bool,
    context: &mut EventContext,
    entries: &mut Vec<TranscriptEntry>,
) {
    let item = &event["item"];
    let id = text(item, "/id");
    let is_new = context.rendered_calls.insert(id.to_owned());
    let failed = text(item, "/status") == "failed";
    match text(item, "/type") {
        "agent_message" if completed => context.push_message(text(item, "/text"), entries),
        "reasoning" if completed => {
            push(TranscriptKind::Thought, first_lines(text(item, "/text"), THOUGHT_LINES), entries);
        }
        "command_execution" => {
            if is_new {
                push(
                    TranscriptKind::Tool,
                    format!("shell  {}", first_lines(text(item, "/command"), 4)),
                    entries,
                );
            }
            if completed {
                let code = item["exit_code"].as_i64();
                let mut output = text(item, "/aggregated_output").trim_end().to_owned();
                if let Some(code) = code.filter(|code| *code != 0) {
                    output = format!("exit {code}\n{output}");
                }
                result(&output, failed, entries);
            }
        }
        "file_change" if completed => {
            let changes = list(item, "/changes");
            let changes = changes.iter().map(|change| {
                format!("{} {}", text(change, "/kind"), text(change, "/path")).trim().to_owned()
            });
            let changes = changes.collect::<Vec<_>>().join("\n");
            push(
                if failed { TranscriptKind::Error } else { TranscriptKind::Tool },
                format!("edit  {changes}"),
                entries,
            );
        }
        "mcp_tool_call" => {
            if is_new {
                let name = format!("{}.{}", text(item, "/server"), text(item, "/tool"));
                tool(&name, &item["arguments"], entries);
            }
            if completed {
                let problem = all_text(item.pointer("/error/message"));
                let answer = all_text(item.pointer("/result/content"));
                result(if problem.is_empty() { &answer } else { &problem }, failed, entries);
            }
        }
        "web_search" if completed => tool("web_search", &item["query"], entries),
        "todo_list" if completed => {
            let items = list(item, "/items").iter().map(|item| {
                let mark = if item["completed"] == true { 'x' } else { ' ' };
                format!("[{mark}] {}", text(item, "/text"))
            });
            note(items.collect::<Vec<_>>().join("\n"), entries);
        }
        // An error item is a warning: the session continues.
        "error" if completed => note(first_lines(text(item, "/message"), 3), entries),
        kind if completed => note(kind.replace('_', " "), entries),
        _ => {
            // The event of the completed item follows.
            context.rendered_calls.remove(id);
        }
    }
}
