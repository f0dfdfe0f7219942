//! Runs whose agents print the captured and crafted outputs of real programs, dealt at random from
//! a seed: each attempt has its class, tokens and cost add up, and the run does not halt.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::job::{FIXTURES, TestJob};
use crate::sandbox::Sandbox;

/// Pseudo-random numbers from a seed (xorshift).
struct OutputDealer(u64);

impl OutputDealer {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// An output of a session.
#[derive(Debug, Clone)]
struct SessionOutput {
    /// The files, without `.stdout` and `.stderr`.
    stem: PathBuf,
    preset: String,
    exit: String,
    /// True if the agent changes its files before it ends.
    changes: bool,
    class: String,
}

impl SessionOutput {
    fn file(&self, end: &str) -> Option<PathBuf> {
        let mut name = self.stem.clone().into_os_string();
        name.push(end);
        Some(PathBuf::from(name)).filter(|path| path.is_file())
    }

    /// Returns the script of an agent that prints this output. `filter` is a command that rewrites
    /// standard output.
    fn script(&self, filter: &str) -> String {
        let edit = "for f in */*.txt; do\n\
                    if grep -qF \"\\`$f\\`\" \"$HARNESS_PROMPT_FILE\"; then echo done >\"$f\"; fi\n\
                    done\n";
        let mut script = String::from(if self.changes { edit } else { "" });
        if let Some(stdout) = self.file(".stdout") {
            script.push_str(&format!("{filter} <'{}'\n", stdout.display()));
        }
        if let Some(stderr) = self.file(".stderr") {
            script.push_str(&format!("cat '{}' >&2\n", stderr.display()));
        }
        script + &format!("exit {}", self.exit)
    }

    /// Returns what `agent classify` says of the output.
    fn classified(&self, sandbox: &Sandbox) -> Value {
        let changed = if self.changes { "yes" } else { "no" };
        let mut args = vec!["agent", "classify", &self.preset, "--exit", &self.exit];
        args.extend(["--changed", changed]);
        let files: Vec<PathBuf> =
            [".stdout", ".stderr"].iter().filter_map(|e| self.file(e)).collect();
        args.extend(files.iter().map(|path| path.to_str().unwrap()));
        serde_json::from_str(&sandbox.run(&args).exits(0).stdout).unwrap()
    }
}

/// Returns the outputs of a preset with one of the classes, in the order of the tables.
fn outputs(preset: &str, classes: &[&str]) -> Vec<SessionOutput> {
    let mut found = Vec::new();
    for folder in ["captures", "outputs"] {
        let folder = Path::new(FIXTURES).join(folder);
        let table = std::fs::read_to_string(folder.join("index.tsv")).unwrap();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [exit, changed, class] = fields[fields.len() - 3..] else { panic!("{line}") };
            if fields[1] == preset && classes.contains(&class) {
                found.push(SessionOutput {
                    stem: folder.join(fields[0]),
                    preset: preset.to_owned(),
                    exit: exit.to_owned(),
                    changes: class == "ok" || changed == "yes",
                    class: class.to_owned(),
                });
            }
        }
    }
    found
}

/// Returns the data of a task's events, the oldest first.
fn events(sandbox: &Sandbox, task: &str) -> Vec<Value> {
    let chain = format!("refs/harness/tasks/job-1/{task}");
    let text = sandbox.git(&["log", "--reverse", "--format=%B", &chain]);
    let data = text.lines().filter_map(|line| line.strip_prefix("Harness-Data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// Runs `count` tasks of two files. The first attempt of each prints a random output of the classes
/// ok, crashed and context_exceeded, every output at least once; each later attempt a random
/// success. If `limited`, one first attempt meets a limit that lifts after five seconds.
fn check(preset: &str, count: usize, limited: bool) {
    let mut random = OutputDealer(0x5eed ^ count as u64);
    let all = outputs(preset, &["ok", "crashed", "context_exceeded"]);
    let good = outputs(preset, &["ok"]);
    assert!(all.len() <= count && !good.is_empty(), "{} outputs of {preset}", all.len());
    let files: Vec<String> = (0..2 * count).map(|n| format!("d/{n:03}.txt")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let job = TestJob::new(&files)
        .set("plan", "group = \"directory\"\nmax-files = 2")
        .set("agent", &format!("preset = \"{preset}\""))
        .set("limits", "jobs = 4");
    let sandbox = Sandbox::new(job);
    let plan: Value =
        serde_json::from_str(&sandbox.run(&["plan", "--json"]).exits(0).stdout).unwrap();
    let tasks = plan["tasks"].as_array().unwrap();
    let names: Vec<&str> = tasks.iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!(names.len(), count, "{plan}");

    // The scripts, by task and attempt, and the output of each.
    let mut deck: Vec<SessionOutput> = all.iter().cycle().take(count).cloned().collect();
    for last in (1..deck.len()).rev() {
        deck.swap(last, random.below(last + 1));
    }
    let mut scripted = std::collections::BTreeMap::new();
    let mut script = |task: String, output: &SessionOutput, filter: &str| {
        sandbox.script(&task, &output.script(filter));
        scripted.insert(task, output.clone());
    };
    for (name, first) in names.iter().zip(&deck) {
        script(format!("{name}.1"), first, "cat");
        for attempt in 2..4 {
            script(format!("{name}.{attempt}"), &good[random.below(good.len())], "cat");
        }
    }
    // The parts of a task that is too large.
    script("default".to_owned(), &good[0], "cat");
    if limited {
        // The task of an output that another task prints, too.
        let is_spare = |n: &usize| deck.iter().filter(|o| o.stem == deck[*n].stem).count() > 1;
        let number = (10..count).find(is_spare).unwrap();
        let mut limit = outputs(preset, &["rate_limited"]);
        limit.retain(|output| output.stem.ends_with("ce4_oauth_limit"));
        let later = "sed \"s/1795364748/$(($(date +%s) + 5))/\"";
        script(format!("{}.1", names[number]), &limit[0], later);
    }

    sandbox.run(&["start"]).exits(0);
    let status = sandbox.status();
    assert!(status["halt"].is_null(), "{status}");
    assert_eq!(status["counts"]["failed"], 0, "{status}");
    for file in files {
        assert_eq!(sandbox.landed(file), "done", "{file}");
    }

    let (mut seen, mut closed, mut cost) = (std::collections::BTreeSet::new(), Vec::new(), 0.0);
    let mut tokens = [0; 4];
    for task in status["tasks"].as_array().unwrap() {
        let id = task["id"].as_str().unwrap();
        let mut of_task = [0; 4];
        for event in events(&sandbox, id).iter().filter(|event| event["event"] == "ended") {
            let name = format!("{id}.{}", event["attempt"]);
            let output = scripted.get(&name).unwrap_or(&good[0]);
            seen.insert(output.stem.clone());
            let expected = output.classified(&sandbox);
            assert_eq!(expected["class"], output.class.as_str(), "{output:?}");
            assert_eq!(event["report"]["class"], output.class.as_str(), "{id}: {output:?}");
            for (sum, key) in
                of_task.iter_mut().zip(["input", "output", "cache_read", "cache_write"])
            {
                *sum += expected["tokens"][key].as_u64().unwrap_or(0);
            }
            cost += expected["cost_usd"].as_f64().unwrap_or(0.0);
            closed.extend(event["report"]["resets_at"].as_u64());
        }
        let told = ["input", "output", "cache_read", "cache_write"]
            .map(|key| task["tokens"][key].as_u64().unwrap_or(0));
        assert_eq!(told, of_task, "{id}");
        tokens.iter_mut().zip(of_task).for_each(|(sum, n)| *sum += n);
    }
    let told = ["input", "output", "cache_read", "cache_write"]
        .map(|key| status["tokens"][key].as_u64().unwrap_or(0));
    assert_eq!(told, tokens);
    let told = status["cost_usd"].as_f64().unwrap_or(0.0);
    assert!((told - cost).abs() < 1e-6, "{told} {cost}");
    assert!(all.iter().all(|output| seen.contains(&output.stem)));
    assert_eq!(closed.len(), usize::from(limited));
}

#[test]
fn fifty_sessions_with_every_output_and_a_limit_keep_class_tokens_and_cost_and_no_halt() {
    check("claude", 50, true);
}

#[test]
fn every_output_of_the_other_presets_keeps_its_class_and_halts_no_run() {
    for preset in ["codex", "gemini", "qwen", "copilot", "aider", "opencode"] {
        check(preset, 10, false);
    }
}
