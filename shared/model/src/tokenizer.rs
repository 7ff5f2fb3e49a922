//! WordPiece for BERT vocabularies, uncased and cased.
//!
//! The same ids as the `BertNormalizer`, `BertPreTokenizer` and `WordPiece` of the `tokenizers`
//! crate, in a fraction of its size, with the character data fixed in this crate
//! (`unicode_tables.rs`) so that no toolchain update can change a model's input. Text never turns
//! into special tokens: a literal `[SEP]` in a document is three ordinary tokens.
//!
//! Work on one text is bounded by the model's token limit, not by the text: reading stops once it is
//! reached. A pair is read whole, since how it is cut depends on both lengths.

use thiserror::Error;

use crate::manifest::{Reading, TokenizerConfig};
use crate::unicode::{fold, is_punctuation};
use crate::{Frame, TokenIds};

/// A vocabulary that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VocabError {
    /// Not UTF-8.
    #[error("the vocabulary is not UTF-8")]
    Utf8,
    /// The wrong number of tokens.
    #[error("the vocabulary has {got} tokens, the model {expected}")]
    Count {
        /// Tokens in the vocabulary.
        got: usize,
        /// Rows of the word embedding.
        expected: usize,
    },
    /// One token appears twice.
    #[error("token {0} appears twice")]
    Duplicate(usize),
    /// A special token is not in the vocabulary.
    #[error("special token {got}, the vocabulary has {count}")]
    Special {
        /// The index given.
        got: u32,
        /// Tokens in the vocabulary.
        count: usize,
    },
    /// A limit the tokenizer cannot work with.
    #[error("{what} is {got}")]
    Limit {
        /// Which limit.
        what: &'static str,
        /// Its value.
        got: usize,
    },
}

/// A WordPiece tokenizer bound to one vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    text: String,
    /// Start of each token in `text`, and the end of the last one's newline.
    starts: Vec<u32>,
    /// Token indices in the byte order of their text.
    sorted: Vec<u32>,
    /// Bytes of the longest token; no longer piece needs looking up.
    longest: usize,
    config: TokenizerConfig,
    /// Whether case and accents stay.
    cased: bool,
    frame: Frame,
}

/// Longest word a model may ask to be split, in characters; the work per word is quadratic in it.
const MAX_WORD_CHARS: u16 = 400;

impl Tokenizer {
    /// Takes a vocabulary: `count` tokens in index order, each ended by a newline.
    ///
    /// # Errors
    /// [`VocabError`] when it does not fit the configuration.
    pub fn new(
        config: &TokenizerConfig,
        reading: &Reading,
        vocab: &[u8],
        count: usize,
        max_tokens: usize,
    ) -> Result<Self, VocabError> {
        let text = std::str::from_utf8(vocab).map_err(|_| VocabError::Utf8)?.to_owned();
        let mut starts = vec![0u32];
        starts.extend(
            text.bytes().enumerate().filter(|&(_, b)| b == b'\n').map(|(i, _)| i as u32 + 1),
        );
        let got = starts.len() - 1;
        if got != count || starts.last().copied() != Some(text.len() as u32) {
            return Err(VocabError::Count { got, expected: count });
        }
        let frame = Frame::new(config, reading, count, max_tokens)?;
        if config.max_word_chars > MAX_WORD_CHARS {
            let got = usize::from(config.max_word_chars);
            return Err(VocabError::Limit { what: "max_word_chars", got });
        }
        let (config, cased, sorted) = (*config, reading.cased, Vec::new());
        let mut tokenizer = Self { text, starts, sorted, longest: 0, config, cased, frame };
        let mut sorted: Vec<u32> = (0..count as u32).collect();
        sorted.sort_unstable_by(|&a, &b| tokenizer.token(a).cmp(&tokenizer.token(b)));
        if let Some(w) = sorted.windows(2).find(|w| tokenizer.token(w[0]) == tokenizer.token(w[1]))
        {
            return Err(VocabError::Duplicate(w[0] as usize));
        }
        tokenizer.longest =
            tokenizer.starts.windows(2).map(|w| (w[1] - w[0]) as usize - 1).max().unwrap_or(0);
        tokenizer.sorted = sorted;
        Ok(tokenizer)
    }

    /// Tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.sorted.len()
    }

    /// Text of a token; `None` beyond the vocabulary.
    pub fn token(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        let (start, end) = (*self.starts.get(id)?, *self.starts.get(id + 1)?);
        self.text.get(start as usize..end as usize - 1)
    }

    /// Longest sequence, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.frame.max_tokens()
    }

    /// `[CLS] … [SEP]` for a text, cut to the model's limit.
    pub fn encode(&self, text: &str) -> TokenIds {
        self.encode_within(text, self.max_tokens())
    }

    /// `[CLS] … [SEP]` for a text, cut to `max_tokens` (between 2 and the model's limit).
    pub fn encode_within(&self, text: &str, max_tokens: usize) -> TokenIds {
        // One more than there is room for tells that the text is cut.
        let most = max_tokens.clamp(2, self.max_tokens()) - 1;
        self.frame.within(&self.pieces(text, most), max_tokens)
    }

    /// `[CLS] … [SEP] … [SEP]` for a pair of texts, cut to the model's limit: from the end of the longer
    /// text, and if neither fits half of the room, both to the half. A pair with the empty text is the
    /// text alone. `None` of a model that reads no pairs.
    pub fn encode_pair(&self, text: &str, pair: &str) -> Option<TokenIds> {
        if pair.is_empty() && self.frame.pairs() {
            return Some(self.encode(text));
        }
        self.frame.pair(&self.pieces(text, usize::MAX), &self.pieces(pair, usize::MAX))
    }

    /// The pieces of a text, at least `most` of them or all.
    fn pieces(&self, text: &str, most: usize) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut word = Word::new(usize::from(self.config.max_word_chars));
        let read = |word: &mut Word, ids: &mut Vec<u32>| {
            self.word_piece(word, ids);
            word.clear();
        };
        for c in text.chars() {
            for c in fold(c, self.cased) {
                if c == ' ' {
                    read(&mut word, &mut ids);
                } else if is_punctuation(c) {
                    read(&mut word, &mut ids);
                    word.push(c);
                    read(&mut word, &mut ids);
                } else {
                    word.push(c);
                }
            }
            if ids.len() >= most {
                return ids;
            }
        }
        read(&mut word, &mut ids);
        ids
    }

    /// Greedy longest match first; a word with any part unmatched is `[UNK]` as a whole.
    fn word_piece(&self, word: &Word, ids: &mut Vec<u32>) {
        if word.chars == 0 {
            return;
        }
        if word.chars > word.max_chars {
            ids.push(self.config.unknown);
            return;
        }
        let first = ids.len();
        let text = word.text.as_str();
        let mut start = 0;
        let mut piece = String::with_capacity(text.len() + 2);
        while start < text.len() {
            let mut end = text.floor_char_boundary((start + self.longest).min(text.len()));
            let mut found = None;
            while end > start {
                piece.clear();
                if start > 0 {
                    piece.push_str("##");
                }
                piece.push_str(&text[start..end]);
                found = self.lookup(&piece);
                if found.is_some() {
                    break;
                }
                end = text.floor_char_boundary(end - 1);
            }
            match found {
                Some(id) => {
                    ids.push(id);
                    start = end;
                }
                None => {
                    ids.truncate(first);
                    ids.push(self.config.unknown);
                    return;
                }
            }
        }
    }

    fn lookup(&self, piece: &str) -> Option<u32> {
        let at = self.sorted.binary_search_by(|&id| self.token(id).cmp(&Some(piece))).ok()?;
        Some(self.sorted[at])
    }
}

/// A word being read; keeps no more characters than decide its fate.
struct Word {
    text: String,
    chars: usize,
    max_chars: usize,
}

impl Word {
    fn new(max_chars: usize) -> Self {
        Self { text: String::new(), chars: 0, max_chars }
    }

    fn push(&mut self, c: char) {
        if self.chars <= self.max_chars {
            self.text.push(c);
            self.chars += 1;
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        self.chars = 0;
    }
}
