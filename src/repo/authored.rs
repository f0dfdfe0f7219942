//! Commits as their authors wrote them: names and messages in UTF-8.

use std::collections::{HashMap, HashSet};
use std::fmt;

use anyhow::{Context, Result};
use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};

use super::{Repo, object_id, oid};
use crate::domain::id::Oid;

/// The author of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Author {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
    /// The time of the work, in seconds since the Unix epoch.
    pub seconds: i64,
    /// The offset of the author's time zone in seconds.
    pub offset: i32,
}

impl Author {
    /// Returns a text that is equal for the same person: the address if there is one.
    pub(crate) fn key(&self) -> String {
        let key = if self.email.is_empty() { &self.name } else { &self.email };
        key.to_lowercase()
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.email)
    }
}

/// A commit with its author and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthoredCommit {
    /// The author.
    pub author: Author,
    /// The whole message.
    pub message: String,
}

/// A commit whose text may be in another encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedCommit {
    /// The commit with its bytes taken for UTF-8, or for Latin-1 if they are not.
    pub commit: AuthoredCommit,
    /// The encoding that the commit names.
    pub encoding: Option<String>,
}

/// Reads a commit's author and message.
pub(crate) fn authored_commit(repo: &Repo, id: &Oid) -> Result<EncodedCommit> {
    let local = repo.local();
    let commit = local
        .find_commit(object_id(id)?)
        .with_context(|| format!("no commit has this id: {id}"))?;
    let decoded = commit.decode().with_context(|| format!("cannot read a commit: {id}"))?;
    let author = decoded.author().with_context(|| format!("a commit without an author: {id}"))?;
    let time = author.time().unwrap_or_default();
    let author = Author {
        name: text(author.name),
        email: text(author.email),
        seconds: time.seconds,
        offset: time.offset,
    };
    let commit = AuthoredCommit { author, message: text(decoded.message) };
    Ok(EncodedCommit { commit, encoding: decoded.encoding.map(ToString::to_string) })
}

/// The content of a commit that this program has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitContent {
    /// The tree.
    pub tree: Oid,
    /// The parents, in order.
    pub parents: Vec<Oid>,
    /// The author.
    pub author: Author,
    /// The committer.
    pub committer: Author,
    /// The whole message.
    pub message: Vec<u8>,
}

/// Reads everything that a commit consists of, except for a signature.
pub(crate) fn commit_content(repo: &Repo, id: &Oid) -> Result<CommitContent> {
    let local = repo.local();
    let commit = local
        .find_commit(object_id(id)?)
        .with_context(|| format!("no commit has this id: {id}"))?;
    let decoded = commit.decode().with_context(|| format!("cannot read a commit: {id}"))?;
    let person = |who: gix::actor::SignatureRef<'_>| {
        let time = who.time().unwrap_or_default();
        let (seconds, offset) = (time.seconds, time.offset);
        Author { name: text(who.name), email: text(who.email), seconds, offset }
    };
    Ok(CommitContent {
        tree: oid(decoded.tree()),
        parents: decoded.parents().map(oid).collect(),
        author: person(decoded.author().context("a commit without an author")?),
        committer: person(decoded.committer().context("a commit without a committer")?),
        message: decoded.message.to_vec(),
    })
}

fn text(bytes: &BStr) -> String {
    bytes.to_str().map_or_else(|_| bytes.iter().map(|byte| char::from(*byte)).collect(), Into::into)
}

/// Returns the commits of `tip` that none of `without` contains, oldest first, at most `limit`. The
/// bool is true if the commit is a merge.
pub(crate) fn own_commits(
    repo: &Repo,
    tip: &Oid,
    without: &[&Oid],
    limit: usize,
) -> Result<Vec<(Oid, bool)>> {
    let local = repo.local();
    let hidden = without.iter().map(|id| object_id(id)).collect::<Result<Vec<_>>>()?;
    let start = object_id(tip)?;
    let mut parents: HashMap<ObjectId, Vec<ObjectId>> = HashMap::new();
    for info in local.rev_walk([start]).with_hidden(hidden).all()?.take(limit) {
        let info = info.context("cannot read the history")?;
        parents.insert(info.id, info.parent_ids.to_vec());
    }
    // Parents before children, the first parent's history before that of the others.
    let mut ordered = Vec::new();
    let mut visited = HashSet::new();
    let mut stack = vec![(start, false)];
    while let Some((id, is_done)) = stack.pop() {
        let Some(above) = parents.get(&id) else { continue };
        if is_done {
            ordered.push((oid(id), above.len() > 1));
        } else if visited.insert(id) {
            stack.push((id, true));
            stack.extend(above.iter().rev().map(|parent| (*parent, false)));
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    use super::*;

    #[test]
    fn own_commits_are_in_order_and_leave_out_the_target() {
        let fx = RepoFixture::new();
        let root = fx.commit(&[("a", "0")], &[]);
        let one = fx.commit(&[("a", "1")], std::slice::from_ref(&root));
        let target = fx.commit(&[("b", "1")], std::slice::from_ref(&root));
        let merge = fx.commit(&[("c", "1")], &[one.clone(), target.clone()]);
        let two = fx.commit(&[("d", "1")], std::slice::from_ref(&merge));
        let own = |tip: &Oid, without: &[&Oid]| own_commits(&fx.repo, tip, without, 100).unwrap();
        let want = [(one.clone(), false), (merge.clone(), true), (two.clone(), false)];
        assert_eq!(own(&two, &[&target]), want);
        assert_eq!(own(&merge, &[&target]), want[..2]);
        assert_eq!(own(&two, &[&target, &one]), want[1..]);
    }
}
