//! Tables that fit the terminal: what matters least is left out, and named. No cell is wrapped, so
//! a number, a date or a hash stays whole.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use super::render::{RULED, Style, Tone, folded};

/// Blanks that a column has around it, and the one between it and the next.
const PADDING: usize = 3;
/// The last column has none after it.
const END: usize = 1;

/// A column, and what becomes of it where there is little room.
pub(super) struct Column {
    head: String,
    right: bool,
    /// Higher ones are left out first; 0 always stays.
    rank: u8,
    /// Least width that its text may be cut to; `None` is never cut.
    least: Option<usize>,
}

/// A column of text.
pub(super) fn left(head: impl Into<String>) -> Column {
    Column { head: head.into(), right: false, rank: 0, least: None }
}

/// A column of numbers.
pub(super) fn right(head: impl Into<String>) -> Column {
    Column { right: true, ..left(head) }
}

impl Column {
    /// May be left out; higher ranks go first.
    pub(super) fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// Its text may be cut, with a mark, to this width.
    pub(super) fn cut_to(self, least: usize) -> Self {
        Self { least: Some(least), ..self }
    }
}

/// Rows under columns.
pub(super) struct Grid {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Grid {
    pub(super) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// One cell for each column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table, and a line that names what there was no room for.
    pub(super) fn draw(&self, style: &Style) -> String {
        let (shown, left_out) = self.fitting(style.width.map(usize::from));
        let mut table = Table::new();
        table.load_style(RULED).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(shown.iter().map(|(at, _)| self.columns[*at].head.as_str()));
        if style.color {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        for row in &self.rows {
            table.add_row(shown.iter().filter_map(|(at, width)| Some(cut(row.get(*at)?, *width))));
        }
        for ((at, _), column) in shown.iter().zip(table.column_iter_mut()) {
            if self.columns[*at].right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = table.trim_fmt() + "\n";
        if !left_out.is_empty() {
            let note = format!("no room for: {} (--json has all)", left_out.join(", "));
            text += &style.paint(Tone::Faint, &folded(&note, 2, style));
            text.push('\n');
        }
        text
    }

    /// The places of the columns that fit with their widths, and the names of the others.
    fn fitting(&self, width: Option<usize>) -> (Vec<(usize, usize)>, Vec<&str>) {
        let wide = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| letters(&cell.content()));
            cells.chain([letters(&self.columns[at].head)]).max().unwrap_or(0)
        };
        let mut shown: Vec<(usize, usize)> = (0..self.columns.len()).map(|at| (at, wide(at))).collect();
        let Some(room) = width else { return (shown, Vec::new()) };
        let column = |at: usize| &self.columns[at];
        let needs = |shown: &[(usize, usize)], least: bool| -> usize {
            let width = |(at, wide): &(usize, usize)| {
                PADDING + column(*at).least.filter(|_| least).map_or(*wide, |least| least.min(*wide))
            };
            shown.iter().map(width).sum::<usize>().saturating_sub(END)
        };
        while needs(&shown, true) > room {
            let last = shown.iter().enumerate().max_by_key(|(place, (at, _))| (column(*at).rank, *place));
            let Some((place, _)) = last.filter(|(_, (at, _))| column(*at).rank > 0) else { break };
            shown.remove(place);
        }
        while needs(&shown, false) > room {
            let can_shrink =
                |(at, wide): &&mut (usize, usize)| column(*at).least.is_some_and(|least| *wide > least);
            let Some((_, widest)) = shown.iter_mut().filter(can_shrink).max_by_key(|(_, wide)| *wide) else {
                break;
            };
            *widest -= 1;
        }
        let is_out = |at: &usize| !shown.iter().any(|(shown, _)| shown == at);
        let left_out = (0..self.columns.len()).filter(is_out).map(|at| column(at).head.as_str()).collect();
        (shown, left_out)
    }
}

fn letters(text: &str) -> usize {
    text.chars().count()
}

/// The cell with its text cut to the width.
fn cut(cell: &Cell, width: usize) -> Cell {
    let text = cell.content();
    if letters(&text) <= width {
        return cell.clone();
    }
    Cell::new(text.chars().take(width.saturating_sub(1)).chain(['…']).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(width: Option<u16>) -> String {
        let columns = [right("n"), left("hash").rank(2), left("text").cut_to(4), right("time").rank(1)];
        let mut grid = Grid::new(columns);
        grid.row(["1", "f8f41489cc", "a long line of words", "2m29s"]);
        grid.row(["12", "40cc58f47f", "short", "4 s"]);
        grid.draw(&Style { color: false, width })
    }

    #[test]
    fn a_table_that_fits_is_whole() {
        for width in [None, Some(49)] {
            let text = drawn(width);
            assert!(text.contains("a long line of words") && text.contains("f8f41489cc"), "{text}");
            assert!(!text.contains("no room"), "{text}");
        }
    }

    /// The text with each folded line as one.
    fn unfolded(text: &str) -> String {
        text.replace("\n  ", " ")
    }

    #[test]
    fn text_is_cut_before_a_column_goes_and_the_lower_rank_goes_last() {
        let cut = drawn(Some(43));
        assert!(
            cut.contains("a long line of…") && cut.contains("2m29s") && cut.contains("f8f41489cc"),
            "{cut}"
        );
        let without = drawn(Some(27));
        assert!(without.contains("2m29s") && !without.contains("f8f41"), "{without}");
        assert!(unfolded(&without).contains("no room for: hash ("), "{without}");
        let least = drawn(Some(10));
        assert!(unfolded(&least).contains("no room for: hash, time"), "{least}");
        for (text, width) in [(cut, 43), (without, 27)] {
            let longest = text.lines().filter(|l| !l.contains("no room")).map(|l| l.chars().count()).max();
            assert!(longest.unwrap() <= width, "{text}");
        }
    }
}
