//! What is shown and chosen: keys and readings come in, nothing goes out. It knows no terminal and no socket.

use std::collections::{HashMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{super::args::Page, rows};
use crate::api::{
    flows::Connections,
    traffic::{Traffic, TrafficEndpoint},
};

/// Readings that are remembered of each endpoint.
const REMEMBERED: usize = 300;
/// Rows that the page keys go by.
const LEAP: usize = 10;

/// What was carried a second, in and out, and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Bytes a second into the container.
    pub received: f64,
    /// Bytes a second out of it.
    pub sent: f64,
    /// Packets a second dropped.
    pub dropped: f64,
}

/// What comes from the agent.
#[derive(Debug)]
pub enum Reading {
    /// What it says, with rates, and the connections where they were asked for.
    Good(Box<Traffic>, Option<Connections>),
    /// It does not answer, and why.
    Lost(String),
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To go on.
    Stay,
    /// To end.
    Quit,
}

/// Connections that the agent is to be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// None.
    #[default]
    Nothing,
    /// All.
    All,
    /// Those of a container.
    Of(String),
}

/// All there is to show.
#[derive(Debug)]
pub struct View {
    /// The last reading.
    pub traffic: Traffic,
    /// The last connections, and how many there are.
    pub connections: Connections,
    /// Why the agent does not answer, while it does not.
    pub lost: Option<String>,
    /// What there is to say besides.
    pub news: String,
    /// The page.
    pub page: Page,
    /// Column that each page is sorted by, and whether upwards.
    pub order: [(usize, bool); 4],
    /// Only what contains this is shown.
    pub filter: String,
    /// Whether the filter is being typed.
    pub typing: bool,
    /// Endpoint that is looked at closely, and how far its text is scrolled.
    pub detail: Option<(String, u16)>,
    /// Whether the keys are shown.
    pub help: bool,
    /// Whether it holds still.
    pub still: bool,
    chosen: [Option<String>; 4],
    histories: HashMap<String, VecDeque<Point>>,
}

impl View {
    /// Begins with a page and a filter, and nothing read.
    pub fn new(page: Page, filter: &str) -> Self {
        Self {
            traffic: Traffic::default(),
            connections: Connections::default(),
            lost: None,
            news: String::new(),
            page,
            order: Page::ALL.map(|page| (page.favourite(), page == Page::Connections)),
            filter: filter.to_owned(),
            typing: false,
            detail: None,
            help: false,
            still: false,
            chosen: [const { None }; 4],
            histories: HashMap::new(),
        }
    }

    /// Takes a reading.
    pub fn take(&mut self, reading: Reading) {
        match reading {
            Reading::Lost(why) => self.lost = Some(why),
            Reading::Good(traffic, connections) => {
                let before = &self.traffic.started_at;
                if !before.is_empty() && *before != traffic.started_at {
                    self.news = "the agent was restarted; the counters go on".to_owned();
                } else if self.lost.is_some() {
                    self.news = "the agent answers again".to_owned();
                }
                self.lost = None;
                self.remember(&traffic);
                if !self.still {
                    self.traffic = *traffic;
                    if let Some(connections) = connections {
                        self.connections = connections;
                    }
                }
            }
        }
    }

    fn remember(&mut self, traffic: &Traffic) {
        let ids: std::collections::HashSet<_> = traffic.endpoints.iter().map(|e| &e.id).collect();
        self.histories.retain(|id, _| ids.contains(id));
        for endpoint in &traffic.endpoints {
            // The first reading of all has no rates.
            let (Some(received), Some(sent)) =
                (endpoint.received.byte_rate, endpoint.sent.byte_rate)
            else {
                continue;
            };
            let dropped = endpoint.dropped.packet_rate.unwrap_or_default();
            let history = self.histories.entry(endpoint.id.clone()).or_default();
            if history.len() == REMEMBERED {
                history.pop_front();
            }
            history.push_back(Point { received, sent, dropped });
        }
    }

    /// What was seen of an endpoint, the oldest first.
    pub fn history(&self, endpoint: &str) -> impl Iterator<Item = &Point> {
        self.histories.get(endpoint).into_iter().flatten()
    }

    /// The endpoint that is looked at closely, while it is there.
    pub fn looked_at(&self) -> Option<&TrafficEndpoint> {
        let (id, _) = self.detail.as_ref()?;
        self.traffic.endpoints.iter().find(|endpoint| endpoint.id == *id)
    }

    /// Connections that the agent is to be asked for.
    pub fn wanted(&self) -> Wanted {
        match (self.looked_at(), self.page) {
            (Some(endpoint), _) => Wanted::Of(endpoint.container.clone()),
            (None, Page::Connections) => Wanted::All,
            (None, _) => Wanted::Nothing,
        }
    }

    fn at(&self) -> usize {
        Page::ALL.iter().position(|page| *page == self.page).unwrap_or_default()
    }

    /// Column that the page is sorted by, and whether upwards.
    pub fn order(&self) -> (usize, bool) {
        self.order.get(self.at()).copied().unwrap_or_default()
    }

    /// The rows of the page.
    pub fn rows(&self) -> Vec<rows::Row> {
        let connections = &self.connections.connections;
        rows::rows(self.page, &self.traffic, connections, &self.filter, self.order())
    }

    /// What of the page was not told.
    pub fn cut_off(&self) -> Option<String> {
        rows::cut_off(self.page, &self.traffic, &self.connections)
    }

    /// Where among these the chosen one is.
    pub fn position(&self, rows: &[rows::Row]) -> usize {
        let chosen = self.chosen.get(self.at()).and_then(Option::as_ref);
        let found = chosen.and_then(|id| rows.iter().position(|row| row.id == *id));
        found.unwrap_or_default()
    }

    fn choose(&mut self, place: impl FnOnce(usize, usize) -> usize) {
        let rows = self.rows();
        let place = place(self.position(&rows), rows.len().saturating_sub(1));
        let at = self.at();
        if let (Some(chosen), Some(row)) = (self.chosen.get_mut(at), rows.get(place)) {
            *chosen = Some(row.id.clone());
        }
    }

    /// Does what a key asks for.
    pub fn key(&mut self, key: KeyEvent) -> Step {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Step::Quit;
        }
        self.news.clear();
        if self.typing {
            self.type_filter(key.code);
            return Step::Stay;
        }
        if self.help {
            self.help = false;
            return Step::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Step::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char(' ') => self.still = !self.still,
            code if self.detail.is_some() => self.key_in_detail(code),
            code => self.key_on_page(code),
        }
        Step::Stay
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
    }

    fn key_in_detail(&mut self, code: KeyCode) {
        let Some((_, scrolled)) = &mut self.detail else { return };
        let leap = LEAP as u16;
        match code {
            KeyCode::Up | KeyCode::Char('k') => *scrolled = scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => *scrolled = scrolled.saturating_add(1),
            KeyCode::PageUp => *scrolled = scrolled.saturating_sub(leap),
            KeyCode::PageDown => *scrolled = scrolled.saturating_add(leap),
            KeyCode::Home => *scrolled = 0,
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace | KeyCode::Left => {
                self.detail = None;
            }
            _ => {}
        }
    }

    fn key_on_page(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(digit @ '1'..='4') => {
                let index = digit as usize - '1' as usize;
                self.page = Page::ALL.get(index).copied().unwrap_or_default();
            }
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Page::ALL.len() - 1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(|at, last| (at + 1).min(last)),
            KeyCode::PageUp => self.choose(|at, _| at.saturating_sub(LEAP)),
            KeyCode::PageDown => self.choose(|at, last| (at + LEAP).min(last)),
            KeyCode::Home => self.choose(|_, _| 0),
            KeyCode::End => self.choose(|_, last| last),
            KeyCode::Char('<') | KeyCode::Left => self.sort(false),
            KeyCode::Char('>') | KeyCode::Right => self.sort(true),
            KeyCode::Char('r') => {
                let at = self.at();
                self.order.iter_mut().skip(at).take(1).for_each(|order| order.1 = !order.1);
            }
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter => {
                let rows = self.rows();
                let row = rows.get(self.position(&rows));
                let endpoint = row.and_then(|row| row.endpoint.clone());
                self.detail = endpoint.map(|id| (id, 0));
            }
            _ => {}
        }
    }

    fn turn(&mut self, by: usize) {
        let next = (self.at() + by) % Page::ALL.len();
        self.page = Page::ALL.get(next).copied().unwrap_or_default();
    }

    fn sort(&mut self, forwards: bool) {
        let (at, columns) = (self.at(), self.page.columns());
        let Some((column, upwards)) = self.order.get_mut(at) else { return };
        let by = if forwards { 1 } else { columns.len() - 1 };
        *column = (*column + by) % columns.len();
        // Numbers from the largest, words from the first.
        *upwards = columns.get(*column).is_some_and(|column| !column.number);
    }
}
