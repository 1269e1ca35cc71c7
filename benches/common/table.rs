//! Tables in Markdown.

use std::fmt::Write;

/// A table that reads as well in a terminal. The first of `rows` is its header, the first column text.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..rows[0].len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut table = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(table, "| {cell:width$} "),
                _ => write!(table, "| {cell:>width$} "),
            };
        }
        table.push_str("|\n");
        if number == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let _ = match column {
                    0 => write!(table, "|{:-<1$}", "", width + 2),
                    _ => write!(table, "|{:-<1$}:", "", width + 1),
                };
            }
            table.push_str("|\n");
        }
    }
    table
}
