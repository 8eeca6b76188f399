//! An endpoint looked at closely.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    super::args::Page,
    draw::Looks,
    rows::{cut_off, published, short},
    view::{Point, View},
};
use crate::api::traffic::TrafficEndpoint;

const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws it, scrolled down by some lines.
pub fn draw(view: &View, looks: Looks, scrolled: u16, frame: &mut Frame<'_>, area: Rect) {
    let lines = match view.looked_at() {
        Some(endpoint) => lines(view, endpoint, looks, area.width),
        None => vec![Line::from("This endpoint is no longer there; Esc goes back.")],
    };
    let last = (lines.len() as u16).saturating_sub(area.height);
    frame.render_widget(Paragraph::new(lines).scroll((scrolled.min(last), 0)), area);
}

fn lines(view: &View, e: &TrafficEndpoint, looks: Looks, width: u16) -> Vec<Line<'static>> {
    let field = |name: &str, value: String| {
        Line::from(vec![Span::styled(format!("{name:<12}"), TITLE), Span::raw(value)])
    };
    let mut lines = vec![
        field("Container", format!("{} ({})", e.container, e.container_id)),
        field("Network", e.network.clone()),
        field("Addresses", e.addresses.join(" ")),
        field("Interface", format!("{} {}, on the host {}", e.interface, e.mac, e.host_interface)),
        Line::default(),
    ];
    let history: Vec<_> = view.history(&e.id).copied().collect();
    let room = usize::from(width.saturating_sub(34)).clamp(8, 240);
    let mut sparkline = |name: &str, unit: &str, colour, of: fn(&Point) -> f64| {
        let values: Vec<f64> = history.iter().map(of).collect();
        let most = values.iter().copied().fold(0.0, f64::max);
        lines.push(Line::from(vec![
            Span::styled(format!("{name:<12}"), TITLE),
            Span::raw(format!("{:>5} {unit} ", short(values.last().copied().unwrap_or_default()))),
            Span::styled(spark(&values, room, looks.unicode), looks.colour(colour)),
            Span::raw(format!(" most {}", short(most))),
        ]));
    };
    sparkline("In", "B/s", Color::Green, |point| point.received);
    sparkline("Out", "B/s", Color::Blue, |point| point.sent);
    sparkline("Dropped", "p/s", Color::Red, |point| point.dropped);
    lines.push(field(
        "In all",
        format!(
            "in {} packets {}B, out {} packets {}B",
            short(e.received.packets as f64),
            short(e.received.bytes as f64),
            short(e.sent.packets as f64),
            short(e.sent.bytes as f64),
        ),
    ));
    ports(view, e, &mut lines);
    drops(e, looks, &mut lines);
    connections(view, e, &mut lines);
    lines
}

fn heading(lines: &mut Vec<Line<'static>>, text: String) {
    lines.extend([Line::default(), Line::styled(text, TITLE)]);
}

fn ports(view: &View, e: &TrafficEndpoint, lines: &mut Vec<Line<'static>>) {
    let own = view.traffic.ports.iter();
    let own = own.filter(|p| (&p.container, &p.network) == (&e.container, &e.network));
    let shown = own.map(|p| {
        Line::from(format!(
            "  {} -> {}/{}  in {}B/s  out {}B/s  {} open",
            published(p),
            p.container_port,
            p.proto,
            short(p.received.byte_rate.unwrap_or_default()),
            short(p.sent.byte_rate.unwrap_or_default()),
            p.active,
        ))
    });
    let shown: Vec<_> = shown.collect();
    let cut = cut_off(Page::Ports, &view.traffic, &view.connections);
    if !shown.is_empty() || cut.is_some() {
        heading(lines, "Published ports".to_owned());
        lines.extend(shown);
        lines.extend(cut.map(|cut| Line::from(format!("  ({cut} on the host are searched)"))));
    }
}

fn drops(e: &TrafficEndpoint, looks: Looks, lines: &mut Vec<Line<'static>>) {
    if e.drops.is_empty() {
        return;
    }
    heading(lines, "Drops".to_owned());
    for drop in &e.drops {
        lines.push(Line::from(vec![
            Span::raw(format!("  {:<3} ", drop.direction)),
            Span::styled(drop.reason.clone(), looks.colour(Color::Red)),
            Span::raw(format!(
                "  {}/s, {} in all: {}",
                short(drop.dropped.packet_rate.unwrap_or_default()),
                drop.dropped.packets,
                drop.explanation
            )),
        ]));
    }
}

fn connections(view: &View, e: &TrafficEndpoint, lines: &mut Vec<Line<'static>>) {
    let list = &view.connections.connections;
    let own: Vec<_> =
        list.iter().filter(|c| c.from == e.container || c.to == e.container).collect();
    let (told, total) = (list.len(), view.connections.total);
    let cut =
        if told < total { format!("; of {total} the {told} used last") } else { String::new() };
    heading(lines, format!("Connections ({}{cut})", e.connections));
    lines.extend(own.iter().map(|c| {
        Line::from(format!(
            "  {:<5} {} {} -> {} {}  {}, idle {}s",
            c.proto, c.from, c.source, c.to, c.destination, c.state, c.idle_seconds
        ))
    }));
    if own.is_empty() {
        lines.push(Line::from("  (none; within a network nothing is tracked)"));
    }
}

/// Draws the last values as bars of one line, the newest at the right.
fn spark(values: &[f64], width: usize, unicode: bool) -> String {
    let bars: Vec<char> = if unicode { " ▁▂▃▄▅▆▇█" } else { " .:-=+*#@" }.chars().collect();
    let skipped = values.len().saturating_sub(width);
    let most = values.iter().skip(skipped).copied().fold(0.0, f64::max);
    let steps = (bars.len() - 1) as f64;
    let bar = |value: &f64| {
        let part = if most > 0.0 { value / most } else { 0.0 };
        // What is not nothing is seen.
        bars.get((part * steps).ceil() as usize).copied().unwrap_or(' ')
    };
    let drawn: String = values.iter().skip(skipped).map(bar).collect();
    format!("{drawn:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_values_and_the_newest_is_at_the_right() {
        assert_eq!(spark(&[0.0, 1.0, 4.0, 8.0], 6, true), "   ▁▄█");
        assert_eq!(spark(&[9.0, 0.0, 0.1, 8.0], 3, false), " .@");
        assert_eq!(spark(&[], 3, true), "   ");
    }
}
