//! Writing a text: a prompt, its payment's commitment, and the text as it comes.

use nesa_crypto::SecretKey;
use nesa_kernels::sample::{LOGIT_BITS, Sampling};
use nesa_masked::{
    batch::{PROMPT_PIECE, TEXT_BUCKET, bucket, text_passes},
    client::Pass,
};
use nesa_model::decoder::{
    DecoderModel, DraftModel, SAMPLING_SEED_BYTES, WriteError, WriteRequest, Writing, Written,
};
use nesa_primitives::Hash;
use serde::{Deserialize, Serialize};

use super::{
    QueryClient, QueryError, QueryOptions, QueryOutcome,
    drafts::Drafts,
    engine::{Pieces, SharedCodec, TextEngine, TextError, TextFiles},
    report::{Answer, Content, Listener, Progress, Quote, WrittenText},
    work::{Gather, Work},
};
use crate::models::Prepared;

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

/// A prompt that fits its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The prompt, its most tokens lowered to what the model's context leaves.
    pub prompt: Prompt,
    /// Tokens of the prompt, as the model reads it.
    pub prompt_tokens: usize,
}

/// Most tokens to write after a prompt of so many, in a context of `max`: those asked for if there is
/// room; else what is left beside the *padded* prompt, to a multiple of the bucket of written tokens, so
/// that their number does not tell the prompt's length.
fn room(prompt: usize, wanted: usize, max: usize) -> Option<usize> {
    if prompt.checked_add(wanted).is_some_and(|all| all <= max) {
        return Some(wanted).filter(|wanted| *wanted > 0);
    }
    let (whole, rest) = (prompt / PROMPT_PIECE * PROMPT_PIECE, prompt % PROMPT_PIECE);
    let padded = whole + bucket(rest).unwrap_or_default() as usize;
    let left = max.saturating_sub(padded) / TEXT_BUCKET * TEXT_BUCKET;
    Some(left.min(wanted)).filter(|left| *left > 0)
}

impl Work {
    /// The continuation of `prompt`.
    pub(crate) async fn write(
        model: &DecoderModel,
        prompt: &Prompt,
        engine: Option<&dyn TextEngine>,
    ) -> Result<Self, QueryError> {
        let codec = open(model, engine).await?;
        let request = WriteRequest {
            prompt: codec.tokens(&prompt.said).await?,
            tokens: prompt.tokens,
            sampling: prompt.sampling,
            seed: prompt.seed,
            pad_to: TEXT_BUCKET,
            piece: PROMPT_PIECE,
            draft: prompt.draft.min(MAX_DRAFT),
        };
        // Refused before anything is paid.
        Writing::start(model, request.clone())?;
        Ok(Self::Write { request, codec })
    }
}

async fn open(
    model: &DecoderModel,
    engine: Option<&dyn TextEngine>,
) -> Result<SharedCodec, TextError> {
    engine.ok_or(TextError::Absent)?.open(TextFiles::of(model)?).await
}

impl QueryClient {
    /// Counts the prompt's tokens, and lowers the most that is written to what the context leaves.
    ///
    /// # Errors
    /// [`QueryError`] when the model cannot continue it at all.
    pub async fn fit(&self, prepared: &Prepared, mut prompt: Prompt) -> Result<Fitted, QueryError> {
        let model = prepared.decoder()?;
        let codec = open(model, self.engine()).await?;
        let prompt_tokens = codec.tokens(&prompt.said).await?.len();
        let max = model.config().max_tokens as usize;
        prompt.tokens = room(prompt_tokens, prompt.tokens, max).ok_or(WriteError::Length {
            prompt: prompt_tokens,
            tokens: prompt.tokens,
            max,
        })?;
        Ok(Fitted { prompt, prompt_tokens })
    }

    /// What continuing `prompt` would cost and move at most, without sending anything.
    ///
    /// # Errors
    /// [`QueryError`] when the model cannot continue it.
    pub async fn write_quote(
        &self,
        prepared: &Prepared,
        prompt: &Prompt,
        options: &QueryOptions,
    ) -> Result<Quote, QueryError> {
        let work = Work::write(prepared.decoder()?, prompt, self.engine()).await?;
        Ok(self.plan(prepared, work, prompt.committed(), options).await?.quote)
    }

    /// Continues `prompt`; every token is heard as [`Progress::Text`] once all its layers are checked.
    ///
    /// # Errors
    /// As [`QueryClient::embed`].
    pub async fn write(
        &self,
        prepared: &Prepared,
        wallet: &SecretKey,
        prompt: &Prompt,
        options: &QueryOptions,
    ) -> Result<QueryOutcome, QueryError> {
        let model = prepared.decoder()?;
        if let Some(draft) = &options.draft_model {
            DraftModel::new(draft, model, prompt.sampling, prompt.seed)?;
        }
        let work = Box::pin(async { Work::write(model, prompt, self.engine()).await });
        self.ask(prepared, wallet, work, prompt.committed(), options).await
    }
}

/// A text: shown as it comes, every token after its layers were checked.
pub(crate) struct Text<'a> {
    model: &'a DecoderModel,
    request: &'a WriteRequest,
    codec: &'a SharedCodec,
    drafts: Drafts,
    stream: Option<Box<dyn Pieces>>,
    listener: Listener,
    text: String,
    tokens: Vec<u32>,
    /// Tokens whose text has been asked for.
    shown: usize,
    ended: bool,
}

impl<'a> Text<'a> {
    pub(crate) fn new(
        model: &'a DecoderModel,
        codec: &'a SharedCodec,
        request: &'a WriteRequest,
        drafts: Drafts,
        listener: Listener,
    ) -> Self {
        Self {
            model,
            request,
            codec,
            drafts,
            stream: None,
            listener,
            text: String::new(),
            tokens: Vec::new(),
            shown: 0,
            ended: false,
        }
    }

    fn add(&mut self, piece: String) {
        self.text.push_str(&piece);
        self.listener.say(Progress::Text { piece, tokens: self.shown });
    }
}

impl Gather for Text<'_> {
    type Run = Writing;

    fn passes(&self) -> Result<Vec<Pass<Writing>>, QueryError> {
        let drafter = self.drafts.drafter(self.model, self.request)?;
        let run = Writing::start_drafted(self.model, self.request.clone(), drafter)?;
        let tokens = text_passes(self.request).first().copied().unwrap_or_default();
        Ok(vec![Pass { run, tokens }])
    }

    fn guesses(&self) -> Option<Vec<u32>> {
        self.drafts.kept()
    }

    fn take(&mut self, _: u32, output: Vec<Written>) -> Result<(), QueryError> {
        for written in output {
            match written {
                Written::Token(token) => self.tokens.push(token),
                Written::End(_) => self.ended = true,
                Written::Read | Written::Padding => {}
            }
        }
        Ok(())
    }

    async fn flush(&mut self, last: bool) -> Result<(), QueryError> {
        while let Some(&token) = self.tokens.get(self.shown) {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.codec.stream(&self.request.prompt).await?,
            };
            let piece = stream.push(token).await?;
            self.stream = Some(stream);
            self.shown += 1;
            self.add(piece);
        }
        if last && let Some(stream) = self.stream.take() {
            let rest = stream.finish().await?;
            if !rest.is_empty() {
                self.add(rest);
            }
        }
        Ok(())
    }

    fn answer(self, model: &Hash) -> Result<Answer, QueryError> {
        let (text, tokens, ended) = (self.text, self.tokens, self.ended);
        Ok(Answer::new(model, Content::Text(WrittenText { text, tokens, ended })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::commitment;
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

        /// What does not fit is lowered, and the number written says no more of the prompt than its padding.
        #[test]
        fn room_is_kept_and_tells_only_the_padding(prompt in 1usize..700, max in 16usize..800, wanted in 1usize..900) {
            match room(prompt, wanted, max) {
                Some(tokens) => {
                    prop_assert!(tokens <= wanted && prompt + tokens <= max);
                    if tokens < wanted {
                        prop_assert_eq!(tokens % TEXT_BUCKET, 0);
                        let padded = prompt / PROMPT_PIECE * PROMPT_PIECE
                            + bucket(prompt % PROMPT_PIECE).unwrap_or_default() as usize;
                        // A prompt that fills its bucket gets the same, if it does not fit either.
                        prop_assert_eq!(room(padded, wanted, max), Some(tokens));
                    }
                }
                None => prop_assert!(prompt + wanted > max),
            }
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
