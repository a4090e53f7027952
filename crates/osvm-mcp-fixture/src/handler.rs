//! The server itself.
// Sampling, roots and logging are deprecated in the protocol, and the suite of 2025-11-25 asks for them.
#![expect(deprecated)]

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, CompleteRequestParams,
        CompleteResult, GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputRequiredResult,
        ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
        LoggingMessageNotificationParam, PaginatedRequestParams, ProgressNotificationParam, ReadResourceRequestParams,
        ReadResourceResponse, ReadResourceResult, ServerConfig, SetLevelRequestParams, SubscribeRequestParams,
        SubscriptionFilter, UnsubscribeRequestParams,
    },
    service::RequestContext,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    content,
    inputs::{Signer, Step, question},
};

/// Between two messages of one tool, so that a client can get them one by one. The suite asks for it.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(crate) struct Fixture {
    signer: Signer,
}

/// A result; `rmcp` takes `resultType` off again for a client of before 2026-07-28.
fn result<T: DeserializeOwned>(mut value: Value) -> Result<T, ErrorData> {
    value["resultType"] = json!("complete");
    typed(value)
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn failed(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

/// What the client says it can do.
fn can(context: &RequestContext<RoleServer>) -> Value {
    serde_json::to_value(context.client_capabilities().unwrap_or_default()).unwrap_or_default()
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { signer: Signer::new() }
    }

    async fn log(&self, context: &RequestContext<RoleServer>) -> Result<Value, ErrorData> {
        for text in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
            let message: LoggingMessageNotificationParam = typed(json!({ "level": "info", "data": text }))?;
            context.peer.notify_logging_message(message).await.map_err(failed)?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(content::text("Three messages were logged."))
    }

    async fn progress(&self, context: &RequestContext<RoleServer>) -> Result<Value, ErrorData> {
        for progress in [0, 50, 100] {
            if let Some(token) = context.meta.get_progress_token() {
                let message: ProgressNotificationParam =
                    typed(json!({ "progressToken": token, "progress": progress, "total": 100 }))?;
                context.peer.notify_progress(message).await.map_err(failed)?;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(content::text("It is done."))
    }

    /// Asks a client of before 2026-07-28.
    async fn ask(&self, context: &RequestContext<RoleServer>, asked: Value, told: &str) -> Result<Value, ErrorData> {
        let params = asked["params"].clone();
        let answer = if asked["method"] == "sampling/createMessage" {
            let answer = context.peer.create_message(typed(params)?).await.map_err(failed)?;
            serde_json::to_value(answer).map_err(failed)?["content"]["text"].to_string()
        } else {
            let answer = context.peer.create_elicitation(typed(params)?).await.map_err(failed)?;
            let answer = serde_json::to_value(answer).map_err(failed)?;
            format!("action={}, content={}", answer["action"].as_str().unwrap_or_default(), answer["content"])
        };
        Ok(content::text(&format!("{told}{answer}")))
    }
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = json!({
            "tools": {}, "prompts": {}, "resources": { "subscribe": true }, "logging": {}, "completions": {},
        });
        ServerConfig::new(serde_json::from_value(capabilities).unwrap_or_default())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        result(content::tools())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.as_ref();
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        if let Some(said) = content::tool(name) {
            return Ok(result::<CallToolResult>(said)?.into());
        }
        if let Some((asked, told)) = question(name, &arguments) {
            return Ok(result::<CallToolResult>(self.ask(&context, asked, told).await?)?.into());
        }
        let given = request.input_responses.map(serde_json::to_value).transpose().map_err(failed)?;
        if name == "test_streaming_elicitation" && given.is_none() {
            self.progress(&context).await?;
        }
        match self.signer.step(name, given.as_ref(), request.request_state.as_deref(), &can(&context)) {
            Some(Step::Ask(asked)) => return Ok(typed::<InputRequiredResult>(asked)?.into()),
            Some(Step::Done(said)) => return Ok(result::<CallToolResult>(said)?.into()),
            Some(Step::Forged) => {
                return Err(ErrorData::invalid_params("requestState is not one of this server", None));
            }
            None => {}
        }
        let said = match name {
            "test_tool_with_logging" => self.log(&context).await?,
            "test_logging_tool" if context.meta.log_level().is_none() => content::text("Nothing was logged."),
            "test_logging_tool" => self.log(&context).await?,
            "test_tool_with_progress" => self.progress(&context).await?,
            "test_missing_capability" if !can(&context)["sampling"].is_object() => {
                let wanted: ClientCapabilities = typed(json!({ "sampling": {} }))?;
                return Err(ErrorData::missing_required_client_capability(wanted));
            }
            "test_missing_capability" => content::text("The client can do it."),
            _ => return Err(ErrorData::invalid_params(format!("there is no tool {name:?}"), None)),
        };
        Ok(result::<CallToolResult>(said)?.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        result(content::resources())
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        result(content::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let missing = || ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": request.uri })));
        Ok(result::<ReadResourceResult>(content::resource(&request.uri).ok_or_else(missing)?)?.into())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        result(content::prompts())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let name = &request.name;
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        if let Some(prompt) = content::prompt(name, &arguments) {
            return Ok(result::<GetPromptResult>(prompt)?.into());
        }
        let given = request.input_responses.map(serde_json::to_value).transpose().map_err(failed)?;
        match self.signer.step(name, given.as_ref(), request.request_state.as_deref(), &can(&context)) {
            Some(Step::Ask(asked)) => Ok(typed::<InputRequiredResult>(asked)?.into()),
            Some(Step::Done(said)) => {
                let message = json!({ "role": "user", "content": said["content"][0] });
                Ok(result::<GetPromptResult>(json!({ "messages": [message] }))?.into())
            }
            Some(Step::Forged) => Err(ErrorData::invalid_params("requestState is not one of this server", None)),
            None => Err(ErrorData::invalid_params(format!("there is no prompt {name:?}"), None)),
        }
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let begun = request.argument.value;
        let values: Vec<_> = ["paris", "park", "party"].into_iter().filter(|word| word.starts_with(&begun)).collect();
        result(json!({ "completion": { "values": values, "total": values.len(), "hasMore": false } }))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }
}
