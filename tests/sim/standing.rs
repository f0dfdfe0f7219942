//! What the book holds of the run as a whole: its account, and why it may have stopped by itself.

use git_harness::domain::account::Account;
use git_harness::domain::event::Halt;
use git_harness::domain::id::Timestamp;
use git_harness::domain::retry::Policy;
use git_harness::domain::session::{Class, SessionReport};

/// Eight days: no quota is away for longer.
const LONGEST: u64 = 8 * 24 * 3_600_000;

#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// Before this moment the service wants no agents.
    pub lifts: Timestamp,
    /// Refusals in a row, each of an agent that had begun when there was none.
    pub refusals: u32,
    /// How many agents the service can bear.
    pub room: usize,
    /// Whether an agent has been answered that had begun since the service last said no.
    pub trusted: bool,
    /// Whether it has ever said no.
    pub has_refused: bool,
    /// Why the run has stopped.
    pub stop: Option<Halt>,
    /// Landed and failed tasks of the time before a person said that it should go on all the same.
    pub amnesty: (usize, usize),
    /// Whether since then one task goes alone.
    pub wary: bool,
}

impl Standing {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            lifts: Timestamp(0),
            refusals: 0,
            room: policy.jobs,
            trusted: false,
            has_refused: false,
            stop: None,
            amnesty: (0, 0),
            wary: false,
        }
    }

    /// What a session that came to its own end says of the service. `found` is what the machine made of it: where the
    /// moment was not named, only its range is known here.
    pub(crate) fn hear(
        &mut self,
        report: &SessionReport,
        began: Timestamp,
        now: Timestamp,
        policy: &Policy,
        found: &Account,
    ) {
        let news = began >= self.lifts;
        match report.class {
            Class::RateLimited => {
                self.refusals += u32::from(news);
                (self.trusted, self.has_refused) = (false, true);
                let told = report.resets_at.map_or(0, |at| at.0);
                let told =
                    if told.is_multiple_of(60_000) && told > 0 { told + 60_000 } else { told };
                let until = if told > now.0 && told - now.0 <= LONGEST {
                    Timestamp(told)
                } else {
                    self.pause(now, found)
                };
                self.lifts = self.lifts.max(until);
            }
            Class::Overloaded if news => {
                self.refusals += 1;
                self.has_refused = true;
                self.room = (self.room / 2).max(1);
                self.lifts = self.pause(now, found);
            }
            Class::Ok | Class::Limit | Class::Refused | Class::Blocked => {
                self.serves(began, policy);
            }
            _ => {}
        }
    }

    /// A session had its answers.
    pub(crate) fn serves(&mut self, began: Timestamp, policy: &Policy) {
        if began >= self.lifts {
            (self.trusted, self.refusals) = (true, 0);
            self.room = (self.room + 1).min(policy.jobs);
        }
    }

    /// Five seconds, doubled each time, a quarter of an hour at most; and up to a quarter of that on top.
    fn pause(&self, now: Timestamp, found: &Account) -> Timestamp {
        let mut least = 5_000;
        for _ in 1..self.refusals {
            least = (2 * least).min(900_000);
        }
        let range = now.0 + least..=now.0 + least + least / 4;
        if self.lifts > found.closed_until || !range.contains(&found.closed_until.0) {
            // Then an earlier word holds longer.
            assert_eq!(self.lifts, found.closed_until, "not in {range:?}");
        }
        found.closed_until
    }

    /// A session is under way and has got an answer. Says whether that is news.
    pub(crate) fn answered(&mut self, began: Timestamp) -> bool {
        let news = began >= self.lifts && !self.trusted;
        self.trusted |= news;
        news
    }

    /// A person lets a run go on that had stopped by itself or by a person.
    pub(crate) fn goes_on(&mut self, landed: usize, failed: usize) {
        let stop = self.stop.take();
        if stop == Some(Halt::Failures) {
            (self.amnesty, self.wary) = ((landed, failed), true);
        }
        if stop.is_some() {
            (self.trusted, self.refusals) = (false, 0);
        }
    }

    /// Whether one agent has to find out how the service is.
    pub(crate) fn doubts(&self, policy: &Policy) -> bool {
        !self.trusted && (policy.probe || self.has_refused)
    }

    /// Whether so many failures are too many. `alike`: all that failed have the same cause.
    pub(crate) fn despairs(
        &self,
        landed: usize,
        failed: usize,
        alike: bool,
        policy: &Policy,
    ) -> bool {
        let new = failed.saturating_sub(self.amnesty.1);
        let good = landed.saturating_sub(self.amnesty.0);
        let all = new + good;
        let share = u64::from(policy.halt_above.0);
        let pattern = good == 0 && alike && new >= 3 && self.amnesty.1 == 0;
        let many = all >= policy.halt_after && new as u64 * 1_000_000 > share * all as u64;
        share < 1_000_000 && (pattern || many || (self.wary && good == 0))
    }

    pub(crate) fn compare(&self, account: &Account, policy: &Policy) {
        assert_eq!(account.closed_until, self.lifts, "until when the account is closed");
        assert_eq!((account.strikes, account.proven), (self.refusals, self.trusted));
        assert_eq!(account.slots.unwrap_or(policy.jobs), self.room, "slots");
    }
}
