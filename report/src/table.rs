//! One table, three forms: plain text for a terminal, Markdown for a document, HTML for a page.
//!
//! Columns of words stand to the left and columns of numbers to the right. comfy-table was weighed: its Markdown has no alignment row, and it pads
//! cells, so that one longer cell would change every line of a document.

use std::iter;

use crate::html::escape;

/// Heads and rows. The first columns hold words, the others numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
    words: usize,
}

impl Table {
    /// An empty table whose first `words` columns hold words.
    #[must_use]
    pub fn new<T: Into<String>>(words: usize, heads: impl IntoIterator<Item = T>) -> Self {
        Self { heads: heads.into_iter().map(Into::into).collect(), rows: Vec::new(), words }
    }

    /// Adds a row, with a cell for each head.
    pub fn push<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The same table with these rows as well.
    #[must_use]
    pub fn with<R: IntoIterator<Item = T>, T: Into<String>>(mut self, rows: impl IntoIterator<Item = R>) -> Self {
        rows.into_iter().for_each(|cells| self.push(cells));
        self
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Lines for a terminal, columns two spaces apart.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = || iter::once(&self.heads).chain(&self.rows);
        let width = |column: usize| lines().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.heads.len()).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column < self.words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        lines().map(line).collect()
    }

    /// A Markdown table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let cell = |cell: &String| if cell.is_empty() { "| ".to_owned() } else { format!("| {cell} ") };
        let line = |cells: &Vec<String>| cells.iter().map(cell).collect::<String>() + "|\n";
        let rule = (0..self.heads.len()).map(|column| if column < self.words { "|---" } else { "|--:" });
        let rows: String = self.rows.iter().map(line).collect();
        format!("{}{}|\n{rows}", line(&self.heads), rule.collect::<String>())
    }

    /// An HTML table of this class (plain text), which scrolls by itself where a page is too narrow.
    #[must_use]
    pub fn html(&self, class: &str) -> String {
        self.html_with(class, |name| escape(name).into_owned())
    }

    /// The same, with the first cell of each row made HTML by `name`.
    #[must_use]
    pub fn html_with(&self, class: &str, name: impl Fn(&str) -> String) -> String {
        let heads: String = self.heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", escape(head))).collect();
        let row = |row: &Vec<String>| {
            let (first, cells) = row.split_first()?;
            let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            Some(format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", name(first)))
        };
        let rows: String = self.rows.iter().filter_map(row).collect();
        format!(
            "<div class=\"wide-table\"><table class=\"{class}\">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
        )
    }
}

/// The cells of a Markdown table in `text`, without heads and rule.
#[must_use]
pub fn parse_markdown(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(1, ["peer", "CPU µs"]).with([["relay", "9.0"], ["outrigger", "18.5"]])
    }

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        assert_eq!(table().text(), "peer       CPU µs\nrelay         9.0\noutrigger    18.5\n");
    }

    #[test]
    fn a_markdown_table_is_read_back_cell_by_cell() {
        let text = table().markdown();
        assert!(text.starts_with("| peer | CPU µs |\n|---|--:|\n| relay | 9.0 |\n"), "{text}");
        assert_eq!(parse_markdown(&text), [["relay", "9.0"], ["outrigger", "18.5"]]);
    }

    #[test]
    fn no_cell_becomes_markup() {
        let html = Table::new(1, ["<h>", "b"]).with([["<i>", "<b>"]]).html("c");
        for markup in ["<h>", "<i>", "<b>"] {
            assert!(!html.contains(markup), "{html}");
        }
    }
}
