//! What a template may use, decided before it is parsed.
//!
//! The engine's fuel bounds steps and strings. It does not bound how deep an expression nests, which
//! costs the parser stack, nor values that contain others many times over, which take exponential time
//! to print or compare. Chat templates need neither. So:
//!
//! * a tag has a limited number of tokens, and there is no `*`, macro, `with`, block or import, so that
//!   a value can only outlive a tag through `set`;
//! * the right side of every `set` passes a filter that bounds what it contains.

use std::fmt::Write as _;

use minijinja::machinery::{Token, tokenize};

use super::environment::syntax;
use super::{ChatError, ChatLimits};

/// Tokens of one tag; the longest of published templates have about 100.
const TAG_TOKENS: usize = 256;

/// `elif` branches of a template, which nest.
const BRANCHES: usize = 64;

/// The filter for what a variable is given.
pub(super) const KEPT: &str = "nesa_kept";

/// The filter for what an attribute of a namespace is given.
pub(super) const KEPT_INSIDE: &str = "nesa_kept_inside";

const STATEMENTS: [&str; 10] =
    ["set", "endset", "if", "elif", "else", "endif", "for", "endfor", "break", "continue"];

/// The template with guards; what Hugging Face adds to Jinja (`generation`) becomes plain Jinja.
pub(super) fn vet(source: &str, limits: &ChatLimits) -> Result<String, ChatError> {
    let (got, max) = (source.len(), limits.max_template_bytes);
    if got > max {
        return Err(ChatError::TooMuch { what: "bytes of the chat template", got, max });
    }
    let mut edits = Edits::default();
    let (mut tag, mut branches) = (Vec::new(), 0);
    for token in tokenize(source, false, syntax()) {
        let (token, span) = token.map_err(|e| ChatError::Syntax(e.to_string()))?;
        let range = span.start_offset as usize..span.end_offset as usize;
        match token {
            Token::TemplateData(_) => {}
            Token::VariableStart | Token::BlockStart => tag.clear(),
            Token::VariableEnd => {}
            Token::BlockEnd => statement(&tag, range.start, &mut branches, &mut edits)?,
            Token::Mul | Token::Pow => return Err(ChatError::Unsupported("`*`".into())),
            _ => {
                let word = match token {
                    Token::Ident(name) => Word::Name(name),
                    Token::Dot => Word::Dot,
                    Token::Assign => Word::Assign,
                    _ => Word::Other,
                };
                tag.push((word, range));
                if tag.len() > TAG_TOKENS {
                    let (what, got) = ("tokens of one tag of the chat template", tag.len());
                    return Err(ChatError::TooMuch { what, got, max: TAG_TOKENS });
                }
            }
        }
    }
    Ok(edits.apply(source))
}

#[derive(Clone, Copy, PartialEq)]
enum Word<'a> {
    Name(&'a str),
    Dot,
    Assign,
    Other,
}

type Tag<'a> = [(Word<'a>, std::ops::Range<usize>)];

/// Looks at one `{% … %}` that ends at `end`.
fn statement(
    tag: &Tag<'_>,
    end: usize,
    branches: &mut usize,
    edits: &mut Edits,
) -> Result<(), ChatError> {
    let Some((Word::Name(name), range)) = tag.first() else { return Ok(()) };
    match *name {
        "generation" => edits.replace(range.clone(), "if true"),
        "endgeneration" => edits.replace(range.clone(), "endif"),
        "elif" => {
            *branches += 1;
            if *branches > BRANCHES {
                let what = "elif branches of the chat template";
                return Err(ChatError::TooMuch { what, got: *branches, max: BRANCHES });
            }
        }
        "for" if tag.iter().any(|(w, _)| *w == Word::Name("recursive")) => {
            return Err(ChatError::Unsupported("recursive loops".into()));
        }
        "set" => {
            if let Some(at) = tag.iter().position(|(w, _)| *w == Word::Assign) {
                let inside = tag[..at].iter().any(|(w, _)| *w == Word::Dot);
                let filter = if inside { KEPT_INSIDE } else { KEPT };
                edits.insert(tag[at].1.end, "(".into());
                edits.insert(end, format!(")|{filter} "));
            }
        }
        known if STATEMENTS.contains(&known) => {}
        other => return Err(ChatError::Unsupported(format!("the tag {other:?}"))),
    }
    Ok(())
}

/// Changes to a text, in order of place.
#[derive(Default)]
struct Edits(Vec<(std::ops::Range<usize>, String)>);

impl Edits {
    fn insert(&mut self, at: usize, text: String) {
        self.0.push((at..at, text));
    }

    fn replace(&mut self, range: std::ops::Range<usize>, text: &str) {
        self.0.push((range, text.into()));
    }

    fn apply(self, source: &str) -> String {
        let (mut out, mut done) = (String::with_capacity(source.len() + 64), 0);
        for (range, text) in self.0 {
            let _ = write!(out, "{}{text}", &source[done..range.start]);
            done = range.end;
        }
        out.push_str(&source[done..]);
        out
    }
}
