//! How it looks: lines of text, without boxes, so that a small window has room for what matters.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table, TableState},
};

use super::{
    super::args::{self, Page},
    detail,
    rows::{self, Column, short},
    view::View,
};

/// The smallest window that anything can be read in.
const SMALLEST: (u16, u16) = (32, 6);
/// What stands between two columns.
const GAP: u16 = 2;
/// What the first column shrinks to before another one goes.
const FIRST: u16 = 12;

/// What a terminal can show.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// Colours.
    pub colours: bool,
    /// Letters beyond ASCII.
    pub unicode: bool,
}

impl Looks {
    /// A colour, where there are any.
    pub fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn dim(self) -> Style {
        self.colour(Color::DarkGray)
    }
}

const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws everything.
pub fn draw(view: &View, looks: Looks, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        frame.render_widget("too small a window", area);
        return;
    }
    let rows = [Constraint::Length(2), Constraint::Min(1), Constraint::Length(2)];
    let [head, body, foot] = Layout::vertical(rows).areas(area);
    frame.render_widget(Paragraph::new(vec![summary(view, looks), tabs(view)]), head);
    let mut note = String::new();
    if view.help {
        frame.render_widget(help(), body);
    } else if let Some((_, scrolled)) = view.detail {
        detail::draw(view, looks, scrolled, frame, body);
    } else {
        note = table(view, looks, frame, body);
    }
    let lines = vec![said(view, looks, note), Line::styled(keys(view), looks.dim())];
    frame.render_widget(Paragraph::new(lines), foot);
}

fn summary(view: &View, looks: Looks) -> Line<'static> {
    let traffic = &view.traffic;
    let sum = |rate: fn(&crate::api::traffic::TrafficEndpoint) -> Option<f64>| {
        short(traffic.endpoints.iter().filter_map(rate).sum())
    };
    let dropped = traffic.endpoints.iter().map(|e| &e.dropped);
    let dropped = dropped.chain(traffic.drops.iter().map(|d| &d.dropped));
    let dropped: f64 = dropped.filter_map(|d| d.packet_rate).sum();
    let drops = if dropped > 0.0 { looks.colour(Color::Red) } else { Style::new() };
    Line::from(vec![
        Span::styled("bascule  ", TITLE),
        Span::raw(format!(
            "{} endpoints  in {}B/s  out {}B/s  ",
            traffic.endpoints.len(),
            sum(|e| e.received.byte_rate),
            sum(|e| e.sent.byte_rate),
        )),
        Span::styled(format!("drops {}/s", short(dropped)), drops),
        Span::raw(format!("  {} connections", traffic.connections)),
    ])
}

fn tabs(view: &View) -> Line<'static> {
    let mut spans = Vec::new();
    for (index, page) in Page::ALL.iter().enumerate() {
        let style = if *page == view.page { CHOSEN } else { Style::new() };
        spans.push(Span::styled(format!(" {} {} ", index + 1, page.title()), style));
    }
    Line::from(spans)
}

/// Draws the table of a page, and returns what is to be said of the chosen row.
fn table(view: &View, looks: Looks, frame: &mut Frame<'_>, area: Rect) -> String {
    let (rows, all) = (view.rows(), view.page.columns());
    let (shown, first) = fitting(all, area.width);
    let (sorted, upwards) = view.order();
    let title = |index: &usize| {
        let column = all.get(*index)?;
        let mark = match (*index == sorted, upwards) {
            (false, _) => "",
            (true, true) => "+",
            (true, false) => "-",
        };
        let text = format!("{}{mark}", column.title);
        let line = if column.number { Line::from(text).right_aligned() } else { Line::from(text) };
        Some(Cell::from(line))
    };
    let titles = Row::new(shown.iter().filter_map(title)).style(TITLE);
    let widths = shown.iter().filter_map(|index| Some((*index, all.get(*index)?)));
    let widths: Vec<_> = widths
        .map(|(index, column)| if index == 0 { first } else { width(column, index == sorted) })
        .collect();
    // What is not on the screen need not be laid out.
    let (height, chosen) =
        (usize::from(area.height.saturating_sub(1)).max(1), view.position(&rows));
    let from = chosen.saturating_sub(height / 2).min(rows.len().saturating_sub(height));
    let visible = rows.iter().skip(from).take(height);
    let lines = visible.map(|row| line(view.page, row, all, &shown, looks));
    let table = Table::new(lines, widths.iter().map(|width| Constraint::Length(*width)))
        .header(titles)
        .column_spacing(GAP)
        .row_highlight_style(CHOSEN);
    let mut state = TableState::new().with_selected(Some(chosen - from));
    frame.render_stateful_widget(table, area, &mut state);
    if rows.is_empty() {
        let text = match (view.filter.is_empty(), view.cut_off()) {
            (true, _) => "nothing".to_owned(),
            (false, None) => "nothing that contains this".to_owned(),
            (false, Some(cut)) => format!("nothing that contains this: {cut} are searched"),
        };
        let below = Rect { y: area.y + 1, height: area.height.min(2) - 1, ..area };
        frame.render_widget(Line::styled(format!("  ({text})"), looks.dim()), below);
        return String::new();
    }
    let mut counted = format!("{}/{}", chosen + 1, rows.len());
    if let Some(cut) = view.cut_off() {
        counted += &format!(" ({cut})");
    }
    rows.get(chosen).map_or(counted.clone(), |row| format!("{counted}  {}", row.note))
}

fn line<'a>(
    page: Page,
    row: &'a rows::Row,
    all: &[Column],
    shown: &[usize],
    looks: Looks,
) -> Row<'a> {
    let cell = |index: &usize| {
        let (column, cell) = (all.get(*index)?, row.cells.get(*index)?);
        let line = Line::from(cell.text.as_str());
        let line = if column.number { line.right_aligned() } else { line };
        let alarming = column.title == "DROPS/s" && cell.text != "0" || column.title == "REASON";
        let style = if alarming {
            looks.colour(Color::Red)
        } else if column.number && cell.text == "0" {
            looks.dim()
        } else if *index == 0 && page != Page::Drops {
            looks.colour(Color::Cyan)
        } else {
            Style::new()
        };
        Some(Cell::from(line.style(style)))
    };
    Row::new(shown.iter().filter_map(cell))
}

/// A column's width: of the one that is sorted by, with the mark.
fn width(column: &Column, sorted: bool) -> u16 {
    let title = column.title.len() as u16 + u16::from(sorted);
    column.width.max(title)
}

/// Columns that fit into a width, and the width of the first one, which has what is left.
fn fitting(all: &[Column], room: u16) -> (Vec<usize>, u16) {
    let mut shown: Vec<usize> = (0..all.len()).collect();
    loop {
        let others = shown.iter().skip(1).filter_map(|index| all.get(*index));
        let taken: u16 = others.map(|column| width(column, true) + GAP).sum();
        let rank = |index: &usize| all.get(*index).map_or(0, |column| column.rank);
        let least = shown.iter().copied().max_by_key(rank);
        match least.filter(|index| rank(index) > 0) {
            Some(least) if taken + FIRST > room => shown.retain(|index| *index != least),
            _ => return (shown, room.saturating_sub(taken).min(40)),
        }
    }
}

fn help() -> Paragraph<'static> {
    Paragraph::new(args::TOP_KEYS.lines().map(Line::from).collect::<Vec<_>>())
}

/// The line above the keys: what is wrong, else what is being typed, else what is said of the chosen row.
fn said(view: &View, looks: Looks, note: String) -> Line<'static> {
    if let Some(why) = &view.lost {
        let text = format!("no answer, trying again: {why}");
        return Line::styled(text, looks.colour(Color::Red).add_modifier(Modifier::BOLD));
    }
    if view.typing {
        return Line::from(format!("/{}_", view.filter));
    }
    if !view.news.is_empty() {
        return Line::styled(view.news.clone(), looks.colour(Color::Yellow));
    }
    let mut text = String::new();
    if view.still {
        text += "holding still  ";
    }
    if !view.filter.is_empty() && view.detail.is_none() {
        text += &format!("/{}  ", view.filter);
    }
    Line::from(text + &note)
}

const fn keys(view: &View) -> &'static str {
    match (view.typing, view.help, view.detail.is_some()) {
        (true, ..) => "Enter keep  Esc show all",
        (_, true, _) => "any key goes back",
        (.., true) => "q quit  Esc back  Up Down scroll  Space hold  ? help",
        _ => "q quit  ? help  / filter  < > sort  r reverse  Enter detail  Tab page",
    }
}
