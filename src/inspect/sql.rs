//! The answer to a user's own SQL: as a table, as blocks if a table doesn't fit, or as CSV.

use super::render::{Style, Tone, broken, line, visible};
use crate::report::{SqlCell, SqlReport};

/// The rows as text. NULL is shown as such; the last line states whether rows were cut off.
pub fn sql(report: &SqlReport, style: &Style) -> String {
    let mut out = String::new();
    if !report.columns.is_empty() {
        let table = table(report);
        let widest = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        match style.width {
            Some(width) if widest > usize::from(width) => blocks(report, usize::from(width), style, &mut out),
            _ => line!(out, "{table}"),
        }
    }
    let rows = if report.rows.len() == 1 { "row" } else { "rows" };
    line!(out, "{} {rows}{}", report.rows.len(), cut(report).unwrap_or_default());
    out
}

/// What to add to the number of rows, if there are more.
fn cut(report: &SqlReport) -> Option<String> {
    let limit = report.limit.as_ref()?;
    Some(format!(", and more: the limit was {limit}; add LIMIT and OFFSET to the query, or pass --rows N"))
}

/// Every column as wide as its widest cell.
fn table(report: &SqlReport) -> String {
    let header: Vec<&str> = report.columns.iter().map(String::as_str).collect();
    let mut table = Style::default().table(&header, header.len());
    for (column, at) in table.column_iter_mut().zip(0..) {
        let is_number = |row: &Vec<SqlCell>| matches!(row[at], SqlCell::Integer(_) | SqlCell::Real(_));
        if report.rows.iter().any(is_number) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    for row in &report.rows {
        table.add_row(row.iter().map(|cell| visible(&shown(cell))));
    }
    table.trim_fmt()
}

/// One block per row and one line per column; long texts go over several lines.
fn blocks(report: &SqlReport, width: usize, style: &Style, out: &mut String) {
    let names: Vec<String> = report.columns.iter().map(|name| visible(name)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(width / 3);
    let room = width.saturating_sub(longest + 3).max(10);
    for (row, number) in report.rows.iter().zip(1..) {
        let head = format!("─ row {number} ");
        let rule = "─".repeat(width.saturating_sub(head.chars().count()));
        line!(out, "{}", style.paint(Tone::Faint, &(head + &rule)));
        for (name, cell) in names.iter().zip(row) {
            let name: String = name.chars().take(longest).collect();
            let text = broken(&visible(&shown(cell)), room).join(&format!("\n {:longest$}  ", ""));
            line!(out, " {name:<longest$}  {text}");
        }
    }
}

/// A cell as text.
fn shown(cell: &SqlCell) -> String {
    match cell {
        SqlCell::Null => "NULL".to_owned(),
        SqlCell::Integer(number) => number.to_string(),
        // Without hundreds of zeros.
        SqlCell::Real(number) => format!("{number:?}"),
        SqlCell::Text(text) => text.clone(),
        SqlCell::Blob(bytes) => format!("[{bytes} bytes]"),
    }
}

/// The rows as CSV (RFC 4180), with a header. NULL is an empty cell. A text that a spreadsheet would
/// run as a formula gets an apostrophe before it.
///
/// # Errors
/// Never in practice: the text is written into memory.
pub fn sql_csv(report: &SqlReport) -> Result<String, csv::Error> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    writer.write_record(report.columns.iter().map(|name| harmless(name)))?;
    for row in &report.rows {
        writer.write_record(row.iter().map(|cell| match cell {
            SqlCell::Null => String::new(),
            SqlCell::Text(text) => harmless(text),
            cell => shown(cell),
        }))?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A text that no spreadsheet runs: model output may begin like a formula.
fn harmless(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(limit: Option<&str>) -> SqlReport {
        SqlReport {
            columns: ["id", "text", "raw"].map(str::to_owned).to_vec(),
            rows: vec![
                vec![SqlCell::Integer(7), SqlCell::Text("one\ntwo, \"three\"".into()), SqlCell::Blob(3)],
                vec![SqlCell::Real(0.5), SqlCell::Text("=1+1".into()), SqlCell::Null],
            ],
            limit: limit.map(str::to_owned),
        }
    }

    #[test]
    fn a_table_where_it_fits_and_blocks_where_not() {
        let wide = sql(&report(None), &Style { color: false, width: Some(80) });
        let lines: Vec<&str> = wide.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "  id   text               raw");
        assert_eq!(lines[2], "   7   one⏎two, \"three\"   [3 bytes]");
        assert_eq!(lines[3..], [" 0.5   =1+1               NULL", "2 rows"]);
    }

    #[test]
    fn blocks_keep_every_character_within_the_width() {
        let text = sql(&report(Some("2 rows")), &Style { color: false, width: Some(20) });
        assert!(
            text.lines().filter(|line| !line.contains("rows")).all(|line| line.chars().count() <= 20),
            "{text}"
        );
        assert!(text.contains("─ row 1 ─") && text.contains("─ row 2 ─"), "{text}");
        assert!(text.contains(" raw   [3 bytes]\n") && text.contains(" raw   NULL\n"), "{text}");
        assert!(text.contains(" text  one⏎two, \"thr\n       ee\"\n"), "{text}");
        assert!(text.ends_with(
            "2 rows, and more: the limit was 2 rows; add LIMIT and OFFSET to the query, or pass --rows N\n"
        ));
        let one = SqlReport { rows: report(None).rows[..1].to_vec(), ..report(None) };
        assert!(sql(&one, &Style::default()).ends_with("\n1 row\n"));
    }

    #[test]
    fn csv_runs_in_no_spreadsheet() {
        let csv = sql_csv(&report(None)).unwrap();
        assert_eq!(csv, "id,text,raw\n7,\"one\ntwo, \"\"three\"\"\",[3 bytes]\n0.5,'=1+1,\n");
        for (text, safe) in [
            ("-5", "-5"),
            ("-1e3", "-1e3"),
            ("+x", "'+x"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2+3", "'-2+3"),
            ("a=b", "a=b"),
            ("\t=1", "'\t=1"),
        ] {
            assert_eq!(harmless(text), safe);
        }
    }
}
