//! README.md, the manual pages and the program agree.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use git_harness::{error, testing::Cli};

use super::{files, read, table, top};

/// Returns the exit codes of `src/error.rs`. The sum with a signal is not one value.
fn in_source() -> BTreeSet<u8> {
    let known = [
        error::OK,
        error::INCOMPLETE,
        error::POLL_ENDED,
        error::NEEDS_PERSON,
        error::FATAL,
        error::USAGE,
    ];
    assert_eq!(error::POLL_ENDED, error::NO_SUCH_RUN, "one value with two names");
    let text = read("src/error.rs");
    let declared = text.lines().filter(|l| l.starts_with("pub const ") && l.contains(": u8 ="));
    assert_eq!(
        declared.count(),
        known.len() + 2,
        "a new exit code: name it here and in the tables"
    );
    known.into()
}

fn leading_numbers(cell: &str) -> Vec<u8> {
    cell.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

#[test]
fn the_readme_explains_every_exit_code() {
    let rows = table(&read("README.md"), "exit code");
    let mut listed: BTreeSet<u8> = rows.iter().flat_map(|r| leading_numbers(&r[0])).collect();
    let signals = BTreeSet::from([error::SIGNAL_BASE + 2, error::SIGNAL_BASE + 15]);
    assert!(signals.is_subset(&listed), "Ctrl-C and SIGTERM are missing: {listed:?}");
    listed.retain(|code| !signals.contains(code));
    assert_eq!(listed, in_source());
}

#[test]
fn readme_and_manual_say_the_same_of_exit_codes() {
    let page = read("fixtures/man/git-harness.roff");
    let section = page.split(".SH \"EXIT STATUS\"").nth(1).expect("a section EXIT STATUS");
    let section = section.split("\n.SH").next().unwrap();
    let plain = |text: &str| text.replace("\\-", "-").replace("\\(aq", "'").replace(['`', '*'], "");
    let mut lines = section.lines();
    let mut told = Vec::new();
    while let Some(line) = lines.next() {
        if line == ".TP" {
            let code = lines.next().unwrap().trim_start_matches(".B ").to_owned();
            told.push((plain(&code), plain(lines.next().unwrap())));
        }
    }
    let rows = table(&read("README.md"), "exit code");
    let readme: Vec<_> = rows.iter().map(|r| (plain(&r[0]), plain(&r[1]))).collect();
    assert_eq!(told, readme);
}

#[test]
fn every_command_in_the_readme_exists() {
    let text = read("README.md");
    let known: BTreeSet<String> =
        Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let mut seen = 0;
    for (at, lead) in text.match_indices("git harness ") {
        let rest = &text[at + lead.len()..];
        let verb: String =
            rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        if verb.is_empty() || verb.starts_with('-') {
            continue;
        }
        assert!(known.contains(&verb), "README.md: there is no `git harness {verb}`");
        seen += 1;
    }
    assert!(seen > 10, "the README shows few commands: {seen}");
}

#[test]
fn every_option_in_the_readme_exists() {
    let text = read("README.md");
    let command = Cli::command();
    for line in text.split(['`', '\n']) {
        let Some((_, rest)) = line.split_once("git harness ") else { continue };
        let mut words = rest.split_whitespace();
        let Some(mut verb) = words.next().and_then(|v| command.find_subcommand(v)) else {
            continue;
        };
        if let Some(action) = words.clone().next().and_then(|word| verb.find_subcommand(word)) {
            verb = action;
        }
        for word in words.take_while(|w| *w != "#" && *w != ";" && *w != "&&") {
            let Some(long) = word.strip_prefix("--") else { continue };
            let long: String =
                long.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let known = verb.get_arguments().any(|a| a.get_long() == Some(long.as_str()));
            assert!(known, "README.md: `git harness {}` has no --{long}", verb.get_name());
        }
    }
}

#[test]
fn the_documents_keep_their_length() {
    for (name, most) in [("README.md", 250), ("ARCHITECTURE.md", 260)] {
        let lines = read(name).lines().count();
        assert!(lines <= most, "{name} has {lines} lines, at most {most} are read");
    }
}

#[test]
fn every_fixture_is_named_in_their_readme() {
    let text = read("fixtures/README.md");
    let cells: Vec<_> = text.lines().filter(|l| l.starts_with("| ")).collect();
    let named: Vec<String> = cells
        .iter()
        .filter_map(|l| l.trim_matches('|').split(" | ").next())
        .flat_map(|cell| cell.split(", ").map(|n| n.trim().trim_matches('`').to_owned()))
        .collect();
    let mut strays = Vec::new();
    for file in files("fixtures").into_iter().filter(|f| f != "fixtures/README.md") {
        let inside = file.strip_prefix("fixtures/").unwrap();
        let covered =
            named.iter().any(|n| n == inside || n.ends_with('/') && inside.starts_with(n.as_str()));
        if !covered {
            strays.push(inside.to_owned());
        }
    }
    assert!(strays.is_empty(), "say in fixtures/README.md what these are: {strays:?}");
    let dead: Vec<_> = named
        .iter()
        .filter(|n| n.contains(['.', '/']) && !top().join("fixtures").join(n).exists())
        .collect();
    assert!(dead.is_empty(), "fixtures/README.md names what is not there: {dead:?}");
}

/// The three ways through the code, each with the most files that it may have.
const WAYS: [(&str, usize); 3] = [
    ("From the job file to the agent's argv", 12),
    ("From the candidate to its landing", 15),
    ("From a check's exit code to the moved target", 11),
];

#[test]
fn the_three_ways_name_files_that_exist() {
    let text = read("ARCHITECTURE.md").replace('\n', " ");
    for (way, most) in WAYS {
        let (_, rest) =
            text.split_once(&format!("*{way}*")).unwrap_or_else(|| panic!("no {way:?}"));
        let (sentence, _) = rest.split_once(". ").unwrap_or((rest, ""));
        let files: Vec<&str> = sentence.split('`').skip(1).step_by(2).collect();
        assert!(files.len() >= 8 && files.len() <= most, "{way}: {} files", files.len());
        for file in files {
            assert!(top().join("src").join(file).is_file(), "{way}: there is no src/{file}");
        }
    }
}
