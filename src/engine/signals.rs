//! Signals: the first Ctrl-C drains, the second stops the agents, the third exits at once.

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Listens for Ctrl-C and SIGTERM on a separate thread, until the process ends.
#[expect(clippy::disallowed_methods, reason = "the engine is the module with threads")]
pub(super) fn listen(mut tell: impl FnMut(i32) + Send + 'static) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            tell(signal);
        }
    })?;
    Ok(())
}
