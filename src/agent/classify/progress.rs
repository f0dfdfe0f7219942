//! The progress of a session, and the model that a limit applies to.

use super::evidence::{Classification, SessionEvidence};
use crate::agent::preset::pattern::any_matches;
use crate::agent::preset::{OutputFormat, common};
use crate::domain::session::{Class, SessionProgress};

impl SessionEvidence<'_> {
    /// Returns true if the service answered the session: the session did work.
    pub(super) fn has_worked(&self) -> bool {
        if self.preset.output.format == OutputFormat::Text {
            return self.preset.output.text.is_some() && self.text_after_answer().0;
        }
        let watch = &self.preset.watch;
        let answers =
            if watch.answer.is_empty() { &self.preset.output.work } else { &watch.answer };
        self.stdout.events.iter().any(|event| any_matches(answers, event))
    }

    /// Returns the model that a limit applies to, if the service named the model: in the event of a
    /// rejected limit window, or in a text.
    pub(super) fn limited_model(&self, texts: &[String]) -> Option<String> {
        let windows = self.events_after_work().into_iter();
        let windows = windows.filter(|event| any_matches(&self.preset.output.resets_in, event));
        let windows = windows.map(ToString::to_string);
        let model = |text: &str| {
            let mut matches =
                common().limited_model.iter().filter_map(|p| p.regex().captures(text));
            matches.find_map(|found| Some(found.get(1)?.as_str().to_ascii_lowercase()))
        };
        windows.chain(texts.iter().cloned()).find_map(|text| model(&text))
    }

    /// Returns the progress of a session with this classification.
    pub(super) fn progress(&self, classification: &Classification) -> SessionProgress {
        // Such an error is about the content of one conversation, so the service has answered.
        let about_conversation = || {
            let mut texts = classification.texts.iter().chain(&classification.detail);
            texts.any(|text| common().about_conversation.iter().any(|p| p.matches(text)))
        };
        let answered = match classification.class {
            Class::Ok => true,
            Class::BadInput => self.has_worked() || about_conversation(),
            Class::Crashed
            | Class::TimedOut
            | Class::RateLimited
            | Class::Overloaded
            | Class::Auth
            | Class::ContextExceeded
            | Class::Limit
            | Class::Refused
            | Class::Blocked
            | Class::SessionLost
            | Class::SessionInUse => self.has_worked(),
        };
        if answered {
            SessionProgress::Answered
        } else if self.changed == Some(false) && self.stdout.events.is_empty() {
            SessionProgress::Silent
        } else {
            SessionProgress::Started
        }
    }
}
