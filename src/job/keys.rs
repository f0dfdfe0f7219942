//! Every key that a job file may hold, and what those that are not available yet come with.

/// Whether a key can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It can; its value is looked at where the section is read.
    Now,
    /// It comes with this.
    Later(&'static str),
}

use Fate::{Later, Now};

/// A section and its keys.
#[derive(Debug)]
pub(super) struct Known {
    /// Its path: `plan.scope`.
    pub(super) path: &'static str,
    /// As it is written: `[plan.scope]`.
    pub(super) header: &'static str,
    /// Whether it can be used at all.
    pub(super) fate: Fate,
    /// Its keys in the order of the documentation. Sub-sections are listed as keys. None: every name is good.
    pub(super) keys: &'static [(&'static str, Fate)],
}

const EVALUATION: &str = "evaluation by an independent agent";

/// The sections in the order of the documentation; the file itself comes first, with an empty path.
pub(super) const SECTIONS: &[Known] = &[
    Known {
        path: "",
        header: "the job file",
        fate: Now,
        keys: &[
            ("job", Now),
            ("plan", Now),
            ("agent", Now),
            ("worktree", Now),
            ("check", Now),
            ("scope", Now),
            ("output", Now),
            ("evaluate", Now),
            ("retry", Now),
            ("limits", Now),
            ("queue", Now),
            ("presets", Now),
        ],
    },
    Known {
        path: "job",
        header: "[job]",
        fate: Now,
        keys: &[
            ("name", Now),
            ("goal", Now),
            ("base", Now),
            ("target", Now),
            ("kind", Now),
            ("base-check", Now),
        ],
    },
    Known {
        path: "plan",
        header: "[plan]",
        fate: Now,
        keys: &[
            ("include", Now),
            ("exclude", Now),
            ("group", Now),
            ("order", Now),
            ("max-files", Now),
            ("max-lines", Now),
            ("context-window", Now),
            ("fill", Now),
            ("token-factor", Now),
            ("command", Now),
            ("list", Now),
            ("edges", Now),
            ("scope", Now),
            ("vars", Now),
            ("task", Now),
        ],
    },
    Known {
        path: "plan.scope",
        header: "[plan.scope]",
        fate: Now,
        keys: &[("dir", Now), ("files", Now)],
    },
    Known { path: "plan.vars", header: "[plan.vars]", fate: Now, keys: &[] },
    Known {
        path: "plan.task",
        header: "[[plan.task]]",
        fate: Now,
        keys: &[("id", Now), ("files", Now), ("after", Now), ("priority", Now), ("vars", Now)],
    },
    Known {
        path: "agent",
        header: "[agent]",
        fate: Now,
        keys: &[
            ("preset", Now),
            ("command", Now),
            ("model", Now),
            ("permissions", Now),
            ("args", Now),
            ("max-turns", Now),
            ("prompt", Now),
            ("timeout", Now),
            ("idle-timeout", Now),
            ("env", Now),
            ("sandbox", Now),
            ("allow-empty", Now),
        ],
    },
    Known {
        path: "worktree",
        header: "[worktree]",
        fate: Now,
        keys: &[("root", Now), ("setup", Now), ("keep", Now), ("sparse", Now)],
    },
    Known {
        path: "check",
        header: "[[check]]",
        fate: Now,
        keys: &[
            ("name", Now),
            ("run", Now),
            ("timeout", Now),
            ("when", Now),
            ("version", Now),
            ("cache", Now),
            ("ast-equal", Now),
            ("output", Now),
            ("schema", Now),
        ],
    },
    Known {
        path: "check.ast-equal",
        header: "[check.ast-equal]",
        fate: Now,
        keys: &[
            ("from", Now),
            ("to", Now),
            ("extensions", Now),
            ("type-imports", Now),
            ("define-fields", Now),
            ("allow-ts-comments", Now),
            ("max-any", Now),
        ],
    },
    Known {
        path: "scope",
        header: "[scope]",
        fate: Now,
        keys: &[("write", Now), ("always", Now), ("read-only", Now)],
    },
    Known {
        path: "output",
        header: "[output]",
        fate: Now,
        keys: &[("path", Now), ("merge", Now), ("command", Now), ("example", Now), ("page", Now)],
    },
    Known {
        path: "evaluate",
        header: "[evaluate]",
        fate: Later(EVALUATION),
        keys: &[("preset", Later(EVALUATION)), ("prompt", Later(EVALUATION))],
    },
    Known {
        path: "retry",
        header: "[retry]",
        fate: Now,
        keys: &[
            ("resume", Now),
            ("feedback", Now),
            ("infra", Now),
            ("redispatch", Now),
            ("redispatch-below", Now),
            ("halt-above", Now),
            ("halt-after", Now),
        ],
    },
    Known {
        path: "limits",
        header: "[limits]",
        fate: Now,
        keys: &[
            ("jobs", Now),
            ("tokens", Now),
            ("tokens-per-task", Now),
            ("cost-usd", Now),
            ("cost-per-task", Now),
        ],
    },
    Known {
        path: "queue",
        header: "[queue]",
        fate: Now,
        keys: &[
            ("merge", Now),
            ("batch", Now),
            ("ahead", Now),
            ("review", Now),
            ("keep-branches", Now),
            ("trust-verdicts", Now),
        ],
    },
    // Their keys are those of the presets, which are looked at where the preset is put together.
    Known { path: "presets", header: "[presets]", fate: Now, keys: &[] },
];

impl Known {
    /// The section with this path. Unknown paths are mistakes of ours and behave like the file itself.
    pub(super) fn of(path: &str) -> &'static Self {
        SECTIONS.iter().find(|s| s.path == path).unwrap_or(&SECTIONS[0])
    }

    /// What is known of a key.
    pub(super) fn fate_of(&self, key: &str) -> Option<Fate> {
        self.keys.iter().find(|(name, _)| *name == key).map(|(_, fate)| *fate)
    }

    /// The names of its keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().map(|(name, _)| *name)
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
        let others =
            SECTIONS.iter().filter(|s| s.path != self.path && s.fate == Now && !s.path.is_empty());
        others.filter(|s| s.fate_of(key) == Some(Now)).map(|s| s.header).collect()
    }
}
