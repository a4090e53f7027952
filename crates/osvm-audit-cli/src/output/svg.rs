//! Two small drawings for the HTML report: how many findings of which severity, and the path that shows a finding.

use std::fmt::Write as _;

use osvm_audit::{Finding, Severity, Step};

use super::html::escape;
use crate::audit::Audit;

const WIDTH: usize = 720;
const BAR: usize = 22;
const LINE: usize = 18;
const PAD: usize = 10;
const GAP: usize = 26;
/// Characters that fit a box's line.
const COLUMNS: usize = 88;
/// A longer note is cut.
const LINES: usize = 4;

/// A bar a severity, as long as its share of the most frequent one.
pub(super) fn severities(audit: &Audit) -> String {
    let counts = audit.counts();
    let most = counts.iter().map(|(_, number)| *number).max().unwrap_or(0).max(1);
    let height = counts.len() * (BAR + 6);
    let mut svg = open(WIDTH, height, "Findings by severity");
    for (row, (severity, number)) in counts.into_iter().enumerate() {
        let y = row * (BAR + 6);
        let length = if number == 0 { 0 } else { (number * (WIDTH - 160) / most).max(3) };
        let (word, middle) = (severity.as_str(), y + 16);
        let _ = write!(
            svg,
            "<text x=\"70\" y=\"{middle}\" text-anchor=\"end\">{word}</text>\
             <rect class=\"{word}\" x=\"80\" y=\"{y}\" width=\"{length}\" height=\"{BAR}\"/>\
             <text x=\"{}\" y=\"{middle}\">{number}</text>",
            80 + length + 8
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The steps from top to bottom; the last one, where the finding stands, has the colour of its severity.
pub(super) fn path(finding: &Finding) -> String {
    let boxes: Vec<(String, Vec<String>)> = finding.evidence.iter().map(boxed).collect();
    let heights: Vec<usize> = boxes.iter().map(|(_, lines)| (lines.len() + 1) * LINE + PAD).collect();
    let height = heights.iter().sum::<usize>() + GAP * boxes.len().saturating_sub(1) + 4;
    let mut svg = open(WIDTH, height, "The path that shows it");
    let mut y = 2;
    for (index, ((place, lines), high)) in boxes.iter().zip(&heights).enumerate() {
        let last = index + 1 == boxes.len();
        let class = if last { severity(finding.severity) } else { "step" };
        let _ = write!(
            svg,
            "<rect class=\"box {class}-edge\" x=\"2\" y=\"{y}\" width=\"{}\" height=\"{high}\" rx=\"4\"/>",
            WIDTH - 4
        );
        let _ = write!(svg, "<text class=\"place\" x=\"12\" y=\"{}\">{}</text>", y + LINE, escape(place));
        for (row, line) in lines.iter().enumerate() {
            let _ = write!(svg, "<text x=\"12\" y=\"{}\">{}</text>", y + LINE * (row + 2), escape(line));
        }
        y += high;
        if !last {
            let (middle, tip) = (WIDTH / 2, y + GAP);
            let _ = write!(
                svg,
                "<path class=\"arrow\" d=\"M{middle} {y}V{tip}M{} {}L{middle} {tip}L{} {}\"/>",
                middle - 5,
                tip - 7,
                middle + 5,
                tip - 7
            );
            y += GAP;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn severity(severity: Severity) -> &'static str {
    severity.as_str()
}

fn open(width: usize, height: usize, title: &str) -> String {
    format!(
        "<svg role=\"img\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         xmlns=\"http://www.w3.org/2000/svg\"><title>{}</title>",
        escape(title)
    )
}

fn boxed(step: &Step) -> (String, Vec<String>) {
    (format!("{}:{}", step.file, step.span.line), wrap(&step.note))
}

/// Lines of at most [`COLUMNS`] characters; words longer than that are cut.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let used = lines.last().map_or(0, |line| line.chars().count());
            let blank = usize::from(used > 0);
            if used + blank + word.len() <= COLUMNS || used == 0 {
                let part: String = word.drain(..word.len().min(COLUMNS)).collect();
                if let Some(line) = lines.last_mut() {
                    if blank == 1 {
                        line.push(' ');
                    }
                    line.push_str(&part);
                }
            } else {
                lines.push(String::new());
            }
        }
    }
    if lines.len() > LINES {
        lines.truncate(LINES);
        if let Some(line) = lines.last_mut() {
            line.push('…');
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_wrapped_and_cut() {
        assert_eq!(wrap(""), [""]);
        let lines = wrap(&"word ".repeat(30));
        assert!(lines.len() == 2 && lines.iter().all(|line| line.chars().count() <= COLUMNS));
        assert_eq!(wrap(&"ä".repeat(1000)).len(), LINES);
    }
}
