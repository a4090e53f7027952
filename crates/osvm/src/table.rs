//! Text tables of at most 100 columns.

/// The widest that a table gets.
const WIDTH: usize = 100;
/// Between two columns.
const GAP: usize = 2;

/// The lines of a table: headings, then rows, each column as wide as its widest cell. What is wider than the table is cut.
pub(crate) fn lines<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + GAP));
        }
        cut(text.trim_end(), WIDTH)
    };
    let mut lines = vec![line(headings)];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    lines
}

/// At most `width` characters of `text`; one that was cut ends in `…`.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.to_owned() } else { text.chars().take(width - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_table_is_not_too_wide() {
        let rows = [["rpc-local".to_owned(), "1".to_owned()], ["a".to_owned(), "x".repeat(200)]];
        let lines = lines(["NAME", "REV"], &rows);
        assert_eq!(lines[0], "NAME       REV");
        assert_eq!(lines[1], "rpc-local  1");
        assert!(lines[2].starts_with("a          xxx") && lines[2].ends_with('…'));
        assert_eq!(lines[2].chars().count(), WIDTH);
    }
}
