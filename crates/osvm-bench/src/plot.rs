//! The picture of a swap run: requests a second and errors over time, with a mark at each swap. SVG, written by hand.

use std::fmt::Write;

use crate::load::record::{BUCKET_MS, Report};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 44.0;
/// Buckets of the timeline that make one point of the line.
const GRAIN: usize = 5;
/// Lines across the picture.
const GRID: u32 = 4;

/// The picture, with a line of text above it.
pub(crate) fn svg(report: &Report, from_us: u64, to_us: u64, title: &str) -> String {
    let points = points(report, from_us, to_us);
    let seconds = (to_us.saturating_sub(from_us)) as f64 / 1e6;
    let most = points.iter().map(|point| point.ok.max(point.failed)).fold(1.0, f64::max);
    let top = round_up(most);
    let x = |at: f64| LEFT + at / seconds.max(0.001) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut svg = String::new();
    // Writing into a String cannot fail.
    let mut line = |text: std::fmt::Arguments| {
        let _ = writeln!(svg, "{text}");
    };
    line(format_args!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="12">"##
    ));
    line(format_args!(r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##));
    line(format_args!(r##"<text x="{LEFT}" y="22" font-size="15" fill="#1f2328">{title}</text>"##));
    line(format_args!(
        r##"<text x="{LEFT}" y="42" fill="#1f2328"><tspan fill="#0969da">requests a second</tspan>, <tspan fill="#cf222e">errors a second</tspan>, <tspan fill="#6e7781">each grey line begins a swap</tspan></text>"##
    ));
    for window in report.windows.iter().filter(|window| (from_us..to_us).contains(&window.begin_us)) {
        line(format_args!(
            r##"<path d="M{:.1} {TOP}V{}" stroke="#8c959f" stroke-dasharray="3 3"/>"##,
            x(at(window.begin_us, from_us)),
            HEIGHT - BOTTOM
        ));
    }
    for step in 0..=GRID {
        let value = top * f64::from(step) / f64::from(GRID);
        line(format_args!(
            r##"<path d="M{LEFT} {0:.1}H{1}" stroke="#d0d7de"/><text x="{2}" y="{3:.1}" text-anchor="end" fill="#6e7781">{value:.0}</text>"##,
            y(value),
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(value) + 4.0
        ));
    }
    let step = tick(seconds);
    let mut at_second = 0.0;
    while at_second <= seconds {
        line(format_args!(
            r##"<text x="{:.1}" y="{}" text-anchor="middle" fill="#6e7781">{at_second:.0} s</text>"##,
            x(at_second),
            HEIGHT - BOTTOM + 20.0
        ));
        at_second += step;
    }
    let path = |value: fn(&Point) -> f64| {
        points.iter().enumerate().fold(String::new(), |path, (index, point)| {
            path + &format!("{}{:.1} {:.1}", if index == 0 { "M" } else { "L" }, x(point.second), y(value(point)))
        })
    };
    line(format_args!(r##"<path d="{}" fill="none" stroke="#0969da" stroke-width="1.5"/>"##, path(|point| point.ok)));
    line(format_args!(
        r##"<path d="{}" fill="none" stroke="#cf222e" stroke-width="1.5"/>"##,
        path(|point| point.failed)
    ));
    line(format_args!("</svg>"));
    svg
}

struct Point {
    second: f64,
    ok: f64,
    failed: f64,
}

fn points(report: &Report, from_us: u64, to_us: u64) -> Vec<Point> {
    let bucket = |us: u64| (us / 1000 / BUCKET_MS) as usize;
    let to = bucket(to_us).min(report.timeline.len());
    let part = report.timeline.get(bucket(from_us).min(to)..to).unwrap_or_default();
    let a_second = 1000.0 / (BUCKET_MS as f64 * GRAIN as f64);
    part.chunks_exact(GRAIN)
        .enumerate()
        .map(|(index, chunk)| Point {
            second: (index as f64 + 0.5) / a_second,
            ok: f64::from(chunk.iter().map(|(ok, _)| ok).sum::<u32>()) * a_second,
            failed: f64::from(chunk.iter().map(|(_, failed)| failed).sum::<u32>()) * a_second,
        })
        .collect()
}

fn at(us: u64, from_us: u64) -> f64 {
    us.saturating_sub(from_us) as f64 / 1e6
}

/// The next of 1, 2, 4, 5, 8 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 8.0, 10.0].into_iter().map(|factor| factor * power).find(|&top| top >= value).unwrap_or(value)
}

/// About ten marks on the axis of time.
fn tick(seconds: f64) -> f64 {
    [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0].into_iter().find(|step| seconds / step <= 12.0).unwrap_or(120.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_holds_every_point_of_the_run() {
        let report = Report { timeline: vec![(100, 0); 50], ..Report::default() };
        let svg = svg(&report, 0, 5_000_000, "a run");
        assert_eq!(svg.matches("<svg").count(), 1);
        assert!(svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains(">1000</text>"), "the axis ends at 1,000 a second: {svg}");
        assert_eq!(points(&report, 0, 5_000_000).len(), 10);
    }
}
