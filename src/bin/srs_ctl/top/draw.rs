//! Drawing of the view.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table};
use serde_json::Value;

use super::app::{App, CLIENT_SORT_COLUMNS, Mode, Page, STREAM_SORT_COLUMNS};
use super::rows::{ClientRow, Rate, StreamRow};
use crate::output::{bytes, duration, rate, text};

/// Height from which the plots of bit rates have several lines.
const TALL_FROM_ROWS: u16 = 34;

/// Width from which all columns fit.
const WIDE_FROM_COLUMNS: u16 = 130;

const HELP: &[&str] = &[
    "Up Down PgUp PgDn Home End   select",
    "Enter                        clients of the stream",
    "c                            clients of all streams",
    "Esc                          back; clear the filter",
    "/                            filter by name or address",
    "s  r                         order by the next column; reverse",
    "k                            disconnect, after a question",
    "q                            quit",
];

/// Draws the whole view.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    let plot = if area.height >= TALL_FROM_ROWS { 4 } else { 1 };
    let rows = [Constraint::Length(2), Constraint::Length(plot), Constraint::Min(3), Constraint::Length(1)];
    let [head, plots, list, foot] = Layout::vertical(rows).areas(area);
    draw_head(frame, head, app);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(plots);
    draw_rate(frame, left, "in ", &app.received, Color::Cyan);
    draw_rate(frame, right, "out", &app.sent, Color::Green);
    app.height = usize::from(list.height.saturating_sub(1)).max(1);
    app.clamp_selection();
    match app.page {
        Page::Streams => draw_streams(frame, list, app),
        Page::Clients { .. } => draw_clients(frame, list, app),
    }
    draw_foot(frame, foot, app);
    if app.mode == Mode::Help {
        draw_help(frame, area);
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn dim(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().add_modifier(Modifier::DIM))
}

fn bold(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().add_modifier(Modifier::BOLD))
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let (server, limits) = (&app.data["server"], &app.data["limits"]);
    let uptime = duration(server["uptime_ms"].as_f64().unwrap_or(0.0) / 1000.0);
    let state = match (&app.error, limits["refusing"].as_str()) {
        (Some(error), _) => Span::styled(error.clone(), Style::new().fg(Color::Red)),
        (None, Some(why)) => Span::styled(format!("refuses streams: {why}"), Style::new().fg(Color::Yellow)),
        (None, None) => Span::styled("serving", Style::new().fg(Color::Green)),
    };
    let is_wide = area.width >= WIDE_FROM_COLUMNS;
    let first = Line::from(vec![
        bold(format!("simple_rtmp_server {}", text(&server["version"]))),
        dim(format!("  {}  up ", app.url)),
        Span::raw(format!("{uptime}  ")),
        state,
    ]);
    let busy = server["busy"].as_f64().unwrap_or(0.0) * 100.0;
    let busy_colour = if busy > 90.0 { Color::Red } else { Color::Reset };
    let max = number(&limits["max_memory_bytes"]);
    let of = if max > 0 { format!(" of {}", bytes(max)) } else { String::new() };
    let mut second = vec![
        dim("streams "),
        bold(text(&server["streams"])),
        dim("  players "),
        bold(text(&server["players"])),
        dim("  clients "),
        bold(format!("{}/{}", text(&server["clients"]), text(&limits["max_connections"]))),
        dim("  busy "),
        Span::styled(format!("{busy:.0}%"), Style::new().fg(busy_colour).add_modifier(Modifier::BOLD)),
        dim("  held "),
        bold(format!("{}{of}", bytes(number(&server["held_bytes"])))),
    ];
    if is_wide {
        second.extend([dim("  rss "), bold(bytes(number(&server["resident_bytes"])))]);
        second.extend([dim("  forwarders "), bold(text(&server["forwarders"]))]);
    }
    frame.render_widget(Paragraph::new(vec![first, Line::from(second)]), area);
}

fn draw_rate(frame: &mut Frame<'_>, area: Rect, name: &str, samples: &Rate, colour: Color) {
    let now = samples.samples.back().copied().unwrap_or(0);
    let [label, plot] = Layout::horizontal([Constraint::Length(15), Constraint::Min(1)]).areas(area);
    let label_text = Line::from(vec![dim(format!("{name} ")), bold(rate(now))]);
    frame.render_widget(Paragraph::new(label_text), label);
    let width = usize::from(plot.width);
    let skipped = samples.samples.len().saturating_sub(width);
    let shown: Vec<u64> = samples.samples.iter().skip(skipped).copied().collect();
    frame.render_widget(Sparkline::default().data(&shown).style(Style::new().fg(colour)), plot);
}

/// Returns the head of a table, with an arrow at the column that it is ordered by.
fn head(columns: &[(&'static str, Constraint)], ordered_by: &str, is_reversed: bool) -> Row<'static> {
    let arrow = if is_reversed { '▴' } else { '▾' };
    let cell = |name: &str| if name == ordered_by { format!("{name}{arrow}") } else { name.to_owned() };
    let cells = columns.iter().map(|(name, _)| cell(name));
    Row::new(cells.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::REVERSED))
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: &[(&'static str, Constraint)],
    head: Row<'static>,
    rows: Vec<Row<'static>>,
) {
    let table = Table::new(rows, columns.iter().map(|(_, width)| *width)).header(head).column_spacing(1);
    frame.render_widget(table, area);
}

fn style(is_selected: bool) -> Style {
    if is_selected { Style::new().bg(Color::Blue).fg(Color::White) } else { Style::new() }
}

fn right(text: String, width: usize) -> String {
    format!("{text:>width$}")
}

fn draw_streams(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let is_wide = area.width >= WIDE_FROM_COLUMNS;
    let mut columns =
        vec![("STREAM", Constraint::Min(14)), ("STATE", Constraint::Length(5)), ("PLAYERS", Constraint::Length(8))];
    if is_wide {
        columns.extend([("VIDEO", Constraint::Length(22)), ("AUDIO", Constraint::Length(10))]);
    }
    columns.extend([
        ("IN", Constraint::Length(10)),
        ("OUT", Constraint::Length(10)),
        ("LAST", Constraint::Length(if is_wide { 20 } else { 8 })),
        ("UPTIME", Constraint::Length(7)),
    ]);
    if is_wide {
        columns.extend([("JITTER", Constraint::Length(8)), ("STALLS", Constraint::Length(7))]);
    }
    columns.push(("DROPS", Constraint::Length(6)));
    let cell = |stream: &StreamRow, name: &str| match name {
        "STREAM" => stream.name.clone(),
        "STATE" => stream.state.clone(),
        "PLAYERS" => right(stream.players.to_string(), 8),
        "VIDEO" => stream.video.clone(),
        "AUDIO" => stream.audio.clone(),
        "IN" => right(rate(stream.kbps_in), 10),
        "OUT" => right(rate(stream.kbps_out), 10),
        "LAST" => app.rates.bars(&stream.id, if is_wide { 20 } else { 8 }),
        "UPTIME" => right(duration(stream.uptime), 7),
        "JITTER" => right(format!("{:.0} ms", stream.jitter), 8),
        "STALLS" => right(stream.stalls.to_string(), 7),
        _ => right(stream.drops.to_string(), 6),
    };
    let shown = app.shown_streams();
    let on_screen = shown.iter().enumerate().skip(app.offset).take(app.height);
    let rows = on_screen.map(|(at, stream)| {
        let cells: Vec<_> = columns.iter().map(|(name, _)| cell(stream, name)).collect();
        Row::new(cells).style(style(at == app.selected))
    });
    let rows = rows.collect();
    let order = app.stream_order;
    draw_table(frame, area, &columns, head(&columns, STREAM_SORT_COLUMNS[order.column], order.is_reversed), rows);
}

fn draw_clients(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let is_wide = area.width >= WIDE_FROM_COLUMNS;
    // Without the longest bit rates, times and numbers, all columns fit into 80.
    let rate_width = if is_wide { 11 } else { 9 };
    let columns = [
        ("ID", Constraint::Length(7)),
        ("STATE", Constraint::Length(11)),
        ("ADDRESS", Constraint::Length(if is_wide { 39 } else { 15 })),
        ("STREAM", Constraint::Min(10)),
        ("AGE", Constraint::Length(6)),
        ("IN", Constraint::Length(rate_width as u16)),
        ("OUT", Constraint::Length(rate_width as u16)),
        ("DROPS", Constraint::Length(5)),
    ];
    let cell = |client: &ClientRow, name: &str| match name {
        "ID" => client.id.to_string(),
        "STATE" => client.state.clone(),
        "ADDRESS" => client.ip.clone(),
        "STREAM" => client.stream.clone(),
        "AGE" => right(duration(client.age), 6),
        "IN" => right(rate(client.kbps_in), rate_width),
        "OUT" => right(rate(client.kbps_out), rate_width),
        _ => right(client.drops.to_string(), 5),
    };
    let shown = app.shown_clients();
    let on_screen = shown.iter().enumerate().skip(app.offset).take(app.height);
    let rows = on_screen.map(|(at, client)| {
        let cells: Vec<_> = columns.iter().map(|(name, _)| cell(client, name)).collect();
        Row::new(cells).style(style(at == app.selected))
    });
    let rows = rows.collect();
    let order = app.client_order;
    draw_table(frame, area, &columns, head(&columns, CLIENT_SORT_COLUMNS[order.column], order.is_reversed), rows);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let (what, count, all) = match &app.page {
        Page::Streams => ("streams".to_owned(), app.shown_streams().len(), app.streams.len()),
        Page::Clients { name, .. } => (format!("clients of {name}"), app.shown_clients().len(), app.clients.len()),
    };
    let line = match &app.mode {
        Mode::Filter => {
            Line::from(vec![bold("filter: "), Span::raw(format!("{}_", app.filter)), dim("  Enter, Esc clears")])
        }
        Mode::Confirm { what, .. } => {
            let keys = "?  y yes  b yes, and ban for 60 s  n no";
            let width = usize::from(area.width).saturating_sub("Disconnect ".len() + keys.len());
            let question = format!("Disconnect {}{keys}", shorten(what, width));
            Line::styled(question, Style::new().fg(Color::Black).bg(Color::Yellow))
        }
        _ if !app.message.is_empty() => Line::styled(app.message.clone(), Style::new().fg(Color::Yellow)),
        _ => {
            let place = if count == 0 { 0 } else { app.selected + 1 };
            let of = if count < all { format!(" of {all}, filter \"{}\"", app.filter) } else { String::new() };
            let keys = match (&app.page, area.width >= WIDE_FROM_COLUMNS) {
                (Page::Streams, true) => "  ? help  / filter  s order  k disconnect  Enter clients  q quit",
                (Page::Streams, false) => "  ? help  / filter  k disconnect  Enter clients  q quit",
                (Page::Clients { .. }, true) => "  ? help  / filter  s order  k disconnect  Esc streams  q quit",
                (Page::Clients { .. }, false) => "  ? help  / filter  k disconnect  Esc back",
            };
            Line::from(vec![bold(format!("{place}/{count} {what}{of}")), dim(keys)])
        }
    };
    frame.render_widget(Paragraph::new(line), area);
}

/// Returns a text of at most `width` characters, with its end cut off.
fn shorten(text: &str, width: usize) -> String {
    match text.chars().count() <= width {
        true => text.to_owned(),
        false => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let width = HELP.iter().map(|line| line.len()).max().unwrap_or(0) as u16 + 4;
    let height = HELP.len() as u16 + 2;
    let (width, height) = (width.min(area.width), height.min(area.height));
    let popup = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    let lines: Vec<_> = HELP.iter().map(|line| Line::raw(format!(" {line}"))).collect();
    let block = Block::bordered().title("Keys").title_alignment(Alignment::Center);
    frame.render_widget(Clear, popup);
    frame.render_widget(Paragraph::new(lines).block(block), popup);
}
