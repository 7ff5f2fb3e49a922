//! What a checkpoint holds for reading and writing text: tokenizer, chat template, special tokens.

use nesa_model::manifest::{MAX_END_TOKENS, SpecialTokens};
use serde_json::Value;
use std::path::Path;

use crate::source::SourceError;

/// The files beside the weights that a compiled decoder carries along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextFiles {
    /// `tokenizer.json`, as it is.
    pub tokenizer: Vec<u8>,
    /// The chat template (Jinja), empty for none.
    pub template: Vec<u8>,
    /// Where a text begins and ends.
    pub special: SpecialTokens,
}

impl TextFiles {
    /// Reads them from a Hugging Face folder. Only `tokenizer.json` must be there.
    ///
    /// # Errors
    /// [`SourceError`] naming the file that is absent or damaged, or ends that are too many.
    pub fn read(dir: &Path) -> Result<Self, SourceError> {
        let path = dir.join("tokenizer.json");
        let tokenizer =
            std::fs::read(&path).map_err(|error| SourceError::Io { path: path.clone(), error })?;
        let described: Value = serde_json::from_slice(&tokenizer)
            .map_err(|e| SourceError::Parse { path, error: e.to_string() })?;
        let settings = optional(&dir.join("tokenizer_config.json"))?;
        let template = match std::fs::read(dir.join("chat_template.jinja")) {
            Ok(template) => template,
            Err(_) => template(&settings["chat_template"]).as_bytes().to_vec(),
        };
        let config = optional(&dir.join("config.json"))?;
        let generation = optional(&dir.join("generation_config.json"))?;

        let named = |name: &str| added_token(&described, &settings[name]);
        let start = match settings.get("bos_token") {
            Some(_) => named("bos_token"),
            None => ids(&config["bos_token_id"]).next(),
        };
        let mut ends = Vec::new();
        let listed = ids(&generation["eos_token_id"]).chain(ids(&config["eos_token_id"]));
        for end in named("eos_token").into_iter().chain(listed) {
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        if ends.len() > MAX_END_TOKENS {
            let (what, got) = ("number of end tokens", ends.len().to_string());
            return Err(SourceError::Unsupported { what, got, expected: "at most 8" });
        }
        Ok(Self { tokenizer, template, special: SpecialTokens { start, ends } })
    }
}

/// A JSON file, null if there is none.
fn optional(path: &Path) -> Result<Value, SourceError> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|e| SourceError::Parse { path: path.into(), error: e.to_string() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(SourceError::Io { path: path.into(), error }),
    }
}

/// The template, or of several named ones the default.
fn template(value: &Value) -> &str {
    let several = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let default = several.iter().find(|t| t["name"] == "default");
    default.map_or(value, |t| &t["template"]).as_str().unwrap_or_default()
}

/// Token ids given as one number or a list.
fn ids(value: &Value) -> impl Iterator<Item = u32> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or(std::slice::from_ref(value));
    list.iter().filter_map(|v| u32::try_from(v.as_u64()?).ok())
}

/// The index of a special token given as its text, or as an object with `content`.
fn added_token(tokenizer: &Value, name: &Value) -> Option<u32> {
    let name = name.get("content").unwrap_or(name).as_str()?;
    let added = tokenizer["added_tokens"].as_array()?;
    ids(&added.iter().find(|t| t["content"] == name)?["id"]).next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    const TOKENIZER: (&str, &str) = (
        "tokenizer.json",
        r#"{"added_tokens":[{"id":7,"content":"<s>"},{"id":9,"content":"<|im_end|>"}]}"#,
    );

    #[test]
    fn ends_come_from_every_file_the_template_s_first() {
        let dir = folder(&[
            TOKENIZER,
            (
                "tokenizer_config.json",
                r#"{"bos_token":{"content":"<s>"},"eos_token":"<|im_end|>","chat_template":"hi"}"#,
            ),
            ("config.json", r#"{"bos_token_id":1,"eos_token_id":2}"#),
            ("generation_config.json", r#"{"eos_token_id":[9,3]}"#),
        ]);
        let text = TextFiles::read(dir.path()).unwrap();
        assert_eq!(text.special, SpecialTokens { start: Some(7), ends: vec![9, 3, 2] });
        assert_eq!(text.template, b"hi");
    }

    #[test]
    fn a_template_file_wins_and_of_several_the_default() {
        let several = r#"{"chat_template":[{"name":"tool","template":"t"},{"name":"default","template":"d"}]}"#;
        let dir = folder(&[TOKENIZER, ("tokenizer_config.json", several)]);
        assert_eq!(TextFiles::read(dir.path()).unwrap().template, b"d");
        std::fs::write(dir.path().join("chat_template.jinja"), "j").unwrap();
        assert_eq!(TextFiles::read(dir.path()).unwrap().template, b"j");
    }

    #[test]
    fn only_the_tokenizer_must_be_there() {
        let special = SpecialTokens::default();
        let text = TextFiles::read(folder(&[TOKENIZER]).path()).unwrap();
        assert_eq!((text.special, text.template.len()), (special, 0));
        let absent = TextFiles::read(folder(&[]).path()).unwrap_err();
        assert!(absent.to_string().contains("tokenizer.json"), "{absent}");
        let damaged = folder(&[TOKENIZER, ("generation_config.json", "{")]);
        let damaged = TextFiles::read(damaged.path()).unwrap_err();
        assert!(damaged.to_string().contains("generation_config.json"), "{damaged}");
    }
}
