//! Names that are used in refs: the name of the job and the target branch.

use super::errors::ValueError;

/// The largest length of a job name in bytes. The name of a run is longer: it adds a number to the
/// name of its job.
pub(crate) const MAX_JOB_NAME: usize = 80;

/// Makes a job name from any text, such as the name of a folder.
///
/// Letters become lower case, and each sequence of characters other than `[a-z0-9_]` becomes one
/// `-`. The result is cut to [`MAX_JOB_NAME`] bytes. An empty result becomes `job`.
pub(crate) fn slug(text: &str) -> String {
    let mut name = String::new();
    for c in text.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(MAX_JOB_NAME);
    let name = name.trim_end_matches('-');
    if name.is_empty() { "job".into() } else { name.into() }
}

/// Checks that a job name is safe in a ref on every file system.
pub(super) fn check_job_name(text: &str) -> Result<(), ValueError> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let error = if text.is_empty() || text.len() > MAX_JOB_NAME {
        ValueError::new(format!("must have 1 to {MAX_JOB_NAME} characters: \"{text}\""))
    } else if !text.chars().all(is_allowed) || text.starts_with('-') {
        ValueError::new(format!(
            "may hold only a-z, 0-9, `-` and `_`, and not start with `-`: \"{text}\""
        ))
    } else {
        return Ok(());
    };
    Err(error.hint(format!("use \"{}\"", slug(text))))
}

/// Checks the name of a branch and returns it without `refs/heads/`.
pub(super) fn branch_name(text: &str) -> Result<String, ValueError> {
    let name = text.strip_prefix("refs/heads/").unwrap_or(text);
    let refused =
        |why: &str| Err(ValueError::new(format!("is not the name of a branch: {why}: \"{text}\"")));
    if name.starts_with("refs/") {
        return refused("it may not lie in another namespace than `refs/heads/`");
    }
    if name.starts_with('-') {
        return refused("it may not start with `-`");
    }
    if name.contains("..") || name.contains("@{") {
        return refused("it may not hold `..` or `@{`");
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    if name.contains(forbidden) {
        return refused("it may not hold spaces or any of `~^:?*[\\`");
    }
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    if name.split('/').any(bad_part) || name.ends_with('.') || matches!(name, "@" | "HEAD") {
        return refused("see git-check-ref-format(1)");
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::RunId;

    #[test]
    fn slug_is_a_valid_job_name() {
        let long = "ä/".repeat(300) + &"x".repeat(300);
        for text in ["JS to TS!", "", "---", "._.", "été", "a__b", &long] {
            let name = slug(text);
            assert_eq!(check_job_name(&name), Ok(()), "{text:?} became {name:?}");
            assert!(RunId::parse(&format!("{name}-12345")).is_ok(), "{name}");
        }
        assert_eq!(slug("JS to TS!"), "js-to-ts");
    }

    #[test]
    fn branch_names_are_checked() {
        assert_eq!(branch_name("refs/heads/main"), Ok("main".into()));
        assert_eq!(branch_name("feature/one"), Ok("feature/one".into()));
        for bad in [
            "",
            "-x",
            "a..b",
            "a b",
            "refs/harness/x",
            "refs/tags/v1",
            "a//b",
            "/a",
            "a/",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "@",
            "HEAD",
            "a@{1}",
            "a~1",
            "a\\b",
            "refs/heads/-x",
        ] {
            assert!(branch_name(bad).is_err(), "{bad:?}");
        }
    }
}
