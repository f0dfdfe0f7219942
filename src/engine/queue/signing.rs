//! Signing: the commits of a train are written again with signatures just before they land.
//!
//! Only commits that land are signed, so that a person is asked once for each landing, and not for
//! each train that was built. Verdicts are on trees, which signatures do not change.

use std::time::Duration;

use anyhow::Result;

use super::git_host::GitHost;
use super::host::{SignedLanding, TrainLanding};
use crate::domain::id::Oid;
use crate::process::{CommitDraft, CommitPerson};
use crate::repo::{self, Author};

/// The time that a signer has for one commit.
const LIMIT: Duration = Duration::from_secs(60);

impl GitHost<'_> {
    /// Signs the commits of a landing if a job or the user's git wants them signed.
    pub(super) fn sign_landing(&mut self, landing: &TrainLanding) -> Result<SignedLanding> {
        if !self.wants_signatures(landing)? {
            return Ok(SignedLanding::Ready(landing.clone()));
        }
        // A landing that was held is not signed again.
        if let Some((unsigned, signed)) = &self.signed
            && unsigned == landing
        {
            return Ok(SignedLanding::Ready(signed.clone()));
        }
        let mut signed = landing.clone();
        let mut parent = landing.old.clone();
        for car in &mut signed.cars {
            let draft = self.draft(&car.commit, &parent)?;
            let (git, environment) = (self.git(), &self.context.environment);
            let interrupted = || self.interrupt.is_raised();
            match git.sign_commit(&draft, environment, LIMIT, &interrupted)? {
                Ok(id) => car.commit = Oid::parse(&id)?,
                Err(why) => {
                    let name = car.entry.id.as_str();
                    return Ok(SignedLanding::Held(format!(
                        "`{name}` cannot be signed: {why}; repair the signer, or set `sign = false` in [queue]"
                    )));
                }
            }
            parent = car.commit.clone();
        }
        signed.new = parent;
        self.signed = Some((landing.clone(), signed.clone()));
        Ok(SignedLanding::Ready(signed))
    }

    fn git(&self) -> crate::process::Git {
        let store = &self.context.store;
        store.git().with("GIT_DIR", store.repo().common_dir())
    }

    /// Returns true if a car's job, or the user's git, wants the landed commits signed.
    fn wants_signatures(&mut self, landing: &TrainLanding) -> Result<bool> {
        let mut by_config = false;
        for car in &landing.cars {
            let ruled = self.runs.ruled(&car.entry)?;
            let sign = match (ruled.run(), &self.rules) {
                (Some(run), _) => run.job.queue.sign,
                (None, Some(rules)) => rules.job.queue.sign,
                (None, None) => None,
            };
            match sign {
                Some(true) => return Ok(true),
                Some(false) => {}
                None => by_config = true,
            }
        }
        Ok(by_config && self.git().signs_commits(&self.context.environment)?)
    }

    /// Returns the content of a car's commit, on another first parent.
    fn draft(&self, commit: &Oid, parent: &Oid) -> Result<CommitDraft> {
        let content = repo::commit_content(self.context.store.repo(), commit)?;
        let mut parents = vec![parent.to_string()];
        parents.extend(content.parents.iter().skip(1).map(ToString::to_string));
        Ok(CommitDraft {
            tree: content.tree.to_string(),
            parents,
            message: content.message,
            author: person(content.author),
            committer: person(content.committer),
        })
    }
}

fn person(author: Author) -> CommitPerson {
    let (sign, minutes) =
        (if author.offset < 0 { '-' } else { '+' }, author.offset.unsigned_abs() / 60);
    let date = format!("@{} {sign}{:02}{:02}", author.seconds, minutes / 60, minutes % 60);
    CommitPerson { name: author.name, email: author.email, date }
}
