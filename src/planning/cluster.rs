//! From files and what they need to tasks that never wait for each other in a circle.
//!
//! Files that need each other in a circle are one unit, and what is left between units has no circle. Tasks are then
//! runs of an order in which everything comes after what it needs: whatever is cut from such an order, what it needs
//! lies before it.

use std::collections::{BTreeMap, BTreeSet};

use super::Grouping;
use super::group::{Draft, TaskLimits, by_directory};
use super::order::{between, components, cycle, depth_first};

/// How many names a warning holds.
const NAMED: usize = 8;

/// Tasks, what files still need of each other, and what a person should know.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// The tasks, not yet in their final order.
    pub drafts: Vec<Draft>,
    /// What each file needs, without what had to be given up.
    pub needs: Vec<Vec<usize>>,
    /// What had to be given up, and why.
    pub warnings: Vec<String>,
}

/// Files that are not taken apart any more.
struct Unit {
    /// What it is named after, by the number of a file.
    after: usize,
    files: Vec<usize>,
}

/// Makes tasks.
pub(super) fn clusters(
    group: Grouping,
    limits: &TaskLimits<'_>,
    needs: Vec<Vec<usize>>,
) -> Clusters {
    let mut made = Clusters { needs, ..Clusters::default() };
    let units = units(group, limits, &mut made);
    let mut home = vec![0; limits.files.len()];
    for (number, unit) in units.iter().enumerate() {
        for file in &unit.files {
            home[*file] = number;
        }
    }
    let unit_needs = between(&made.needs, &home, units.len());
    let path = |file: usize| limits.files[file].path.clone();
    made.drafts = match group {
        Grouping::File => units.into_iter().map(|u| Draft::new(path(u.after), u.files)).collect(),
        Grouping::Dependency => {
            let runs = related(limits, &units, &unit_needs);
            runs.into_iter().map(|(after, files)| Draft::new(path(after), files)).collect()
        }
        Grouping::Directory => {
            let runs = folders(limits, &units, &unit_needs, &mut made.warnings);
            let draft = |files: Vec<usize>| Draft::new(limits.folder(&files), files);
            runs.into_iter().map(draft).collect()
        }
    };
    made
}

/// Takes circles as units, and cuts those that do not fit. The units are in the order of their first files.
fn units(group: Grouping, limits: &TaskLimits<'_>, made: &mut Clusters) -> Vec<Unit> {
    let mut units = Vec::new();
    for files in components(&made.needs) {
        let after = files[0];
        if limits.fit(&files) {
            units.push(Unit { after, files });
            continue;
        }
        let parts = cut(limits, &files, &mut made.needs, &mut made.warnings);
        if group == Grouping::Directory {
            // These are put together again by their folders.
            units.extend(files.into_iter().map(|file| Unit { after: file, files: vec![file] }));
        } else {
            units.extend(parts.into_iter().map(|files| Unit { after, files }));
        }
    }
    for unit in &mut units {
        unit.files.sort_unstable();
    }
    units.sort_by_key(|unit| unit.files[0]);
    units
}

/// Cuts a circle that does not fit into parts, and gives up what an earlier part needs of a later one.
fn cut(
    limits: &TaskLimits<'_>,
    files: &[usize],
    needs: &mut [Vec<usize>],
    warnings: &mut Vec<String>,
) -> Vec<Vec<usize>> {
    let way: Vec<_> =
        cycle(needs, files).into_iter().map(|f| limits.files[f].path.as_str()).collect();
    let mut shown = way.iter().take(NAMED).copied().collect::<Vec<_>>().join(" → ");
    if way.len() > NAMED {
        shown.push_str(" → …");
    }
    let order = depth_first(needs, files);
    let parts = limits.split(&order);
    let lines: u64 = files.iter().map(|f| limits.files[*f].lines).sum();
    warnings.push(format!(
        "{} files with {lines} lines need each other in a circle and do not fit into one task, so they are split, and \
         some begin before what they need has landed: {shown}",
        files.len()
    ));
    let rank: BTreeMap<usize, usize> = order.iter().enumerate().map(|(n, f)| (*f, n)).collect();
    for file in files {
        let own = rank.get(file).copied();
        needs[*file].retain(|to| rank.get(to).is_none_or(|other| Some(*other) < own));
    }
    parts
}

/// Runs of units that have to do with each other: one needs the other, both need the same, or the same needs
/// both.
fn related(
    limits: &TaskLimits<'_>,
    units: &[Unit],
    needs: &[Vec<usize>],
) -> Vec<(usize, Vec<usize>)> {
    let mut needed_by = vec![Vec::new(); units.len()];
    for (unit, list) in needs.iter().enumerate() {
        for to in list {
            needed_by[*to].push(unit);
        }
    }
    // What nobody needs leads to what belongs to it.
    let tops = (0..units.len()).filter(|u| needed_by[*u].is_empty()).chain(0..units.len());
    let mut runs: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut inside: BTreeSet<usize> = BTreeSet::new();
    let mut common: BTreeSet<usize> = BTreeSet::new();
    let mut users: BTreeSet<usize> = BTreeSet::new();
    for unit in depth_first(needs, &tops.collect::<Vec<_>>()) {
        let kin = needs[unit].iter().any(|to| inside.contains(to) || common.contains(to))
            || needed_by[unit].iter().any(|user| users.contains(user));
        match runs.last_mut() {
            Some((after, files)) if kin && limits.fit_both(files, &units[unit].files) => {
                files.extend(&units[unit].files);
                // The last one needs the others rather than the other way round: it is what the task is about.
                *after = units[unit].after;
            }
            Some(_) | None => {
                inside.clear();
                common.clear();
                users.clear();
                runs.push((units[unit].after, units[unit].files.clone()));
            }
        }
        inside.insert(unit);
        common.extend(&needs[unit]);
        users.extend(&needed_by[unit]);
    }
    runs
}

/// Tasks by folders. Where folders wait for each other in a circle, they become one task if that fits; else they are
/// taken apart along the order of their files.
fn folders(
    limits: &TaskLimits<'_>,
    units: &[Unit],
    needs: &[Vec<usize>],
    warnings: &mut Vec<String>,
) -> Vec<Vec<usize>> {
    let mut folders = by_directory(limits);
    let mut folder_of = vec![0; limits.files.len()];
    for (number, files) in folders.iter().enumerate() {
        for file in files {
            folder_of[*file] = number;
        }
    }
    // A unit that lies in several folders is a task by itself.
    let mut home = Vec::with_capacity(units.len());
    for unit in units {
        let first = folder_of[unit.files[0]];
        if unit.files.iter().all(|f| folder_of[*f] == first) {
            home.push(first);
        } else {
            home.push(folders.len());
            folders.push(Vec::new());
        }
    }
    let mut inside: Vec<Vec<usize>> = vec![Vec::new(); folders.len()];
    for (unit, folder) in home.iter().enumerate() {
        inside[*folder].push(unit);
    }
    let files = |units_of: &[usize]| -> Vec<usize> {
        units_of.iter().flat_map(|u| units[*u].files.iter().copied()).collect()
    };
    let mut found = Vec::new();
    for group in components(&between(needs, &home, folders.len())) {
        let members: Vec<usize> = group.iter().flat_map(|f| inside[*f].iter().copied()).collect();
        if members.is_empty() {
            continue;
        }
        let all = files(&members);
        if group.len() == 1 || limits.fit(&all) {
            found.push(all);
            continue;
        }
        let runs = runs(&members, &home, needs);
        let name = |folder: &usize| {
            let name = limits.folder(&files(&inside[*folder]));
            if name.is_empty() { "." } else { name }
        };
        let filled = group.iter().filter(|f| !inside[**f].is_empty());
        let names: Vec<&str> = filled.take(NAMED).map(name).collect();
        let more = if group.len() > NAMED { ", …" } else { "" };
        warnings.push(format!(
            "{} tasks by folder would wait for each other in a circle, so they are split into {}: {}{more}",
            group.len(),
            runs.len(),
            names.join(", "),
        ));
        found.extend(runs.iter().map(|run| files(run)));
    }
    found
}

/// An order of units in which each comes after what it needs, cut where the folder changes, which it does as rarely as
/// taking all that can be taken of a folder allows.
fn runs(members: &[usize], home: &[usize], needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let all: BTreeSet<usize> = members.iter().copied().collect();
    let mut open: BTreeMap<usize, usize> = BTreeMap::new();
    let mut needed_by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for unit in &all {
        let inside: Vec<_> = needs[*unit].iter().filter(|to| all.contains(to)).collect();
        open.insert(*unit, inside.len());
        for to in inside {
            needed_by.entry(*to).or_default().push(*unit);
        }
    }
    let mut ready: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (unit, _) in open.iter().filter(|(_, n)| **n == 0) {
        ready.entry(home[*unit]).or_default().insert(*unit);
    }
    let mut runs: Vec<Vec<usize>> = Vec::new();
    while let Some(folder) = ready
        .iter()
        .max_by_key(|(folder, units)| (units.len(), std::cmp::Reverse(**folder)))
        .map(|(folder, _)| *folder)
    {
        let mut run = Vec::new();
        while let Some(unit) = ready.get_mut(&folder).and_then(BTreeSet::pop_first) {
            run.push(unit);
            for dependant in needed_by.get(&unit).into_iter().flatten() {
                if let Some(left) = open.get_mut(dependant) {
                    *left -= 1;
                    if *left == 0 {
                        ready.entry(home[*dependant]).or_default().insert(*dependant);
                    }
                }
            }
        }
        ready.remove(&folder);
        runs.push(run);
    }
    runs
}
