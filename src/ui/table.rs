//! Tables with aligned columns.

use unicode_width::UnicodeWidthStr as _;

/// Formats rows as text: every column is as wide as its widest cell, with two spaces between
/// columns.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let column_width =
        |n: usize| rows.iter().filter_map(|row| row.get(n)).map(|cell| width(cell)).max();
    let widths: Vec<_> = (0..count).map(|n| column_width(n).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> =
            row.iter().zip(&widths).map(|(cell, width)| pad(cell, *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Returns the width of a text in columns of a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Pads a text with spaces to a width. A wider text stays as it is.
pub(crate) fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn columns_align_by_display_width() {
        let row = |cells: [&str; 2]| cells.map(String::from).to_vec();
        assert_eq!(columns(&[row(["a", "x"]), row(["long", "y"])]), "a     x\nlong  y\n");
        // A wide character fills two columns.
        assert_eq!(columns(&[row(["漢字", "x"]), row(["abcde", "y"])]), "漢字   x\nabcde  y\n");
    }
}
