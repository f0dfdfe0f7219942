//! The events of `gemini`, `opencode`, `copilot` and `goose`.

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
    if kind.contains('.') && event.get("data").is_some_and(Value::is_object) {
        copilot(kind, &event["data"], memory, out);
        return true;
    }
    if event.get("part").is_some_and(Value::is_object) {
        return opencode(kind, &event["part"], memory, out);
    }
    match kind {
        "init" => {
            let (id, model) = (text(event, "/session_id"), text(event, "/model"));
            note(format!("session {id}, {model}"), out);
        }
        "message" => message(event, memory, out),
        "tool_use" => tool(text(event, "/tool_name"), &event["parameters"], out),
        "tool_result" => {
            let failed = text(event, "/status") == "error";
            let problem = all_text(event.pointer("/error/message"));
            let answer = all_text(event.get("output"));
            result(if failed && !problem.is_empty() { &problem } else { &answer }, failed, out);
        }
        "error" => {
            let places = ["/error/data/message", "/error/message", "/message", "/error"];
            let why = places.into_iter().map(|at| text(event, at)).find(|why| !why.is_empty());
            error(&why.map_or_else(|| compact(event, 300), str::to_owned), out);
        }
        "result" => conclusion(event, out),
        "complete" => {
            let spent = SessionUsage {
                input: count(event, "/input_tokens"),
                output: count(event, "/output_tokens"),
                cost: float(event, "/cost"),
                ..SessionUsage::default()
            };
            end("completed", spent, 0, 0, out);
        }
        "notification" => {
            let said = all_text(event.get("message"));
            note(if said.is_empty() { compact(event, 200) } else { first_lines(&said, 3) }, out);
        }
        "" if event.get("stats").is_some() || event.get("response").is_some() => {
            memory.agent(text(event, "/response"), out);
            error(text(event, "/error/message"), out);
            let mut spent = SessionUsage::default();
            let models = event.pointer("/stats/models").and_then(Value::as_object);
            for model in models.into_iter().flat_map(|models| models.values()) {
                spent.input = spent.input.saturating_add(count(model, "/tokens/input"));
                spent.cached = spent.cached.saturating_add(count(model, "/tokens/cached"));
                spent.output = spent.output.saturating_add(count(model, "/tokens/candidates"));
            }
            let failed = event.get("error").is_some_and(|error| !error.is_null());
            end(if failed { "failed" } else { "completed" }, spent, 0, 0, out);
        }
        _ => return false,
    }
    true
}

/// A message: of `gemini` in text, perhaps a piece of it; of `goose` in blocks.
fn message(event: &Value, memory: &mut EventContext, out: &mut Vec<TranscriptEntry>) {
    let goose = event.get("message").is_some_and(Value::is_object);
    let message = if goose { &event["message"] } else { event };
    let user = text(message, "/role") == "user";
    if event["delta"] == true && !user {
        memory.said.push_str(text(message, "/content"));
        return;
    }
    let id = text(message, "/id");
    if user || id.is_empty() || id != memory.message {
        memory.finish(out);
        id.clone_into(&mut memory.message);
    }
    if !goose {
        let said = all_text(message.get("content"));
        if user {
            push(TranscriptKind::User, first_lines(&said, USER), out);
        } else {
            memory.agent(&said, out);
        }
        return;
    }
    for block in list(message, "/content") {
        match text(block, "/type") {
            "text" if user => {
                push(TranscriptKind::User, first_lines(text(block, "/text"), USER), out);
            }
            // It comes in pieces of the same message.
            "text" => memory.said.push_str(text(block, "/text")),
            "thinking" => {
                push(TranscriptKind::Thought, first_lines(text(block, "/thinking"), THOUGHT), out);
            }
            "toolRequest" => {
                memory.finish(out);
                let call = &block["toolCall"]["value"];
                tool(text(call, "/name"), &call["arguments"], out);
            }
            "toolResponse" => {
                let answer = &block["toolResult"];
                let failed = text(answer, "/status") == "error";
                let value = answer.pointer("/value/content").or_else(|| answer.get("value"));
                let value = if failed { answer.get("error") } else { value };
                result(&all_text(value), failed, out);
            }
            _ => push(TranscriptKind::Other, compact(block, 200), out),
        }
    }
}

/// The last event of `gemini`, or of `copilot`.
fn conclusion(event: &Value, out: &mut Vec<TranscriptEntry>) {
    if let Some(code) = event["exitCode"].as_i64() {
        let how = if code == 0 { "completed".to_owned() } else { format!("exit {code}") };
        end(&how, SessionUsage::default(), 0, count(event, "/usage/sessionDurationMs"), out);
        return;
    }
    error(text(event, "/error/message"), out);
    let cached = count(event, "/stats/cached");
    let spent = SessionUsage {
        input: count(event, "/stats/input_tokens").saturating_sub(cached),
        cached,
        output: count(event, "/stats/output_tokens"),
        cost: 0.0,
    };
    end(text(event, "/status"), spent, 0, count(event, "/stats/duration_ms"), out);
}

fn opencode(
    kind: &str,
    part: &Value,
    memory: &mut EventContext,
    out: &mut Vec<TranscriptEntry>,
) -> bool {
    match kind {
        "step_start" => {}
        "text" => memory.agent(text(part, "/text"), out),
        "reasoning" => {
            push(TranscriptKind::Thought, first_lines(text(part, "/text"), THOUGHT), out);
        }
        "tool_use" => {
            tool(text(part, "/tool"), &part["state"]["input"], out);
            let failed = text(part, "/state/status") == "error";
            let at = if failed { "/state/error" } else { "/state/output" };
            result(text(part, at), failed, out);
        }
        "step_finish" => {
            let spent = &mut memory.spent;
            spent.input = spent.input.saturating_add(count(part, "/tokens/input"));
            spent.input = spent.input.saturating_add(count(part, "/tokens/cache/write"));
            spent.cached = spent.cached.saturating_add(count(part, "/tokens/cache/read"));
            spent.output = spent.output.saturating_add(count(part, "/tokens/output"));
            spent.cost += float(part, "/cost");
            // A step that leads to tools is not the end.
            if text(part, "/reason") != "tool-calls" {
                let spent = std::mem::take(&mut memory.spent);
                end(&text(part, "/reason").replace('-', " "), spent, 0, 0, out);
            }
        }
        _ => return false,
    }
    true
}

fn copilot(kind: &str, data: &Value, memory: &mut EventContext, out: &mut Vec<TranscriptEntry>) {
    match kind {
        "user.message" => {
            push(TranscriptKind::User, first_lines(text(data, "/content"), USER), out);
        }
        "assistant.message" => memory.agent(text(data, "/content"), out),
        "assistant.reasoning" => {
            push(TranscriptKind::Thought, first_lines(text(data, "/content"), THOUGHT), out);
        }
        "tool.execution_start" => tool(text(data, "/toolName"), &data["arguments"], out),
        "tool.execution_complete" => {
            let failed = data["success"] == false;
            let problem = all_text(data.pointer("/error/message"));
            let answer = all_text(data.pointer("/result/content"));
            result(if problem.is_empty() { &answer } else { &problem }, failed, out);
        }
        "session.error" => error(text(data, "/message"), out),
        "session.info" | "session.warning" => note(first_lines(text(data, "/message"), 3), out),
        "session.tools_updated" => note(format!("model {}", text(data, "/model")), out),
        // The rest is about its own affairs, and there is much of it.
        _ => {}
    }
}
