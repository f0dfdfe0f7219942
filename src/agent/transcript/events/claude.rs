//! The events of `claude`, and of the programs with the same format: `qwen`, `amp`, `cursor-agent`.

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
    match kind {
        "system" => system(event, entries),
        "assistant" | "user" if event.pointer("/message/content").is_some() => {
            let has_failed = event.get("error").is_some_and(Value::is_string);
            content(event, kind == "user", has_failed, context, entries);
        }
        "result" if event.get("subtype").is_some() => final_event(event, context, entries),
        "rate_limit_event" => {
            let info = &event["rate_limit_info"];
            // Most of these events only report that no limit is reached.
            if text(info, "/status") != "allowed" {
                let what = text(info, "/rateLimitType").replace('_', " ");
                note(format!("{what} limit: {}", text(info, "/status")), entries);
            }
        }
        // A complete event with the same content follows.
        "stream_event" => {}
        "tool_call" => cursor(event, entries),
        "thinking" => {
            push(
                TranscriptKind::Thought,
                first_lines(text(event, "/text"), THOUGHT_LINES),
                entries,
            );
        }
        _ => return false,
    }
    true
}

fn system(event: &Value, entries: &mut Vec<TranscriptEntry>) {
    match text(event, "/subtype") {
        "init" => {
            let (id, model) = (text(event, "/session_id"), text(event, "/model"));
            let model = if model.is_empty() { String::new() } else { format!(", {model}") };
            note(format!("session {id}{model}"), entries);
        }
        "api_retry" => {
            let status = event.get("error_status").filter(|status| !status.is_null());
            let status = status.map_or(String::new(), |status| format!(" {status}"));
            let (attempt, attempts) = (count(event, "/attempt"), count(event, "/max_retries"));
            let why = text(event, "/error");
            note(
                format!(
                    "the model could not be asked ({why}{status}), try {attempt} of {attempts}"
                ),
                entries,
            );
        }
        subtype => {
            let message = text(event, "/message");
            let message = if message.is_empty() { text(event, "/summary") } else { message };
            let separator = if message.is_empty() { "" } else { ": " };
            let subtype = subtype.replace('_', " ");
            note(format!("{subtype}{separator}{}", first_lines(message, 3)), entries);
        }
    }
}

/// Renders the blocks of a message: text, thoughts, tool calls and their results.
fn content(
    event: &Value,
    is_user: bool,
    has_failed: bool,
    context: &mut EventContext,
    entries: &mut Vec<TranscriptEntry>,
) {
    let blocks = match event.pointer("/message/content") {
        Some(Value::Array(blocks)) => blocks.clone(),
        Some(other) => vec![serde_json::json!({"type": "text", "text": other})],
        None => Vec::new(),
    };
    for block in &blocks {
        match text(block, "/type") {
            "text" if has_failed => {
                error(text(block, "/text"), entries);
                text(block, "/text").trim().clone_into(&mut context.last_message);
            }
            "text" if is_user => {
                push(TranscriptKind::User, first_lines(text(block, "/text"), USER_LINES), entries);
            }
            "text" => context.push_message(text(block, "/text"), entries),
            "thinking" => {
                push(
                    TranscriptKind::Thought,
                    first_lines(text(block, "/thinking"), THOUGHT_LINES),
                    entries,
                );
            }
            "redacted_thinking" => {}
            "tool_use" | "server_tool_use" => tool(text(block, "/name"), &block["input"], entries),
            "tool_result" => {
                let failed = block["is_error"] == true;
                result(&all_text(block.get("content")), failed, entries);
            }
            _ => push(TranscriptKind::Other, compact(block, 200), entries),
        }
    }
}

/// Renders the final event of a session.
fn final_event(event: &Value, context: &mut EventContext, entries: &mut Vec<TranscriptEntry>) {
    let failed = event["is_error"] == true;
    let kind = if failed { TranscriptKind::Error } else { TranscriptKind::Agent };
    context.push_result(kind, text(event, "/result"), entries);
    for problem in list(event, "/errors") {
        error(&all_text(Some(problem)), entries);
    }
    for denied in list(event, "/permission_denials") {
        let name = text(denied, "/tool_name");
        let input = compact(&denied["tool_input"], 200);
        push(TranscriptKind::Error, format!("denied: {name}  {input}"), entries);
    }
    let how = match (failed, text(event, "/subtype"), text(event, "/terminal_reason")) {
        (true, "success", "" | "completed") => "failed".to_owned(),
        (true, "success", why) => why.replace('_', " "),
        (_, subtype, _) => subtype.replace('_', " "),
    };
    let turns = count(event, "/num_turns");
    end(&how, usage(event), turns, count(event, "/duration_ms"), entries);
}

fn usage(event: &Value) -> SessionUsage {
    let cost = float(event, "/total_cost_usd");
    let usage = &event["usage"];
    let written = count(usage, "/cache_creation_input_tokens");
    let reported = SessionUsage {
        input: count(usage, "/input_tokens").saturating_add(written),
        cached: count(usage, "/cache_read_input_tokens"),
        output: count(usage, "/output_tokens"),
        cost,
    };
    if reported.input > 0 || reported.output > 0 {
        return reported;
    }
    // `usage` is zero if an answer was not streamed. `modelUsage` is complete even then.
    let mut by_model = SessionUsage { cost, ..SessionUsage::default() };
    for model in event["modelUsage"].as_object().into_iter().flat_map(|models| models.values()) {
        let written = count(model, "/cacheCreationInputTokens");
        let input = count(model, "/inputTokens").saturating_add(written);
        by_model.input = by_model.input.saturating_add(input);
        by_model.cached = by_model.cached.saturating_add(count(model, "/cacheReadInputTokens"));
        by_model.output = by_model.output.saturating_add(count(model, "/outputTokens"));
    }
    by_model
}

/// Renders a tool call of `cursor-agent`:
/// `{"shellToolCall": {"args": …, "result": {"success": …}}}`.
fn cursor(event: &Value, entries: &mut Vec<TranscriptEntry>) {
    for (name, call) in event["tool_call"].as_object().into_iter().flatten() {
        let name = name.strip_suffix("ToolCall").unwrap_or(name);
        if text(event, "/subtype") == "started" {
            tool(name, &call["args"], entries);
        } else if let Some(answer) = call.get("result") {
            let failed = answer.get("success").is_none();
            let answer = answer.as_object().and_then(|all| all.values().next()).unwrap_or(answer);
            let pointers = ["/stdout", "/content", "/message", "/error"];
            let output =
                pointers.into_iter().map(|at| text(answer, at)).find(|text| !text.is_empty());
            result(&output.map_or_else(|| compact(answer, 300), str::to_owned), failed, entries);
        }
    }
}
