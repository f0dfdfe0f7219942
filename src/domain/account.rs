//! The account that agents use. Quota and overload belong to the account, not to the task that met
//! them.

use std::fmt;

use super::id::Timestamp;

/// The program and the model of an agent. A limit of an account applies to one such name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentName {
    /// The preset.
    pub preset: String,
    /// The model, if it is named.
    pub model: Option<String>,
}

impl AgentName {
    /// Parses `PRESET` or `PRESET/MODEL`.
    pub fn parse(text: &str) -> Self {
        match text.split_once('/') {
            Some((preset, model)) => Self { preset: preset.into(), model: Some(model.into()) },
            None => Self { preset: text.into(), model: None },
        }
    }

    /// Returns true if a limit that was reported for this name applies to `agent`: the preset is
    /// the same, and so is the model if both are named. A service may shorten the name of a model.
    pub fn covers(&self, agent: &Self) -> bool {
        let same_model = match (&self.model, &agent.model) {
            (Some(limited), Some(model)) => {
                model.to_ascii_lowercase().contains(&limited.to_ascii_lowercase())
            }
            (Some(_) | None, None) | (None, Some(_)) => true,
        };
        self.preset == agent.preset && same_model
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.preset)?;
        self.model.as_ref().map_or(Ok(()), |model| write!(f, "/{model}"))
    }
}

/// The state of an account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// No agent starts before this time.
    pub closed_until: Timestamp,
    /// True if the service has answered an agent since the last refusal for lack of quota or the
    /// last resume after a halt. While this is false, a single agent probes an account that was
    /// closed.
    pub proven: bool,
    /// The number of consecutive closings.
    pub strikes: u32,
    /// The number of slots after an overload, if it is below the job's limit.
    pub slots: Option<usize>,
    /// The service's message at the last closing.
    pub because: Option<String>,
    /// The agent whose limit closed the account.
    pub closed_for: Option<AgentName>,
}

/// The largest number of consecutive closings. The next closing halts the run. With [`pause_ms`],
/// this many closings take some hours.
pub const MAX_STRIKES: u32 = 20;

/// The first pause after a refusal without a reset time, in milliseconds.
const FIRST_MS: u64 = 5_000;
/// The longest pause, in milliseconds.
const LONGEST_MS: u64 = 15 * 60_000;
/// A minute, added to a reset time without seconds: agents omit the seconds, so the reset may
/// happen at any time within the minute.
const MINUTE_MS: u64 = 60_000;
/// The largest plausible distance of a reset time, in milliseconds: a weekly quota and a day.
const PLAUSIBLE_MS: u64 = 8 * 24 * 3_600_000;

/// Returns the pause after the `strike`-th consecutive refusal without a reset time, in
/// milliseconds. The pause doubles. Up to a quarter is added, so that supervisors of one account do
/// not return at the same time.
pub fn pause_ms(strike: u32, now: Timestamp) -> u64 {
    let pause = (FIRST_MS << strike.saturating_sub(1).min(16)).min(LONGEST_MS);
    // The domain has no randomness. The time is arbitrary enough (Knuth's multiplicative hash).
    let jitter = now.0.wrapping_mul(2_654_435_761) >> 16;
    pause + jitter % (pause / 4)
}

impl Account {
    /// Returns true if the last closing applies to this agent.
    pub fn concerns(&self, agent: &AgentName) -> bool {
        self.closed_for.as_ref().is_none_or(|closed| closed.covers(agent))
    }

    /// Returns the account after a person opened it. One agent probes the account.
    pub fn reopened(&self, now: Timestamp) -> Self {
        Self {
            closed_until: self.closed_until.min(now),
            proven: false,
            strikes: 0,
            because: None,
            closed_for: None,
            ..self.clone()
        }
    }

    /// Returns true if agents may start at this time, because the last closing is over. Also
    /// decides which sessions are evidence: one that began before the end of the last closing says
    /// nothing about the account's present state.
    pub fn open_at(&self, time: Timestamp) -> bool {
        self.closed_until <= time
    }

    /// Returns the account after a refusal for lack of quota: closed until the reset time, or for a
    /// pause if no plausible reset time was reported.
    pub fn limited(&self, began: Timestamp, now: Timestamp, resets_at: Option<Timestamp>) -> Self {
        let strikes = self.strikes + u32::from(self.open_at(began));
        let reset = resets_at
            .map(|at| if at.0.is_multiple_of(MINUTE_MS) { at.after_ms(MINUTE_MS) } else { at })
            .filter(|at| *at > now && at.since_ms(now) <= PLAUSIBLE_MS);
        // A limit lasts longer than an overload, so the first pause is twice as long.
        let until = reset.unwrap_or_else(|| now.after_ms(pause_ms(strikes + 1, now)));
        let closed_until = self.closed_until.max(until);
        Self { closed_until, proven: false, strikes, ..self.clone() }
    }

    /// Returns the account after an overload: a short pause, then half of the slots.
    pub fn overloaded(&self, began: Timestamp, now: Timestamp, jobs: usize) -> Self {
        if !self.open_at(began) {
            // An overload meets all running agents but counts only once.
            return self.clone();
        }
        let strikes = self.strikes + 1;
        let slots = self.slots.unwrap_or(jobs).min(jobs);
        Self {
            closed_until: now.after_ms(pause_ms(strikes, now)),
            strikes,
            slots: Some((slots / 2).max(1)),
            ..self.clone()
        }
    }

    /// Returns the account after the service answered an agent: other agents may start.
    pub fn answered(&self, began: Timestamp) -> Self {
        if self.open_at(began) { Self { proven: true, ..self.clone() } } else { self.clone() }
    }

    /// Returns the account after a complete session: one more slot.
    pub fn served(&self, began: Timestamp, jobs: usize) -> Self {
        if !self.open_at(began) {
            return self.clone();
        }
        let slots = self.slots.map(|slots| slots + 1).filter(|slots| *slots < jobs);
        Self {
            proven: true,
            strikes: 0,
            slots,
            because: None,
            closed_for: None,
            closed_until: self.closed_until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, AgentName, FIRST_MS, LONGEST_MS, PLAUSIBLE_MS, pause_ms};
    use crate::domain::id::Timestamp;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    #[test]
    fn quota_reset_time_is_used_unless_it_is_implausible() {
        let account = Account::default();
        let reset = NOW.after_ms(21_000);
        assert_eq!(account.limited(NOW, NOW, Some(reset)).closed_until, reset);
        let past = account.limited(NOW, NOW, Some(Timestamp(5))).closed_until;
        assert!(past >= NOW.after_ms(FIRST_MS));
        let far = account.limited(NOW, NOW, Some(NOW.after_ms(PLAUSIBLE_MS + 1))).closed_until;
        assert!(far <= NOW.after_ms(3 * FIRST_MS));
    }

    #[test]
    fn quota_reset_time_without_seconds_means_the_end_of_its_minute() {
        let minute = Timestamp(NOW.0.next_multiple_of(60_000));
        for (now, reset) in [(NOW, minute), (minute.after_ms(59_999), minute)] {
            let account = Account::default().limited(now, now, Some(reset));
            assert_eq!(account.closed_until, minute.after_ms(60_000));
        }
    }

    #[test]
    fn limit_of_a_model_covers_only_agents_with_this_model() {
        let agent = AgentName::parse;
        for (limit, other, covered) in [
            ("claude", "claude", true),
            ("claude", "claude/claude-opus-4-5", true),
            ("claude", "codex", false),
            ("claude/opus", "claude/claude-Opus-4-5", true),
            ("claude/opus", "claude/sonnet", false),
            ("claude/opus", "claude", true),
        ] {
            assert_eq!(agent(limit).covers(&agent(other)), covered, "{limit} {other}");
            assert_eq!(agent(limit).to_string(), limit);
        }
    }

    #[test]
    fn opened_account_is_open_at_once_and_is_probed() {
        let closed = Account::default().limited(NOW, NOW, Some(NOW.after_ms(60_000)));
        let reopened = closed.reopened(NOW.after_ms(5));
        assert!(reopened.open_at(NOW.after_ms(5)) && !reopened.proven && reopened.strikes == 0);
    }

    #[test]
    fn late_quota_refusal_never_opens_a_closed_account() {
        let closed = Account::default().limited(NOW, NOW, Some(NOW.after_ms(60_000)));
        let late = closed.limited(NOW, NOW, Some(NOW.after_ms(10)));
        assert_eq!((late.closed_until, late.strikes), (closed.closed_until, 1));
    }

    #[test]
    fn overload_halves_the_slots_once_and_each_session_restores_one() {
        let account = Account::default().overloaded(NOW, NOW, 8);
        assert_eq!(account.slots, Some(4));
        // Agents that were already running are no new evidence.
        assert_eq!(account.overloaded(NOW, NOW.after_ms(1), 8), account);
        let later = account.closed_until;
        let mut account = account.overloaded(later, later, 8);
        assert_eq!(account.slots, Some(2));
        let later = account.closed_until;
        for slots in [Some(3), Some(4), Some(5), Some(6), Some(7), None, None] {
            account = account.served(later, 8);
            assert_eq!(account.slots, slots);
        }
        assert_eq!(account.strikes, 0);
    }

    #[test]
    fn pause_doubles_up_to_a_quarter_of_an_hour() {
        for (strike, least) in [(1, FIRST_MS), (2, 2 * FIRST_MS), (9, LONGEST_MS), (40, LONGEST_MS)]
        {
            let pause = pause_ms(strike, NOW);
            assert!((least..=least + least / 4).contains(&pause), "{strike}: {pause}");
        }
    }

    #[test]
    fn answer_proves_the_account_only_for_a_session_that_began_after_the_closing() {
        let closed = Account::default().limited(NOW, NOW, Some(NOW.after_ms(60_000)));
        assert!(!closed.answered(NOW).proven);
        assert!(closed.answered(closed.closed_until).proven);
        assert!(!closed.open_at(NOW) && closed.open_at(closed.closed_until));
    }
}
