//! Asking: one provider, within a budget, until it fails too often.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{BYTES_A_TOKEN, cache::Cache, http::Client, prompt::Question};
use crate::failure::Failure;

/// So many failures one after the other, and nothing more is asked.
const FAILURES: usize = 3;
/// What an answer may cost at most, in tokens.
const ANSWER: u64 = 2_000;

/// A model and the API that it is behind.
#[derive(Debug)]
pub(super) struct Provider {
    client: Client,
    model: String,
    openai: bool,
}

#[derive(Deserialize)]
struct OpenAi {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: u64,
}

#[derive(Deserialize)]
struct Ollama {
    message: Message,
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    eval_count: u64,
}

impl Provider {
    pub(super) fn new(url: &str, model: &str) -> Result<Self, Failure> {
        let base = url.trim_end_matches('/');
        let openai = base.ends_with("/v1");
        let path = if openai { "/chat/completions" } else { "/api/chat" };
        let key = std::env::var("OSVM_AI_KEY").ok().filter(|key| !key.is_empty());
        let client = Client::new(&format!("{base}{path}"), key)
            .map_err(|why| Failure::new(format!("cannot use {url}: {why}")))?;
        Ok(Self { client, model: model.to_owned(), openai })
    }

    /// Where it is, without what may be secret in the address.
    pub(super) fn target(&self) -> String {
        self.client.target()
    }

    fn body(&self, question: &Question, run: u8) -> Value {
        let messages = json!([
            { "role": "system", "content": question.system },
            { "role": "user", "content": question.text },
        ]);
        if self.openai {
            json!({
                "model": self.model, "messages": messages, "response_format": { "type": "json_object" }, "seed": run,
                "max_tokens": ANSWER,
            })
        } else {
            json!({
                "model": self.model, "messages": messages, "format": "json", "stream": false,
                "options": { "seed": run, "num_predict": ANSWER },
            })
        }
    }

    /// The model's text, and what it cost as the provider counts; `None` where it does not.
    fn read(&self, bytes: &[u8]) -> Result<(String, Option<u64>), String> {
        let bad = |error: serde_json::Error| format!("an answer that is not of its API: {error}");
        if self.openai {
            let answer: OpenAi = serde_json::from_slice(bytes).map_err(bad)?;
            let text = answer.choices.into_iter().next().map(|choice| choice.message.content);
            Ok((text.ok_or("an answer without a choice")?, answer.usage.map(|usage| usage.total_tokens)))
        } else {
            let answer: Ollama = serde_json::from_slice(bytes).map_err(bad)?;
            let cost = answer.prompt_eval_count + answer.eval_count;
            Ok((answer.message.content, (cost > 0).then_some(cost)))
        }
    }
}

/// Keeps count while questions are asked.
#[derive(Debug)]
pub(super) struct Asker {
    provider: Provider,
    cache: Cache,
    runtime: tokio::runtime::Runtime,
    budget: u64,
    failures: usize,
    pub(super) sent: usize,
    pub(super) cached: usize,
    pub(super) tokens: u64,
    pub(super) stopped: Option<String>,
}

impl Asker {
    pub(super) fn new(provider: Provider, budget: u64) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("cannot start the async runtime").because(&error))?;
        let cache = Cache::open();
        Ok(Self { provider, cache, runtime, budget, failures: 0, sent: 0, cached: 0, tokens: 0, stopped: None })
    }

    /// The text of an answer; `None` if there is none, or nothing is asked any more.
    pub(super) fn ask(&mut self, question: &Question, run: u8) -> Option<String> {
        let body = self.provider.body(question, run).to_string();
        let key = Cache::key(&[&self.provider.target(), &body]);
        if let Some(answer) = self.cache.get(&key) {
            self.cached += 1;
            return Some(answer);
        }
        if self.stopped.is_some() {
            return None;
        }
        let estimate = (body.len() / BYTES_A_TOKEN) as u64 + ANSWER;
        if self.tokens + estimate > self.budget {
            self.stopped = Some(format!("the budget of {} tokens", self.budget));
            return None;
        }
        self.sent += 1;
        let answer = self.runtime.block_on(self.provider.client.post(&body));
        match answer.and_then(|bytes| self.provider.read(&bytes)) {
            Ok((text, cost)) => {
                self.failures = 0;
                self.tokens += cost.unwrap_or(estimate);
                self.cache.put(&key, &text);
                Some(text)
            }
            Err(why) => {
                // It may have been counted all the same.
                self.tokens += estimate - ANSWER;
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.stopped = Some(format!("{FAILURES} failures one after the other, the last: {why}"));
                }
                None
            }
        }
    }
}
