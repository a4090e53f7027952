//! What the fixture asks of a client: by a result that wants input first (2026-07-28), or by a request of its own (before).

use std::{fs::File, io::Read};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::content::text;

/// What one tool asks for, one map of questions a round.
fn rounds(tool: &str) -> Option<Vec<Value>> {
    Some(match tool {
        "test_input_required_result_elicitation" => vec![json!({ "user_name": form("What is your name?", "name") })],
        "test_input_required_result_sampling" => {
            vec![json!({ "capital_question": sampling("What is the capital of France?", 100) })]
        }
        "test_input_required_result_list_roots" => vec![json!({ "client_roots": roots() })],
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            vec![json!({ "confirm": confirm() })]
        }
        "test_input_required_result_multiple_inputs" => vec![json!({
            "user_name": form("What is your name?", "name"),
            "greeting": sampling("Generate a greeting", 50),
            "client_roots": roots(),
        })],
        "test_input_required_result_multi_round" => vec![
            json!({ "step1": form("Step 1: What is your name?", "name") }),
            json!({ "step2": form("Step 2: What is your favorite color?", "color") }),
        ],
        "test_input_required_result_prompt" => {
            vec![json!({ "user_context": form("What context should the prompt use?", "context") })]
        }
        "test_streaming_elicitation" => vec![json!({ "user_name": form("Who is there?", "name") })],
        "test_input_required_result_capabilities" => {
            vec![json!({ "name": form("What is your name?", "name"), "words": sampling("Say a word", 10) })]
        }
        _ => return None,
    })
}

fn form(message: &str, field: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { field: { "type": "string" } }, "required": [field] });
    json!({ "method": "elicitation/create", "params": { "message": message, "requestedSchema": schema } })
}

fn confirm() -> Value {
    let schema = json!({ "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"] });
    json!({ "method": "elicitation/create", "params": { "message": "Please confirm", "requestedSchema": schema } })
}

fn sampling(prompt: &str, most: u32) -> Value {
    let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
    json!({ "method": "sampling/createMessage", "params": { "messages": [message], "maxTokens": most } })
}

fn roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

/// What a call comes to.
pub(crate) enum Step {
    /// The client has to give this first.
    Ask(Value),
    /// All was given; a result, for tools in words.
    Done(Value),
    /// The state is not one that was given out.
    Forged,
}

/// Signs the states that are given out.
#[derive(Clone)]
pub(crate) struct Signer([u8; 32]);

impl Signer {
    pub(crate) fn new() -> Self {
        let mut secret = [0; 32];
        // Without a random number the states are forgeable, and the suite has nothing that could tell.
        let _ = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut secret));
        Self(secret)
    }

    fn sign(&self, tool: &str, round: usize) -> String {
        let said = format!("{tool}.{round}");
        let digest = Sha256::new().chain_update(self.0).chain_update(&said).chain_update(self.0).finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{round}.{hex}")
    }

    /// The next step of a tool or prompt that asks; None for any other.
    pub(crate) fn step(&self, tool: &str, given: Option<&Value>, state: Option<&str>, can: &Value) -> Option<Step> {
        let rounds = rounds(tool)?;
        let round = match state {
            None => 0,
            Some(state) => match (0..rounds.len()).find(|round| self.sign(tool, *round) == state) {
                Some(round) => round,
                None => return Some(Step::Forged),
            },
        };
        let ask = |round: usize| {
            let mut wanted = rounds[round].clone();
            if let Some(wanted) = wanted.as_object_mut() {
                wanted.retain(|_, request| {
                    let capability = match request["method"].as_str() {
                        Some("elicitation/create") => "elicitation",
                        Some("sampling/createMessage") => "sampling",
                        _ => "roots",
                    };
                    can[capability].is_object()
                });
            }
            let state = self.sign(tool, round);
            Step::Ask(json!({ "resultType": "input_required", "inputRequests": wanted, "requestState": state }))
        };
        let Step::Ask(asked) = ask(round) else { return None };
        let wanted = asked["inputRequests"].as_object();
        let complete =
            given.is_some_and(|given| wanted.is_some_and(|wanted| wanted.keys().all(|key| given[key].is_object())));
        Some(match complete {
            false => ask(round),
            true if round + 1 < rounds.len() => ask(round + 1),
            true => Step::Done(text(&format!("state-ok: {}", given.unwrap_or(&Value::Null)))),
        })
    }
}

/// What a tool asks an older client for: the method, its parameters, and how its answer is told.
pub(crate) fn question(tool: &str, arguments: &Value) -> Option<(Value, &'static str)> {
    let elicit = |message: &str, properties: Value, required: Value| {
        let schema = json!({ "type": "object", "properties": properties, "required": required });
        json!({ "method": "elicitation/create", "params": { "message": message, "requestedSchema": schema } })
    };
    Some(match tool {
        "test_sampling" => (sampling(arguments["prompt"].as_str().unwrap_or_default(), 100), "LLM response: "),
        "test_elicitation" => {
            let properties = json!({
                "username": { "type": "string", "description": "User's response" },
                "email": { "type": "string", "description": "User's email address" },
            });
            let message = arguments["message"].as_str().unwrap_or_default();
            (elicit(message, properties, json!(["username", "email"])), "User response: ")
        }
        "test_elicitation_sep1034_defaults" => {
            let properties = json!({
                "name": { "type": "string", "default": "John Doe" },
                "age": { "type": "integer", "default": 30 },
                "score": { "type": "number", "default": 95.5 },
                "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
                "verified": { "type": "boolean", "default": true },
            });
            (elicit("Are the defaults right?", properties, json!([])), "Elicitation completed: ")
        }
        "test_elicitation_sep1330_enums" => {
            let plain = json!(["option1", "option2", "option3"]);
            let titled = json!([
                { "const": "value1", "title": "First Option" },
                { "const": "value2", "title": "Second Option" },
                { "const": "value3", "title": "Third Option" },
            ]);
            let properties = json!({
                "untitledSingle": { "type": "string", "enum": plain },
                "titledSingle": { "type": "string", "oneOf": titled },
                "legacyEnum": {
                    "type": "string",
                    "enum": ["opt1", "opt2", "opt3"],
                    "enumNames": ["Option One", "Option Two", "Option Three"],
                },
                "untitledMulti": { "type": "array", "items": { "type": "string", "enum": plain } },
                "titledMulti": { "type": "array", "items": { "anyOf": titled } },
            });
            (elicit("Which ones?", properties, json!([])), "Elicitation completed: ")
        }
        _ => return None,
    })
}
