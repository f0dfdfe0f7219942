//! Globs over paths of the repository, and the patterns of `[scope] write`.

use globset::{Glob, GlobBuilder, GlobSet};

use super::errors::ValueError;
use super::placeholders::{self, Placeholder};

/// A set of globs. Paths are relative to the top of the repository and `/`-separated.
///
/// `*` and `?` do not match `/`, but `**` does. `{a,b}` matches either alternative, and `[ab]`
/// matches one of the characters. A pattern whose last part has no wildcard (`tests`, `tests/`,
/// `src/*/fixtures`) also matches all paths below.
#[derive(Debug, Clone, Default)]
pub struct PathGlobs {
    patterns: Vec<String>,
    set: GlobSet,
}

impl PartialEq for PathGlobs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for PathGlobs {}

impl PathGlobs {
    /// Compiles patterns.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, ValueError> {
        let mut builder = GlobSet::builder();
        for pattern in patterns {
            for glob in compile(pattern.as_ref())? {
                builder.add(glob);
            }
        }
        let set =
            builder.build().map_err(|e| ValueError::new(format!("is not a valid glob: {e}")))?;
        Ok(Self { patterns: patterns.iter().map(|p| p.as_ref().to_owned()).collect(), set })
    }

    /// Returns true if a glob matches the path. An empty set matches no path.
    pub fn matches(&self, path: &str) -> bool {
        self.set.is_match(path)
    }

    /// Returns the patterns as written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Returns true if the set has no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

/// Compiles one pattern into the globs that it stands for.
fn compile(pattern: &str) -> Result<Vec<Glob>, ValueError> {
    if let Some(name) = placeholder_like(pattern) {
        return Err(match placeholders::parse_name(name) {
            Some(Placeholder::TaskFiles { .. }) => ValueError::new(format!(
                "cannot hold `{{{name}}}`: it has a meaning only in `[scope] write`"
            )),
            Some(_) | None => unknown_in_glob(name),
        });
    }
    let plain = pattern.strip_prefix("./").unwrap_or(pattern);
    if plain.is_empty() {
        return Err(ValueError::new("holds an empty glob").hint("everything is \"**\""));
    }
    if plain.starts_with('/') {
        return Err(ValueError::new(format!("holds an absolute path: \"{pattern}\""))
            .hint("globs are matched from the repository's top: leave the leading `/` out"));
    }
    if plain.starts_with('!') {
        return Err(ValueError::new(format!("holds a negated glob: \"{pattern}\"")).hint(
            "globs are not negated with `!`; `[plan] exclude` and `[scope] read-only` take away",
        ));
    }
    if plain.split('/').any(|part| part == "..") {
        return Err(ValueError::new(format!(
            "holds a glob that leaves the repository: \"{pattern}\""
        )));
    }
    let bare = plain.trim_end_matches('/');
    let last = bare.rsplit('/').next().unwrap_or(bare);
    let mut globs = Vec::new();
    if bare.len() == plain.len() {
        globs.push(compile_one(pattern, bare)?);
    }
    if bare.len() < plain.len() || !last.contains(['*', '?', '[', ']', '{', '}', '\\', ',']) {
        globs.push(compile_one(pattern, &format!("{bare}/**"))?);
    }
    Ok(globs)
}

fn compile_one(written: &str, glob: &str) -> Result<Glob, ValueError> {
    GlobBuilder::new(glob)
        .literal_separator(true)
        // The default of this option depends on the system, and a plan must be the same everywhere.
        .backslash_escape(true)
        .empty_alternates(true)
        .build()
        .map_err(|e| ValueError::new(format!("holds an invalid glob: {}: \"{written}\"", e.kind())))
}

/// Returns the content of the first brace group that looks like a placeholder instead of an
/// alternation.
fn placeholder_like(pattern: &str) -> Option<&str> {
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let escaped = rest[..open].ends_with(['\\', '[']);
        rest = &rest[open + 1..];
        let body = &rest[..rest.find('}')?];
        let is_word = body.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_alternation = body.contains(',') && !body.starts_with("task.");
        if !escaped && is_word && !is_alternation && !body.contains(['*', '?', '[', '/']) {
            return Some(body);
        }
    }
    None
}

fn unknown_in_glob(name: &str) -> ValueError {
    ValueError::new(format!("holds an unknown placeholder: `{{{name}}}`")).hint(
        "known are `{task.files}` and `{task.files|ext:ts}`, in `[scope] write`; `{a,b}` is either",
    )
}

/// A pattern of `[scope] write`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopePattern {
    /// `{task.files}`, the task's own files, or `{task.files|ext:ts}`, the same paths with another
    /// extension.
    TaskFiles {
        /// The new extension, without the dot.
        ext: Option<String>,
    },
    /// A glob, which is the same for every task.
    Glob(PathGlobs),
}

impl ScopePattern {
    /// Parses a pattern: a placeholder on its own, or a glob.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let Some(name) = placeholder_like(text) else {
            return Ok(Self::Glob(PathGlobs::new(&[text])?));
        };
        match placeholders::parse_name(name) {
            Some(Placeholder::TaskFiles { ext }) if text.len() == name.len() + 2 => {
                Ok(Self::TaskFiles { ext: ext.map(str::to_owned) })
            }
            Some(Placeholder::TaskFiles { .. }) => Err(ValueError::new(format!(
                "must hold `{{{name}}}` as a pattern of its own: \"{text}\""
            ))),
            Some(_) | None => Err(unknown_in_glob(name)),
        }
    }

    /// Returns true if the pattern matches a path for a task with these files.
    pub fn matches(&self, task_files: &[String], path: &str) -> bool {
        match self {
            Self::TaskFiles { ext: None } => task_files.iter().any(|f| f == path),
            Self::TaskFiles { ext: Some(ext) } => {
                task_files.iter().any(|f| placeholders::with_extension(f, ext) == path)
            }
            Self::Glob(globs) => globs.matches(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_documented() {
        let table = [
            ("src/*.js", "src/a.js", true),
            ("src/*.js", "src/a/b.js", false),
            ("src/**/*.js", "src/b.js", true),
            ("src/**/*.js", "src/a/b/c.js", true),
            ("**", "any/thing", true),
            ("**/*.test.js", "a.test.js", true),
            ("tests/", "tests/a/b", true),
            ("tests/", "tests", false),
            ("tests", "tests/a/b", true),
            ("tests", "tests", true),
            ("tests", "contests/a", false),
            ("./tests", "tests/a", true),
            ("src/*/fixtures", "src/a/fixtures/b/c", true),
            ("src/*", "src/a/b", false),
            ("*.{js,ts}", "a.ts", true),
            ("*.{js,ts}", "a.tsx", false),
            ("a{,.min}.js", "a.js", true),
            ("a?c", "a/c", false),
            ("\\{x\\}", "{x}", true),
        ];
        for (pattern, path, expected) in table {
            let globs = PathGlobs::new(&[pattern]).unwrap();
            assert_eq!(globs.matches(path), expected, "{pattern} on {path}");
        }
        assert!(!PathGlobs::default().matches("a"));
    }

    #[test]
    fn invalid_globs_are_refused() {
        for bad in [
            "",
            "/a",
            "../a",
            "a/../b",
            "a[",
            "{a,b",
            "{filez}",
            "{task.files}",
            "!a",
            "{task.files,b}",
        ] {
            assert!(PathGlobs::new(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn task_files_placeholder_matches_the_files_of_the_task() {
        let files = vec!["src/a.js".to_owned(), "src/b.test.js".to_owned(), "Makefile".to_owned()];
        let own = ScopePattern::parse("{task.files}").unwrap();
        assert!(own.matches(&files, "src/a.js") && !own.matches(&files, "src/c.js"));
        let ts = ScopePattern::parse("{task.files|ext:ts}").unwrap();
        assert!(ts.matches(&files, "src/b.test.ts") && !ts.matches(&files, "src/a.js"));
        let dotted = ScopePattern::parse("{task.files|ext:.d.ts}").unwrap();
        assert!(dotted.matches(&files, "src/a.d.ts") && dotted.matches(&files, "Makefile.d.ts"));
        let either = ScopePattern::parse("docs/{a,b}.md").unwrap();
        assert!(either.matches(&files, "docs/a.md"));
        for bad in [
            "{task.foo}",
            "{filez}",
            "x/{task.files}",
            "{task.files|ext:}",
            "{task.files|up:x}",
            "{run}",
        ] {
            assert!(ScopePattern::parse(bad).is_err(), "{bad}");
        }
    }
}
