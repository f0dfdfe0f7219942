//! The manual pages: assembled from the command line's help and hand-written sections, and compared
//! with `man/`.
//!
//! `UPDATE_MAN=1 cargo test --test house` rewrites them.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use git_harness::testing::Cli;
use git_harness::testing::PAGES;

use super::{files, read, top};

/// Pages that are written by hand.
const GUIDES: [&str; 4] =
    ["githarness-job.5", "githarness-preset.7", "githarness-internals.7", "githarness-security.7"];
/// The date of all pages. Pages with today's date could not be compared.
const DATE: &str = "2026-11-22";

fn header(page: &str, section: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (about, page) = ("git-harness manual", page.to_uppercase());
    format!(".TH \"{page}\" \"{section}\" \"{DATE}\" \"git-harness {version}\" \"{about}\"\n")
}

/// A page of section 1: the generated part with a list of commands, then
/// `fixtures/man/<name>.roff`.
fn assemble(command: &Command, page: &str, list: &str) -> String {
    let whole = command.clone().mut_arg("directory", |a| a.hide_short_help(false));
    let man = Man::new(whole.bin_name(spoken(page)));
    let mut out: Vec<u8> = Vec::new();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let name =
        format!(".SH NAME\n{} \\- {}\n", page.replace('-', "\\-"), roff(&lower_first(&about)));
    let synopsis = synopsis(command, page);
    man.render_description_section(&mut out).unwrap();
    man.render_options_section(&mut out).unwrap();
    let mut generated = String::from_utf8(out).unwrap();
    generated.push_str(list);
    // A word in backticks is typed by the reader.
    let generated = bold(&generated);
    let by_hand = read(&format!("fixtures/man/{page}.roff"));
    format!("{}{name}{synopsis}{generated}{}", header(page, "1"), bold(&by_hand))
}

/// Formats a usage line: the program in bold, the rest plain.
fn synopsis(command: &Command, page: &str) -> String {
    let usage = command.clone().bin_name(spoken(page)).render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let rest = usage.strip_prefix(&spoken(page)).unwrap_or(usage).trim();
    format!(".SH SYNOPSIS\n\\fB{}\\fR {}\n", spoken(page), roff(rest))
}

fn spoken(page: &str) -> String {
    page.replacen("git-harness", "git harness", 1).replacen("harness-", "harness ", 1)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_lowercase().chain(chars).collect())
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

fn commands(command: &Command) -> String {
    let mut text = ".SH COMMANDS\n".to_owned();
    for verb in verbs(command) {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        let name = roff(&format!("git-harness-{}", verb.get_name()));
        text.push_str(&format!(".TP\n\\fB{name}\\fR(1)\n{}\n", roff(&about)));
    }
    text
}

fn bold(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let parts: Vec<_> = line.split('`').collect();
        if parts.len() % 2 == 0 {
            out.push_str(line);
        } else {
            for (n, part) in parts.iter().enumerate() {
                out.push_str(part);
                if n + 1 < parts.len() {
                    out.push_str(if n % 2 == 0 { "\\fB" } else { "\\fR" });
                }
            }
        }
        out.push('\n');
    }
    out
}

fn verbs(command: &Command) -> Vec<&Command> {
    command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").collect()
}

/// Returns every page by its file name.
fn wanted() -> BTreeMap<String, String> {
    let mut command = Cli::command();
    command.build();
    let mut pages = BTreeMap::new();
    // Our list of commands names their pages, and leaves out `help`.
    let main = command.clone().mut_subcommands(|c| c.hide(true));
    pages.insert("git-harness.1".to_owned(), assemble(&main, "git-harness", &commands(&command)));
    for verb in verbs(&command) {
        let page = format!("git-harness-{}", verb.get_name());
        pages.insert(format!("{page}.1"), assemble(verb, &page, ""));
    }
    for guide in GUIDES {
        let (page, section) = guide.rsplit_once('.').unwrap();
        let by_hand = read(&format!("fixtures/man/{page}.roff"));
        pages.insert(guide.to_owned(), format!("{}{}", header(page, section), bold(&by_hand)));
    }
    pages
}

#[test]
fn the_pages_are_fresh() {
    let update = std::env::var_os("UPDATE_MAN").is_some();
    let mut stale = Vec::new();
    for (name, text) in wanted() {
        let path = top().join("man").join(&name);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if update {
            std::fs::write(&path, text).unwrap();
        } else {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "write them with `UPDATE_MAN=1 cargo test --test house`: {stale:?}");
}

#[test]
fn no_page_is_forgotten() {
    let wanted: Vec<String> = wanted().into_keys().collect();
    let on_disk: Vec<String> =
        files("man").iter().map(|f| f.trim_start_matches("man/").to_owned()).collect();
    assert_eq!(on_disk, wanted, "a page in `man/` that nothing makes, or one that is missing");
    let mut embedded: Vec<String> = PAGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    embedded.sort();
    assert_eq!(embedded, wanted, "`src/commands/man.rs` embeds other pages");
}

#[test]
fn every_page_has_an_example_and_points_on() {
    for (name, text) in wanted() {
        let section = Path::new(&name).extension().and_then(|e| e.to_str()).unwrap();
        if section == "1" {
            assert!(text.contains(".SH EXAMPLES\n"), "{name} has no EXAMPLES");
        }
        assert!(text.contains(".SH \"SEE ALSO\"\n"), "{name} has no SEE ALSO");
    }
}

#[test]
fn the_page_on_the_job_file_has_every_key() {
    let page = read("fixtures/man/githarness-job.roff").replace("\\-", "-");
    let keys = read("src/job/keys.rs");
    let mut count = 0;
    for line in keys.lines() {
        // A line of words, or a list of keys on one line.
        let words = line.trim().trim_start_matches("keys: &[").trim_end_matches("],");
        for key in words.split(", ").filter_map(|w| w.trim_end_matches(',').strip_prefix('"')) {
            // A value, such as `sandbox = "require"`, is quoted once more.
            let Some(key) = key.strip_suffix('"').filter(|key| !key.contains('"')) else {
                continue;
            };
            count += 1;
            assert!(page.contains(key), "githarness-job(5) does not know the key `{key}`");
        }
    }
    assert!(count > 60, "the keys are written differently now: {count}");
}

#[test]
fn the_page_on_presets_has_every_key() {
    let page = read("fixtures/man/githarness-preset.roff").replace("\\-", "-");
    let schema = read("src/agent/preset/schema.rs") + &read("src/agent/preset/prices.rs");
    let mut count = 0;
    let mut rename = None;
    for line in schema.lines() {
        if line.starts_with("    #[serde(") {
            rename = line.split("rename = \"").nth(1).and_then(|rest| rest.split('"').next());
            continue;
        }
        let field = line.strip_prefix("    pub ").and_then(|l| l.split_once(": "));
        let Some((field, _)) = field.filter(|(f, _)| !f.contains([' ', '('])) else { continue };
        let key = rename.take().map_or_else(|| field.replace('_', "-"), str::to_owned);
        // A key of `common.toml`, which is not a preset.
        if field == "status_in_words" {
            continue;
        }
        count += 1;
        assert!(page.contains(&key), "githarness-preset(7) does not know the key `{key}`");
    }
    assert!(count > 70, "the keys are written differently now: {count}");
}
