//! Import of objects from a pack that a stranger made, as a server takes a push.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Git;
use crate::domain::id::Oid;

/// The least number of objects of a pack that is kept. Smaller packs are unpacked, as git does for
/// a push: thousands of small packs would slow down every search for an object.
const KEPT_PACK: u32 = 100;

/// The length of a pack's header: signature, version, number of objects.
const HEADER: usize = 12;

impl Git {
    /// Adds the objects of a pack. The pack may lack the objects that `base` reaches. Every object
    /// is checked, and everything that `tips` reach must be there. No ref moves.
    ///
    /// # Errors
    ///
    /// Fails if git refuses the pack or an object, or if an object is missing.
    pub(crate) fn import_pack(
        &self,
        pack: &Path,
        tips: &[Oid],
        base: &Oid,
        limit: u64,
    ) -> Result<()> {
        let mut header = [0; HEADER];
        File::open(pack)?.read_exact(&mut header).context("the pack has no header")?;
        let [.., a, b, c, d] = header;
        let limit = format!("--max-input-size={limit}");
        let args: &[&str] = if u32::from_be_bytes([a, b, c, d]) < KEPT_PACK {
            &["unpack-objects", "-q", "--strict", &limit]
        } else {
            &["index-pack", "--stdin", "--fix-thin", "--strict", &limit]
        };
        // The barrier that follows the publication makes the objects durable.
        let run = self
            .expression(&["core.fsync=none"], args)
            .stdin_file(File::open(pack)?)
            .stdout_null()
            .stderr_capture()
            .run()
            .context("cannot start git")?;
        if !run.status.success() {
            bail!("{}", String::from_utf8_lossy(&run.stderr).trim_end());
        }
        let without_base = format!("^{base}");
        let mut walk = vec!["rev-list", "--objects", "--quiet", without_base.as_str()];
        walk.extend(tips.iter().map(Oid::as_str));
        let walked = self.output(&walk, b"")?;
        if walked.code != Some(0) {
            bail!("objects are missing: {}", walked.stderr);
        }
        Ok(())
    }
}
