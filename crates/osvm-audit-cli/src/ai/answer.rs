//! What a model answers: only JSON of the form asked for that cites lines which were sent counts.

use serde::Deserialize;

use super::{AiFinding, Verdict, Votes, prompt::Question};
use osvm_audit::{Location, Span};

/// Findings of different runs are one when they are so near.
const NEAR: u32 = 3;
/// No text of a model's is longer in a report.
const LONGEST: usize = 600;
/// No run names more.
const MOST: usize = 20;

/// An answer that holds.
#[derive(Debug)]
pub(super) enum Answer {
    Triage { verdict: Said, reason: String },
    Logic(Vec<Found>),
}

/// A model's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    Confirmed,
    Refuted,
    Unsure,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Triage {
    verdict: Said,
    lines: Vec<Line>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    file: String,
    line: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Logic {
    findings: Vec<Found>,
}

/// What a model found.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    title: String,
    message: String,
    file: String,
    line: u32,
}

/// The answer, if it is of the form and all that it cites was sent.
pub(super) fn parse(question: &Question, text: &str) -> Option<Answer> {
    let sent = |file: &str, line: u32| question.lines.get(file).is_some_and(|lines| lines.contains(&line));
    let json = unfence(text);
    if question.about.is_some() {
        let Triage { verdict, lines, reason } = serde_json::from_str(json).ok()?;
        let cited = lines.iter().all(|line| sent(&line.file, line.line));
        // Who is sure has to say by what.
        let shown = verdict == Said::Unsure || !lines.is_empty();
        (cited && shown).then(|| Answer::Triage { verdict, reason: cut(&reason) })
    } else {
        let Logic { findings } = serde_json::from_str(json).ok()?;
        let holds = findings.len() <= MOST && findings.iter().all(|found| sent(&found.file, found.line));
        holds.then_some(Answer::Logic(findings))
    }
}

/// Some models fence their JSON although they are told not to.
fn unfence(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    inner.and_then(|inner| inner.strip_suffix("```")).unwrap_or(text).trim()
}

fn cut(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

/// What more than half of all runs say; runs without an answer that holds count against.
pub(super) fn verdict(said: &[Answer], runs: usize, fingerprint: &str, rule: &str) -> Verdict {
    let mut votes = Votes { no_answer: runs.saturating_sub(said.len()), ..Votes::default() };
    let triage = || {
        said.iter().filter_map(|answer| match answer {
            Answer::Triage { verdict, reason } => Some((*verdict, reason)),
            Answer::Logic(_) => None,
        })
    };
    for (verdict, _) in triage() {
        match verdict {
            Said::Confirmed => votes.confirmed += 1,
            Said::Refuted => votes.refuted += 1,
            Said::Unsure => votes.unsure += 1,
        }
    }
    let all = [
        (Said::Confirmed, votes.confirmed, "confirmed"),
        (Said::Refuted, votes.refuted, "refuted"),
        (Said::Unsure, votes.unsure, "unsure"),
    ];
    let won = all.into_iter().find(|(_, count, _)| count * 2 > runs);
    let reason = won.and_then(|(verdict, ..)| triage().find(|(said, _)| *said == verdict));
    Verdict {
        fingerprint: fingerprint.to_owned(),
        rule: rule.to_owned(),
        verdict: won.map_or("split", |(_, _, word)| word).to_owned(),
        votes,
        reason: reason.map(|(_, reason)| reason.clone()).unwrap_or_default(),
    }
}

/// What more than half of all runs found, at about the same place.
pub(super) fn findings(said: &[Answer], runs: u8) -> Vec<AiFinding> {
    let lists: Vec<&Vec<Found>> = said
        .iter()
        .filter_map(|answer| match answer {
            Answer::Logic(found) => Some(found),
            Answer::Triage { .. } => None,
        })
        .collect();
    let mut kept: Vec<AiFinding> = Vec::new();
    for found in lists.iter().flat_map(|list| list.iter()) {
        let near = |file: &str, line: u32| file == found.file && line.abs_diff(found.line) <= NEAR;
        if kept.iter().any(|kept| near(&kept.location.file, kept.location.span.line)) {
            continue;
        }
        let votes = lists.iter().filter(|list| list.iter().any(|other| near(&other.file, other.line))).count();
        if votes * 2 > usize::from(runs) {
            let span = Span { line: found.line, column: 1, end_line: found.line, end_column: 1 };
            kept.push(AiFinding {
                title: cut(&found.title),
                message: cut(&found.message),
                location: Location { file: found.file.clone(), span },
                votes,
                runs,
            });
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn question(triage: bool) -> Question {
        Question {
            system: "",
            text: String::new(),
            about: triage.then(|| ("f".to_owned(), "OSVM-001".to_owned())),
            lines: BTreeMap::from([("a.rs".to_owned(), (1..=9).collect())]),
        }
    }

    fn triage(verdict: &str) -> String {
        format!(r#"{{"verdict":"{verdict}","lines":[{{"file":"a.rs","line":3}}],"reason":"so"}}"#)
    }

    #[test]
    fn what_cites_other_lines_or_has_another_form_is_dropped() {
        let question = question(true);
        assert!(parse(&question, &triage("confirmed")).is_some());
        assert!(parse(&question, &format!("```json\n{}\n```", triage("refuted"))).is_some());
        for bad in [
            triage("confirmed").replace(":3", ":10"),
            triage("confirmed").replace("a.rs", "b.rs"),
            triage("maybe"),
            triage("confirmed").replace("\"reason\"", "\"severity\":\"critical\",\"reason\""),
            triage("confirmed").replace(r#"{"file":"a.rs","line":3}"#, ""),
            "I think so".to_owned(),
        ] {
            assert!(parse(&question, &bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn more_than_half_of_all_runs_have_to_agree() {
        let question = question(true);
        let answers =
            |words: &[&str]| words.iter().filter_map(|word| parse(&question, &triage(word))).collect::<Vec<_>>();
        let two = verdict(&answers(&["confirmed", "refuted", "confirmed"]), 3, "f", "r");
        assert_eq!((two.verdict.as_str(), two.votes.confirmed, two.votes.refuted), ("confirmed", 2, 1));
        let one = verdict(&answers(&["confirmed"]), 3, "f", "r");
        assert_eq!((one.verdict.as_str(), one.votes.no_answer), ("split", 2), "silence is no agreement");
    }

    #[test]
    fn what_one_run_alone_found_is_not_told() {
        let question = question(false);
        let found =
            |line: u32| format!(r#"{{"findings":[{{"title":"t","message":"m","file":"a.rs","line":{line}}}]}}"#);
        let said: Vec<Answer> = [2, 4, 9].iter().filter_map(|line| parse(&question, &found(*line))).collect();
        let kept = findings(&said, 3);
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].location.span.line, kept[0].votes), (2, 2));
        assert!(parse(&question, &found(10)).is_none());
    }
}
