//! The sections of a job file and their keys.

/// The keys of a section.
#[derive(Debug)]
pub(super) struct SectionKeys {
    /// The path of the section: `plan.scope`.
    pub(super) path: &'static str,
    /// The header of the section in the file: `[plan.scope]`.
    pub(super) header: &'static str,
    /// The keys, in the order of the documentation, with subsections. Empty if every name is
    /// allowed.
    pub(super) keys: &'static [&'static str],
}

/// All sections, in the order of the documentation. The first is the file itself, with an empty
/// path.
pub(super) const SECTIONS: &[SectionKeys] = &[
    SectionKeys {
        path: "",
        header: "the job file",
        keys: &[
            "job", "plan", "agent", "worktree", "sandbox", "check", "scope", "output", "evaluate",
            "retry", "limits", "queue", "presets",
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
            "allow-empty",
        ],
    },
    SectionKeys {
        path: "worktree",
        header: "[worktree]",
        keys: &["root", "setup", "setup-inputs", "keep", "sparse"],
    },
    SectionKeys {
        path: "sandbox",
        header: "[sandbox]",
        keys: &["mode", "caches", "network", "limits", "inject"],
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
            "env",
            "cache",
            "network",
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
    SectionKeys {
        path: "scope",
        header: "[scope]",
        keys: &["write", "always", "read-only", "protect", "max-file-size"],
    },
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
            "from",
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
            "rules-change",
            "sign",
            "pre-land",
            "post-land",
            "keep-branches",
            "trust-verdicts",
        ],
    },
    // The preset resolver checks the keys of presets.
    SectionKeys { path: "presets", header: "[presets]", keys: &[] },
];

/// A key of a planned feature. At most one value is accepted until the feature exists.
#[derive(Debug)]
pub(super) struct ReservedKey {
    /// The path of the section.
    pub(super) section: &'static str,
    /// The key.
    pub(super) key: &'static str,
    /// The accepted value, as TOML. Empty if every value is refused.
    pub(super) accepted: &'static str,
    /// The values that the feature will have, as TOML. They are refused as "not available yet".
    pub(super) planned: &'static [&'static str],
    /// The feature, with its article.
    pub(super) feature: &'static str,
}

/// All reserved keys.
pub(super) const RESERVED_KEYS: &[ReservedKey] = &[
    ReservedKey {
        section: "sandbox",
        key: "limits",
        accepted: "",
        planned: &[],
        feature: "the limits of sandboxes",
    },
    ReservedKey {
        section: "sandbox",
        key: "inject",
        accepted: "",
        planned: &[],
        feature: "credentials that stay outside of sandboxes",
    },
    ReservedKey {
        section: "worktree",
        key: "sparse",
        accepted: "false",
        planned: &["true"],
        feature: "sparse worktrees",
    },
];

impl SectionKeys {
    /// Returns the keys of the section with this path, or of the file itself for an unknown path.
    pub(super) fn of(path: &str) -> &'static Self {
        SECTIONS.iter().find(|s| s.path == path).unwrap_or(&SECTIONS[0])
    }

    /// Returns true if the section has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// Returns the keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().copied()
    }

    /// Returns the header of the subsection `key`: `[plan.scope]`, `[[check]]`.
    pub(super) fn as_section(&self, key: &str) -> String {
        let path =
            if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let section = SECTIONS.iter().find(|s| s.path == path);
        section.map_or_else(|| format!("[{path}]"), |s| s.header.to_owned())
    }

    /// Returns the headers of the other sections with this key.
    pub(super) fn elsewhere(&self, key: &str) -> Vec<&'static str> {
        let others = SECTIONS.iter().filter(|s| s.path != self.path && !s.path.is_empty());
        others.filter(|s| s.has(key)).map(|s| s.header).collect()
    }
}
