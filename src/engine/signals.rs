//! Signals: the first Ctrl-C drains, the second stops the agents, the third exits at once.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

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

/// Returns a number that becomes that of the next Ctrl-C or SIGTERM, for a wait outside of the
/// loop.
pub(super) fn last() -> Result<Arc<AtomicUsize>> {
    let last = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let number = usize::try_from(signal)?;
        signal_hook::flag::register_usize(signal, Arc::clone(&last), number)?;
    }
    Ok(last)
}
