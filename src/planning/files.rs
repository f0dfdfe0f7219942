//! The files of a plan, selected by their paths from the tree of the base commit, with their sizes.

use anyhow::{Context as _, Result, bail};
use gix::ObjectId;
use gix::objs::FindExt as _;
use gix::objs::tree::EntryKind;
use rayon::prelude::*;

use super::cache::{PlanCache, TextSize};
use super::{PlanSpec, UnplannedFiles, estimate_tokens, tokens};

/// The number of leading bytes that decide if a file is text. git uses the same number.
const TEXT_PROBE: usize = 8000;
/// The number of files that one unit of parallel work reads. With fewer files, the cost of opening
/// a repository handle for each unit would dominate.
pub(super) const CHUNK: usize = 128;

/// A file of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlanFile {
    /// The path, relative to the top of the repository.
    pub path: String,
    /// The number of lines. A last line without a newline counts.
    pub lines: u64,
    /// The size in bytes.
    pub bytes: u64,
    /// The number of tokens: counted if there is a token limit, otherwise estimated.
    pub tokens: u64,
    /// The id of the blob.
    pub id: ObjectId,
}

/// A blob that was selected by its path and has not been read.
struct SelectedBlob {
    path: String,
    id: ObjectId,
}

/// The content of a blob.
enum BlobContent {
    Text(TextSize),
    Binary,
}

/// Returns the files that `spec` selects in the tree of `base`, sorted by path, and the files that
/// are left out.
pub(super) fn plan_files(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    cache: &mut PlanCache,
) -> Result<(Vec<PlanFile>, UnplannedFiles)> {
    let mut unplanned = UnplannedFiles::default();
    let selected = walk(repo, base, spec, &mut unplanned)?;
    let uncached = |blob: &SelectedBlob| cache.size(blob.id).is_none().then_some(blob.id);
    let ids: Vec<_> = selected.iter().map(uncached).collect();
    let mut files = Vec::with_capacity(selected.len());
    for (SelectedBlob { path, id }, content) in selected.into_iter().zip(read_all(repo, &ids)) {
        match content.with_context(|| format!("cannot read a file of the base commit: `{path}`"))? {
            Some(BlobContent::Text(size)) => cache.insert_size(id, Some(size)),
            Some(BlobContent::Binary) => cache.insert_size(id, None),
            None => {}
        }
        match cache.size(id).flatten() {
            Some(_) if (spec.is_done)(&path) => {}
            Some(TextSize { lines, bytes }) => {
                let tokens = estimate_tokens(bytes);
                files.push(PlanFile { path, lines, bytes, tokens, id });
            }
            None => unplanned.binary.push(path),
        }
    }
    if let Some(limit) = spec.token_limit {
        count_all(repo, &files, cache)?;
        for file in &mut files {
            file.tokens = limit.model_tokens(cache.tokens(file.id).unwrap_or(file.tokens));
        }
    }
    Ok((files, unplanned))
}

/// Counts the tokens of files that are not in the cache, on all cores.
fn count_all(repo: &gix::Repository, files: &[PlanFile], cache: &mut PlanCache) -> Result<()> {
    let uncached: Vec<_> = files.iter().filter(|file| cache.tokens(file.id).is_none()).collect();
    let shared = repo.clone().into_sync();
    // The chunks are small, so that a large file delays few others.
    let parts: Vec<Vec<(ObjectId, u64)>> = uncached
        .par_chunks(8)
        .map(|chunk| {
            let repo = shared.to_thread_local();
            let mut buf = Vec::new();
            let count = |file: &&PlanFile| {
                let blob = repo.objects.find_blob(&file.id, &mut buf).map_err(|err| {
                    anyhow::anyhow!(err)
                        .context(format!("cannot read a file of the base commit: `{}`", file.path))
                })?;
                Ok((file.id, tokens::count_tokens(blob.data)))
            };
            chunk.iter().map(count).collect::<Result<Vec<_>>>()
        })
        .collect::<Result<_>>()?;
    for (id, tokens) in parts.into_iter().flatten() {
        cache.insert_tokens(id, tokens);
    }
    Ok(())
}

/// Returns the number of lines of the file at each path in the tree of `base`, which is a commit or
/// a tree. The number is `None` if the path is not a file or the file is binary. Prompts show these
/// numbers.
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
    let contents = read_all(repo, &ids).into_iter().zip(paths);
    contents
        .map(|(content, path)| match content {
            Ok(Some(BlobContent::Text(size))) => Ok(Some(size.lines)),
            Ok(Some(BlobContent::Binary) | None) => Ok(None),
            Err(err) => Err(err.context(format!("cannot read a file of the commit: `{path}`"))),
        })
        .collect()
}

/// Selects blobs of the tree by path and kind alone. The result is sorted by path.
fn walk(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    unplanned: &mut UnplannedFiles,
) -> Result<Vec<SelectedBlob>> {
    let (root, prefix) = scope_tree(repo, base, spec.scope_dir)?;
    let mut selected = Vec::new();
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
            // A path that is not UTF-8 is matched in its lossy form, so that it is reported only if
            // a glob selects it.
            let (path, is_utf8) = match String::from_utf8(path) {
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
                EntryKind::Blob | EntryKind::BlobExecutable if !is_utf8 => {
                    unplanned.not_utf8.push(path);
                }
                EntryKind::Blob | EntryKind::BlobExecutable => {
                    selected.push(SelectedBlob { path, id: entry.oid.to_owned() });
                }
                EntryKind::Tree => {}
            }
        }
    }
    // A plan is in the byte order of the paths, not in the order of the walk.
    selected.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    unplanned.links.sort_unstable();
    unplanned.not_utf8.sort_unstable();
    Ok(selected)
}

/// Returns the tree of the folder `[plan.scope] dir`, and the path of that folder, which is empty
/// for the whole tree.
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

/// Reads blobs on all cores. The results have the order of `ids`.
fn read_all(repo: &gix::Repository, ids: &[Option<ObjectId>]) -> Vec<Result<Option<BlobContent>>> {
    let shared = repo.clone().into_sync();
    let parts: Vec<Vec<_>> = ids
        .par_chunks(CHUNK)
        .map(|chunk| {
            let repo = shared.to_thread_local();
            let mut buf = Vec::new();
            let contents = chunk.iter().map(|id| match id {
                Some(id) => read(&repo, *id, &mut buf).map(Some),
                None => Ok(None),
            });
            contents.collect()
        })
        .collect();
    parts.into_iter().flatten().collect()
}

/// Reads a blob.
fn read(repo: &gix::Repository, id: ObjectId, buf: &mut Vec<u8>) -> Result<BlobContent> {
    let blob = repo.objects.find_blob(&id, buf).map_err(|err| anyhow::anyhow!(err))?;
    let data = blob.data;
    if data[..data.len().min(TEXT_PROBE)].contains(&0) {
        return Ok(BlobContent::Binary);
    }
    let lines = data.split_inclusive(|byte| *byte == b'\n').count();
    Ok(BlobContent::Text(TextSize { lines: lines as u64, bytes: data.len() as u64 }))
}
