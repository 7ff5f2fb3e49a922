//! Text on its way to the screen: hashes found in sentences, titles for what was pasted.

/// Hexadecimal digits from which a word counts as a hash: 20 bytes and more.
const HASH_DIGITS: usize = 40;

/// A part of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Words(String),
    /// A hash or key, whole; to be shown shortened and copyable.
    Hash(String),
}

/// Splits a sentence into words and the hashes in it. Joined again, the pieces are the sentence.
pub fn pieces(sentence: &str) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut words = String::new();
    // Runs of letters and digits, and what stands between them.
    let mut rest = sentence;
    while let Some(first) = rest.chars().next() {
        let same = |c: char| c.is_alphanumeric() == first.is_alphanumeric();
        let end = rest.find(|c| !same(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if run.len() >= HASH_DIGITS && run.bytes().all(|b| b.is_ascii_hexdigit()) {
            if !words.is_empty() {
                out.push(Piece::Words(std::mem::take(&mut words)));
            }
            out.push(Piece::Hash(run.to_owned()));
        } else {
            words.push_str(run);
        }
        rest = after;
    }
    if !words.is_empty() {
        out.push(Piece::Words(words));
    }
    out
}

/// A title for pasted text: the first words of its first line.
pub fn first_words(text: &str) -> String {
    const LIMIT: usize = 42;
    let line = text.lines().next().unwrap_or_default().trim().trim_start_matches('#').trim();
    if line.chars().count() <= LIMIT {
        return line.to_owned();
    }
    let mut out = String::new();
    for word in line.split_whitespace() {
        if out.chars().count() + word.chars().count() > LIMIT {
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    if out.is_empty() {
        out = line.chars().take(LIMIT).collect();
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_text_gets_a_short_title() {
        assert_eq!(first_words("# Minutes\nbody"), "Minutes");
        let long = first_words(&"word ".repeat(40));
        assert!(long.ends_with('…') && long.chars().count() <= 44);
        assert_eq!(first_words(&"x".repeat(90)).chars().count(), 43);
    }

    #[test]
    fn hashes_are_found_and_nothing_is_lost() {
        let hash = "0f".repeat(32);
        let words = |text: &str| Piece::Words(text.to_owned());
        assert_eq!(
            pieces(&format!("node {hash}: got 12, expected {hash}")),
            [
                words("node "),
                Piece::Hash(hash.clone()),
                words(": got 12, expected "),
                Piece::Hash(hash.clone())
            ]
        );
        assert_eq!(pieces(&hash), [Piece::Hash(hash.clone())]);
        // Neither a number nor a long word that only begins or ends like a hash.
        for text in ["paid 310000 unes", &format!("{hash}xyz"), &format!("xyz{hash}"), "", "é"] {
            assert!(pieces(text).iter().all(|p| matches!(p, Piece::Words(_))), "{text}");
        }
        for text in ["a b", &format!("é{hash}é {hash}–{hash}."), "deadbeef, 12"] {
            let joined: String = pieces(text)
                .into_iter()
                .map(|p| match p {
                    Piece::Words(text) | Piece::Hash(text) => text,
                })
                .collect();
            assert_eq!(joined, *text);
        }
    }
}
