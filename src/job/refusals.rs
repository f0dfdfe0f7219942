//! Tests of the error messages for job files. Each table row has a part of a file and the expected
//! errors.

use super::parse;

/// Whole files.
const WHOLE_FILES: &[(&str, &str)] = &[
    ("", r#"j:1:1: `goal` is missing in [job]
hint: say in a sentence what is to be done: `goal = "…"` in [job]
j:1:1: `agent` is missing in the job file
hint: add a section [agent] with `preset = "claude"`, or with `command = ["./my-agent", "{prompt_file}"]`"#),
    (r#"[job]
[agent]
command = ["a"]"#, r#"j:1:1: `goal` is missing in [job]
hint: say in a sentence what is to be done: `goal = "…"` in [job]"#),
    (r#"[job]
goal = " "
[agent]
command = ["a"]"#, "j:2:8: `goal` in [job] may not be empty"),
    (r#"job = 1
[agent]
command = ["a"]"#, "j:1:7: `job` must be a section, not a whole number
hint: write it as [job], with its keys in the lines below"),
    (r#"[job]
goal = "g""#, r#"j:1:1: `agent` is missing in the job file
hint: add a section [agent] with `preset = "claude"`, or with `command = ["./my-agent", "{prompt_file}"]`"#),
    (r#"[job]
goal = "g"
[agent]
timeout = "1m""#, r#"j:3:1: `command` is missing in [agent]
hint: write it like `command = ["./my-agent", "{prompt_file}"]`, or name a preset such as "claude""#),
    ("[job", "j:1:5: not valid TOML: unclosed table, expected `]`"),
    (r#"[job]
goal = "g"
goal = "h"
[agent]
command = ["a"]"#, "j:3:1: not valid TOML: duplicate key"),
    (r#"goal = "g"
[agent]
command = ["a"]"#, r#"j:1:1: unknown key `goal` in the job file
hint: `goal` belongs in [job]
j:1:1: `goal` is missing in [job]
hint: say in a sentence what is to be done: `goal = "…"` in [job]"#),
    (r#"[job]
goal = "g"
[[agent]]
command = ["a"]"#, "j:3:1: `agent` must be a single section, not a list
hint: write it as [agent], with its keys in the lines below"),
    ("[job]
goal = unquoted", "j:2:8: not valid TOML: string values must be quoted, expected literal string"),
    (r#"[job]
goal = "g"
[agent]
command = "run {prompt_file}""#, r#"j:4:11: `command` in [agent] must be a list of program and arguments, not a string
hint: for a shell command write ["sh", "-c", "run {prompt_file}"]"#),
    (r#"[job]
goal = "g"
[agent]
command = []"#, r#"j:4:11: `command` in [agent] may not be empty
hint: write it like ["program", "argument"]"#),
    (r#"[job]
goal = "g"
[agent]
command = [""]"#, "j:4:12: `command` in [agent] must begin with a program"),
    (r#"[job]
goal = "g"
[agent]
command = ["a", "{promt_file}"]"#, "j:4:17: `command` in [agent] holds an unknown placeholder: `{promt_file}`
hint: did you mean `{prompt_file}`? for the text itself write `{{promt_file}}`"),
    (r#"[job]
goal = "g"
[agent]
command = ["a", "--f={task.files}"]"#, r#"j:4:17: `command` in [agent] must hold `{task.files}` as an argument of its own: "--f={task.files}"
hint: it becomes one argument per file; a shell script sees them as "$@""#),
    (r#"[job]
goal = "g"
[agent]
command = ["a", "{print}"]"#, "j:4:17: `command` in [agent] holds an unknown placeholder: `{print}`
hint: known are `{worktree}`, `{run}`, `{base}`, `{task.id}`, `{task.files}`, `{attempt}`, `{output}`, `{prompt_file}`, `{feedback_file}` and `{prompt}`; for the text itself write `{{print}}`"),
    (r#"[job]
goal = "g"
[agent]
command = ["a", 1]"#, r#"j:4:17: `command` in [agent] must hold only strings, not a whole number
hint: write it like `command = ["program", "argument"]`"#),
];

/// Ends of files that begin with `[agent]` and `[job]`, so that their first lines belong to
/// `[job]`. They start at line 5.
const IN_JOB: &[(&str, &str)] = &[
    (
        r#"name = "JS to TS""#,
        r#"j:5:8: `name` in [job] may hold only a-z, 0-9, `-` and `_`, and not start with `-`: "JS to TS"
hint: use "js-to-ts""#,
    ),
    (
        r#"name = """#,
        r#"j:5:8: `name` in [job] must have 1 to 80 characters: ""
hint: use "job""#,
    ),
    (r#"base = "-x""#, r#"j:5:8: `base` in [job] is not a revision: "-x""#),
    (
        r#"target = "refs/harness/x""#,
        r#"j:5:10: `target` in [job] is not the name of a branch: it may not lie in another namespace than `refs/heads/`: "refs/harness/x""#,
    ),
    (
        r#"target = "a..b""#,
        r#"j:5:10: `target` in [job] is not the name of a branch: it may not hold `..` or `@{`: "a..b""#,
    ),
    (
        r#"kind = "report""#,
        r#"j:1:1: `path` is missing in [output]
hint: say which file each task hands in: `path = "review.json"` in [output]"#,
    ),
    (
        r#"kind = "chnage""#,
        r#"j:5:8: `kind` in [job] has an unknown value: "chnage"
hint: did you mean "change"?"#,
    ),
    (
        r#"timeout = "3m""#,
        "j:5:1: unknown key `timeout` in [job]
hint: `timeout` belongs in [agent] or [[check]] or [evaluate]",
    ),
    (
        "colour = 1",
        "j:5:1: unknown key `colour` in [job]
hint: known are `name`, `goal`, `base`, `target`, `kind` and `base-check`",
    ),
];

/// Ends of files that begin with `[job]` and `[agent]`, so that their first lines belong to
/// `[agent]`. They start at line 5.
const IN_AGENT: &[(&str, &str)] = &[
    (r#"tiemout = "30m""#, "j:5:1: unknown key `tiemout` in [agent]
hint: did you mean `timeout`?"),
    (r#"idle_timeout = "30m""#, "j:5:1: unknown key `idle_timeout` in [agent]
hint: did you mean `idle-timeout`?"),
    ("timeout = 30", r#"j:5:11: `timeout` in [agent] must be a duration such as "30m", not a whole number
hint: for seconds write `timeout = "30s"`"#),
    (r#"timeout = "30 minutes""#, r#"j:5:11: `timeout` in [agent] is not a duration: "30 minutes"
hint: write it like "30m", "90s", "1h30m" or "500ms""#),
    (r#"timeout = "90""#, r#"j:5:11: `timeout` in [agent] is not a duration: "90"
hint: a duration needs a unit, such as "90s""#),
    (r#"timeout = "0s""#, r#"j:5:11: `timeout` in [agent] must be longer than nothing: "0s""#),
    ("preset = 1", "j:5:10: `preset` in [agent] must be a string, not a whole number"),
    (r#"permissions = "edit+shel""#, r#"j:5:15: `permissions` in [agent] has an unknown value: "edit+shel"
hint: did you mean "edit+shell"?"#),
    ("[evaluate]
prompt = \"e.md\"", "j:5:1: `command` is missing in [evaluate]
hint: write it like `command = [\"./my-agent\", \"{prompt_file}\"]`, or name a preset such as \"claude\""),
    ("[evaluate]
preset = \"claude\"
rounds = 0", "j:7:10: `rounds` in [evaluate] must be at least 1: 0"),
    ("[[check]]
name = \"evaluate\"
run = [\"a\"]", "j:6:8: `name` in [[check]] is the name of a built-in check: \"evaluate\"
hint: use another, such as \"evaluate-check\""),
    ("max-turns = 0", "j:5:13: `max-turns` in [agent] must be at least 1: 0"),
    (r#"args = "--fast""#, r#"j:5:8: `args` in [agent] must be a list of strings, not a string
hint: write it like `args = ["--option", "value"]`"#),
    ("[presets]
claude = 1", "j:6:10: `presets` in the job file must hold tables, and `claude` is none
hint: write it as [presets.claude], with its keys in the lines below"),
    (r#"env = "KEY""#, r#"j:5:7: `env` in [agent] must be a list of strings, not a string
hint: write it like `env = ["MY_API_KEY"]`"#),
    (r#"env = ["KEY=secret"]"#, "j:5:8: `env` in [agent] holds names only, not `NAME=value`
hint: the value comes from the environment of `git harness start`"),
    (r#"env = ["GIT_DIR"]"#, r#"j:5:8: `env` in [agent] cannot pass `GIT_*` on: "GIT_DIR"
hint: these would point the agent at another repository or index than its own"#),
    (r#"env = ["KEY", 3]"#, r#"j:5:15: `env` in [agent] must hold only strings, not a whole number
hint: write it like `env = ["MY_API_KEY"]`"#),
    (r#"prompt = "/etc/passwd""#, r#"j:5:10: `prompt` in [agent] must be a path inside the repository: "/etc/passwd"
hint: write it relative to the repository's top, without a leading `/` and without `..`"#),
    (r#"[plan]
order = "priority""#, r#"j:6:9: `order` in [plan] can be `"priority"` only if the tasks state a priority
hint: these come with `group = "command"` or `group = "list"`"#),
    (r#"[plan]
group = "command""#, r#"j:5:1: `command` is missing in [plan]
hint: write it like `command = ["node", "discover.js"]`"#),
    (r#"[plan]
command = ["x"]
list = "x"
edges = ["x"]
task = []"#, r#"j:6:11: `command` in [plan] means nothing without `group = "command"`
j:7:8: `list` in [plan] means nothing without `group = "list"`
j:8:9: `edges` in [plan] means nothing without `order = "dependency"`
j:9:8: `task` in [plan] means nothing without `group = "list"`"#),
    (r#"[plan]
group = "list""#, r#"j:5:1: `list` is missing in [plan]
hint: name a file with one JSON object for each task, one on each line, or write sections [[plan.task]]"#),
    (r#"[plan]
group = "list"
list = "../x"
[[plan.task]]
id = "a"
file = ["x"]"#, r#"j:7:8: `list` in [plan] must be a path inside the repository: "../x"
hint: write it relative to the repository's top, without a leading `/` and without `..`
j:7:8: `list` in [plan] cannot be used beside sections [[plan.task]]
j:8:1: `files` is missing in [[plan.task]]
hint: every task needs some: `files = ["src/a.js"]`
j:10:1: unknown key `file` in [[plan.task]]
hint: did you mean `files`?"#),
    (r#"[plan]
group = "command"
command = ["x", "{task.id}"]"#, r#"j:7:17: `command` in [plan] cannot hold `{task.id}`: a command of the plan does not know it
hint: known here are `{worktree}` and `{base}`"#),
    (r#"[plan]
group = "folder""#, r#"j:6:9: `group` in [plan] has an unknown value: "folder"
hint: known are "file", "directory", "dependency", "command", "list""#),
    (r#"[plan]
group="direcotry""#, r#"j:6:7: `group` in [plan] has an unknown value: "direcotry"
hint: did you mean "directory"?"#),
    ("[plan]
include = []", r#"j:6:11: `include` in [plan] may not be empty: no file would be planned
hint: everything is `include = ["**"]`"#),
    (r#"[plan]
include = ["src/[a"]"#, r#"j:6:12: `include` in [plan] holds an invalid glob: unclosed character class; missing ']': "src/[a""#),
    (r#"[plan]
include = "src/**""#, r#"j:6:11: `include` in [plan] must be a list of strings, not a string
hint: write it like `include = ["src/**"]`"#),
    (r#"[plan]
exclude = ["/abs", "{filez}", "../up", "!no"]"#, r#"j:6:12: `exclude` in [plan] holds an absolute path: "/abs"
hint: globs are matched from the repository's top: leave the leading `/` out
j:6:20: `exclude` in [plan] holds an unknown placeholder: `{filez}`
hint: known are `{task.files}` and `{task.files|ext:ts}`, in `[scope] write`; `{a,b}` is either
j:6:31: `exclude` in [plan] holds a glob that leaves the repository: "../up"
j:6:40: `exclude` in [plan] holds a negated glob: "!no"
hint: globs are not negated with `!`; `[plan] exclude` and `[scope] read-only` take away"#),
    (r#"[plan]
include = ["{task.files}"]"#, "j:6:12: `include` in [plan] cannot hold `{task.files}`: it has a meaning only in `[scope] write`"),
    ("[plan]
max-files = 0", "j:6:13: `max-files` in [plan] must be at least 1: 0"),
    ("[plan]
max-lines = -5", "j:6:13: `max-lines` in [plan] must be at least 1: -5"),
    ("[plan]
context-window = 0", "j:6:18: `context-window` in [plan] must be at least 1000: 0"),
    ("[plan]
fill = 0.9", "j:6:8: `fill` in [plan] must be from 0.01 to 0.8: 0.9"),
    ("[plan]
token-factor = true", "j:6:16: `token-factor` in [plan] must be a number such as 1.15, not `true` or `false`"),
    (r#"[plan.scope]
dir = "../x""#, r#"j:6:7: `dir` in [plan.scope] must be a path inside the repository: "../x"
hint: write it relative to the repository's top, without a leading `/` and without `..`"#),
    (r#"[plan.scope]
files = "[a""#, r#"j:6:9: `files` in [plan.scope] holds an invalid glob: unclosed character class; missing ']': "[a""#),
    (r#"[plan.scope]
file = """#, "j:6:1: unknown key `file` in [plan.scope]
hint: did you mean `files`?"),
    ("[plan.vars]
day = 2024-01-01", "j:6:7: `vars` in [plan] cannot hold a date, an infinity or a number beyond 64 bits
hint: write it as a string"),
    (r#"[worktree]
root = "places""#, r#"j:6:8: `root` in [worktree] must lie outside the repository's work tree: "places"
hint: use a folder beside it, such as "../{repo}.harness", or an absolute path"#),
    (r#"[worktree]
root = "../{repo}/x""#, r#"j:6:8: `root` in [worktree] must lie outside the repository's work tree: "../{repo}/x"
hint: use a folder beside it, such as "../{repo}.harness", or an absolute path"#),
    (r#"[worktree]
setup = ["npm", "ci"]"#, r#"j:6:10: `setup` in [worktree] must be a list of commands, each a list of strings, not a string
hint: it is a list of commands: `setup = [["npm", "ci"]]`"#),
    (r#"[worktree]
setup = [["npm", "{task.files}"]]"#, "j:6:18: `setup` in [worktree] cannot hold `{task.files}`: a setup command does not know it
hint: known here are `{worktree}` and `{run}`"),
    (r#"[queue]
pre-land = ["x", "{task.id}"]"#, "j:6:18: `pre-land` in [queue] cannot hold `{task.id}`: a hook does not know it
hint: it finds what it needs in its environment: `$HARNESS_TARGET` and others"),
    (r#"sandbox = "off""#, r#"j:5:1: unknown key `sandbox` in [agent]
hint: known are `preset`, `command`, `model`, `permissions`, `args`, `max-turns`, `prompt`, `timeout`, `idle-timeout`, `env` and `allow-empty`"#),
    (r#"[sandbox]
mode = "of""#, r#"j:6:8: `mode` in [sandbox] has an unknown value: "of"
hint: did you mean "off"?"#),
    (r#"[sandbox]
mode = true"#, "j:6:8: `mode` in [sandbox] must be a string, not `true` or `false`"),
    (r#"[sandbox]
caches = ["~/.npm", "~/../x"]"#, r#"j:6:21: `caches` in [sandbox] has an entry that is not a folder: "~/../x"
hint: a folder is absolute, or in your home such as "~/.cache/my-tool""#),
    (r#"[sandbox]
limits = { processes = 5 }
inject = ["KEY"]"#, "j:6:10: `limits` is not available yet: it comes with the limits of sandboxes; leave it out
j:7:10: `inject` is not available yet: it comes with credentials that stay outside of sandboxes; leave it out"),
    ("[worktree]
sparse = 1", "j:6:10: `sparse` in [worktree] must be `true` or `false`, not a whole number"),
    ("[worktree]
sparse = true", "j:6:10: `sparse = true` is not available yet: it comes with sparse worktrees; use `sparse = false`"),
    (r#"[check]
name = "x""#, "j:5:1: `check` must be a list of sections, not a single one
hint: write it as [[check]], with its keys in the lines below"),
    (r#"[[check]]
run = ["x"]"#, r#"j:5:1: `name` is missing in [[check]]
hint: every check needs a name of its own: `name = "types"`"#),
    (r#"[[check]]
name = "x""#, r#"j:5:1: `run` is missing in [[check]]
hint: write it like `run = ["npm", "test"]`"#),
    (r#"[[check]]
name = "x"
run = ["x"]
[[check]]
name = "x"
run = ["y"]"#, r#"j:9:8: `name` in [[check]] is used twice: "x"
hint: give every check a name of its own"#),
    (r#"[[check]]
name = "scope"
run = ["x"]"#, r#"j:6:8: `name` in [[check]] is the name of a built-in check: "scope"
hint: use another, such as "scope-check""#),
    (r#"[[check]]
name = "x"
run = ["x", "{prompt_file}"]"#, "j:7:13: `run` in [[check]] cannot hold `{prompt_file}`: a check does not know it
hint: known here are `{worktree}`, `{run}`, `{base}`, `{task.id}`, `{task.files}`, `{attempt}` and `{output}`"),
    (r#"[[check]]
name = "x"
run = ["x"]
when = ["tsak"]"#, r#"j:8:9: `when` in [[check]] has an unknown value: "tsak"
hint: did you mean "task"?"#),
    (r#"[[check]]
name = "x"
run = ["x"]
when = []"#, "j:8:8: `when` in [[check]] may not be empty: the check would never run
hint: leave it out for both"),
    (r#"[[check]]
name = "x"
ast-equal = { from = "**/*.js" }"#, r#"j:7:13: `to` is missing in [check.ast-equal]
hint: write it like `{ from = "**/*.js", to = "**/*.ts" }`"#),
    (r#"[[check]]
name = "x"
ast-equal = { from = "/a.js", to = "**/*.ts", max-any = -1, extension = true }"#, r#"j:7:22: `from` in [check.ast-equal] holds an absolute path: "/a.js"
hint: globs are matched from the repository's top: leave the leading `/` out
j:7:57: `max-any` in [check.ast-equal] must be at least 0: -1
j:7:61: unknown key `extension` in [check.ast-equal]
hint: did you mean `extensions`?"#),
    (r#"[[check]]
name = "x"
ast-equal = "**/*.ts""#, "j:7:13: `ast-equal` must be a section, not a string
hint: write it as [check.ast-equal], with its keys in the lines below"),
    (r#"[[check]]
name = "x"
run = ["x"]
timeout = "1m"
ast-equal = { from = "**/*.js", to = "**/*.ts" }"#, "j:7:7: `run` in [[check]] cannot be used together with `ast-equal`
hint: make two checks of them
j:8:11: `timeout` in [[check]] cannot be used together with `ast-equal`
hint: a built-in check has no limit"),
    (r#"[[check]]
name = "x"
output = "r.json"
schema = "s.json""#, r#"j:7:10: `output` in [[check]] has a meaning only with `kind = "report"` in [job] and a `path` in [output]"#),
    (r#"[[check]]
name = "x"
run = ["a"]
schema = "s.json""#, r#"j:8:10: `schema` in [[check]] has a meaning only beside `output`"#),
    (r#"[[chek]]
name = "x""#, "j:5:3: unknown key `chek` in the job file
hint: did you mean [[check]]?"),
    (r#"[scope]
max-file-size = "50""#, r#"j:6:17: `max-file-size` in [scope] is not a size: "50"
hint: a size needs a unit, such as "50MiB""#),
    (r#"[scope]
max-file-size = 50"#, r#"j:6:17: `max-file-size` in [scope] must be a size such as "50MiB", not a whole number
hint: a size has a unit, such as "50MiB""#),
    (r#"[scope]
write = ["{task.foo}"]"#, "j:6:10: `write` in [scope] holds an unknown placeholder: `{task.foo}`
hint: known are `{task.files}` and `{task.files|ext:ts}`, in `[scope] write`; `{a,b}` is either"),
    (r#"[scope]
write = ["src/{task.files}"]"#, r#"j:6:10: `write` in [scope] must hold `{task.files}` as a pattern of its own: "src/{task.files}""#),
    (r#"[scope]
always = ["{task.files|ext:ts}"]"#, "j:6:11: `always` in [scope] cannot hold `{task.files|ext:ts}`: it has a meaning only in `[scope] write`"),
    (r#"[output]
path = "r.json""#, r#"j:5:1: `output` in the job file has a meaning only with `kind = "report"`
hint: write that in [job], or leave [output] out: the work is the change itself"#),
    ("[retry]
from = \"target\"", "j:6:8: `from` in [retry] has an unknown value: \"target\"
hint: known are \"candidate\", \"base\""),
    ("[retry]
halt-above = 1.5", "j:6:14: `halt-above` in [retry] must be from 0 to 1: 1.5"),
    ("[retry]
redispatch-below = \"5%\"", "j:6:20: `redispatch-below` in [retry] must be a share such as 0.05, not a string"),
    ("[retry]
halt-after = 0", "j:6:14: `halt-after` in [retry] must be at least 1: 0"),
    ("[limits]
tokens = 0", "j:6:10: `tokens` in [limits] must be at least 1: 0"),
    ("[limits]
cost-usd = -1", "j:6:12: `cost-usd` in [limits] must be from 0.000001 to 1000000000: -1"),
    (r#"[retry]
feedback = "3""#, "j:6:12: `feedback` in [retry] must be a whole number, not a string"),
    ("[limits]
jobs = 0", "j:6:8: `jobs` in [limits] must be at least 1: 0"),
    (r#"[queue]
merge = "rebase""#, r#"j:6:9: `merge` in [queue] has an unknown value: "rebase"
hint: known are "squash", "merge""#),
    ("[queue]
sign = 1",
        r#"j:6:8: `sign` in [queue] must be `true`, `false` or "config", not a whole number"#),
    ("[queue]
batch = 65", "j:6:9: `batch` in [queue] must be at most 64: 65"),
    (r#"[queue]
review = "always""#, r#"j:6:10: `review` in [queue] has an unknown value: "always"
hint: known are "none", "required""#),
    (r#"[queue]
rules-change = "never""#, r#"j:6:16: `rules-change` in [queue] has an unknown value: "never"
hint: known are "both", "review", "refuse""#),
    (r#"[scope]
protect = ["/ci"]"#, r#"j:6:12: `protect` in [scope] holds an absolute path: "/ci"
hint: globs are matched from the repository's top: leave the leading `/` out"#),
];

/// Ends of files that begin with `[agent]` and a `[job]` with `kind = "report"`. They start at line
/// 6.
const IN_REPORT: &[(&str, &str)] = &[
    (
        r#"[output]
path = "a"
[queue]
review = "required""#,
        r#"j:9:10: `review` in [queue] cannot be "required" with `kind = "report"`
hint: an output file does not land; `[evaluate]` can judge it"#,
    ),
    (
        r#"[output]
path = "../r.json""#,
        r#"j:7:8: `path` in [output] must be a path inside the repository: "../r.json"
hint: write it relative to the repository's top, without a leading `/` and without `..`"#,
    ),
    (
        r#"[output]
path = "a/.git/r.json""#,
        r#"j:7:8: `path` in [output] must be the path of a file: "a/.git/r.json""#,
    ),
    (
        r#"[output]
path = "out/""#,
        r#"j:7:8: `path` in [output] must be the path of a file: "out/""#,
    ),
    (
        r#"[output]
path = "r.json"
merge = "command""#,
        r#"j:6:1: `command` is missing in [output]
hint: it reads a line of JSON for each output: `command = ["./join.py"]`"#,
    ),
    (
        r#"[output]
path = "r.json"
command = ["a"]"#,
        r#"j:8:11: `command` in [output] has a meaning only with `merge = "command"`"#,
    ),
    (
        r#"[output]
path = "r.json"
[scope]
write = ["a"]"#,
        r#"j:9:9: `write` in [scope] cannot be used with `kind = "report"`
hint: its tasks may write only the output file"#,
    ),
    (
        r#"[output]
path = "r.json"
[[check]]
name = "x"
output = "s.json"
when = ["landing"]"#,
        r#"j:10:10: `output` in [[check]] is not the file that is handed in: "s.json"
hint: [output] says `path = "r.json"`
j:11:9: `when` in [[check]] cannot be "landing" with `kind = "report"`
hint: an output file does not land: leave `when` out"#,
    ),
    (
        r#"[output]
path = "r.json"
[[check]]
name = "x"
output = "r.json"
run = ["a"]"#,
        "j:11:7: `run` in [[check]] cannot be used together with `output`
hint: make two checks of them",
    ),
];

#[test]
fn allow_empty_is_refused_for_reports() {
    let text = "[job]\ngoal = \"g\"\nkind = \"report\"\n[agent]\ncommand = [\"a\"]\nallow-empty = true\n[output]\npath = \"r\"\n";
    let error = parse(text, "j").unwrap_err().to_string();
    assert!(error.starts_with("j:6:15: `allow-empty` in [agent] cannot be used with"), "{error}");
}

#[test]
fn errors_have_exact_positions_messages_and_hints() {
    let tables = [
        ("", WHOLE_FILES),
        ("[agent]\ncommand = [\"a\"]\n[job]\ngoal = \"g\"\n", IN_JOB),
        ("[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n", IN_AGENT),
        ("[agent]\ncommand = [\"a\"]\n[job]\ngoal = \"g\"\nkind = \"report\"\n", IN_REPORT),
    ];
    for (before, rows) in tables {
        for (lines, expected) in rows {
            let result = parse(&format!("{before}{lines}\n"), "j").map_err(|e| e.to_string());
            assert_eq!(result.err().as_deref(), Some(*expected), "of this file:\n{before}{lines}");
        }
    }
}
