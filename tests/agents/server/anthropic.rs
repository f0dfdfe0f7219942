//! Anthropic Messages, streamed and whole.

use std::io;

use serde_json::{Value, json};

use super::fault::{Fault, Limit};
use super::http::{Connection, Refusal};
use super::script::{Conversation, text_of};
use super::{ModelAnswer, ScriptedUsage};

/// Reads the conversation from a request.
pub(super) fn read(body: &Value) -> Conversation {
    let named = body["metadata"]["user_id"].as_str().unwrap_or_default();
    let inside: Value = serde_json::from_str(named).unwrap_or(Value::Null);
    let mut seen = Conversation {
        session: inside["session_id"].as_str().unwrap_or_default().to_owned(),
        main: body["tools"].as_array().is_some_and(|tools| !tools.is_empty()),
        ..Conversation::default()
    };
    let mut spoken = false;
    for message in body["messages"].as_array().into_iter().flatten() {
        match message["role"].as_str() {
            Some("assistant") => spoken = true,
            Some("user") => {
                let blocks = message["content"].as_array().cloned().unwrap_or_default();
                let results = blocks.iter().filter(|b| b["type"] == "tool_result");
                let results: Vec<_> = results.map(|b| text_of(&b["content"])).collect();
                if results.is_empty() {
                    seen.prompt(&text_of(&message["content"]), spoken);
                }
                seen.results.extend(results);
            }
            _ => {}
        }
    }
    seen
}

/// Returns the protocol's error for a fault, if there is one.
pub(super) fn refusal(fault: &Fault) -> Option<Refusal> {
    let (status, kind, text, headers) = match fault {
        Fault::Limited(limit) => {
            (429, "rate_limit_error", "This request would exceed the rate limit.", headers(limit))
        }
        Fault::Overloaded => (529, "overloaded_error", "Overloaded", Vec::new()),
        Fault::Unauthorized => (401, "authentication_error", "invalid x-api-key", Vec::new()),
        Fault::ContextExceeded => (
            400,
            "invalid_request_error",
            "prompt is too long: 212345 tokens > 200000 maximum",
            Vec::new(),
        ),
        Fault::Dropped | Fault::HangMidway | Fault::HangAtOnce | Fault::Slow(_) => return None,
    };
    let body = json!({"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_scripted"});
    Some(Refusal { status, headers, body })
}

fn headers(limit: &Limit) -> Vec<(&'static str, String)> {
    let mut headers = vec![("retry-after", limit.seconds_left().to_string())];
    if limit.window {
        let at = limit.resets_at().to_string();
        headers.extend([
            ("anthropic-ratelimit-unified-status", "rejected".to_owned()),
            ("anthropic-ratelimit-unified-reset", at.clone()),
            ("anthropic-ratelimit-unified-representative-claim", "five_hour".to_owned()),
            ("anthropic-ratelimit-unified-5h-status", "rejected".to_owned()),
            ("anthropic-ratelimit-unified-5h-reset", at),
            ("anthropic-ratelimit-unified-5h-utilization", "1.0".to_owned()),
        ]);
    }
    headers
}

fn usage(used: &ScriptedUsage) -> Value {
    json!({
        "input_tokens": used.input,
        "cache_creation_input_tokens": used.cache_write,
        "cache_read_input_tokens": used.cache_read,
        "output_tokens": used.output,
    })
}

/// Sends the answer.
pub(super) fn answer(to: &mut Connection, body: &Value, answer: &ModelAnswer) -> io::Result<()> {
    let mut content = vec![json!({"type": "text", "text": answer.text})];
    if let Some(command) = &answer.command {
        let input = json!({"command": command, "description": "the next step"});
        let id = format!("toolu_{}", answer.id);
        content.push(json!({"type": "tool_use", "id": id, "name": "Bash", "input": input}));
    }
    let stop = if answer.command.is_some() { "tool_use" } else { "end_turn" };
    let id = format!("msg_{}", answer.id);
    let model = &body["model"];
    let used = usage(&answer.usage);
    if body["stream"] != true {
        if matches!(answer.fault, Some(Fault::Dropped)) {
            return Ok(());
        }
        if matches!(answer.fault, Some(Fault::HangMidway)) {
            to.hang();
            return Ok(());
        }
        return to.json(200, &json!({
            "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
            "stop_reason": stop, "stop_sequence": null, "usage": used,
        }));
    }
    to.begin()?;
    let mut begun = used.clone();
    begun["output_tokens"] = json!(1);
    to.event(&json!({"type": "message_start", "message": {
        "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": begun,
    }}))?;
    for (index, block) in content.iter().enumerate() {
        let (start, delta) = if block["type"] == "text" {
            (
                json!({"type": "text", "text": ""}),
                json!({"type": "text_delta", "text": block["text"]}),
            )
        } else {
            let mut start = block.clone();
            start["input"] = json!({});
            (start, json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}))
        };
        to.event(&json!({"type": "content_block_start", "index": index, "content_block": start}))?;
        to.event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))?;
        match answer.fault {
            Some(Fault::Dropped) => return Ok(()),
            Some(Fault::HangMidway) => {
                to.hang();
                return Ok(());
            }
            _ => {}
        }
        to.event(&json!({"type": "content_block_stop", "index": index}))?;
    }
    let delta = json!({"stop_reason": stop, "stop_sequence": null});
    to.event(&json!({"type": "message_delta", "delta": delta, "usage": used}))?;
    to.event(&json!({"type": "message_stop"}))?;
    to.end()
}
