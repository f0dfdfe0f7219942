//! Placeholders in command arguments: the syntax and the expansion, for job files and presets.
//!
//! A placeholder is a name in single braces: `{worktree}`. All other braces are literal, so that
//! `awk` programs (`{print $1}`), JSON, `find -exec … {}` and the shell's `${VAR}` need no escapes.
//! Doubled braces around a name produce the name in single braces: `{{run}}` becomes `{run}`.

use std::borrow::Cow;

/// The replacement of a placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replacement<'v> {
    /// A text. Braces in this text are literal.
    Text(Cow<'v, str>),
    /// A list of arguments. The list replaces an argument that holds nothing but the placeholder;
    /// within a longer argument the placeholder stays as written.
    Arguments(Vec<String>),
    /// The placeholder has no value in this command.
    Missing,
    /// No placeholder has this name. The text stays as written.
    Undefined,
}

/// Expands an argument to zero or more arguments. Returns `None` if a placeholder has no value.
pub(crate) fn expand<'v>(
    argument: &str,
    replacement: impl Fn(&str) -> Replacement<'v>,
) -> Option<Vec<String>> {
    let pieces = pieces(argument);
    if let [Piece::Name(name)] = pieces[..]
        && let Replacement::Arguments(arguments) = replacement(name)
    {
        return Some(arguments);
    }
    let mut expanded = String::with_capacity(argument.len());
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => expanded.push_str(literal),
            Piece::Name(name) => match replacement(name) {
                Replacement::Text(value) => expanded.push_str(&value),
                Replacement::Arguments(_) | Replacement::Undefined => {
                    expanded.push('{');
                    expanded.push_str(name);
                    expanded.push('}');
                }
                Replacement::Missing => return None,
            },
        }
    }
    Some(vec![expanded])
}

/// Returns the names of the placeholders in an argument, known or not.
pub(crate) fn names(argument: &str) -> impl Iterator<Item = &str> {
    pieces(argument).into_iter().filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        Piece::Literal(_) => None,
    })
}

/// A part of an argument.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    /// Text that stays as written.
    Literal(&'t str),
    /// A name in single braces.
    Name(&'t str),
}

/// Splits an argument into literal text and placeholders.
fn pieces(argument: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    // Everything before `pending` is in `pieces`. The search for a brace continues at `from`, a
    // byte offset in `pending`.
    let mut pending = argument;
    let mut from = 0;
    while let Some(open) = pending[from..].find('{').map(|offset| offset + from) {
        let is_shell_variable = pending[..open].ends_with('$');
        let rest = &pending[open..];
        let doubled = rest.strip_prefix("{{").and_then(|rest| split_name(rest, "}}"));
        if let Some((name, after)) = doubled {
            pieces.push(Piece::Literal(&pending[..open]));
            pieces.push(Piece::Literal(&rest[1..name.len() + 3]));
            (pending, from) = (after, 0);
        } else if let Some((name, after)) =
            split_name(&rest[1..], "}").filter(|_| !is_shell_variable)
        {
            pieces.push(Piece::Literal(&pending[..open]));
            pieces.push(Piece::Name(name));
            (pending, from) = (after, 0);
        } else {
            from = open + 1;
        }
    }
    pieces.push(Piece::Literal(pending));
    pieces.retain(|piece| *piece != Piece::Literal(""));
    pieces
}

/// Splits `text` into a leading name and the rest, if `close` directly follows the name.
fn split_name<'t>(text: &'t str, close: &str) -> Option<(&'t str, &'t str)> {
    let end = text.find('}')?;
    let name = &text[..end];
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || "_.-|:".contains(c);
    let starts_as_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    // A placeholder has a colon only in a filter after a bar. `{key:value}` is an object literal of
    // some language.
    let colon_in_filter = name.find(':').is_none_or(|colon| name[..colon].contains('|'));
    (starts_as_name
        && colon_in_filter
        && name.chars().all(is_name_char)
        && text[end..].starts_with(close))
    .then(|| (name, &text[end + close.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replacement(name: &str) -> Replacement<'static> {
        match name {
            "model" => Replacement::Text("opus {session}".into()),
            "args" => Replacement::Arguments(vec!["-a".into(), "-b".into()]),
            "session" => Replacement::Missing,
            _ => Replacement::Undefined,
        }
    }

    #[test]
    fn placeholder_of_a_list_expands_only_as_an_argument_of_its_own() {
        for (argument, expected) in [
            ("{args}", Some(vec!["-a", "-b"])),
            ("x{args}", Some(vec!["x{args}"])),
            ("", Some(vec![""])),
            ("-m={model}", Some(vec!["-m=opus {session}"])),
            ("{{model}}", Some(vec!["{model}"])),
            ("${model}", Some(vec!["${model}"])),
            ("{unknown}", Some(vec!["{unknown}"])),
            ("--resume={session}", None),
        ] {
            let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect());
            assert_eq!(expand(argument, replacement), expected, "{argument}");
        }
    }
}
