//! What is asked for: a prompt or a chat, how it is continued, and what a payment commits to of it.

use nesa_kernels::sample::{LOGIT_BITS, Sampling};
use nesa_model::decoder::SAMPLING_SEED_BYTES;
use serde::{Deserialize, Serialize};

/// Who says something in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Instructions that precede a chat.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As templates and JSON spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a chat.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// What a model is to continue.
#[derive(Clone, PartialEq, Eq)]
pub enum Said {
    /// A text, from its beginning.
    Text(String),
    /// A chat whose next turn is the model's.
    Chat(Vec<Message>),
}

/// A prompt to be continued, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What is continued.
    pub said: Said,
    /// Most tokens to write.
    pub tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The same seed, prompt, sampling and model give the same text on every machine.
    pub seed: [u8; SAMPLING_SEED_BYTES],
    /// Tokens guessed in each pass and checked with it: fewer round trips for more bytes, and the same
    /// text. At most [`MAX_DRAFT`]; 0 for none.
    pub draft: usize,
}

/// Most tokens guessed in a pass.
pub const MAX_DRAFT: usize = 15;

// Prompts are secret: a stray debug print must not show them.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({}, {} bytes)", self.role.name(), self.content.len())
    }
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Chat(messages) => write!(f, "Chat({} turns)", messages.len()),
        }
    }
}

impl std::fmt::Debug for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prompt({:?}, {} tokens to write)", self.said, self.tokens)
    }
}

/// A sampling parameter outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name} {got}, allowed 0 to {max}")]
pub struct SamplingError {
    /// Which.
    pub name: &'static str,
    /// Its value.
    pub got: f64,
    /// The greatest allowed.
    pub max: f64,
}

/// Sampling parameters in the fixed-point form of the exact arithmetic.
///
/// # Errors
/// [`SamplingError`] for a temperature outside 0 to 100 or a share outside 0 to 1.
pub fn sampling(temperature: f64, top_k: u32, top_p: f64) -> Result<Sampling, SamplingError> {
    let fixed = |name, got: f64, max: f64| {
        if !(0.0..=max).contains(&got) {
            return Err(SamplingError { name, got, max });
        }
        Ok((got * f64::from(1 << LOGIT_BITS)).round() as u32)
    };
    Ok(Sampling {
        temperature: fixed("temperature", temperature, 100.0)?,
        top_k,
        top_p: fixed("top-p", top_p, 1.0)?,
    })
}

/// The sampling seed that a number stands for.
pub fn seed(number: u64) -> [u8; SAMPLING_SEED_BYTES] {
    let mut seed = [0; SAMPLING_SEED_BYTES];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    seed
}

/// What is committed to beside what is said, as JSON.
#[derive(Serialize, Deserialize)]
struct Parameters {
    tokens: usize,
    temperature: u32,
    top_k: u32,
    top_p: u32,
    seed: String,
    /// Of a chat: who says each of the texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<Role>>,
    /// Absent where nothing is guessed.
    #[serde(default, skip_serializing_if = "is_none")]
    draft: usize,
}

fn is_none(draft: &usize) -> bool {
    *draft == 0
}

impl Prompt {
    /// The texts a payment commits to: the prompt, or each turn of a chat, then how it is continued.
    pub(crate) fn committed(&self) -> Vec<String> {
        let (mut texts, roles) = match &self.said {
            Said::Text(text) => (vec![text.clone()], None),
            Said::Chat(messages) => (
                messages.iter().map(|message| message.content.clone()).collect(),
                Some(messages.iter().map(|message| message.role).collect()),
            ),
        };
        let parameters = Parameters {
            tokens: self.tokens,
            temperature: self.sampling.temperature,
            top_k: self.sampling.top_k,
            top_p: self.sampling.top_p,
            seed: crate::wallet::hex(&self.seed),
            roles,
            draft: self.draft,
        };
        texts.push(serde_json::to_string(&parameters).unwrap_or_default());
        texts
    }

    /// The prompt that a payment committed to as `texts`, if they are one.
    pub(crate) fn from_committed(texts: &[String]) -> Option<Self> {
        let (json, texts) = texts.split_last()?;
        let p: Parameters = serde_json::from_str(json).ok()?;
        let said = match p.roles {
            None => {
                let [text] = texts else { return None };
                Said::Text(text.clone())
            }
            Some(roles) if roles.len() == texts.len() => {
                let turns = roles.into_iter().zip(texts);
                Said::Chat(turns.map(|(role, text)| Message::new(role, text.as_str())).collect())
            }
            Some(_) => return None,
        };
        let seed = crate::wallet::unhex(&p.seed)?;
        let sampling = Sampling { temperature: p.temperature, top_k: p.top_k, top_p: p.top_p };
        Some(Self { said, tokens: p.tokens, sampling, seed, draft: p.draft })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::commitment;
    use nesa_primitives::Hash;
    use proptest::prelude::*;

    fn prompt(said: Said) -> Prompt {
        let sampling = sampling(0.8, 40, 0.95).unwrap();
        Prompt { said, tokens: 9, sampling, seed: seed(7), draft: 0 }
    }

    fn chat(turns: &[(Role, &str)]) -> Said {
        Said::Chat(turns.iter().map(|(role, text)| Message::new(*role, *text)).collect())
    }

    fn turns() -> impl Strategy<Value = Said> {
        let role = prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant)];
        let turn = (role, ".{0,12}").prop_map(|(role, text)| Message::new(role, text));
        prop_oneof![
            ".{0,20}".prop_map(Said::Text),
            prop::collection::vec(turn, 0..5).prop_map(Said::Chat),
        ]
    }

    proptest! {
        #[test]
        fn a_commitment_names_one_prompt(said in turns(), tokens in 1usize..999, number: u64) {
            let mut prompt = prompt(said);
            (prompt.tokens, prompt.seed) = (tokens, seed(number));
            prop_assert_eq!(Prompt::from_committed(&prompt.committed()), Some(prompt));
        }
    }

    #[test]
    fn who_says_what_and_how_it_is_continued_is_committed_to() {
        let (chain, salt, model) = (Hash([1; 32]), Hash([2; 32]), Hash([3; 32]));
        let name = |prompt: &Prompt| commitment(&chain, &salt, &model, &prompt.committed());
        let first = prompt(chat(&[(Role::System, "a"), (Role::User, "b")]));
        let mut others = vec![
            prompt(chat(&[(Role::User, "a"), (Role::User, "b")])),
            prompt(chat(&[(Role::System, "ab"), (Role::User, "")])),
            prompt(chat(&[(Role::System, "b"), (Role::User, "a")])),
            prompt(chat(&[(Role::User, "b")])),
            prompt(Said::Text("b".into())),
            prompt(chat(&[])),
        ];
        let changes: [fn(&mut Prompt); 5] = [
            |p| p.tokens += 1,
            |p| p.seed[0] ^= 1,
            |p| p.sampling.temperature += 1,
            |p| p.sampling.top_k += 1,
            |p| p.sampling.top_p -= 1,
        ];
        for change in changes {
            let mut other = first.clone();
            change(&mut other);
            others.push(other);
        }
        for other in others {
            assert_ne!(name(&other), name(&first), "{other:?}");
        }
    }

    #[test]
    fn texts_of_other_tasks_are_no_prompts() {
        let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let mut two = prompt(chat(&[(Role::User, "a"), (Role::User, "b")])).committed();
        two.remove(0);
        for other in [texts(&[]), texts(&["a"]), texts(&["a", "b"]), two] {
            assert_eq!(Prompt::from_committed(&other), None, "{other:?}");
        }
    }

    #[test]
    fn parameters_out_of_range_are_named() {
        for (t, p) in [(-0.1, 1.0), (100.1, 1.0), (f64::NAN, 1.0), (1.0, -1.0), (1.0, 1.01)] {
            assert!(sampling(t, 0, p).is_err(), "{t} {p}");
        }
        assert_eq!(sampling(101.0, 0, 1.0).unwrap_err().name, "temperature");
    }

    #[test]
    fn prompts_do_not_print() {
        let shown = format!("{:?}", prompt(chat(&[(Role::User, "a secret")])));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
