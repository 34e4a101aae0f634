//! Tables for people.

/// Lines whose cells stand one under the other, `indent` blanks more than two from the left where it is above zero.
pub fn columns(lines: &[Vec<String>], indent: usize) -> String {
    let indent = " ".repeat(indent.max(2));
    let most = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..most).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(&indent);
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
