//! The account in whose name agents work. Quota and overload are its properties and not those of the task that met them.

use super::id::Timestamp;

/// The standing of an account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// No agent starts before this moment.
    pub closed_until: Timestamp,
    /// Whether an agent that started since then has got an answer. Until then, one goes alone to find out.
    pub proven: bool,
    /// How often it was closed in a row.
    pub strikes: u32,
    /// Fewer slots than the job allows, after an overload.
    pub slots: Option<usize>,
    /// What the service said when it closed.
    pub because: Option<String>,
}

/// How often in a row an account may be closed before a person is asked. With [`pause_ms`] these are some hours.
pub const STRIKES: u32 = 20;

/// The pauses after a refusal that names no moment, in milliseconds.
const FIRST_MS: u64 = 5_000;
const LONGEST_MS: u64 = 15 * 60_000;
/// A moment without seconds may be any within its minute: programs leave them away.
const MINUTE_MS: u64 = 60_000;
/// A moment that lies further away than a weekly quota's is not believed, in milliseconds.
const BELIEVED_MS: u64 = 8 * 24 * 3_600_000;

/// How long to wait after the `strike`-th refusal in a row that names no moment, in milliseconds: doubling, and up to
/// a quarter more, so that supervisors of one account do not all come back at once.
pub fn pause_ms(strike: u32, now: Timestamp) -> u64 {
    let pause = (FIRST_MS << strike.saturating_sub(1).min(16)).min(LONGEST_MS);
    // No randomness here: the moment itself is arbitrary enough (Knuth's multiplicative hash of it).
    let dice = now.0.wrapping_mul(2_654_435_761) >> 16;
    pause + dice % (pause / 4)
}

impl Account {
    /// Whether an attempt that began at `began` tells something of the account as it is now.
    pub fn concerns(&self, began: Timestamp) -> bool {
        began >= self.closed_until
    }

    /// Whether agents may start at all.
    pub fn open(&self, now: Timestamp) -> bool {
        self.closed_until <= now
    }

    /// After a refusal for want of quota: closed until the moment it names.
    pub fn limited(&self, began: Timestamp, now: Timestamp, resets_at: Option<Timestamp>) -> Self {
        let strikes = self.strikes + u32::from(self.concerns(began));
        let named = resets_at
            .map(|at| if at.0.is_multiple_of(MINUTE_MS) { at.after_ms(MINUTE_MS) } else { at })
            .filter(|at| *at > now && at.since_ms(now) <= BELIEVED_MS);
        let until = named.unwrap_or_else(|| now.after_ms(pause_ms(strikes, now)));
        let closed_until = self.closed_until.max(until);
        Self { closed_until, proven: false, strikes, ..self.clone() }
    }

    /// After an overload: a short pause, then half of the slots.
    pub fn overloaded(&self, began: Timestamp, now: Timestamp, jobs: usize) -> Self {
        if !self.concerns(began) {
            // One overload meets all that run, and is counted once.
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

    /// After an answer: the others may follow.
    pub fn answered(&self, began: Timestamp) -> Self {
        if self.concerns(began) { Self { proven: true, ..self.clone() } } else { self.clone() }
    }

    /// After a session that came to its end: one slot more.
    pub fn served(&self, began: Timestamp, jobs: usize) -> Self {
        if !self.concerns(began) {
            return self.clone();
        }
        let slots = self.slots.map(|slots| slots + 1).filter(|slots| *slots < jobs);
        Self { proven: true, strikes: 0, slots, because: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, BELIEVED_MS, FIRST_MS, LONGEST_MS, pause_ms};
    use crate::domain::id::Timestamp;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    #[test]
    fn a_named_moment_is_kept_to_and_nonsense_is_not() {
        let account = Account::default();
        let reset = NOW.after_ms(21_000);
        assert_eq!(account.limited(NOW, NOW, Some(reset)).closed_until, reset);
        let past = account.limited(NOW, NOW, Some(Timestamp(5))).closed_until;
        assert!(past >= NOW.after_ms(FIRST_MS));
        let far = account.limited(NOW, NOW, Some(NOW.after_ms(BELIEVED_MS + 1))).closed_until;
        assert!(far <= NOW.after_ms(2 * FIRST_MS));
    }

    #[test]
    fn a_minute_is_over_when_the_next_begins() {
        let minute = Timestamp(NOW.0.next_multiple_of(60_000));
        for (now, told) in [(NOW, minute), (minute.after_ms(59_999), minute)] {
            let account = Account::default().limited(now, now, Some(told));
            assert_eq!(account.closed_until, minute.after_ms(60_000));
        }
    }

    #[test]
    fn a_late_refusal_never_opens_what_another_has_closed() {
        let closed = Account::default().limited(NOW, NOW, Some(NOW.after_ms(60_000)));
        let late = closed.limited(NOW, NOW, Some(NOW.after_ms(10)));
        assert_eq!((late.closed_until, late.strikes), (closed.closed_until, 1));
    }

    #[test]
    fn overload_halves_the_slots_once_and_success_gives_them_back_step_by_step() {
        let account = Account::default().overloaded(NOW, NOW, 8);
        assert_eq!(account.slots, Some(4));
        // The others that ran at that moment tell nothing new.
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
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        for (strike, least) in [(1, FIRST_MS), (2, 2 * FIRST_MS), (9, LONGEST_MS), (40, LONGEST_MS)]
        {
            let pause = pause_ms(strike, NOW);
            assert!((least..=least + least / 4).contains(&pause), "{strike}: {pause}");
        }
    }

    #[test]
    fn only_who_started_since_tells_that_it_is_open() {
        let closed = Account::default().limited(NOW, NOW, Some(NOW.after_ms(60_000)));
        assert!(!closed.answered(NOW).proven);
        assert!(closed.answered(closed.closed_until).proven);
        assert!(!closed.open(NOW) && closed.open(closed.closed_until));
    }
}
