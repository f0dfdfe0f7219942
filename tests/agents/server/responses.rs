//! OpenAI Responses, streamed.

use std::io;

use serde_json::{Value, json};

use super::fault::Fault;
use super::http::{Connection, Refusal};
use super::script::{Conversation, text_of};
use super::{ModelAnswer, ScriptedUsage};

/// Reads the conversation from a request.
pub(super) fn read(body: &Value) -> Conversation {
    let mut seen = Conversation {
        session: body["prompt_cache_key"].as_str().unwrap_or_default().to_owned(),
        main: body["tools"].as_array().is_some_and(|tools| !tools.is_empty()),
        ..Conversation::default()
    };
    let mut spoken = false;
    for item in body["input"].as_array().into_iter().flatten() {
        let kind = item["type"].as_str().unwrap_or("message");
        match (kind, item["role"].as_str()) {
            ("function_call_output", _) => seen.results.push(output(&item["output"])),
            (_, Some("assistant")) => spoken = true,
            (_, Some("user")) => seen.prompt(&text_of(&item["content"]), spoken),
            _ => {}
        }
    }
    seen
}

fn output(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the protocol's error for a fault, if there is one.
pub(super) fn refusal(fault: &Fault) -> Option<Refusal> {
    let error = |kind: &str, code: &str, text: &str| json!({"error": {"message": text, "type": kind, "param": null, "code": code}});
    let (status, headers, body) = match fault {
        Fault::Limited(limit) if limit.window => {
            let left = limit.seconds_left();
            let body = json!({"error": {
                "type": "usage_limit_reached", "message": "The usage limit has been reached",
                "plan_type": "plus", "resets_at": limit.resets_at(), "resets_in_seconds": left,
            }});
            (429, Vec::new(), body)
        }
        Fault::Limited(limit) => {
            let left = limit.seconds_left();
            let text = format!("Rate limit reached for scripted. Please try again in {left}s.");
            let headers = vec![("retry-after", left.to_string())];
            (429, headers, error("tokens", "rate_limit_exceeded", &text))
        }
        Fault::Overloaded => {
            let text = "The server is overloaded";
            (503, Vec::new(), error("server_error", "server_is_overloaded", text))
        }
        Fault::Unauthorized => {
            let text = "Incorrect API key provided: sk-fake.";
            (401, Vec::new(), error("invalid_request_error", "invalid_api_key", text))
        }
        Fault::ContextExceeded => {
            let text = "This model's maximum context length is 128000 tokens. However, your messages resulted in 212345 tokens.";
            (400, Vec::new(), error("invalid_request_error", "context_length_exceeded", text))
        }
        Fault::Dropped | Fault::HangMidway | Fault::HangAtOnce | Fault::Slow(_) => return None,
    };
    Some(Refusal { status, headers, body })
}

fn usage(used: &ScriptedUsage) -> Value {
    let input = used.input + used.cache_read;
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": used.cache_read},
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": input + used.output,
    })
}

/// Sends the answer.
pub(super) fn answer(to: &mut Connection, body: &Value, answer: &ModelAnswer) -> io::Result<()> {
    let id = &answer.id;
    let output = json!({"type": "output_text", "text": answer.text, "annotations": []});
    let mut items = vec![json!({
        "type": "message", "id": format!("msg_{id}"), "role": "assistant", "status": "completed",
        "content": [output],
    })];
    if let Some(command) = &answer.command {
        items.push(json!({
            "type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"),
            "name": "exec_command", "arguments": json!({"cmd": command}).to_string(),
            "status": "completed",
        }));
    }
    let begun = json!({
        "id": format!("resp_{id}"), "object": "response", "created_at": 1, "model": body["model"],
        "status": "in_progress", "output": [],
    });
    let mut whole = begun.clone();
    whole["status"] = json!("completed");
    whole["output"] = json!(items);
    whole["usage"] = usage(&answer.usage);
    to.begin()?;
    to.event(&json!({"type": "response.created", "response": begun}))?;
    for (at, item) in items.iter().enumerate() {
        let mut added = item.clone();
        added["status"] = json!("in_progress");
        to.event(
            &json!({"type": "response.output_item.added", "output_index": at, "item": added}),
        )?;
        match answer.fault {
            Some(Fault::Dropped) => return Ok(()),
            Some(Fault::HangMidway) => {
                to.hang();
                return Ok(());
            }
            _ => {}
        }
        to.event(&json!({"type": "response.output_item.done", "output_index": at, "item": item}))?;
    }
    to.event(&json!({"type": "response.completed", "response": whole}))?;
    to.end()
}
