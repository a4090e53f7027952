//! The OpenAPI 3.1 document, made from the table of routes and the types.

use osvm_model::api::ErrorBody;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::routes::{Answer, table};

/// The document.
pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let error = generator.subschema_for::<ErrorBody>();
    let mut paths = Map::new();
    for entry in table() {
        let content = |media: &str, schema: Value| json!({ media: { "schema": schema } });
        let content = match entry.answer {
            Answer::Json(of) => content("application/json", of(&mut generator).into()),
            Answer::Stream(of) => content("application/x-ndjson", of(&mut generator).into()),
            Answer::JsonOrStream(one, each) => json!({
                "application/json": { "schema": one(&mut generator) },
                "application/x-ndjson": { "schema": each(&mut generator) },
            }),
            Answer::Text(media) => content(media, json!({})),
            Answer::Empty => json!({}),
        };
        let mut parameters: Vec<Value> = entry
            .query
            .iter()
            .map(|(name, meaning)| json!({ "name": name, "in": "query", "description": meaning, "schema": {} }))
            .collect();
        if entry.path.contains("{name}") {
            parameters.push(json!({
                "name": "name", "in": "path", "required": true,
                "description": "the service's name; a `/` in it is written %2F", "schema": { "type": "string" },
            }));
        }
        let mut operation = json!({
            "summary": entry.summary,
            "parameters": parameters,
            "responses": {
                "200": { "description": "done", "content": content },
                "default": {
                    "description": "failed",
                    "content": { "application/json": { "schema": error } },
                },
            },
        });
        if let Some(of) = entry.body {
            let schema = of(&mut generator);
            operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
        }
        let path = paths.entry(entry.path).or_insert_with(|| json!({}));
        path[entry.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "osvm daemon", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.contains_key("ServiceSpec") && schemas.contains_key("RolloutStatus"));
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"").skip(1) {
            let target = reference.split('"').next().unwrap();
            let name = target.strip_prefix("#/components/schemas/").unwrap_or_else(|| panic!("{target}"));
            assert!(schemas.contains_key(name), "{name} is referred to and not there");
        }
        assert!(document["paths"]["/v1/services/{name}"]["put"]["requestBody"].is_object());
    }
}
