//! The files of a tree that a job is about, and how large they are.

use anyhow::{Context as _, Result, bail};
use gix::ObjectId;
use gix::objs::FindExt as _;
use gix::objs::tree::EntryKind;
use rayon::prelude::*;

use super::cache::PlanCache;
use super::{PlanSpec, UnplannedFiles, estimate_tokens, tokens};

/// How many of its first bytes decide whether a file is text; git's own number.
const TEXT_PROBE: usize = 8000;
/// How many files one unit of work measures: enough to make a repository handle worth its while.
pub(super) const CHUNK: usize = 128;

/// A file that is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlanFile {
    /// Its repository-relative path.
    pub path: String,
    /// Its lines; a last line without a newline counts.
    pub lines: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its tokens: estimated, or counted where there is a budget.
    pub tokens: u64,
    /// Its blob.
    pub id: ObjectId,
}

/// A blob that a glob asked for, not read yet.
struct Wanted {
    path: String,
    id: ObjectId,
}

/// What reading a blob tells.
enum Measure {
    Text { lines: u64, bytes: u64 },
    Binary,
}

/// Finds the files that `spec` wants in the tree of `base`, sorted by path, and tells what was left out.
pub(super) fn discover(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    cache: &mut PlanCache,
) -> Result<(Vec<PlanFile>, UnplannedFiles)> {
    let mut unplanned = UnplannedFiles::default();
    let wanted = walk(repo, base, spec, &mut unplanned)?;
    let unknown = |w: &Wanted| cache.size(w.id).is_none().then_some(w.id);
    let ids: Vec<_> = wanted.iter().map(unknown).collect();
    let mut files = Vec::with_capacity(wanted.len());
    for (Wanted { path, id }, measure) in wanted.into_iter().zip(measure_all(repo, &ids)) {
        match measure.with_context(|| format!("cannot read a file of the base commit: `{path}`"))? {
            Some(Measure::Text { lines, bytes }) => cache.keep_size(id, Some((lines, bytes))),
            Some(Measure::Binary) => cache.keep_size(id, None),
            None => {}
        }
        match cache.size(id).flatten() {
            Some(_) if (spec.is_done)(&path) => {}
            Some((lines, bytes)) => {
                let tokens = estimate_tokens(bytes);
                files.push(PlanFile { path, lines, bytes, tokens, id });
            }
            None => unplanned.binary.push(path),
        }
    }
    if let Some(budget) = spec.budget {
        count_all(repo, &files, cache)?;
        for file in &mut files {
            file.tokens = budget.model_tokens(cache.tokens(file.id).unwrap_or(file.tokens));
        }
    }
    Ok((files, unplanned))
}

/// Counts the tokens of files of which that is not known, on all cores.
fn count_all(repo: &gix::Repository, files: &[PlanFile], cache: &mut PlanCache) -> Result<()> {
    let unknown: Vec<_> = files.iter().filter(|file| cache.tokens(file.id).is_none()).collect();
    let shared = repo.clone().into_sync();
    // Few at a time: a large file keeps one thread busy, not all that come after it.
    let parts: Vec<Vec<(ObjectId, u64)>> = unknown
        .par_chunks(8)
        .map(|chunk| {
            let repo = shared.to_thread_local();
            let mut buf = Vec::new();
            let count = |file: &&PlanFile| {
                let blob = repo.objects.find_blob(&file.id, &mut buf).map_err(|err| {
                    anyhow::anyhow!(err)
                        .context(format!("cannot read a file of the base commit: `{}`", file.path))
                })?;
                Ok((file.id, tokens::count(blob.data)))
            };
            chunk.iter().map(count).collect::<Result<Vec<_>>>()
        })
        .collect::<Result<_>>()?;
    for (id, tokens) in parts.into_iter().flatten() {
        cache.keep_tokens(id, tokens);
    }
    Ok(())
}

/// The number of lines of each path in the tree of `base` (a commit or a tree): `None` where there is no such file in
/// it, or one that holds no text. For prompts, which describe files as they are when an attempt starts.
pub(crate) fn line_counts(
    repo: &gix::Repository,
    base: ObjectId,
    paths: &[String],
) -> Result<Vec<Option<u64>>> {
    let tree = repo.find_object(base)?.peel_to_tree()?;
    let mut ids = Vec::with_capacity(paths.len());
    for path in paths {
        let entry = tree.lookup_entry_by_path(path)?;
        ids.push(entry.filter(|e| e.mode().is_blob()).map(|e| e.object_id()));
    }
    let measures = measure_all(repo, &ids).into_iter().zip(paths);
    measures
        .map(|(measure, path)| match measure {
            Ok(Some(Measure::Text { lines, .. })) => Ok(Some(lines)),
            Ok(Some(Measure::Binary) | None) => Ok(None),
            Err(err) => Err(err.context(format!("cannot read a file of the commit: `{path}`"))),
        })
        .collect()
}

/// Goes through the tree and sorts out, by name and kind alone, what is wanted. The result is sorted by path.
fn walk(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    unplanned: &mut UnplannedFiles,
) -> Result<Vec<Wanted>> {
    let (root, prefix) = scope_tree(repo, base, spec.scope_dir)?;
    let mut wanted = Vec::new();
    let mut pending = vec![(prefix, root)];
    let mut buf = Vec::new();
    while let Some((dir, id)) = pending.pop() {
        let tree = repo.objects.find_tree(&id, &mut buf).map_err(|err| {
            anyhow::anyhow!(err).context(format!(
                "cannot read a directory of the base commit: `{}`",
                String::from_utf8_lossy(&dir)
            ))
        })?;
        for entry in &tree.entries {
            let mut path = dir.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.filename);
            let kind = entry.mode.kind();
            if kind == EntryKind::Tree {
                pending.push((path, entry.oid.to_owned()));
                continue;
            }
            // A path that is not UTF-8 is matched as well as it can be, so that it is reported only where it matters.
            let (path, utf8) = match String::from_utf8(path) {
                Ok(path) => (path, true),
                Err(err) => (String::from_utf8_lossy(err.as_bytes()).into_owned(), false),
            };
            if !((spec.include)(&path) && (spec.scope_files)(&path)) {
                unplanned.excluded += 1;
                continue;
            }
            match kind {
                EntryKind::Commit => unplanned.submodules += 1,
                EntryKind::Link => unplanned.links.push(path),
                EntryKind::Blob | EntryKind::BlobExecutable if !utf8 => {
                    unplanned.not_utf8.push(path);
                }
                EntryKind::Blob | EntryKind::BlobExecutable => {
                    wanted.push(Wanted { path, id: entry.oid.to_owned() });
                }
                EntryKind::Tree => {}
            }
        }
    }
    // Directories were taken in the order in which they were met; a plan has the order of the paths' bytes.
    wanted.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    unplanned.links.sort_unstable();
    unplanned.not_utf8.sort_unstable();
    Ok(wanted)
}

/// The tree of the directory a job is tried on, and that directory's path (empty for the whole tree).
fn scope_tree(repo: &gix::Repository, base: ObjectId, dir: &str) -> Result<(ObjectId, Vec<u8>)> {
    let tree = repo
        .find_object(base)
        .and_then(gix::Object::peel_to_tree)
        .with_context(|| format!("cannot read the base commit: {base}"))?;
    let parts: Vec<_> = dir.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() {
        return Ok((tree.id, Vec::new()));
    }
    let path = parts.join("/");
    match tree.lookup_entry_by_path(&path)? {
        Some(entry) if entry.mode().is_tree() => Ok((entry.object_id(), path.into_bytes())),
        Some(_) => bail!(
            "the scope's `dir` is not a directory in the base commit (use `files` for a file): `{dir}`"
        ),
        None => bail!(
            "the scope's `dir` is not in the base commit (it is a path from the repository's top): `{dir}`"
        ),
    }
}

/// Reads blobs on all cores. The results are in the order of `ids`, whichever thread was first.
fn measure_all(repo: &gix::Repository, ids: &[Option<ObjectId>]) -> Vec<Result<Option<Measure>>> {
    let shared = repo.clone().into_sync();
    let parts: Vec<Vec<_>> = ids
        .par_chunks(CHUNK)
        .map(|chunk| {
            let repo = shared.to_thread_local();
            let mut buf = Vec::new();
            let measures = chunk.iter().map(|id| match id {
                Some(id) => measure(&repo, *id, &mut buf).map(Some),
                None => Ok(None),
            });
            measures.collect()
        })
        .collect();
    parts.into_iter().flatten().collect()
}

fn measure(repo: &gix::Repository, id: ObjectId, buf: &mut Vec<u8>) -> Result<Measure> {
    let blob = repo.objects.find_blob(&id, buf).map_err(|err| anyhow::anyhow!(err))?;
    let data = blob.data;
    if data[..data.len().min(TEXT_PROBE)].contains(&0) {
        return Ok(Measure::Binary);
    }
    let lines = data.split_inclusive(|byte| *byte == b'\n').count();
    Ok(Measure::Text { lines: lines as u64, bytes: data.len() as u64 })
}
