//! Classification of crafted outputs: messages of servers and networks, and corner cases.

use super::{Intervention, SessionExit, classify};
use crate::agent::preset::builtin;
use crate::domain::id::Timestamp;
use crate::domain::session::Class;

const NOW: Timestamp = Timestamp(1_795_360_200_000);

fn class(
    preset: &str,
    exit: SessionExit,
    stdout: &str,
    stderr: &str,
    changed: Option<bool>,
) -> Class {
    let preset = builtin(preset).unwrap();
    classify(&preset, exit, stdout.as_bytes(), stderr.as_bytes(), None, changed, NOW).class
}

fn exit(code: i32) -> SessionExit {
    SessionExit { code: Some(code), ..SessionExit::default() }
}

#[test]
fn classify_error_texts_of_servers_and_networks() {
    for (text, expected) in [
        ("API Error: 502 Bad Gateway", Class::Overloaded),
        ("API Error: 520 <html>cloudflare</html>", Class::Overloaded),
        ("Error code: 504 - gateway", Class::Overloaded),
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Class::Overloaded,
        ),
        ("getaddrinfo ENOTFOUND api.example.com", Class::Overloaded),
        ("connect ECONNREFUSED 127.0.0.1:443", Class::Overloaded),
        ("request to https://x failed, reason: ETIMEDOUT", Class::Overloaded),
        ("TypeError: fetch failed", Class::Overloaded),
        ("socket hang up", Class::Overloaded),
        (
            "insufficient_quota: You exceeded your current quota, please check your plan and billing details.",
            Class::RateLimited,
        ),
        ("You’ve hit your weekly limit · resets Nov 25, 4pm (UTC)", Class::RateLimited),
        ("Claude AI usage limit reached|1795370000", Class::RateLimited),
        ("RESOURCE_EXHAUSTED", Class::RateLimited),
        (
            "Request too large for gpt-5 on tokens per min (TPM): Limit 30000, Requested 212345",
            Class::RateLimited,
        ),
        (
            "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
            Class::RateLimited,
        ),
        ("403 secondary rate limit exceeded", Class::RateLimited),
        ("You're out of extra usage. Add more at claude.ai/settings/usage.", Class::RateLimited),
        ("You are out of fast premium usage for this month", Class::RateLimited),
        ("You've used up your included credits", Class::RateLimited),
        ("You have used all of your monthly messages", Class::RateLimited),
        ("Your project has exceeded its monthly spending cap.", Class::RateLimited),
        ("Workspace spend limit reached", Class::RateLimited),
        ("Usage cap reached for this billing period", Class::RateLimited),
        ("You have run out of included requests", Class::RateLimited),
        ("context_length_exceeded", Class::ContextExceeded),
        (
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            Class::ContextExceeded,
        ),
        ("This model's maximum context length is 128000 tokens", Class::ContextExceeded),
        ("413 Request Entity Too Large", Class::ContextExceeded),
        ("Conversation too long", Class::ContextExceeded),
        ("The conversation has become too long for this model", Class::ContextExceeded),
        (
            "stream disconnected before completion: Your input exceeds the context window of this model.",
            Class::ContextExceeded,
        ),
        ("stream error: context_length_exceeded", Class::ContextExceeded),
        (
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
            Class::ContextExceeded,
        ),
        ("Input is too long for requested model.", Class::ContextExceeded),
        ("Context limit reached · /compact or /clear to continue", Class::ContextExceeded),
        (
            "the request exceeds the available context size, try increasing it",
            Class::ContextExceeded,
        ),
        ("Your request exceeded model token limit: 262144", Class::ContextExceeded),
        ("invalid_api_key", Class::Auth),
        ("API key not valid. Please pass a valid API key.", Class::Auth),
        ("Your credit balance is too low to access the API", Class::Auth),
        ("402 Payment Required", Class::Auth),
        ("402 Insufficient Balance", Class::Auth),
        ("Insufficient account balance, please top up your account", Class::Auth),
        ("Your account balance is not enough, please recharge", Class::Auth),
        ("OAuth token has expired. Please run /login", Class::Auth),
        ("The model `x-9` does not exist or you do not have access to it.", Class::Auth),
        ("This organization has been disabled.", Class::Auth),
        ("Your prompt was flagged as potentially violating our usage policy", Class::Refused),
        ("finishReason: SAFETY", Class::Refused),
        ("Reached max turns (30)", Class::Limit),
        ("No conversation found with session ID: x", Class::SessionLost),
        ("session x not found", Class::SessionLost),
        ("Session ID \"x\" already exists.", Class::SessionInUse),
        ("error: unknown option '--x'", Class::BadInput),
        ("error: unexpected argument '--x' found", Class::BadInput),
        ("Error: no such file or directory: prompt.md", Class::BadInput),
        ("Claude Code needs an update. Run `claude update`.", Class::BadInput),
        ("The 'x-9' model requires a newer version of Codex.", Class::BadInput),
        (
            "This version of the CLI is no longer supported. Please upgrade to the latest version.",
            Class::BadInput,
        ),
        ("Update required: minimum supported version is 1.4", Class::BadInput),
        ("Workspace Trust Required", Class::BadInput),
        ("Do you trust this folder? Use --trust.", Class::BadInput),
        ("API Error: 400 messages.3: image exceeds the limit of 5 MB", Class::BadInput),
        (
            "400 `thinking` blocks in the latest assistant message cannot be modified",
            Class::BadInput,
        ),
        (
            "400 The request body is not valid JSON: no low surrogate in string: line 1",
            Class::BadInput,
        ),
        ("400 messages.7: tool_use ids were found without tool_result blocks", Class::BadInput),
        ("400 The response was filtered due to the content management policy", Class::Refused),
        ("Segmentation fault", Class::Crashed),
        ("TypeError: Cannot read properties of undefined (reading 'x')", Class::Crashed),
    ] {
        assert_eq!(class("claude", exit(1), "", text, None), expected, "on standard error: {text}");
        let event = serde_json::json!({
            "type": "result", "subtype": "success", "is_error": true, "result": text,
        });
        assert_eq!(class("claude", exit(1), &format!("{event}\n"), "", None), expected, "{text}");
        let event = serde_json::json!({"type": "turn.failed", "error": {"message": text}});
        assert_eq!(class("codex", exit(1), &format!("{event}\n"), "", None), expected, "{text}");
    }
}

#[test]
fn classify_ignores_error_words_in_the_final_message_of_a_success() {
    let prose = "Fixed the 429 handling: rate limit, unauthorized, prompt is too long, timeout.";
    let end = serde_json::json!({
        "type": "result", "subtype": "success", "is_error": false, "result": prose,
    });
    let end = format!("{end}\n");
    assert_eq!(class("claude", exit(0), &end, "", None), Class::Ok);
    // The process failed after a success. The final message does not explain the failure.
    assert_eq!(class("claude", exit(1), &end, "", None), Class::Crashed);
}

#[test]
fn classify_killed_process_as_crashed_despite_stderr() {
    let begun = "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\"}\n";
    let warned = "warning: connection reset, trying again";
    for killed in [exit(137), exit(130), SessionExit { signal: Some(9), ..SessionExit::default() }]
    {
        assert_eq!(class("claude", killed, begun, warned, None), Class::Crashed, "{killed:?}");
    }
    assert_eq!(class("claude", exit(127), "", "", None), Class::BadInput);
    // These exit codes are in the range of signals, but the preset has rules for them.
    assert_eq!(class("gemini", exit(145), "", "", None), Class::Auth);
    assert_eq!(class("gemini", exit(173), "", "", None), Class::RateLimited);
}

#[test]
fn classify_ignores_errors_and_final_events_before_later_work() {
    let work = "{\"type\":\"assistant\",\"message\":{\"content\":[]}}\n";
    let end = "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"x\"}\n";
    let notice = "{\"type\":\"system\",\"subtype\":\"task_notification\"}\n";
    let limit = "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\"}}\n";
    for (stdout, code, expected) in [
        (format!("{work}{end}"), 0, Class::Ok),
        (format!("{work}{end}{notice}"), 0, Class::Ok),
        (format!("{end}{work}"), 0, Class::Crashed),
        (format!("{limit}{work}{end}"), 0, Class::Ok),
        (format!("{work}{limit}"), 143, Class::RateLimited),
        (format!("{limit}{work}"), 143, Class::Crashed),
    ] {
        assert_eq!(class("claude", exit(code), &stdout, "", None), expected, "{stdout}");
    }
}

#[test]
fn classify_denied_or_silent_session_by_its_change() {
    let denied = "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"x\",\"permission_denials\":[{}]}\n";
    let silent =
        "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"\"}\n";
    for (stdout, changed, expected) in [
        (denied, None, Class::Blocked),
        (denied, Some(false), Class::Blocked),
        (denied, Some(true), Class::Ok),
        (silent, None, Class::Crashed),
        (silent, Some(true), Class::Ok),
        ("All done.\n", Some(true), Class::Ok),
        ("All done.\n", None, Class::Crashed),
        ("API Error: 529 Overloaded\n", Some(true), Class::Overloaded),
        ("", Some(true), Class::Crashed),
    ] {
        assert_eq!(class("claude", exit(0), stdout, "", changed), expected, "{stdout} {changed:?}");
    }
}

#[test]
fn classify_context_overflow_loop_after_an_intervention() {
    let over = "{\"type\":\"error\",\"error\":{\"name\":\"ContextOverflowError\",\"data\":{\"message\":\"too long\"}}}\n";
    let end = "{\"type\":\"text\",\"part\":{\"text\":\"x\"}}\n{\"type\":\"step_finish\",\"part\":{\"reason\":\"stop\"}}\n";
    let stdout = format!("{over}{end}");
    assert_eq!(class("opencode", exit(0), &stdout, "", Some(true)), Class::Ok);
    for intervention in [Intervention::Lingered, Intervention::Idle, Intervention::Stopped] {
        let killed = SessionExit {
            signal: Some(9),
            intervention: Some(intervention),
            ..SessionExit::default()
        };
        let class = class("opencode", killed, &stdout, "", Some(true));
        assert_eq!(class, Class::ContextExceeded, "{intervention:?}");
    }
}

#[test]
fn classify_text_output_by_the_text_after_the_last_answer() {
    let answer = "Tokens: 1.2k sent, 30 received.\n";
    let fence = "a.js\n```\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n```\n";
    let retry = "litellm.RateLimitError: x\nRetrying in 0.2 seconds...\n";
    let auth = "litellm.AuthenticationError: x\n";
    for (stdout, code, expected) in [
        (format!("{fence}{answer}Applied edit to a.js\n"), 0, Class::Ok),
        (format!("{retry}{fence}{answer}Applied edit to a.js\n"), 0, Class::Ok),
        (format!("{fence}{answer}"), 0, Class::Crashed),
        (format!("It is fine as it is.\n{answer}"), 0, Class::Ok),
        (retry.to_owned(), 0, Class::RateLimited),
        (format!("{answer}Applied edit to a.js\n{auth}"), 0, Class::Auth),
        (
            "usage: aider [-h]\naider: error: unrecognized arguments: --x\n".to_owned(),
            2,
            Class::BadInput,
        ),
    ] {
        assert_eq!(class("aider", exit(code), &stdout, "", None), expected, "{stdout}");
    }
    assert_eq!(class("command", exit(0), "429 rate limit", "", None), Class::Ok);
    assert_eq!(class("command", exit(1), "429 rate limit", "", None), Class::Crashed);
}
