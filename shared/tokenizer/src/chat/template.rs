//! A chat template, and what it makes of a chat.

use std::error::Error as _;
use std::fmt;

use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::environment::{Raised, environment};
use super::stand_in::{StandIns, reserved};
use super::vet::vet;
use super::{ChatError, ChatLimits, Message, Role};

/// The only template of an environment.
const NAME: &str = "chat";

/// Steps for a chat: so many for any, so many for each turn, and one for so many bytes said. A template
/// takes about 30 a turn, and one for each 64 bytes of text that it makes or reads.
const FUEL: u64 = 20_000;
const FUEL_PER_MESSAGE: u64 = 400;
const BYTES_PER_FUEL: u64 = 4;

/// Chats tried to see whether a template composes special tokens.
const TRIALS: [&[Role]; 3] = [
    &[Role::System, Role::User, Role::Assistant, Role::User],
    &[Role::User, Role::Assistant, Role::User],
    &[Role::User],
];

/// The way a model wants chats written.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: StandIns,
    bos: Value,
    eos: Value,
    limits: ChatLimits,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChatTemplate({} special tokens)", self.special.names().len())
    }
}

impl ChatTemplate {
    /// Reads a template for a model whose special tokens are `special`, of which `bos` begins a text and
    /// `eos` ends one.
    ///
    /// # Errors
    /// [`ChatError`] when it is too long, no Jinja, uses what is not supported, or puts names of special
    /// tokens together from pieces.
    pub fn parse(
        template: &str,
        special: &[&str],
        bos: Option<&str>,
        eos: Option<&str>,
        limits: ChatLimits,
    ) -> Result<Self, ChatError> {
        if reserved(template) {
            return Err(ChatError::Reserved("the chat template"));
        }
        let mut names: Vec<String> = Vec::with_capacity(special.len());
        for name in special.iter().copied().chain(bos).chain(eos) {
            if !name.is_empty() && !names.iter().any(|n| n == name) {
                names.push(name.into());
            }
            if names.len() > limits.max_special_tokens {
                let (what, max) = ("special tokens", limits.max_special_tokens);
                return Err(ChatError::TooMuch { what, got: names.len(), max });
            }
        }
        let special = StandIns::new(names, &limits)?;
        vet(template, &limits)?;
        let source = vet(
            &special.replace(template),
            &ChatLimits { max_template_bytes: limits.max_template_bytes * 4, ..limits },
        )?;
        let mut environment = environment(limits.max_output_bytes);
        environment.add_template_owned(NAME, source).map_err(|e| refusal(&e, true))?;
        let value =
            |name: Option<&str>| name.map_or(Value::UNDEFINED, |n| special.of_name(n).into());
        let (bos, eos) = (value(bos), value(eos));
        let template = Self { environment, special, bos, eos, limits };
        template.try_out()?;
        Ok(template)
    }

    /// Refuses a template that composes special tokens: they would come out as ordinary text.
    fn try_out(&self) -> Result<(), ChatError> {
        for roles in TRIALS {
            let chat: Vec<Message> = roles.iter().map(|&role| Message::new(role, "a")).collect();
            let Ok(rendered) = self.render(&chat, true) else { continue };
            let composed = self.special.named_in(&rendered.0)?;
            return composed.map_or(Ok(()), |name| Err(ChatError::Composed(name.into())));
        }
        Ok(())
    }

    /// The chat as the model wants it, with the beginning of an answer if `add_generation_prompt`.
    ///
    /// # Errors
    /// [`ChatError`] when the chat or the work is over the limits, or the template refuses it.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Rendered, ChatError> {
        let bytes: usize = messages.iter().map(|m| m.content.len()).sum();
        at_most("turns of a chat", messages.len(), self.limits.max_messages)?;
        at_most("bytes of a chat", bytes, self.limits.max_content_bytes)?;
        if messages.iter().any(|m| reserved(&m.content)) {
            return Err(ChatError::Reserved("a message"));
        }
        let mut environment = self.environment.clone();
        let fuel = FUEL + FUEL_PER_MESSAGE * messages.len() as u64 + bytes as u64 / BYTES_PER_FUEL;
        environment.set_fuel(Some(fuel));
        let turn = |m: &Message| context! { role => m.role.name(), content => m.content.as_str() };
        let messages: Vec<Value> = messages.iter().map(turn).collect();
        let (bos_token, eos_token) = (self.bos.clone(), self.eos.clone());
        let none = || Value::from(());
        let context = context! {
            messages, add_generation_prompt, bos_token, eos_token, tools => none(), documents => none()
        };
        let text = environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|e| refusal(&e, false))?;
        at_most("bytes of a rendered chat", text.len(), self.limits.max_output_bytes)?;
        let named = self.special.restore(&text)?;
        Ok(Rendered(text, named))
    }

    /// The special tokens by name, in the order of the stand-ins.
    pub(super) fn special(&self) -> &[String] {
        self.special.names()
    }
}

fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), ChatError> {
    if got > max { Err(ChatError::TooMuch { what, got, max }) } else { Ok(()) }
}

fn refusal(error: &Error, parsing: bool) -> ChatError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return ChatError::Refused(message.clone());
        }
        cause = inner.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => ChatError::Exhausted,
        _ if parsing => ChatError::Syntax(error.to_string()),
        _ => ChatError::Failed(error.to_string()),
    }
}

/// A rendered chat: with stand-ins, and with names as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered(pub(super) String, String);

impl Rendered {
    /// The text as `transformers` renders it. Names of special tokens in it may be a message's: to get
    /// tokens, use [`super::ChatTokenizer::tokens`].
    pub fn text(&self) -> &str {
        &self.1
    }
}
