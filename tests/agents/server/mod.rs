//! A model server on the loopback device, with a scripted model, a plan of faults and a log of
//! every request.

mod anthropic;
mod fault;
mod http;
mod responses;
mod script;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::json;

pub(crate) use fault::{Fault, Limit};
use http::Connection;
pub(crate) use script::Script;

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ScriptedUsage {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_write: u64,
}

impl std::iter::Sum for ScriptedUsage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            input: a.input + b.input,
            output: a.output + b.output,
            cache_read: a.cache_read + b.cache_read,
            cache_write: a.cache_write + b.cache_write,
        })
    }
}

impl ScriptedUsage {
    /// Returns the tokens of an answer to a conversation with so many steps. One of the protocols
    /// does not report tokens that are written to a cache.
    pub(crate) fn of(steps: u64, writes_cache: bool) -> Self {
        Self {
            input: 100 + steps,
            output: 7 + steps,
            cache_read: 1000 * steps,
            cache_write: if writes_cache { 500 } else { 0 },
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.input + self.output + self.cache_read + self.cache_write
    }
}

/// A request of a task's conversation, as the plan of faults and the log see it.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    /// Time since the server's start.
    pub(crate) at: Duration,
    /// The path of the request.
    pub(crate) path: String,
    /// The number of the request among all main requests, from 0.
    pub(crate) index: usize,
    /// The CLI's id of its session.
    pub(crate) session: String,
    /// The number of the session, in the order of first requests, from 0.
    pub(crate) number: usize,
    /// The number of the request within its session, from 0.
    pub(crate) turn: usize,
    /// The files of the task.
    pub(crate) files: Vec<String>,
    /// True if the conversation holds answers of an earlier session before the newest prompt.
    pub(crate) earlier: bool,
    /// The number of finished steps in the conversation.
    pub(crate) steps: usize,
    /// The fault's name in the log.
    pub(crate) fault: Option<&'static str>,
    /// The tokens of the answer, if there was one.
    pub(crate) usage: Option<ScriptedUsage>,
    /// The usage that an answer began with before it hung. Only one of the services tells it.
    pub(crate) begun: Option<ScriptedUsage>,
}

/// Chooses the fault of each request. Fault and usage of the request are not set yet.
pub(crate) type FaultPlan = Box<dyn FnMut(&ReceivedRequest) -> Option<Fault> + Send>;

/// An answer under construction.
struct ModelAnswer {
    id: String,
    text: String,
    command: Option<String>,
    usage: ScriptedUsage,
    fault: Option<Fault>,
}

struct State {
    script: Script,
    plan: FaultPlan,
    log: Vec<ReceivedRequest>,
    others: usize,
    limit: Option<Limit>,
    file: std::fs::File,
}

/// The server. It ends with the process.
#[derive(Clone)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    begun: Instant,
    port: u16,
}

impl Server {
    /// Starts a server that logs to a file, one JSON object a line.
    pub(crate) fn start(log: &Path, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let file = std::fs::File::create(log).unwrap();
        let plan: FaultPlan = Box::new(|_| None);
        let state = State { script, plan, log: Vec::new(), others: 0, limit: None, file };
        let server = Self { state: Arc::new(Mutex::new(state)), begun: Instant::now(), port };
        let accepting = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = accepting.clone();
                // A client that goes away in the middle is no fault of the server's.
                std::thread::spawn(move || server.serve(stream).ok());
            }
        });
        server
    }

    /// Returns the address of the server.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Replaces the plan of faults.
    pub(crate) fn plan(
        &self,
        plan: impl FnMut(&ReceivedRequest) -> Option<Fault> + Send + 'static,
    ) {
        self.state().plan = Box::new(plan);
    }

    /// Returns every request of a task's conversation so far.
    pub(crate) fn log(&self) -> Vec<ReceivedRequest> {
        self.state().log.clone()
    }

    /// Resets the log and the limits.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.log.clear();
        state.limit = None;
    }

    /// Returns the number of other requests.
    pub(crate) fn others(&self) -> usize {
        self.state().others
    }

    /// Returns the script.
    pub(crate) fn script(&self) -> Script {
        self.state().script.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut to = Connection::new(stream);
        let request = to.read()?;
        let messages = match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v1/messages") => true,
            ("POST", "/v1/responses") => false,
            ("POST", "/v1/messages/count_tokens") => {
                return to.json(200, &json!({"input_tokens": 1234}));
            }
            _ if request.path.ends_with("/models") => {
                return to.json(200, &json!({"data": [], "models": [], "object": "list"}));
            }
            _ => return to.json(404, &json!({"error": {"message": "not scripted"}})),
        };
        let body = &request.body;
        let seen = if messages { anthropic::read(body) } else { responses::read(body) };
        let (reply, think) = self.decide(&request.path, &seen);
        if let Some(fault) = &reply.fault {
            let refuse = if messages { anthropic::refusal } else { responses::refusal };
            if let Some(refusal) = refuse(fault) {
                return to.refuse(&refusal);
            }
            if matches!(fault, Fault::HangAtOnce) {
                to.hang();
                return Ok(());
            }
            if let Fault::Slow(time) = fault {
                std::thread::sleep(*time);
            }
        }
        std::thread::sleep(think);
        let send = if messages { anthropic::answer } else { responses::answer };
        send(&mut to, body, &reply)
    }

    /// Chooses the answer to a request, and logs the request.
    fn decide(&self, path: &str, seen: &script::Conversation) -> (ModelAnswer, Duration) {
        let mut state = self.state();
        let index = state.log.len();
        let id = format!("{:08}{:08}", index, state.others);
        let plain = ScriptedUsage { input: 10, output: 2, ..ScriptedUsage::default() };
        if !seen.main {
            state.others += 1;
            let text = "Nothing to add.".to_owned();
            return (
                ModelAnswer { id, text, command: None, usage: plain, fault: None },
                Duration::ZERO,
            );
        }
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in &state.log {
            numbers.insert(&entry.session, entry.number);
        }
        let number = numbers.get(seen.session.as_str()).copied().unwrap_or(numbers.len());
        let turn = state.log.iter().filter(|e| e.session == seen.session).count();
        let steps = seen.steps_seen();
        let mut entry = ReceivedRequest {
            at: self.begun.elapsed(),
            path: path.to_owned(),
            index,
            session: seen.session.clone(),
            number,
            turn,
            files: seen.files(),
            earlier: seen.earlier,
            steps,
            fault: None,
            usage: None,
            begun: None,
        };
        let standing = state.limit.filter(|limit| limit.until > Instant::now());
        let fault = standing.map(Fault::Limited).or_else(|| (state.plan)(&entry));
        if let Some(Fault::Limited(limit)) = &fault {
            state.limit = Some(*limit);
        }
        let usage = ScriptedUsage::of(u64::try_from(steps).unwrap(), path == "/v1/messages");
        entry.fault = fault.as_ref().map(Fault::name);
        entry.usage = fault.as_ref().is_none_or(Fault::answers).then_some(usage);
        let hangs = matches!(fault, Some(Fault::HangMidway)) && path == "/v1/messages";
        entry.begun = hangs.then_some(ScriptedUsage { output: 1, ..usage });
        let line = json!({
            "ms": u64::try_from(entry.at.as_millis()).unwrap(), "path": entry.path, "index": index,
            "session": entry.session, "number": number, "turn": turn, "files": entry.files,
            "earlier": entry.earlier, "steps": steps, "fault": entry.fault,
            "tokens": entry.usage.map(|u| [u.input, u.output, u.cache_read, u.cache_write]),
        });
        writeln!(state.file, "{line}").unwrap();
        state.log.push(entry);
        let command = state.script.command(seen);
        let text =
            if command.is_some() { format!("Step {}.", steps + 1) } else { "All is done.".into() };
        (ModelAnswer { id, text, command, usage, fault }, state.script.think)
    }
}
