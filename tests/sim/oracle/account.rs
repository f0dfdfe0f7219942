//! The oracle for the agent's account: when the service refuses sessions and how many it accepts.

use git_harness::domain::account::Account;
use git_harness::domain::id::Timestamp;
use git_harness::domain::retry::Policy;
use git_harness::domain::session::{Class, SessionReport};

/// The longest credible time until a quota resets: eight days.
const LONGEST_RESET_MS: u64 = 8 * 24 * 3_600_000;

/// The state of the account.
#[derive(Debug, Clone)]
pub(crate) struct AccountOracle {
    /// The time before which no session starts.
    pub closed_until: Timestamp,
    /// The number of consecutive refusals. Only sessions that started after the previous refusal
    /// count.
    pub refusals: u32,
    /// The number of concurrent sessions that the service accepts.
    pub slots: usize,
    /// True if a session that started after the last refusal was answered.
    pub proven: bool,
    /// True if the service ever refused a session.
    pub has_refused: bool,
}

impl AccountOracle {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            closed_until: Timestamp(0),
            refusals: 0,
            slots: policy.jobs,
            proven: false,
            has_refused: false,
        }
    }

    /// Records the report of a session that ended by itself.
    ///
    /// If the report names no reset time, only the range of the pause is known here. `actual` is
    /// the machine's state of the account and supplies the time.
    pub(crate) fn observe_report(
        &mut self,
        report: &SessionReport,
        started: Timestamp,
        now: Timestamp,
        policy: &Policy,
        actual: &Account,
    ) {
        let current = started >= self.closed_until;
        match report.class {
            Class::RateLimited => {
                self.refusals += u32::from(current);
                (self.proven, self.has_refused) = (false, true);
                let reset = report.resets_at.map_or(0, |at| at.0);
                let reset =
                    if reset.is_multiple_of(60_000) && reset > 0 { reset + 60_000 } else { reset };
                let until = if reset > now.0 && reset - now.0 <= LONGEST_RESET_MS {
                    Timestamp(reset)
                } else {
                    self.pause_end(self.refusals + 1, now, actual)
                };
                self.closed_until = self.closed_until.max(until);
            }
            Class::Overloaded if current => {
                self.refusals += 1;
                self.has_refused = true;
                self.slots = (self.slots / 2).max(1);
                self.closed_until = self.pause_end(self.refusals, now, actual);
            }
            Class::Ok | Class::Limit | Class::Refused | Class::Blocked => {
                self.observe_answer(started, policy);
            }
            _ => {}
        }
    }

    /// Records that a session ended after the service had answered it.
    pub(crate) fn observe_answer(&mut self, started: Timestamp, policy: &Policy) {
        if started >= self.closed_until {
            (self.proven, self.refusals) = (true, 0);
            self.slots = (self.slots + 1).min(policy.jobs);
        }
    }

    /// Returns the end of a pause whose length the service did not name.
    ///
    /// The pause after an overload is 5 seconds, after a limit 10 seconds, doubled for every
    /// consecutive refusal up to 15 minutes, plus up to a quarter of random delay.
    fn pause_end(&self, step: u32, now: Timestamp, actual: &Account) -> Timestamp {
        let mut least = 5_000;
        for _ in 1..step {
            least = (2 * least).min(900_000);
        }
        let range = now.0 + least..=now.0 + least + least / 4;
        if self.closed_until > actual.closed_until || !range.contains(&actual.closed_until.0) {
            // An earlier refusal closed the account for longer.
            assert_eq!(self.closed_until, actual.closed_until, "not in {range:?}");
        }
        actual.closed_until
    }

    /// Records the first answer to a running session. Returns true if the answer changes the state.
    pub(crate) fn answered_while_running(&mut self, started: Timestamp) -> bool {
        let changes = started >= self.closed_until && !self.proven;
        self.proven |= changes;
        changes
    }

    /// Records that a person resumed the run after it had halted.
    pub(crate) fn resumed(&mut self) {
        (self.proven, self.refusals) = (false, 0);
    }

    /// Returns true if a single session must test the service before others start.
    pub(crate) fn needs_probe(&self, policy: &Policy) -> bool {
        !self.proven && (policy.probe || self.has_refused)
    }

    /// Compares this state with the machine's.
    pub(crate) fn compare(&self, account: &Account, policy: &Policy) {
        assert_eq!(account.closed_until, self.closed_until, "end of the account's pause");
        assert_eq!(
            (account.strikes, account.proven),
            (self.refusals, self.proven),
            "refusals of the account, proven"
        );
        assert_eq!(account.slots.unwrap_or(policy.jobs), self.slots, "slots of the account");
    }
}
