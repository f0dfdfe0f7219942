//! Every key that a job file may hold.

/// A section and its keys.
#[derive(Debug)]
pub(super) struct SectionKeys {
    /// Its path: `plan.scope`.
    pub(super) path: &'static str,
    /// As it is written: `[plan.scope]`.
    pub(super) header: &'static str,
    /// Its keys in the order of the documentation. Sub-sections are listed as keys. None: every name is good.
    pub(super) keys: &'static [&'static str],
}

/// The sections in the order of the documentation; the file itself comes first, with an empty path.
pub(super) const SECTIONS: &[SectionKeys] = &[
    SectionKeys {
        path: "",
        header: "the job file",
        keys: &[
            "job", "plan", "agent", "worktree", "check", "scope", "output", "evaluate", "retry",
            "limits", "queue", "presets",
        ],
    },
    SectionKeys {
        path: "job",
        header: "[job]",
        keys: &["name", "goal", "base", "target", "kind", "base-check"],
    },
    SectionKeys {
        path: "plan",
        header: "[plan]",
        keys: &[
            "include",
            "exclude",
            "group",
            "order",
            "max-files",
            "max-lines",
            "context-window",
            "fill",
            "token-factor",
            "command",
            "list",
            "edges",
            "scope",
            "vars",
            "task",
        ],
    },
    SectionKeys { path: "plan.scope", header: "[plan.scope]", keys: &["dir", "files"] },
    SectionKeys { path: "plan.vars", header: "[plan.vars]", keys: &[] },
    SectionKeys {
        path: "plan.task",
        header: "[[plan.task]]",
        keys: &["id", "files", "after", "priority", "vars"],
    },
    SectionKeys {
        path: "agent",
        header: "[agent]",
        keys: &[
            "preset",
            "command",
            "model",
            "permissions",
            "args",
            "max-turns",
            "prompt",
            "timeout",
            "idle-timeout",
            "env",
            "sandbox",
            "allow-empty",
        ],
    },
    SectionKeys {
        path: "worktree",
        header: "[worktree]",
        keys: &["root", "setup", "keep", "sparse"],
    },
    SectionKeys {
        path: "check",
        header: "[[check]]",
        keys: &[
            "name",
            "run",
            "timeout",
            "when",
            "version",
            "cache",
            "ast-equal",
            "output",
            "schema",
        ],
    },
    SectionKeys {
        path: "check.ast-equal",
        header: "[check.ast-equal]",
        keys: &[
            "from",
            "to",
            "extensions",
            "type-imports",
            "define-fields",
            "allow-ts-comments",
            "max-any",
        ],
    },
    SectionKeys { path: "scope", header: "[scope]", keys: &["write", "always", "read-only"] },
    SectionKeys {
        path: "output",
        header: "[output]",
        keys: &["path", "merge", "command", "example", "page"],
    },
    SectionKeys {
        path: "evaluate",
        header: "[evaluate]",
        keys: &[
            "preset",
            "command",
            "model",
            "permissions",
            "args",
            "max-turns",
            "prompt",
            "timeout",
            "idle-timeout",
            "env",
            "rounds",
        ],
    },
    SectionKeys {
        path: "retry",
        header: "[retry]",
        keys: &[
            "resume",
            "feedback",
            "infra",
            "redispatch",
            "redispatch-below",
            "halt-above",
            "halt-after",
        ],
    },
    SectionKeys {
        path: "limits",
        header: "[limits]",
        keys: &["jobs", "tokens", "tokens-per-task", "cost-usd", "cost-per-task", "min-free-mb"],
    },
    SectionKeys {
        path: "queue",
        header: "[queue]",
        keys: &[
            "merge",
            "batch",
            "ahead",
            "each",
            "review",
            "pre-land",
            "post-land",
            "keep-branches",
            "trust-verdicts",
        ],
    },
    // Their keys are those of the presets, which are looked at where the preset is put together.
    SectionKeys { path: "presets", header: "[presets]", keys: &[] },
];

impl SectionKeys {
    /// The section with this path. Unknown paths are mistakes of ours and behave like the file itself.
    pub(super) fn of(path: &str) -> &'static Self {
        SECTIONS.iter().find(|s| s.path == path).unwrap_or(&SECTIONS[0])
    }

    /// Whether it has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// The names of its keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().copied()
    }

    /// As which the key is written when it is a section of its own: `[plan.scope]`, `[[check]]`.
    pub(super) fn as_section(&self, key: &str) -> String {
        let path =
            if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let known = SECTIONS.iter().find(|s| s.path == path);
        known.map_or_else(|| format!("[{path}]"), |s| s.header.to_owned())
    }

    /// The headers of the other sections that have this key.
    pub(super) fn elsewhere(&self, key: &str) -> Vec<&'static str> {
        let others = SECTIONS.iter().filter(|s| s.path != self.path && !s.path.is_empty());
        others.filter(|s| s.has(key)).map(|s| s.header).collect()
    }
}
