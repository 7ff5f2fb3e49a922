#![no_main]
//! Arbitrary chat templates over arbitrary messages: an error or a text, and never without end.

use nesa_tokenizer::chat::{ChatLimits, ChatTemplate, Message, Role};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (template, said) = text.split_once('\0').unwrap_or((text, "hello"));
    let special = ["<s>", "</s>"];
    let limits = ChatLimits::default();
    let parsed = ChatTemplate::parse(template, &special, Some("<s>"), Some("</s>"), limits);
    let Ok(template) = parsed else { return };
    let chat = [Message::new(Role::System, said), Message::new(Role::User, said)];
    if let Ok(rendered) = template.render(&chat, true) {
        assert!(rendered.text().len() <= 2 * limits.max_output_bytes);
    }
});
