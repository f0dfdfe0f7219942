//! The events of `gemini`, `opencode`, `copilot` and `goose`.

use serde_json::Value;

use super::{
    EventContext, SessionUsage, THOUGHT_LINES, TranscriptEntry, TranscriptKind, USER_LINES,
};
use super::{
    all_text, count, end, error, first_lines, float, list, note, push, result, text, tool,
};
use crate::agent::transcript::shorten::compact;

pub(super) fn render(
    kind: &str,
    event: &Value,
    context: &mut EventContext,
    entries: &mut Vec<TranscriptEntry>,
) -> bool {
    if kind.contains('.') && event.get("data").is_some_and(Value::is_object) {
        copilot(kind, &event["data"], context, entries);
        return true;
    }
    if event.get("part").is_some_and(Value::is_object) {
        return opencode(kind, &event["part"], context, entries);
    }
    match kind {
        "init" => {
            let (id, model) = (text(event, "/session_id"), text(event, "/model"));
            note(format!("session {id}, {model}"), entries);
        }
        "message" => message(event, context, entries),
        "tool_use" => tool(text(event, "/tool_name"), &event["parameters"], entries),
        "tool_result" => {
            let failed = text(event, "/status") == "error";
            let problem = all_text(event.pointer("/error/message"));
            let answer = all_text(event.get("output"));
            result(if failed && !problem.is_empty() { &problem } else { &answer }, failed, entries);
        }
        "error" => {
            let pointers = ["/error/data/message", "/error/message", "/message", "/error"];
            let why = pointers.into_iter().map(|at| text(event, at)).find(|why| !why.is_empty());
            error(&why.map_or_else(|| compact(event, 300), str::to_owned), entries);
        }
        "result" => final_event(event, entries),
        "complete" => {
            let usage = SessionUsage {
                input: count(event, "/input_tokens"),
                output: count(event, "/output_tokens"),
                cost: float(event, "/cost"),
                ..SessionUsage::default()
            };
            end("completed", usage, 0, 0, entries);
        }
        "notification" => {
            let message = all_text(event.get("message"));
            let is_empty = message.is_empty();
            note(if is_empty { compact(event, 200) } else { first_lines(&message, 3) }, entries);
        }
        "" if event.get("stats").is_some() || event.get("response").is_some() => {
            context.push_message(text(event, "/response"), entries);
            error(text(event, "/error/message"), entries);
            let mut usage = SessionUsage::default();
            let models = event.pointer("/stats/models").and_then(Value::as_object);
            for model in models.into_iter().flat_map(|models| models.values()) {
                usage.input = usage.input.saturating_add(count(model, "/tokens/input"));
                usage.cached = usage.cached.saturating_add(count(model, "/tokens/cached"));
                usage.output = usage.output.saturating_add(count(model, "/tokens/candidates"));
            }
            let failed = event.get("error").is_some_and(|error| !error.is_null());
            end(if failed { "failed" } else { "completed" }, usage, 0, 0, entries);
        }
        _ => return false,
    }
    true
}

/// Renders a message. A message of `gemini` is a text or a piece of a text; a message of `goose` is
/// a list of blocks.
fn message(event: &Value, context: &mut EventContext, entries: &mut Vec<TranscriptEntry>) {
    let is_goose = event.get("message").is_some_and(Value::is_object);
    let message = if is_goose { &event["message"] } else { event };
    let is_user = text(message, "/role") == "user";
    if event["delta"] == true && !is_user {
        context.partial_message.push_str(text(message, "/content"));
        return;
    }
    let id = text(message, "/id");
    if is_user || id.is_empty() || id != context.message_id {
        context.finish(entries);
        id.clone_into(&mut context.message_id);
    }
    if !is_goose {
        let content = all_text(message.get("content"));
        if is_user {
            push(TranscriptKind::User, first_lines(&content, USER_LINES), entries);
        } else {
            context.push_message(&content, entries);
        }
        return;
    }
    for block in list(message, "/content") {
        match text(block, "/type") {
            "text" if is_user => {
                push(TranscriptKind::User, first_lines(text(block, "/text"), USER_LINES), entries);
            }
            // The next event may continue the message.
            "text" => context.partial_message.push_str(text(block, "/text")),
            "thinking" => {
                push(
                    TranscriptKind::Thought,
                    first_lines(text(block, "/thinking"), THOUGHT_LINES),
                    entries,
                );
            }
            "toolRequest" => {
                context.finish(entries);
                let call = &block["toolCall"]["value"];
                tool(text(call, "/name"), &call["arguments"], entries);
            }
            "toolResponse" => {
                let answer = &block["toolResult"];
                let failed = text(answer, "/status") == "error";
                let value = answer.pointer("/value/content").or_else(|| answer.get("value"));
                let value = if failed { answer.get("error") } else { value };
                result(&all_text(value), failed, entries);
            }
            _ => push(TranscriptKind::Other, compact(block, 200), entries),
        }
    }
}

/// Renders the final event of `gemini` or `copilot`.
fn final_event(event: &Value, entries: &mut Vec<TranscriptEntry>) {
    if let Some(code) = event["exitCode"].as_i64() {
        let how = if code == 0 { "completed".to_owned() } else { format!("exit {code}") };
        end(&how, SessionUsage::default(), 0, count(event, "/usage/sessionDurationMs"), entries);
        return;
    }
    error(text(event, "/error/message"), entries);
    let cached = count(event, "/stats/cached");
    let usage = SessionUsage {
        input: count(event, "/stats/input_tokens").saturating_sub(cached),
        cached,
        output: count(event, "/stats/output_tokens"),
        cost: 0.0,
    };
    end(text(event, "/status"), usage, 0, count(event, "/stats/duration_ms"), entries);
}

fn opencode(
    kind: &str,
    part: &Value,
    context: &mut EventContext,
    entries: &mut Vec<TranscriptEntry>,
) -> bool {
    match kind {
        "step_start" => {}
        "text" => context.push_message(text(part, "/text"), entries),
        "reasoning" => {
            push(TranscriptKind::Thought, first_lines(text(part, "/text"), THOUGHT_LINES), entries);
        }
        "tool_use" => {
            tool(text(part, "/tool"), &part["state"]["input"], entries);
            let failed = text(part, "/state/status") == "error";
            let at = if failed { "/state/error" } else { "/state/output" };
            result(text(part, at), failed, entries);
        }
        "step_finish" => {
            let usage = &mut context.usage;
            usage.input = usage.input.saturating_add(count(part, "/tokens/input"));
            usage.input = usage.input.saturating_add(count(part, "/tokens/cache/write"));
            usage.cached = usage.cached.saturating_add(count(part, "/tokens/cache/read"));
            usage.output = usage.output.saturating_add(count(part, "/tokens/output"));
            usage.cost += float(part, "/cost");
            // A step that ends with tool calls is not the end of the session.
            if text(part, "/reason") != "tool-calls" {
                let usage = std::mem::take(&mut context.usage);
                end(&text(part, "/reason").replace('-', " "), usage, 0, 0, entries);
            }
        }
        _ => return false,
    }
    true
}

fn copilot(
    kind: &str,
    data: &Value,
    context: &mut EventContext,
    entries: &mut Vec<TranscriptEntry>,
) {
    match kind {
        "user.message" => {
            push(TranscriptKind::User, first_lines(text(data, "/content"), USER_LINES), entries);
        }
        "assistant.message" => context.push_message(text(data, "/content"), entries),
        "assistant.reasoning" => {
            push(
                TranscriptKind::Thought,
                first_lines(text(data, "/content"), THOUGHT_LINES),
                entries,
            );
        }
        "tool.execution_start" => tool(text(data, "/toolName"), &data["arguments"], entries),
        "tool.execution_complete" => {
            let failed = data["success"] == false;
            let problem = all_text(data.pointer("/error/message"));
            let answer = all_text(data.pointer("/result/content"));
            result(if problem.is_empty() { &answer } else { &problem }, failed, entries);
        }
        "session.error" => error(text(data, "/message"), entries),
        "session.info" | "session.warning" => note(first_lines(text(data, "/message"), 3), entries),
        "session.tools_updated" => note(format!("model {}", text(data, "/model")), entries),
        // Other events are internal and frequent.
        _ => {}
    }
}
