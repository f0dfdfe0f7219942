//! The folders of overlays.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The file that describes the overlays of a folder.
const FSTAB: &str = "fstab";

/// The folder of an overlay with its changes.
pub(crate) const UPPER: &str = "upper";

/// The folder of an overlay in which the overlay is mounted.
const MERGED: &str = "merged";

/// An overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// The name of the overlay's folder.
    name: String,
    /// The lower layers, the highest first.
    layers: Vec<PathBuf>,
}

impl Overlay {
    /// Creates the overlay of a cache.
    pub(crate) fn new(cache: &Path, layers: Vec<PathBuf>) -> Self {
        Self { name: folder_name(cache), layers }
    }

    /// Returns the path of the mounted overlay, relative to the folder of all overlays.
    pub(crate) fn merged(&self) -> PathBuf {
        Path::new(&self.name).join(MERGED)
    }

    /// Returns the folder with the changes.
    pub(crate) fn upper(&self, folder: &Path) -> PathBuf {
        folder.join(&self.name).join(UPPER)
    }

    /// Makes the folder of the overlay, with links to the lower layers.
    fn make(&self, folder: &Path) -> io::Result<()> {
        let own = folder.join(&self.name);
        for name in [UPPER, "work", MERGED] {
            std::fs::create_dir_all(own.join(name))?;
        }
        for (number, layer) in self.layers.iter().enumerate() {
            let link = own.join(number.to_string());
            match std::fs::read_link(&link) {
                Ok(old) if old == *layer => continue,
                Ok(_) => std::fs::remove_file(&link)?,
                Err(_) => {}
            }
            symlink(layer, &link)?;
        }
        Ok(())
    }

    /// Returns the line of the overlay in the file of mounts. All paths are relative and of plain
    /// characters, since many characters separate options or fields.
    fn line(&self) -> String {
        let name = &self.name;
        let lower: Vec<_> = (0..self.layers.len()).map(|n| format!("{name}/{n}")).collect();
        let options = format!(
            "userxattr,lowerdir={},upperdir={name}/{UPPER},workdir={name}/work",
            lower.join(":")
        );
        format!("overlay ./{name}/{MERGED} overlay {options} 0 0\n")
    }
}

/// Makes the folder of overlays. Keeps the changes that are there.
///
/// # Errors
///
/// Fails if the folder cannot be written.
pub(crate) fn make_overlays(folder: &Path, overlays: &[Overlay]) -> io::Result<()> {
    overlays.iter().try_for_each(|overlay| overlay.make(folder))?;
    let table: String = overlays.iter().map(Overlay::line).collect();
    let file = folder.join(FSTAB);
    if overlays.is_empty() || std::fs::read_to_string(&file).is_ok_and(|old| old == table) {
        return Ok(());
    }
    std::fs::write(file, table)
}

/// Returns the name of a cache's folder: its path in letters, digits, and a few plain characters.
fn folder_name(cache: &Path) -> String {
    let plain = |byte: &u8| match byte {
        b'/' => "+".to_owned(),
        b'.' | b'_' | b'-' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
            char::from(*byte).to_string()
        }
        other => format!("%{other:02x}"),
    };
    cache.as_os_str().as_encoded_bytes().iter().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_mounts_has_relative_plain_paths() {
        let cache = Path::new("/home/una b/.npm,x");
        let overlay = Overlay::new(cache, vec!["/setup:x".into(), cache.into()]);
        let name = "+home+una%20b+.npm%2cx";
        let options = format!(
            "userxattr,lowerdir={name}/0:{name}/1,upperdir={name}/upper,workdir={name}/work"
        );
        assert_eq!(overlay.line(), format!("overlay ./{name}/merged overlay {options} 0 0\n"));
    }

    #[test]
    fn layers_and_changes_of_an_overlay_stay_until_they_differ() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = |layer: &str| Overlay::new(Path::new("/c"), vec![layer.into()]);
        make_overlays(dir.path(), &[overlay("/a")]).unwrap();
        let change = overlay("/a").upper(dir.path()).join("change");
        std::fs::write(&change, "").unwrap();
        make_overlays(dir.path(), &[overlay("/b")]).unwrap();
        assert!(change.exists());
        assert_eq!(std::fs::read_link(dir.path().join("+c/0")).unwrap(), Path::new("/b"));
    }
}
