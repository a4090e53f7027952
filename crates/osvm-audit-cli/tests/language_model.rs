//! `--ai-analysis` against a model of the tests' own that answers what was recorded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use common::{Said, command, run, vault};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A model: what it was sent, and what it says to each request in turn (the last one for ever).
struct Model {
    url: String,
    asked: Arc<Mutex<Vec<Value>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Model {
    fn new(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, heads) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (asked_too, heads_too) = (Arc::clone(&asked), Arc::clone(&heads));
        let next = AtomicUsize::new(0);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut input = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if input.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
                        break;
                    }
                    let lower = line.to_ascii_lowercase();
                    if let Some(number) = lower.strip_prefix("content-length:") {
                        length = number.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                std::io::Read::read_exact(&mut input, &mut body).unwrap();
                asked_too.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                heads_too.lock().unwrap().push(head);
                let turn = next.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                let (status, text) = &answers[turn];
                let openai =
                    json!({ "choices": [{ "message": { "content": text } }], "usage": { "total_tokens": 100 } });
                let ollama = json!({ "message": { "content": text }, "prompt_eval_count": 90, "eval_count": 10 });
                let openai_asked = heads_too.lock().unwrap().last().unwrap().contains("/v1/");
                let body = if openai_asked { openai } else { ollama }.to_string();
                let head =
                    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            }
        });
        Self { url, asked, heads }
    }

    fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn triage(verdict: &str, line: u32) -> (u16, String) {
    let lines = json!([{ "file": "build.rs", "line": line }]);
    (200, json!({ "verdict": verdict, "lines": lines, "reason": "because of the line" }).to_string())
}

/// The vault without its program: its build script is all that there is to be judged.
fn script() -> TempDir {
    let folder = vault();
    fs::remove_dir_all(folder.path().join("src")).unwrap();
    folder
}

/// The vault with its build script as the one finding, and a cache of its own.
fn ask(folder: &TempDir, cache: &Path, url: &str, more: &[&str]) -> Said {
    let mut command = command(folder.path());
    command.args(["--only", "OSVM-096", "--format", "json", "--ai-analysis", "--ai-model", "m", "--ai-url", url]);
    run(command.args(more).env("XDG_CACHE_HOME", cache).env_remove("OSVM_AI_KEY"))
}

#[test]
fn nothing_is_sent_without_a_yes_and_all_that_would_be_is_shown() {
    let (folder, cache) = (script(), tempfile::tempdir().unwrap());
    let model = Model::new(vec![triage("confirmed", 5)]);
    let said = ask(&folder, cache.path(), &model.url, &[]);
    assert_eq!((said.code, model.requests()), (2, 0));
    assert!(said.err.contains("nothing was sent"), "{}", said.err);
    assert!(said.err.contains("let _ = Command::new(\"date\").output();"), "{}", said.err);
    let said = ask(&folder, cache.path(), &model.url, &["--ai-yes"]);
    assert_eq!(said.code, 0, "{}", said.err);
    for request in model.asked.lock().unwrap().iter() {
        let text = request["messages"][1]["content"].as_str().unwrap();
        assert!(said.err.contains(text), "what was sent was shown");
    }
}

#[test]
fn a_majority_judges_and_the_finding_and_the_exit_code_stay_what_they_are() {
    let (folder, cache) = (script(), tempfile::tempdir().unwrap());
    let model = Model::new(vec![triage("refuted", 5), triage("confirmed", 5), triage("refuted", 5)]);
    let said = ask(&folder, cache.path(), &format!("{}/v1", model.url), &["--ai-yes", "--fail-on", "medium"]);
    assert_eq!(said.code, 1, "a refuted finding still counts");
    let json = said.json();
    assert_eq!(json["findings"][0]["severity"], "medium");
    let verdict = &json["ai"]["verdicts"][0];
    assert_eq!((&verdict["verdict"], &verdict["votes"]["confirmed"]), (&json!("refuted"), &json!(1)));
    assert_eq!(json["ai"]["tokens"], 300);
    // The same questions again cost nothing.
    let said = ask(&folder, cache.path(), &format!("{}/v1", model.url), &["--ai-yes"]);
    assert_eq!((&said.json()["ai"]["cached"], &said.json()["ai"]["sent"]), (&json!(3), &json!(0)));
    assert_eq!(model.requests(), 3);
}

#[test]
fn lines_that_were_not_sent_and_other_forms_are_dropped() {
    let (folder, cache) = (script(), tempfile::tempdir().unwrap());
    let model = Model::new(vec![triage("confirmed", 99), (200, "It is fine.".into()), triage("confirmed", 5)]);
    let json = ask(&folder, cache.path(), &model.url, &["--ai-yes"]).json();
    assert_eq!(json["ai"]["dropped"], 2);
    assert_eq!(json["ai"]["verdicts"][0]["verdict"], "split");
    assert_eq!(
        json["ai"]["verdicts"][0]["votes"],
        json!({ "confirmed": 1, "refuted": 0, "unsure": 0, "no_answer": 2 })
    );
}

#[test]
fn failures_and_the_budget_end_the_asking() {
    let (folder, cache) = (script(), tempfile::tempdir().unwrap());
    let model = Model::new(vec![(500, String::new())]);
    let said = ask(&folder, cache.path(), &model.url, &["--ai-yes", "--ai-runs", "9"]);
    assert_eq!((said.code, model.requests()), (0, 3), "the audit is told all the same");
    assert!(said.json()["ai"]["stopped"].as_str().unwrap().contains("3 failures"), "{}", said.out);
    let model = Model::new(vec![triage("confirmed", 5)]);
    let said = ask(&folder, cache.path(), &model.url, &["--ai-yes", "--ai-budget", "100"]);
    assert_eq!(model.requests(), 0);
    assert!(said.json()["ai"]["stopped"].as_str().unwrap().contains("budget"), "{}", said.out);
}

#[test]
fn secrets_comments_and_names_stay_here() {
    let (folder, cache) = (script(), tempfile::tempdir().unwrap());
    let token = ["sk-", "abcdefghijklmnop1234"].concat();
    let script = format!(
        "use std::process::Command;\n// a_comment\nfn main() {{\n    let my_token = \"{token}\";\n    let _ = Command::new(my_token).output();\n}}\n"
    );
    fs::write(folder.path().join("build.rs"), script).unwrap();
    let model = Model::new(vec![triage("unsure", 5)]);
    ask(&folder, cache.path(), &model.url, &["--ai-yes", "--ai-runs", "1", "--ai-strip", "comments,names"]);
    let sent = model.asked.lock().unwrap()[0].to_string();
    assert!(sent.contains("[redacted]") || sent.contains("let n"), "{sent}");
    for word in [token.as_str(), "a_comment", "my_token"] {
        assert!(!sent.contains(word), "{word} was sent: {sent}");
    }
    // Without the options, names and comments are sent; secrets never.
    ask(&folder, cache.path(), &model.url, &["--ai-yes", "--ai-runs", "1"]);
    let sent = model.asked.lock().unwrap()[1].to_string();
    assert!(sent.contains("my_token") && sent.contains("a_comment") && !sent.contains(&token), "{sent}");
}

#[test]
fn a_key_is_read_from_the_environment_and_shown_nowhere() {
    let (folder, cache) = (script(), tempfile::tempdir().unwrap());
    let model = Model::new(vec![triage("confirmed", 5)]);
    let mut command = command(folder.path());
    command.args(["--only", "OSVM-096", "--format", "json", "--ai-analysis", "--ai-model", "m", "--ai-yes"]);
    command.args(["--ai-url", &format!("{}/v1", model.url)]);
    let said = run(command.env("XDG_CACHE_HOME", cache.path()).env("OSVM_AI_KEY", "open-sesame"));
    assert!(model.heads.lock().unwrap()[0].contains("Bearer open-sesame"));
    assert!(!said.out.contains("open-sesame") && !said.err.contains("open-sesame"));
}

#[test]
fn what_a_model_finds_is_labelled_and_counts_only_with_the_gate() {
    let (folder, cache) = (vault(), tempfile::tempdir().unwrap());
    let found =
        json!({ "findings": [{ "title": "any amount", "message": "no limit", "file": "src/lib.rs", "line": 12 }] });
    // One static finding is judged three times, then the file is read three times.
    let triage = |line: u32| {
        let lines = json!([{ "file": "src/lib.rs", "line": line }]);
        (200, json!({ "verdict": "confirmed", "lines": lines, "reason": "it is so" }).to_string())
    };
    let answers = vec![triage(28), triage(28), triage(28), (200, found.to_string())];
    let model = Model::new(answers);
    let ask = |more: &[&str]| {
        let mut command = command(folder.path());
        command.args(["--only", "OSVM-001", "--fail-on", "never", "--ai-analysis", "--ai-model", "m", "--ai-yes"]);
        command.args(["--ai-url", &model.url]).args(more).env("XDG_CACHE_HOME", cache.path()).env_remove("OSVM_AI_KEY");
        run(&mut command)
    };
    let said = ask(&["--format", "json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let json = said.json();
    assert_eq!(json["findings"].as_array().unwrap().len(), 1, "a model's findings are no findings");
    assert_eq!(json["ai"]["findings"][0]["votes"], 3);
    assert_eq!(ask(&["--ai-gate"]).code, 1);
    assert!(ask(&[]).out.contains("ai: any amount, src/lib.rs:12 (3 of 3 runs)"));
    let log: Value = serde_json::from_str(&ask(&["--format", "sarif"]).out).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let by_model = results.iter().find(|result| result["ruleId"] == "OSVM-AI").unwrap();
    assert_eq!(by_model["level"], "note");
}
