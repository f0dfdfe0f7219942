//! Random trees, attributes, and random changes of them.

use super::Chance;
use super::history::{FileMode, Files};

const FOLDERS: [&str; 6] = ["", "src/", "src/core/", "lib/", "doc/", "old/"];

fn content(chance: &mut Chance, topic: usize) -> String {
    (0..8 + chance.below(16)).map(|n| format!("{topic}: line {n}\n")).collect()
}

fn path(chance: &mut Chance) -> String {
    format!("{}f{}", chance.pick(&FOLDERS), chance.below(14))
}

/// Adds a file. Files that are in the way of its path are dropped.
fn put(files: &mut Files, path: &str, file: (FileMode, String)) {
    let below = format!("{path}/");
    files.retain(|other, _| !other.starts_with(&below) && !path.starts_with(&format!("{other}/")));
    files.insert(path.to_owned(), file);
}

/// Files in several folders.
pub(super) fn files(chance: &mut Chance) -> Files {
    let mut files = Files::new();
    for topic in 0..8 + chance.below(8) {
        let file = (FileMode::Plain, content(chance, topic));
        let path = path(chance);
        put(&mut files, &path, file);
    }
    files
}

/// Changes a few files.
pub(super) fn change(files: &mut Files, chance: &mut Chance) {
    for _ in 0..1 + chance.below(3) {
        let paths: Vec<String> = files.keys().cloned().collect();
        if paths.is_empty() {
            put(files, "f0", (FileMode::Plain, content(chance, 99)));
            continue;
        }
        let from = chance.pick(&paths).clone();
        match chance.below(12) {
            0 | 1 => {
                let file = files.remove(&from).unwrap();
                let to = path(chance);
                put(files, &to, file);
            }
            2 => {
                // Renamed and edited.
                let (mode, text) = files.remove(&from).unwrap();
                let (to, edited) = (path(chance), edited(&text, chance));
                // No link leads nowhere.
                let text = if mode == FileMode::Link { text } else { edited };
                put(files, &to, (mode, text));
            }
            3 | 4 => rename_folder(files, chance),
            5 => drop(files.remove(&from)),
            6 => {
                if let Some((mode, _)) = files.get_mut(&from) {
                    *mode = match mode {
                        FileMode::Plain => FileMode::Executable,
                        FileMode::Executable | FileMode::Link => FileMode::Plain,
                    };
                }
            }
            7 => drop(files.insert(from, (FileMode::Link, "somewhere".into()))),
            8 => {
                // A folder takes the file's place.
                let file = files.remove(&from).unwrap();
                put(files, &format!("{from}/inner"), file);
            }
            9 => {
                let (to, topic) = (path(chance), 50 + chance.below(5));
                let file = (FileMode::Plain, content(chance, topic));
                put(files, &to, file);
            }
            _ => {
                if let Some((FileMode::Plain | FileMode::Executable, text)) = files.get_mut(&from) {
                    *text = edited(text, chance);
                }
            }
        }
    }
}

fn edited(text: &str, chance: &mut Chance) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = chance.below(lines.len().max(1));
    match chance.below(3) {
        0 if at < lines.len() => drop(lines.remove(at)),
        1 => lines.insert(at, format!("new {}", chance.below(9))),
        _ => {
            if let Some(line) = lines.get_mut(at) {
                line.push_str(" changed");
            }
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn rename_folder(files: &mut Files, chance: &mut Chance) {
    let folder = *chance.pick(&["src/", "src/core/", "lib/", "doc/", "old/"]);
    let to = *chance.pick(&["new/", "src/", "lib/inner/", "doc/"]);
    if to.starts_with(folder) {
        return;
    }
    let moved: Vec<String> = files.keys().filter(|p| p.starts_with(folder)).cloned().collect();
    for path in moved {
        let file = files.remove(&path).unwrap();
        put(files, &format!("{to}{}", &path[folder.len()..]), file);
    }
}

/// Lines of an attributes file.
pub(super) fn attributes(chance: &mut Chance) -> String {
    const LINES: [&str; 14] = [
        "*.log merge=union\n",
        "*.bin binary\n",
        "*.txt -merge\n",
        "*.txt merge=join\n",
        "*.lst merge=theirs\n",
        "*.lst merge=fail\n",
        "*.txt text\n",
        "* text=auto\n",
        "*.txt text eol=crlf\n",
        "[attr]joined merge=join\n*.log joined\n",
        "*.log -text\n",
        "a.* merge=union\n",
        "*.txt conflict-marker-size=3\n",
        "/d/* merge=union\n",
    ];
    (0..1 + chance.below(3)).map(|_| *chance.pick(&LINES)).collect()
}

/// Text files with an attributes file, or without.
pub(super) fn files_with_attributes(chance: &mut Chance) -> Files {
    let mut files = Files::new();
    for name in ["a.log", "b.bin", "c.lst", "d/e.txt", "f.txt"] {
        let end = if chance.once_in(4) { "\r\n" } else { "\n" };
        let text = (0..6 + chance.below(6)).map(|n| format!("{name} {n}{end}")).collect();
        files.insert(name.into(), (FileMode::Plain, text));
    }
    if !chance.once_in(3) {
        files.insert(".gitattributes".into(), (FileMode::Plain, attributes(chance)));
    }
    files
}

/// Changes text files, line ends and attributes.
pub(super) fn change_attributes(files: &mut Files, chance: &mut Chance) {
    for _ in 0..1 + chance.below(3) {
        match chance.below(10) {
            0 => {
                let name = *chance.pick(&[".gitattributes", "d/.gitattributes"]);
                files.insert(name.into(), (FileMode::Plain, attributes(chance)));
            }
            1 => drop(files.remove(".gitattributes")),
            2 => {
                // Other line ends.
                let name = *chance.pick(&["a.log", "d/e.txt", "f.txt"]);
                if let Some((_, text)) = files.get_mut(name) {
                    *text = match text.contains('\r') {
                        true => text.replace('\r', ""),
                        false => text.replace('\n', "\r\n"),
                    };
                }
            }
            _ => {
                let name = *chance.pick(&["a.log", "b.bin", "c.lst", "d/e.txt", "f.txt"]);
                let Some((_, text)) = files.get_mut(name) else { continue };
                let end = if text.contains('\r') { "\r\n" } else { "\n" };
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                let at = chance.below(lines.len() + 1);
                match chance.below(3) {
                    0 => lines.push(format!("more {}", chance.below(20))),
                    1 => lines.insert(at, format!("new {}", chance.below(20))),
                    _ => {
                        if let Some(line) = lines.get_mut(at) {
                            *line = format!("changed {}", chance.below(20));
                        }
                    }
                }
                *text = lines.iter().map(|line| format!("{line}{end}")).collect();
            }
        }
    }
}
