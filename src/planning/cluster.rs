//! Grouping of files into tasks that never wait for each other in a cycle.
//!
//! Files that need each other in a cycle form one unit. The graph of units has no cycle. Units are
//! ordered so that each unit comes after the units that it needs. A task is a run of consecutive
//! units in this order, so no task needs a later task.

use std::collections::{BTreeMap, BTreeSet};

use super::Grouping;
use super::drafts::{Draft, TaskLimits, group_by_directory};
use super::graph::{components, cycle, depth_first, group_graph};

/// The largest number of names in a warning.
const SHOWN_NAMES: usize = 8;

/// The drafts of tasks, and the dependencies that are left between files.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// The drafts, not in their final order.
    pub drafts: Vec<Draft>,
    /// The files that each file needs, without the dependencies that were given up.
    pub needs: Vec<Vec<usize>>,
    /// Warnings about dependencies that were given up.
    pub warnings: Vec<String>,
}

/// Files that stay together.
struct Unit {
    /// The file after which the unit is named.
    name_file: usize,
    files: Vec<usize>,
}

/// Groups files into drafts of tasks.
pub(super) fn cluster(
    group: Grouping,
    limits: &TaskLimits<'_>,
    needs: Vec<Vec<usize>>,
) -> Clusters {
    let mut clusters = Clusters { needs, ..Clusters::default() };
    let units = units(group, limits, &mut clusters);
    let mut home = vec![0; limits.files.len()];
    for (number, unit) in units.iter().enumerate() {
        for file in &unit.files {
            home[*file] = number;
        }
    }
    let unit_needs = group_graph(&clusters.needs, &home, units.len());
    let path = |file: usize| limits.files[file].path.clone();
    clusters.drafts = match group {
        Grouping::File => {
            units.into_iter().map(|u| Draft::new(path(u.name_file), u.files)).collect()
        }
        Grouping::Dependency => {
            let runs = join_related(limits, &units, &unit_needs);
            runs.into_iter().map(|run| Draft::new(path(run.name_file), run.files)).collect()
        }
        Grouping::Directory => {
            let runs = group_by_folder(limits, &units, &unit_needs, &mut clusters.warnings);
            let draft = |files: Vec<usize>| Draft::new(limits.folder(&files), files);
            runs.into_iter().map(draft).collect()
        }
    };
    clusters
}

/// Returns the units, sorted by their first files. A cycle that does not fit into a task is split.
fn units(group: Grouping, limits: &TaskLimits<'_>, clusters: &mut Clusters) -> Vec<Unit> {
    let mut units = Vec::new();
    for files in components(&clusters.needs) {
        let name_file = files[0];
        if limits.fit(&files) {
            units.push(Unit { name_file, files });
            continue;
        }
        let parts = split_cycle(limits, &files, &mut clusters.needs, &mut clusters.warnings);
        if group == Grouping::Directory {
            // `group_by_folder` groups these files again.
            units.extend(files.into_iter().map(|file| Unit { name_file: file, files: vec![file] }));
        } else {
            units.extend(parts.into_iter().map(|files| Unit { name_file, files }));
        }
    }
    for unit in &mut units {
        unit.files.sort_unstable();
    }
    units.sort_by_key(|unit| unit.files[0]);
    units
}

/// Splits a cycle that does not fit into one task. Gives up the dependencies of files on files that
/// come later in the order of the parts.
fn split_cycle(
    limits: &TaskLimits<'_>,
    files: &[usize],
    needs: &mut [Vec<usize>],
    warnings: &mut Vec<String>,
) -> Vec<Vec<usize>> {
    let path: Vec<_> =
        cycle(needs, files).into_iter().map(|f| limits.files[f].path.as_str()).collect();
    let mut shown = path.iter().take(SHOWN_NAMES).copied().collect::<Vec<_>>().join(" → ");
    if path.len() > SHOWN_NAMES {
        shown.push_str(" → …");
    }
    let order = depth_first(needs, files);
    let parts = limits.split(&order);
    let lines: u64 = files.iter().map(|f| limits.files[*f].lines).sum();
    warnings.push(format!(
        "{} files with {lines} lines import each other in a cycle and do not fit into one task, so they are split, and \
         some tasks start before their imports have landed: {shown}",
        files.len()
    ));
    let rank: BTreeMap<usize, usize> = order.iter().enumerate().map(|(n, f)| (*f, n)).collect();
    for file in files {
        let own_rank = rank.get(file).copied();
        needs[*file].retain(|to| rank.get(to).is_none_or(|other| Some(*other) < own_rank));
    }
    parts
}

/// Joins consecutive units that are related: one needs the other, both need the same unit, or a
/// third unit needs both.
fn join_related(limits: &TaskLimits<'_>, units: &[Unit], needs: &[Vec<usize>]) -> Vec<Unit> {
    let mut needed_by = vec![Vec::new(); units.len()];
    for (unit, list) in needs.iter().enumerate() {
        for to in list {
            needed_by[*to].push(unit);
        }
    }
    // Start from the units that no unit needs.
    let starts = (0..units.len()).filter(|u| needed_by[*u].is_empty()).chain(0..units.len());
    let mut runs: Vec<Unit> = Vec::new();
    // The units of the last run, the units that they need, and the units that need them.
    let mut members: BTreeSet<usize> = BTreeSet::new();
    let mut run_needs: BTreeSet<usize> = BTreeSet::new();
    let mut users: BTreeSet<usize> = BTreeSet::new();
    for unit in depth_first(needs, &starts.collect::<Vec<_>>()) {
        let is_related =
            needs[unit].iter().any(|to| members.contains(to) || run_needs.contains(to))
                || needed_by[unit].iter().any(|user| users.contains(user));
        match runs.last_mut() {
            Some(run) if is_related && limits.fit_both(&run.files, &units[unit].files) => {
                run.files.extend(&units[unit].files);
                // The last unit of a run needs the others, so the task is named after the last
                // unit.
                run.name_file = units[unit].name_file;
            }
            Some(_) | None => {
                members.clear();
                run_needs.clear();
                users.clear();
                let Unit { name_file, ref files } = units[unit];
                runs.push(Unit { name_file, files: files.clone() });
            }
        }
        members.insert(unit);
        run_needs.extend(&needs[unit]);
        users.extend(&needed_by[unit]);
    }
    runs
}

/// Groups units by folder. Folders that need each other in a cycle are joined if together they fit
/// into a task. Otherwise they are split, in an order in which no part needs a later part.
fn group_by_folder(
    limits: &TaskLimits<'_>,
    units: &[Unit],
    needs: &[Vec<usize>],
    warnings: &mut Vec<String>,
) -> Vec<Vec<usize>> {
    let mut folders = group_by_directory(limits);
    let mut folder_of = vec![0; limits.files.len()];
    for (number, files) in folders.iter().enumerate() {
        for file in files {
            folder_of[*file] = number;
        }
    }
    // A unit with files of several folders gets a group of its own.
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
    let mut units_in: Vec<Vec<usize>> = vec![Vec::new(); folders.len()];
    for (unit, folder) in home.iter().enumerate() {
        units_in[*folder].push(unit);
    }
    let files_of = |members: &[usize]| -> Vec<usize> {
        members.iter().flat_map(|u| units[*u].files.iter().copied()).collect()
    };
    let mut groups = Vec::new();
    for component in components(&group_graph(needs, &home, folders.len())) {
        let members: Vec<usize> =
            component.iter().flat_map(|f| units_in[*f].iter().copied()).collect();
        if members.is_empty() {
            continue;
        }
        let all = files_of(&members);
        if component.len() == 1 || limits.fit(&all) {
            groups.push(all);
            continue;
        }
        let runs = split_into_runs(&members, &home, needs);
        let name = |folder: &usize| {
            let name = limits.folder(&files_of(&units_in[*folder]));
            if name.is_empty() { "." } else { name }
        };
        let filled = component.iter().filter(|f| !units_in[**f].is_empty());
        let names: Vec<&str> = filled.take(SHOWN_NAMES).map(name).collect();
        let more = if component.len() > SHOWN_NAMES { ", …" } else { "" };
        warnings.push(format!(
            "{} tasks by folder would wait for each other in a cycle, so they are split into {}: {}{more}",
            component.len(),
            runs.len(),
            names.join(", "),
        ));
        groups.extend(runs.iter().map(|run| files_of(run)));
    }
    groups
}

/// Splits units into runs of one folder each. Each unit comes after the units that it needs. Each
/// run takes all ready units of the folder with the most ready units, so that the folder changes
/// rarely.
fn split_into_runs(members: &[usize], home: &[usize], needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let member_set: BTreeSet<usize> = members.iter().copied().collect();
    let mut pending_needs: BTreeMap<usize, usize> = BTreeMap::new();
    let mut needed_by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for unit in &member_set {
        let own_needs: Vec<_> = needs[*unit].iter().filter(|to| member_set.contains(to)).collect();
        pending_needs.insert(*unit, own_needs.len());
        for to in own_needs {
            needed_by.entry(*to).or_default().push(*unit);
        }
    }
    let mut ready: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (unit, _) in pending_needs.iter().filter(|(_, n)| **n == 0) {
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
                if let Some(count) = pending_needs.get_mut(dependant) {
                    *count -= 1;
                    if *count == 0 {
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
