//! Tables for people.

/// Lines whose cells stand one under the other, behind `indent` blanks: the first `names` columns to the left, all others,
/// which are figures, to the right.
pub fn columns(lines: &[Vec<String>], indent: usize, names: usize) -> String {
    let most = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..most).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let padded = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < names { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let cells = padded.collect::<Vec<_>>().join("  ");
        text.push_str(format!("{:indent$}{cells}", "").trim_end());
        text.push('\n');
    }
    text
}
