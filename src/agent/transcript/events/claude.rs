//! The events of `claude`, and of those that speak its language: `qwen`, `amp`, `cursor-agent`.

use serde_json::Value;

use super::{EventContext, SessionUsage, THOUGHT, TranscriptEntry, TranscriptKind, USER};
use super::{
    all_text, count, end, error, first_lines, float, list, note, push, result, text, tool,
};
use crate::agent::transcript::shorten::compact;

pub(super) fn tell(
    kind: &str,
    event: &Value,
    memory: &mut EventContext,
    out: &mut Vec<TranscriptEntry>,
) -> bool {
    match kind {
        "system" => system(event, out),
        "assistant" | "user" if event.pointer("/message/content").is_some() => {
            let failed = event.get("error").is_some_and(Value::is_string);
            content(event, kind == "user", failed, memory, out);
        }
        "result" if event.get("subtype").is_some() => conclusion(event, memory, out),
        "rate_limit_event" => {
            let info = &event["rate_limit_info"];
            // That all is well is said often.
            if text(info, "/status") != "allowed" {
                let what = text(info, "/rateLimitType").replace('_', " ");
                note(format!("limit of {what}: {}", text(info, "/status")), out);
            }
        }
        // Pieces of what is told in one piece later.
        "stream_event" => {}
        "tool_call" => cursor(event, out),
        "thinking" => {
            push(TranscriptKind::Thought, first_lines(text(event, "/text"), THOUGHT), out);
        }
        _ => return false,
    }
    true
}

fn system(event: &Value, out: &mut Vec<TranscriptEntry>) {
    match text(event, "/subtype") {
        "init" => {
            let (id, model) = (text(event, "/session_id"), text(event, "/model"));
            let model = if model.is_empty() { String::new() } else { format!(", {model}") };
            note(format!("session {id}{model}"), out);
        }
        "api_retry" => {
            let status = event.get("error_status").filter(|status| !status.is_null());
            let status = status.map_or(String::new(), |status| format!(" {status}"));
            let (at, of) = (count(event, "/attempt"), count(event, "/max_retries"));
            let why = text(event, "/error");
            note(format!("the model could not be asked ({why}{status}), try {at} of {of}"), out);
        }
        what => {
            let said = text(event, "/message");
            let said = if said.is_empty() { text(event, "/summary") } else { said };
            let gap = if said.is_empty() { "" } else { ": " };
            note(format!("{}{gap}{}", what.replace('_', " "), first_lines(said, 3)), out);
        }
    }
}

/// What was said in one message: text, thoughts, tools and their answers.
fn content(
    event: &Value,
    user: bool,
    failed: bool,
    memory: &mut EventContext,
    out: &mut Vec<TranscriptEntry>,
) {
    let blocks = match event.pointer("/message/content") {
        Some(Value::Array(blocks)) => blocks.clone(),
        Some(other) => vec![serde_json::json!({"type": "text", "text": other})],
        None => Vec::new(),
    };
    for block in &blocks {
        match text(block, "/type") {
            "text" if failed => {
                error(text(block, "/text"), out);
                text(block, "/text").trim().clone_into(&mut memory.last);
            }
            "text" if user => {
                push(TranscriptKind::User, first_lines(text(block, "/text"), USER), out);
            }
            "text" => memory.agent(text(block, "/text"), out),
            "thinking" => {
                push(TranscriptKind::Thought, first_lines(text(block, "/thinking"), THOUGHT), out);
            }
            "redacted_thinking" => {}
            "tool_use" | "server_tool_use" => tool(text(block, "/name"), &block["input"], out),
            "tool_result" => {
                let failed = block["is_error"] == true;
                result(&all_text(block.get("content")), failed, out);
            }
            _ => push(TranscriptKind::Other, compact(block, 200), out),
        }
    }
}

/// The last event of a session, or what it says of itself in one.
fn conclusion(event: &Value, memory: &mut EventContext, out: &mut Vec<TranscriptEntry>) {
    let failed = event["is_error"] == true;
    let kind = if failed { TranscriptKind::Error } else { TranscriptKind::Agent };
    memory.conclusion(kind, text(event, "/result"), out);
    for problem in list(event, "/errors") {
        error(&all_text(Some(problem)), out);
    }
    for denied in list(event, "/permission_denials") {
        let name = text(denied, "/tool_name");
        let told = compact(&denied["tool_input"], 200);
        push(TranscriptKind::Error, format!("denied: {name}  {told}"), out);
    }
    let how = match (failed, text(event, "/subtype"), text(event, "/terminal_reason")) {
        (true, "success", "" | "completed") => "failed".to_owned(),
        (true, "success", why) => why.replace('_', " "),
        (_, subtype, _) => subtype.replace('_', " "),
    };
    let turns = count(event, "/num_turns");
    end(&how, spent(event), turns, count(event, "/duration_ms"), out);
}

fn spent(event: &Value) -> SessionUsage {
    let cost = float(event, "/total_cost_usd");
    let usage = &event["usage"];
    let written = count(usage, "/cache_creation_input_tokens");
    let told = SessionUsage {
        input: count(usage, "/input_tokens").saturating_add(written),
        cached: count(usage, "/cache_read_input_tokens"),
        output: count(usage, "/output_tokens"),
        cost,
    };
    if told.input > 0 || told.output > 0 {
        return told;
    }
    // It is zero where an answer was not streamed; by models it is right even then.
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

/// A tool of `cursor-agent`: `{"shellToolCall": {"args": …, "result": {"success": …}}}`.
fn cursor(event: &Value, out: &mut Vec<TranscriptEntry>) {
    for (name, call) in event["tool_call"].as_object().into_iter().flatten() {
        let name = name.strip_suffix("ToolCall").unwrap_or(name);
        if text(event, "/subtype") == "started" {
            tool(name, &call["args"], out);
        } else if let Some(answer) = call.get("result") {
            let failed = answer.get("success").is_none();
            let answer = answer.as_object().and_then(|all| all.values().next()).unwrap_or(answer);
            let words = ["/stdout", "/content", "/message", "/error"];
            let words =
                words.into_iter().map(|at| text(answer, at)).find(|words| !words.is_empty());
            result(&words.map_or_else(|| compact(answer, 300), str::to_owned), failed, out);
        }
    }
}
