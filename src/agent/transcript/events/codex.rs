//! The events of `codex`.

use serde_json::Value;

use super::{EventContext, SessionUsage, THOUGHT, TranscriptEntry, TranscriptKind};
use super::{all_text, count, end, error, first_lines, list, note, push, result, text, tool};

pub(super) fn tell(
    kind: &str,
    event: &Value,
    memory: &mut EventContext,
    out: &mut Vec<TranscriptEntry>,
) -> bool {
    match kind {
        "thread.started" => note(format!("session {}", text(event, "/thread_id")), out),
        "turn.started" | "item.updated" => {}
        "turn.completed" => {
            let cached = count(event, "/usage/cached_input_tokens");
            let spent = SessionUsage {
                input: count(event, "/usage/input_tokens").saturating_sub(cached),
                cached,
                output: count(event, "/usage/output_tokens"),
                cost: 0.0,
            };
            end("completed", spent, 0, 0, out);
        }
        "turn.failed" => {
            let why = text(event, "/error/message");
            // It was told as an error right before.
            if why != memory.last {
                error(why, out);
            }
            push(TranscriptKind::End, "failed", out);
        }
        "error" if event.get("message").is_some_and(Value::is_string) => {
            let why = text(event, "/message");
            if why.starts_with("Reconnecting") {
                note(first_lines(why, 3), out);
            } else {
                error(why, out);
                why.clone_into(&mut memory.last);
            }
        }
        "item.started" | "item.completed" => item(event, kind == "item.completed", memory, out),
        _ => return false,
    }
    true
}

fn item(event: &Value, completed: bool, memory: &mut EventContext, out: &mut Vec<TranscriptEntry>) {
    let item = &event["item"];
    let id = text(item, "/id");
    let is_new = memory.used.insert(id.to_owned());
    let failed = text(item, "/status") == "failed";
    match text(item, "/type") {
        "agent_message" if completed => memory.agent(text(item, "/text"), out),
        "reasoning" if completed => {
            push(TranscriptKind::Thought, first_lines(text(item, "/text"), THOUGHT), out);
        }
        "command_execution" => {
            if is_new {
                push(
                    TranscriptKind::Tool,
                    format!("shell  {}", first_lines(text(item, "/command"), 4)),
                    out,
                );
            }
            if completed {
                let code = item["exit_code"].as_i64();
                let mut words = text(item, "/aggregated_output").trim_end().to_owned();
                if let Some(code) = code.filter(|code| *code != 0) {
                    words = format!("exit {code}\n{words}");
                }
                result(&words, failed, out);
            }
        }
        "file_change" if completed => {
            let changes = list(item, "/changes");
            let changes = changes.iter().map(|one| {
                format!("{} {}", text(one, "/kind"), text(one, "/path")).trim().to_owned()
            });
            let changes = changes.collect::<Vec<_>>().join("\n");
            push(
                if failed { TranscriptKind::Error } else { TranscriptKind::Tool },
                format!("edit  {changes}"),
                out,
            );
        }
        "mcp_tool_call" => {
            if is_new {
                let name = format!("{}.{}", text(item, "/server"), text(item, "/tool"));
                tool(&name, &item["arguments"], out);
            }
            if completed {
                let problem = all_text(item.pointer("/error/message"));
                let answer = all_text(item.pointer("/result/content"));
                result(if problem.is_empty() { &answer } else { &problem }, failed, out);
            }
        }
        "web_search" if completed => tool("web_search", &item["query"], out),
        "todo_list" if completed => {
            let items = list(item, "/items").iter().map(|one| {
                let mark = if one["completed"] == true { 'x' } else { ' ' };
                format!("[{mark}] {}", text(one, "/text"))
            });
            note(items.collect::<Vec<_>>().join("\n"), out);
        }
        // Of an item it is a warning, and the session goes on.
        "error" if completed => note(first_lines(text(item, "/message"), 3), out),
        what if completed => note(what.replace('_', " "), out),
        _ => {
            // It is told when it is complete.
            memory.used.remove(id);
        }
    }
}
