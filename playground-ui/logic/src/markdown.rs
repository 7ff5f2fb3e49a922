//! Markdown of an answer as a small tree in which nothing can run or load.
//!
//! A model's text is outside input: raw HTML stays text, an image becomes a note that names its
//! address, and a link leads only to `https:`, `http:` or `mailto:`. Whatever was refused is still
//! shown as text, so that nothing of an answer is hidden. The page builds elements from this tree one
//! by one; no string ever becomes markup.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// Longest answer parsed, in bytes; a longer one is shown as plain text.
pub const MAX_BYTES: usize = 200_000;
/// Deepest nesting of blocks and inlines. What is deeper joins its parent, which bounds the recursion
/// of whoever draws the tree.
pub const MAX_DEPTH: usize = 16;
/// Most columns of a table.
const MAX_COLUMNS: usize = 32;

/// A block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    /// A paragraph.
    Paragraph(Vec<Inline>),
    /// A heading of level 1 to 6.
    Heading(u8, Vec<Inline>),
    /// Code, with the language its fence names.
    Code {
        /// First word of the fence, letters, digits and `+-#._` only.
        language: Option<String>,
        /// The code.
        text: String,
    },
    /// A quotation.
    Quote(Vec<Block>),
    /// A list; ordered when it has a first number.
    List {
        /// First number.
        start: Option<u32>,
        /// Blocks of each item.
        items: Vec<Vec<Block>>,
    },
    /// A table.
    Table {
        /// Cells of the head row.
        head: Vec<Vec<Inline>>,
        /// Cells of each further row.
        rows: Vec<Vec<Vec<Inline>>>,
    },
    /// A thematic break.
    Rule,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inline {
    /// As it stands.
    Text(String),
    /// Code.
    Code(String),
    /// Emphasised.
    Emphasis(Vec<Inline>),
    /// Strong.
    Strong(Vec<Inline>),
    /// Struck out.
    Struck(Vec<Inline>),
    /// A link with an allowed scheme.
    Link {
        /// Where to.
        href: String,
        /// What is shown.
        text: Vec<Inline>,
    },
    /// A new line.
    Break,
}

/// Parses an answer.
pub fn parse(text: &str) -> Vec<Block> {
    let text = visible(text);
    if text.len() > MAX_BYTES {
        return vec![Block::Code { language: None, text }];
    }
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut builder = Builder::default();
    for event in Parser::new_ext(&text, options) {
        builder.event(event);
    }
    builder.finish()
}

/// The address a link may have: `https:`, `http:` or `mailto:`, nothing invisible in it.
pub fn allowed(address: &str) -> Option<&str> {
    let (scheme, rest) = address.split_once(':')?;
    let scheme =
        ["https", "http", "mailto"].into_iter().find(|s| scheme.eq_ignore_ascii_case(s))?;
    let host = if scheme == "mailto" { Some(rest) } else { rest.strip_prefix("//") };
    let plain = !address.chars().any(|c| c.is_whitespace() || unseen(c) || width_less(c));
    (plain && host.is_some_and(|h| !h.is_empty())).then_some(address)
}

/// Characters that change how others are shown, or are nothing themselves, become a visible sign.
fn visible(text: &str) -> String {
    text.chars()
        .filter(|c| *c != '\r')
        .map(|c| if unseen(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c })
        .collect()
}

/// Controls, and the bidirectional ones among them, which can show a line in another order than it was
/// written.
fn unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without a width: of use in some scripts, never in an address.
fn width_less(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2065}' | '\u{feff}')
}

/// What an open element collects.
#[derive(Debug)]
enum Open {
    Paragraph(Vec<Inline>),
    /// Raw HTML between blank lines: shown as it was written.
    Html(String),
    Heading(u8, Vec<Inline>),
    Code(Option<String>, String),
    Quote(Vec<Block>),
    List(Option<u32>, Vec<Vec<Block>>),
    /// Blocks, and the inlines of a tight item that no paragraph holds yet.
    Item(Vec<Block>, Vec<Inline>),
    Table(Vec<Vec<Inline>>, Vec<Vec<Vec<Inline>>>),
    Row(Vec<Vec<Inline>>),
    Cell(Vec<Inline>),
    Emphasis(Vec<Inline>),
    Strong(Vec<Inline>),
    Struck(Vec<Inline>),
    Link(String, Vec<Inline>),
    Image(String, Vec<Inline>),
    /// Too deep, or of no use here: its content joins the parent.
    Through,
}

#[derive(Default)]
struct Builder {
    done: Vec<Block>,
    open: Vec<Open>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::Code(code) => self.inline(Inline::Code(visible(&code))),
            Event::SoftBreak => self.text(" "),
            Event::HardBreak => self.inline(Inline::Break),
            Event::Rule => self.block(Block::Rule),
            // Not enabled; were they, their text is all that counts.
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                self.text(&text)
            }
            Event::TaskListMarker(done) => self.text(if done { "[x] " } else { "[ ] " }),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        let open = match tag {
            Tag::Paragraph => Open::Paragraph(Vec::new()),
            Tag::Heading { level, .. } => Open::Heading(level as u8, Vec::new()),
            Tag::CodeBlock(kind) => Open::Code(language(&kind), String::new()),
            Tag::HtmlBlock => Open::Html(String::new()),
            Tag::BlockQuote(_) if self.shallow() => Open::Quote(Vec::new()),
            Tag::List(start) if self.shallow() => {
                Open::List(start.map(|n| u32::try_from(n).unwrap_or(u32::MAX)), Vec::new())
            }
            Tag::Item if matches!(self.open.last(), Some(Open::List(..))) => {
                Open::Item(Vec::new(), Vec::new())
            }
            Tag::Table(columns) if columns.len() <= MAX_COLUMNS && self.shallow() => {
                Open::Table(Vec::new(), Vec::new())
            }
            Tag::TableHead | Tag::TableRow if matches!(self.open.last(), Some(Open::Table(..))) => {
                Open::Row(Vec::new())
            }
            Tag::TableCell if matches!(self.open.last(), Some(Open::Row(_))) => {
                Open::Cell(Vec::new())
            }
            Tag::Emphasis if self.shallow() => Open::Emphasis(Vec::new()),
            Tag::Strong if self.shallow() => Open::Strong(Vec::new()),
            Tag::Strikethrough if self.shallow() => Open::Struck(Vec::new()),
            Tag::Link { dest_url, .. } if self.shallow() => {
                Open::Link(dest_url.into_string(), Vec::new())
            }
            Tag::Image { dest_url, .. } if self.shallow() => {
                Open::Image(dest_url.into_string(), Vec::new())
            }
            _ => Open::Through,
        };
        // A list item's paragraph follows its loose text.
        if !matches!(
            open,
            Open::Emphasis(_)
                | Open::Strong(_)
                | Open::Struck(_)
                | Open::Link(..)
                | Open::Image(..)
                | Open::Through
        ) {
            self.close_loose();
        }
        self.open.push(open);
    }

    fn shallow(&self) -> bool {
        self.open.iter().filter(|o| !matches!(o, Open::Through)).count() < MAX_DEPTH
    }

    /// Loose text of a tight item becomes a paragraph before a block follows it.
    fn close_loose(&mut self) {
        let holder = self.open.iter_mut().rev().find(|o| !matches!(o, Open::Through));
        if let Some(Open::Item(blocks, loose)) = holder
            && !loose.is_empty()
        {
            blocks.push(Block::Paragraph(std::mem::take(loose)));
        }
    }

    fn end(&mut self, tag: TagEnd) {
        let Some(open) = self.open.pop() else { return };
        match open {
            Open::Paragraph(inlines) => self.paragraph(inlines),
            Open::Html(text) => self.block(Block::Code { language: None, text }),
            Open::Heading(level, inlines) => self.block(Block::Heading(level, inlines)),
            Open::Code(language, text) => self.block(Block::Code { language, text }),
            Open::Quote(blocks) => self.block(Block::Quote(blocks)),
            Open::List(start, items) => self.block(Block::List { start, items }),
            Open::Item(mut blocks, loose) => {
                if !loose.is_empty() {
                    blocks.push(Block::Paragraph(loose));
                }
                if let Some(Open::List(_, items)) = self.open.last_mut() {
                    items.push(blocks);
                }
            }
            Open::Table(head, rows) => self.block(Block::Table { head, rows }),
            Open::Row(cells) => {
                if let Some(Open::Table(head, rows)) = self.open.last_mut() {
                    if tag == TagEnd::TableHead { *head = cells } else { rows.push(cells) }
                }
            }
            Open::Cell(inlines) => {
                if let Some(Open::Row(cells)) = self.open.last_mut() {
                    cells.push(inlines);
                }
            }
            Open::Emphasis(inner) => self.inline(Inline::Emphasis(inner)),
            Open::Strong(inner) => self.inline(Inline::Strong(inner)),
            Open::Struck(inner) => self.inline(Inline::Struck(inner)),
            Open::Link(address, text) => match allowed(&address) {
                Some(href) => self.inline(Inline::Link { href: href.to_owned(), text }),
                None => {
                    for part in text {
                        self.inline(part);
                    }
                    self.text(&format!(" ({address})"));
                }
            },
            Open::Image(address, alt) => {
                self.text("[image not loaded: ");
                for part in alt {
                    self.inline(part);
                }
                self.text(&format!(" ({address})]"));
            }
            // The end of a block that joined its parent still ends the line.
            Open::Through => {
                if !matches!(
                    tag,
                    TagEnd::Emphasis
                        | TagEnd::Strong
                        | TagEnd::Strikethrough
                        | TagEnd::Link
                        | TagEnd::Image
                ) {
                    self.text(" ");
                }
            }
        }
    }

    fn paragraph(&mut self, inlines: Vec<Inline>) {
        if !inlines.is_empty() {
            self.block(Block::Paragraph(inlines));
        }
    }

    /// Puts a block where blocks go; inside a line its text joins the line.
    fn block(&mut self, block: Block) {
        self.close_loose();
        let holder = self.open.iter_mut().rev().find(|o| !matches!(o, Open::Through));
        match holder {
            None => self.done.push(block),
            Some(Open::Quote(blocks) | Open::Item(blocks, _)) => blocks.push(block),
            Some(_) => self.text(&words(&block)),
        }
    }

    fn inline(&mut self, inline: Inline) {
        let holder = self.open.iter_mut().rev().find(|o| !matches!(o, Open::Through));
        match holder {
            Some(
                Open::Paragraph(inlines)
                | Open::Heading(_, inlines)
                | Open::Item(_, inlines)
                | Open::Cell(inlines)
                | Open::Emphasis(inlines)
                | Open::Strong(inlines)
                | Open::Struck(inlines)
                | Open::Link(_, inlines)
                | Open::Image(_, inlines),
            ) => match (inlines.last_mut(), inline) {
                (Some(Inline::Text(before)), Inline::Text(text)) => before.push_str(&text),
                (_, inline) => inlines.push(inline),
            },
            Some(Open::Html(text) | Open::Code(_, text)) => text.push_str(&plain(&[inline])),
            Some(Open::Quote(blocks)) => blocks.push(Block::Paragraph(vec![inline])),
            _ => self.done.push(Block::Paragraph(vec![inline])),
        }
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            // Once more: an entity may stand for what was not in the source.
            self.inline(Inline::Text(visible(text)));
        }
    }

    fn finish(mut self) -> Vec<Block> {
        // pulldown-cmark closes what it opens; this loses nothing if it ever does not.
        while !self.open.is_empty() {
            self.end(TagEnd::Paragraph);
        }
        self.done
    }
}

fn language(kind: &CodeBlockKind<'_>) -> Option<String> {
    let CodeBlockKind::Fenced(info) = kind else { return None };
    let word: String = info
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "+-#._".contains(*c))
        .take(24)
        .collect();
    (!word.is_empty()).then_some(word)
}

/// The words of inlines, without their form.
pub fn plain(inlines: &[Inline]) -> String {
    inlines
        .iter()
        .map(|inline| match inline {
            Inline::Text(text) | Inline::Code(text) => text.clone(),
            Inline::Emphasis(inner)
            | Inline::Strong(inner)
            | Inline::Struck(inner)
            | Inline::Link { text: inner, .. } => plain(inner),
            Inline::Break => "\n".to_owned(),
        })
        .collect()
}

/// The words of a block, without their form.
fn words(block: &Block) -> String {
    match block {
        Block::Paragraph(inlines) | Block::Heading(_, inlines) => plain(inlines),
        Block::Code { text, .. } => text.clone(),
        Block::Quote(blocks) => blocks.iter().map(words).collect::<Vec<_>>().join(" "),
        Block::List { items, .. } => {
            items.iter().flatten().map(words).collect::<Vec<_>>().join(" ")
        }
        Block::Table { head, rows } => std::iter::once(head)
            .chain(rows)
            .flatten()
            .map(|cell| plain(cell))
            .collect::<Vec<_>>()
            .join(" "),
        Block::Rule => String::new(),
    }
}
