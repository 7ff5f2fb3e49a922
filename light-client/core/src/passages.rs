//! Splits documents into passages that fit the encoder, at the seams a reader would choose.
//!
//! A paragraph is a passage. One that is too long is cut between sentences, a sentence that is too
//! long between words, a word that is too long between characters. A heading (a short line, or a
//! markdown `#`) belongs to the paragraph after it.

/// A piece of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Index of the document it comes from.
    pub document: usize,
    /// Byte offset of its first character in the document.
    pub start: usize,
    /// The text, trimmed.
    pub text: String,
}

/// Words up to which a line alone counts as a heading.
const HEADING_WORDS: usize = 8;

/// Splits `text` into passages of at most `limit` tokens, as `count` counts them.
///
/// `count` must be additive over words separated by white space, as word-piece tokenizers are; it
/// must not count special tokens.
pub fn split(
    document: usize,
    text: &str,
    limit: usize,
    count: impl Fn(&str) -> usize,
) -> Vec<Passage> {
    let limit = limit.max(1);
    let mut passages = Vec::new();
    let mut pending: Option<(usize, usize)> = None;
    for (start, end) in paragraphs(text) {
        let (from, heading) = match pending.take() {
            Some((heading_start, heading_end)) => (heading_start, Some(heading_end)),
            None => (start, None),
        };
        if is_heading(&text[start..end]) && heading.is_none() {
            pending = Some((start, end));
            continue;
        }
        if count(&text[from..end]) <= limit {
            push(&mut passages, document, text, from, end);
            continue;
        }
        if let Some(heading_end) = heading {
            cut(&mut passages, document, text, from, heading_end, limit, &count);
        }
        cut(&mut passages, document, text, start, end, limit, &count);
    }
    if let Some((start, end)) = pending {
        cut(&mut passages, document, text, start, end, limit, &count);
    }
    passages
}

fn push(passages: &mut Vec<Passage>, document: usize, text: &str, start: usize, end: usize) {
    let piece = &text[start..end];
    let trimmed = piece.trim();
    if !trimmed.is_empty() {
        let offset = piece.len() - piece.trim_start().len();
        passages.push(Passage { document, start: start + offset, text: trimmed.to_owned() });
    }
}

/// Cuts `start..end` into pieces within the limit, packing whole sentences greedily.
fn cut(
    passages: &mut Vec<Passage>,
    document: usize,
    text: &str,
    start: usize,
    end: usize,
    limit: usize,
    count: &impl Fn(&str) -> usize,
) {
    let (mut from, mut used) = (start, 0);
    for (s, e) in sentences(text, start, end) {
        let tokens = count(&text[s..e]);
        if used > 0 && used + tokens > limit {
            push(passages, document, text, from, s);
            (from, used) = (s, 0);
        }
        if tokens <= limit {
            used += tokens;
            continue;
        }
        for (ws, we) in words(text, s, e, limit, count) {
            let tokens = count(&text[ws..we]);
            if used > 0 && used + tokens > limit {
                push(passages, document, text, from, ws);
                (from, used) = (ws, 0);
            }
            used += tokens;
        }
    }
    push(passages, document, text, from, end);
}

/// Byte ranges between blank lines.
fn paragraphs(text: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let (mut start, mut at) = (None, 0);
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            if let Some(from) = start.take() {
                ranges.push((from, at));
            }
        } else if line.trim_start().starts_with('#') {
            // A markdown heading ends the paragraph before it and is one of its own.
            if let Some(from) = start.take() {
                ranges.push((from, at));
            }
            ranges.push((at, at + line.len()));
        } else if start.is_none() {
            start = Some(at);
        }
        at += line.len();
    }
    if let Some(from) = start {
        ranges.push((from, at));
    }
    ranges
}

fn is_heading(paragraph: &str) -> bool {
    let trimmed = paragraph.trim();
    trimmed.starts_with('#')
        || (!trimmed.contains('\n')
            && !trimmed.ends_with(['.', '!', '?', ':', ';', ','])
            && trimmed.split_whitespace().count() <= HEADING_WORDS)
}

/// Byte ranges of sentences: an end mark followed by white space closes one.
fn sentences(text: &str, start: usize, end: usize) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let (mut from, mut closing) = (start, false);
    for (offset, c) in text[start..end].char_indices() {
        let at = start + offset;
        if closing && c.is_whitespace() {
            ranges.push((from, at));
            (from, closing) = (at, false);
        } else if matches!(c, '.' | '!' | '?' | '。' | '！' | '？') {
            closing = true;
        } else if !matches!(c, '"' | '\'' | ')' | ']' | '»' | '”' | '’') {
            closing = false;
        }
    }
    if from < end {
        ranges.push((from, end));
    }
    ranges
}

/// Byte ranges of words, over-long ones cut between characters.
fn words(
    text: &str,
    start: usize,
    end: usize,
    limit: usize,
    count: &impl Fn(&str) -> usize,
) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut at = start;
    for word in text[start..end].split_inclusive(char::is_whitespace) {
        let (from, to) = (at, at + word.len());
        at = to;
        if count(word) <= limit {
            ranges.push((from, to));
            continue;
        }
        // One character is at least one token, so pieces of `limit` characters would do for
        // scripts without word pieces; halving finds pieces that fit whatever the tokenizer.
        let mut stack = vec![(from, to)];
        while let Some((s, e)) = stack.pop() {
            let chars = text[s..e].chars().count();
            if chars <= 1 || count(&text[s..e]) <= limit {
                ranges.push((s, e));
                continue;
            }
            let middle = text[s..e].char_indices().nth(chars / 2).map_or(e, |(o, _)| s + o);
            stack.push((middle, e));
            stack.push((s, middle));
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn a_paragraph_is_a_passage_and_a_heading_joins_it() {
        let text =
            "# Leave\n\nYou have 25 days.\nAsk early.\n\nSick days\n\nTell us by ten o'clock.\n";
        let passages = split(0, text, 50, by_words);
        let texts: Vec<&str> = passages.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(
            texts,
            ["# Leave\n\nYou have 25 days.\nAsk early.", "Sick days\n\nTell us by ten o'clock."]
        );
        assert!(passages.iter().all(|p| text[p.start..].starts_with(&p.text)));
    }

    #[test]
    fn long_paragraphs_are_cut_between_sentences() {
        let text = "One two three. Four five six! Seven eight nine? Ten.";
        let texts: Vec<String> = split(3, text, 7, by_words).into_iter().map(|p| p.text).collect();
        assert_eq!(texts, ["One two three. Four five six!", "Seven eight nine? Ten."]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_passage_fits(
            text in "[a-zé .!?\n#]{0,400}",
            limit in 1usize..20,
        ) {
            let passages = split(1, &text, limit, by_words);
            for passage in &passages {
                prop_assert!(by_words(&passage.text) <= limit, "{:?}", passage.text);
                prop_assert!(text[passage.start..].starts_with(&passage.text));
            }
            let kept: Vec<String> = passages
                .iter()
                .flat_map(|p| p.text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                .collect();
            let all: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            prop_assert_eq!(kept, all);
        }

        #[test]
        fn words_without_spaces_are_cut_too(length in 1usize..300, limit in 1usize..30) {
            let text = "x".repeat(length);
            let chars = |t: &str| t.chars().filter(|c| !c.is_whitespace()).count();
            let passages = split(0, &text, limit, chars);
            prop_assert!(passages.iter().all(|p| chars(&p.text) <= limit));
            prop_assert_eq!(passages.iter().map(|p| p.text.len()).sum::<usize>(), length);
        }
    }
}
