//! `--ai-analysis`: a language model reads what the static audit found, and looks for what it cannot find.
//!
//! Off unless asked for. What would leave the machine is shown first, and sent only after a yes. What comes back is labelled, checked
//! against the lines that were sent, and counted over several runs. It never raises a severity, and changes no exit code without
//! `--ai-gate`. Nothing of it is run or written anywhere but into the report and a cache of answers.

mod answer;
mod ask;
mod cache;
mod http;
mod prompt;
mod redact;

use std::io::{self, BufRead, IsTerminal, Write};

use clap::{Args, ValueEnum};
use osvm_audit::Location;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{audit::Audit, failure::Failure, sources::Sources};
use ask::{Asker, Provider};
use prompt::Question;

/// Without a word from the user: so many tokens of questions and answers together.
const BUDGET: u64 = 200_000;
/// Roughly; only used to say beforehand what a question may cost.
const BYTES_A_TOKEN: usize = 4;

/// What the command line says of it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Analysis by a language model (off unless asked for)")]
pub(crate) struct AiArgs {
    /// Let a language model judge the findings and look for logic bugs; shows what would be sent, and asks
    #[arg(long, requires = "ai_model")]
    pub(crate) ai_analysis: bool,
    /// Where the model is: an address with the API of OpenAI (ends with /v1) or of Ollama
    #[arg(long, value_name = "URL", env = "OSVM_AI_URL", default_value = "http://127.0.0.1:11434")]
    pub(crate) ai_url: String,
    /// The model's name there; a key for it is read from OSVM_AI_KEY
    #[arg(long, value_name = "NAME", env = "OSVM_AI_MODEL")]
    pub(crate) ai_model: Option<String>,
    /// Send without asking, where nobody sits before the terminal
    #[arg(long, requires = "ai_analysis")]
    pub(crate) ai_yes: bool,
    /// Take these out of what is sent
    #[arg(long, value_name = "WHAT", value_delimiter = ',', requires = "ai_analysis")]
    pub(crate) ai_strip: Vec<Strip>,
    /// How often each question is asked; more than half have to agree
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) ai_runs: u8,
    /// No question is asked that could bring the tokens over this
    #[arg(long, value_name = "TOKENS", default_value_t = BUDGET)]
    pub(crate) ai_budget: u64,
    /// Let what the model finds count for --fail-on
    #[arg(long, requires = "ai_analysis")]
    pub(crate) ai_gate: bool,
}

/// What may be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strip {
    /// Comments
    Comments,
    /// Names of the program's own
    Names,
}

/// What a model said, and what came of it.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Ai {
    /// The model's name.
    pub(crate) model: String,
    /// Where it is.
    pub(crate) target: String,
    /// How often each question was asked.
    pub(crate) runs: u8,
    /// Requests that were sent; answers from the cache are not.
    pub(crate) sent: usize,
    /// Answers from the cache.
    pub(crate) cached: usize,
    /// Answers that were no JSON of the form asked for, or named lines that were not sent.
    pub(crate) dropped: usize,
    /// Tokens of questions and answers, as the provider counts them.
    pub(crate) tokens: u64,
    /// Why it stopped before all was asked.
    pub(crate) stopped: Option<String>,
    /// What it says of the findings.
    pub(crate) verdicts: Vec<Verdict>,
    /// What it found itself.
    pub(crate) findings: Vec<AiFinding>,
}

/// What a model says of one finding. The finding stays what it is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Verdict {
    /// The finding.
    pub(crate) fingerprint: String,
    /// Its rule.
    pub(crate) rule: String,
    /// What more than half of the runs say; `split` if none does.
    pub(crate) verdict: String,
    /// How many runs said what.
    pub(crate) votes: Votes,
    /// The reason that one of the majority gave.
    pub(crate) reason: String,
}

/// How the runs spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Votes {
    pub(crate) confirmed: usize,
    pub(crate) refuted: usize,
    pub(crate) unsure: usize,
    pub(crate) no_answer: usize,
}

/// Something that a model found and the static audit did not.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct AiFinding {
    pub(crate) title: String,
    pub(crate) message: String,
    /// Where; the line was among those sent.
    pub(crate) location: Location,
    /// In how many runs.
    pub(crate) votes: usize,
    /// Of how many.
    pub(crate) runs: u8,
}

/// Asks, unless the user says no. Returns without a word said to anybody if there is nothing to ask.
pub(crate) fn analyse(audit: &mut Audit, args: &AiArgs) -> Result<(), Failure> {
    let Some(model) = &args.ai_model else { return Ok(()) };
    let provider = Provider::new(&args.ai_url, model)?;
    let sources = Sources::new(audit.folder.clone());
    let questions = prompt::questions(audit, &sources, &args.ai_strip);
    let mut ai = Ai { model: model.clone(), target: provider.target(), runs: args.ai_runs, ..Ai::default() };
    if !questions.is_empty() {
        consent(&questions, &provider, args)?;
        let mut asker = Asker::new(provider, args.ai_budget)?;
        for question in &questions {
            put(question, &mut asker, args.ai_runs, &mut ai);
        }
        (ai.sent, ai.cached, ai.tokens, ai.stopped) = (asker.sent, asker.cached, asker.tokens, asker.stopped);
    }
    audit.ai = Some(ai);
    Ok(())
}

/// Asks one question `runs` times and counts what is said.
fn put(question: &Question, asker: &mut Asker, runs: u8, ai: &mut Ai) {
    let mut said = Vec::new();
    let mut asked = 0;
    for run in 0..runs {
        let Some(text) = asker.ask(question, run) else { continue };
        asked += 1;
        match answer::parse(question, &text) {
            Some(answer) => said.push(answer),
            None => ai.dropped += 1,
        }
    }
    if asked == 0 {
        return;
    }
    match &question.about {
        Some((fingerprint, rule)) => {
            ai.verdicts.push(answer::verdict(&said, usize::from(runs), fingerprint, rule));
        }
        None => ai.findings.extend(answer::findings(&said, runs)),
    }
}

/// Shows all that would leave the machine, and asks.
fn consent(questions: &[Question], provider: &Provider, args: &AiArgs) -> Result<(), Failure> {
    let bytes: usize = questions.iter().map(Question::len).sum();
    let tokens = bytes / BYTES_A_TOKEN * usize::from(args.ai_runs);
    let mut shown = io::stderr().lock();
    for question in questions {
        let _ = writeln!(
            shown,
            "--- to {} ---\n{}\n{}",
            provider.target(),
            question.system,
            crate::output::plain(&question.text)
        );
    }
    let (count, runs) = (questions.len(), args.ai_runs);
    let _ = writeln!(
        shown,
        "--- end ---\nThis would leave the machine for {}: {count} questions, {runs} times each, {bytes} bytes, about {tokens} \
         tokens of them; at most {} tokens in all.",
        provider.target(),
        args.ai_budget
    );
    if args.ai_yes {
        return Ok(());
    }
    if io::stdin().is_terminal() {
        let _ = write!(shown, "Send it? [y/N] ");
        let _ = shown.flush();
        let mut line = String::new();
        let _ = io::stdin().lock().read_line(&mut line);
        if line.trim().eq_ignore_ascii_case("y") {
            return Ok(());
        }
    }
    Err(Failure::new("nothing was sent to the model, and there is no report")
        .help("send without being asked: --ai-yes"))
}
