//! Random texts, and random edits of them.

use super::Chance;
use super::history::{FileMode, Files};

/// Lines that occur again and again.
const COMMON: [&str; 9] = [
    "{",
    "}",
    "",
    "    return 0;",
    "    call();",
    "    x += 1;",
    "if (x) {",
    "else",
    "    call();",
];

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn line(chance: &mut Chance) -> String {
    if chance.once_in(4) {
        format!("line {}", chance.below(40))
    } else {
        (*chance.pick(&COMMON)).to_owned()
    }
}

/// Changes one file's lines.
fn edit_file(files: &mut Files, chance: &mut Chance, edit: impl Fn(&mut Vec<String>, &mut Chance)) {
    let paths: Vec<String> = files.keys().cloned().collect();
    let Some((_, content)) = files.get_mut(chance.pick(&paths)) else { return };
    let mut lines = lines(content);
    edit(&mut lines, chance);
    *content = text(&lines);
}

/// Files of lines that occur several times.
pub(super) fn repeated(chance: &mut Chance) -> Files {
    let file = |chance: &mut Chance| -> String {
        let lines: Vec<String> = (0..15 + chance.below(40)).map(|_| line(chance)).collect();
        text(&lines)
    };
    let names = ["a.c", "b.c", "d/c.c"];
    let count = 1 + chance.below(3);
    names[..count].iter().map(|name| ((*name).into(), (FileMode::Plain, file(chance)))).collect()
}

/// Changes lines of one or two files.
pub(super) fn edit_repeated(files: &mut Files, chance: &mut Chance) {
    for _ in 0..1 + chance.below(2) {
        edit_file(files, chance, |lines, chance| {
            for _ in 0..1 + chance.below(3) {
                edit_lines(lines, chance);
            }
        });
    }
}

fn edit_lines(lines: &mut Vec<String>, chance: &mut Chance) {
    let at = chance.below(lines.len() + 1);
    let end = (at + 1 + chance.below(4)).min(lines.len());
    match chance.below(5) {
        0 => drop(lines.drain(at.min(end)..end)),
        1 => {
            let block: Vec<String> = (0..1 + chance.below(4)).map(|_| line(chance)).collect();
            drop(lines.splice(at..at, block));
        }
        2 => {
            // A copy of lines from elsewhere.
            let from = chance.below(lines.len().max(1));
            let block = lines[from..(from + 1 + chance.below(5)).min(lines.len())].to_vec();
            drop(lines.splice(at..at, block));
        }
        3 => {
            let block: Vec<String> = (0..1 + chance.below(2)).map(|_| line(chance)).collect();
            drop(lines.splice(at.min(end)..end, block));
        }
        _ => {
            if let Some(line) = lines.get_mut(at) {
                line.push_str(" // changed");
            }
        }
    }
}

fn function(name: usize, chance: &mut Chance) -> Vec<String> {
    let mut lines = vec![format!("int fn{name}(int x)"), "{".into()];
    for _ in 0..2 + chance.below(5) {
        lines.push(match chance.below(3) {
            0 => format!("    call{}(x);", chance.below(30)),
            1 => "    x += 1;".into(),
            _ => "    if (x) return 1;".into(),
        });
    }
    lines.extend(["    return 0;".into(), "}".into(), String::new()]);
    lines
}

/// A file of functions.
pub(super) fn functions(chance: &mut Chance) -> Files {
    let lines: Vec<String> =
        (0..6 + chance.below(10)).flat_map(|name| function(name, chance)).collect();
    let mut files = Files::from([("f.c".into(), (FileMode::Plain, text(&lines)))]);
    if chance.once_in(3) {
        let lines = function(90, chance);
        files.insert("g.c".into(), (FileMode::Plain, text(&lines)));
    }
    files
}

/// Moves, adds, drops, renames or edits functions.
pub(super) fn move_functions(files: &mut Files, chance: &mut Chance) {
    edit_file(files, chance, |lines, chance| {
        let mut functions: Vec<Vec<String>> =
            lines.split_inclusive(String::is_empty).map(<[String]>::to_vec).collect();
        for _ in 0..1 + chance.below(3) {
            let at = chance.below(functions.len().max(1));
            match chance.below(6) {
                0 | 1 if functions.len() > 1 => {
                    let moved = functions.remove(at);
                    let to = chance.below(functions.len() + 1);
                    functions.insert(to, moved);
                }
                2 => {
                    let name = 20 + chance.below(60);
                    let new = function(name, chance);
                    functions.insert(at, new);
                }
                3 if functions.len() > 3 => drop(functions.remove(at)),
                4 => {
                    let name = chance.below(80);
                    if let Some(line) = functions.get_mut(at).and_then(|f| f.first_mut()) {
                        *line = format!("int renamed{name}(int x)");
                    }
                }
                _ => {
                    if let Some(function) = functions.get_mut(at) {
                        let line = chance.below(function.len().max(1));
                        let new = format!("    call{}(x);", chance.below(30));
                        if chance.once_in(2) {
                            function.insert(line.clamp(1, function.len()), new);
                        } else if line + 1 < function.len() {
                            function[line] = new;
                        }
                    }
                }
            }
        }
        *lines = functions.concat();
    });
}

/// Files of lines of which each can change alone.
pub(super) fn slots(chance: &mut Chance) -> Files {
    let count = 1 + chance.below(3);
    ["app", "lib", "doc"][..count]
        .iter()
        .map(|name| {
            let lines: Vec<String> = (0..24).map(|n| format!("{name} {n}")).collect();
            ((*name).into(), (FileMode::Plain, text(&lines)))
        })
        .collect()
}

/// Changes a few slots.
pub(super) fn edit_slots(files: &mut Files, chance: &mut Chance) {
    edit_file(files, chance, |lines, chance| {
        for _ in 0..1 + chance.below(2) {
            let at = chance.below(lines.len());
            lines[at] = format!("changed {}", chance.below(50));
        }
    });
}

/// Merges slot by slot. If both sides changed a slot, either side is taken.
pub(super) fn merge_slots(
    base: &Files,
    ours: &Files,
    theirs: &Files,
    chance: &mut Chance,
) -> Files {
    let mut merged = ours.clone();
    for (path, (_, content)) in &mut merged {
        let [base, theirs] = [base, theirs].map(|files| lines(&files[path].1));
        let mut slots = lines(content);
        for (at, slot) in slots.iter_mut().enumerate() {
            let changed = theirs[at] != base[at];
            if changed && (*slot == base[at] || chance.once_in(2)) {
                slot.clone_from(&theirs[at]);
            }
        }
        *content = text(&slots);
    }
    merged
}

/// Sets some slots back to an older content.
pub(super) fn revert_slots(files: &mut Files, old: &Files, chance: &mut Chance) {
    for (path, (_, content)) in files {
        let old = lines(&old[path].1);
        let mut slots = lines(content);
        for (at, slot) in slots.iter_mut().enumerate() {
            if *slot != old[at] && chance.once_in(2) {
                slot.clone_from(&old[at]);
            }
        }
        *content = text(&slots);
    }
}
