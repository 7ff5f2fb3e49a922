//! Hostile and ordinary markdown: nothing may run or load, nothing may be hidden.
#![allow(clippy::unwrap_used, clippy::panic)] // a failed set-up is a failed test

use nesa_page::markdown::{Block, Inline, MAX_BYTES, MAX_DEPTH, allowed, parse, plain};
use proptest::prelude::*;

fn text(words: &str) -> Inline {
    Inline::Text(words.to_owned())
}

fn paragraph(words: &str) -> Block {
    Block::Paragraph(vec![text(words)])
}

/// Visits every inline with its depth, and every block.
fn walk(blocks: &[Block], depth: usize, see: &mut impl FnMut(&Inline, usize)) {
    fn line(inlines: &[Inline], depth: usize, see: &mut impl FnMut(&Inline, usize)) {
        for inline in inlines {
            see(inline, depth);
            match inline {
                Inline::Emphasis(i) | Inline::Strong(i) | Inline::Struck(i) => {
                    line(i, depth + 1, see)
                }
                Inline::Link { text, .. } => line(text, depth + 1, see),
                Inline::Text(_) | Inline::Code(_) | Inline::Break => {}
            }
        }
    }
    for block in blocks {
        match block {
            Block::Paragraph(i) | Block::Heading(_, i) => line(i, depth + 1, see),
            Block::Quote(inner) => walk(inner, depth + 1, see),
            Block::List { items, .. } => {
                for item in items {
                    walk(item, depth + 2, see);
                }
            }
            Block::Table { head, rows } => {
                for cell in head.iter().chain(rows.iter().flatten()) {
                    line(cell, depth + 1, see);
                }
            }
            Block::Code { .. } | Block::Rule => {}
        }
    }
}

fn links(blocks: &[Block]) -> Vec<String> {
    let mut found = Vec::new();
    walk(blocks, 0, &mut |inline, _| {
        if let Inline::Link { href, .. } = inline {
            found.push(href.clone());
        }
    });
    found
}

fn all_text(blocks: &[Block]) -> String {
    blocks
        .iter()
        .map(|block| match block {
            Block::Paragraph(i) | Block::Heading(_, i) => plain(i),
            Block::Code { text, .. } => text.clone(),
            Block::Quote(inner) => all_text(inner),
            Block::List { items, .. } => items.iter().map(|i| all_text(i)).collect(),
            Block::Table { head, rows } => {
                head.iter().chain(rows.iter().flatten()).map(|c| plain(c)).collect()
            }
            Block::Rule => String::new(),
        })
        .collect()
}

#[test]
fn ordinary_answers_keep_their_form() {
    let blocks = parse(
        "# Lighthouse\n\nA **tower** with a *light*; see `lamp`.\n\n- one\n- two\n\n3. three\n4. four\n\n\
         ```rust\nlet x = 1;\n```\n\n> quoted\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---\n",
    );
    assert_eq!(blocks[0], Block::Heading(1, vec![text("Lighthouse")]));
    assert_eq!(
        blocks[1],
        Block::Paragraph(vec![
            text("A "),
            Inline::Strong(vec![text("tower")]),
            text(" with a "),
            Inline::Emphasis(vec![text("light")]),
            text("; see "),
            Inline::Code("lamp".to_owned()),
            text("."),
        ])
    );
    let items = |words: [&str; 2]| words.map(|w| vec![paragraph(w)]).to_vec();
    assert_eq!(blocks[2], Block::List { start: None, items: items(["one", "two"]) });
    assert_eq!(blocks[3], Block::List { start: Some(3), items: items(["three", "four"]) });
    let code = Block::Code { language: Some("rust".to_owned()), text: "let x = 1;\n".to_owned() };
    assert_eq!(blocks[4], code);
    assert_eq!(blocks[5], Block::Quote(vec![paragraph("quoted")]));
    let cell = |w: &str| vec![text(w)];
    assert_eq!(
        blocks[6],
        Block::Table { head: vec![cell("a"), cell("b")], rows: vec![vec![cell("1"), cell("2")]] }
    );
    assert_eq!(blocks[7], Block::Rule);
    assert_eq!(blocks.len(), 8);
}

#[test]
fn half_an_answer_is_still_shown() {
    for half in ["```py\nprint(", "**bold", "[link](https://exa", "| a | b |\n|--", "- ", "> "] {
        let whole = all_text(&parse(half));
        let letters = |s: &str| s.chars().filter(|c| c.is_alphabetic()).collect::<String>();
        assert!(letters(half).ends_with(&letters(&whole)), "{half}: {whole}");
    }
}

#[test]
fn markup_in_an_answer_is_shown_not_obeyed() {
    for raw in [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<iframe src=\"https://evil.example\"></iframe>",
        "<svg onload=alert(1)>",
        "<a href=\"javascript:alert(1)\">click</a>",
        "<style>* { display: none }</style>",
        "<!-- hidden -->",
        "<details open ontoggle=alert(1)>",
    ] {
        for answer in
            [raw.to_owned(), format!("before {raw} after"), format!("- {raw}"), format!("> {raw}")]
        {
            let blocks = parse(&answer);
            assert!(all_text(&blocks).contains(raw), "{answer}: {blocks:?}");
            assert!(links(&blocks).is_empty());
        }
    }
}

#[test]
fn only_three_schemes_become_links() {
    for good in [
        "https://example.org/a?b=c#d",
        "http://127.0.0.1/",
        "mailto:a@example.org",
        "HTTPS://example.org",
    ] {
        assert_eq!(links(&parse(&format!("[x]({good})"))), [good]);
        assert_eq!(allowed(good), Some(good));
    }
    for bad in [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,<b>",
        "vbscript:x",
        "file:///etc/passwd",
        "blob:https://a/b",
        "//evil.example",
        "/v1/bootstrap",
        "#/wallet",
        "wallet",
        "https:evil",
        "https://",
        "mailto:",
        "ws://a",
        "nesa:pay",
        "",
    ] {
        let blocks = parse(&format!("[x](<{bad}>)"));
        assert!(links(&blocks).is_empty(), "{bad}: {blocks:?}");
        assert!(all_text(&blocks).contains(bad), "{bad} is shown: {blocks:?}");
        assert_eq!(allowed(bad), None, "{bad}");
    }
    // Spellings that a browser would read as a scheme all the same.
    for sly in [
        "java\tscript:alert(1)",
        "\u{1}javascript:alert(1)",
        " javascript:alert(1)",
        "https://a\u{202e}b",
        "https://a b",
    ] {
        assert_eq!(allowed(sly), None, "{sly:?}");
    }
    for sly in [
        "[x](java&#10;script:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "<javascript:alert(1)>",
        "[x]\n\n[x]: javascript:alert(1)",
    ] {
        assert!(links(&parse(sly)).is_empty(), "{sly}");
    }
}

#[test]
fn an_image_is_a_note_with_its_address() {
    let blocks = parse("![a cat](https://evil.example/pixel.png?secret=1)");
    assert_eq!(
        blocks,
        [paragraph("[image not loaded: a cat (https://evil.example/pixel.png?secret=1)]")]
    );
    assert!(links(&parse("![x](javascript:alert(1))")).is_empty());
    // Within a link it stays a note; the link obeys its own rule.
    let linked = parse("[![a](https://x.example/i.png)](javascript:alert(1))");
    assert!(links(&linked).is_empty() && all_text(&linked).contains("javascript:alert(1)"));
}

#[test]
fn a_line_cannot_be_shown_in_another_order() {
    let shown = all_text(&parse(
        "pay \u{202e}evil\u{202c} \u{2066}x\u{2069} \u{0} \u{7f} &#x202e;entity&#x1; `\u{202e}`\r\nend",
    ));
    assert!(!shown.chars().any(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || c.is_control() && c != '\n'));
    assert!(shown.contains('\u{fffd}'), "{shown:?}");
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = |unit: &str| format!("{}end", unit.repeat(3_000));
    for answer in [deep("> "), deep("- "), deep("1. "), deep("*_"), deep("[")] {
        let blocks = parse(&answer);
        walk(&blocks, 0, &mut |_, depth| assert!(depth <= 2 * MAX_DEPTH + 4, "{depth}"));
        assert!(all_text(&blocks).contains("end"));
    }
    let long = "<b>word ".repeat(MAX_BYTES / 8 + 1);
    assert_eq!(parse(&long), [Block::Code { language: None, text: long }]);
}

#[test]
fn a_fence_names_a_language_and_nothing_else() {
    let language = |fence: &str| match parse(&format!("```{fence}\nx\n```")).remove(0) {
        Block::Code { language, .. } => language,
        other => panic!("{other:?}"),
    };
    assert_eq!(language("c++").as_deref(), Some("c++"));
    assert_eq!(language("rust,ignore").as_deref(), Some("rust"));
    assert_eq!(language("\"><script>"), None);
    assert_eq!(language(""), None);
    assert_eq!(language(&"a".repeat(99)).map(|l| l.len()), Some(24));
}

proptest! {
    /// Whatever a model writes: no panic, bounded depth, allowed links, words kept.
    #[test]
    fn any_text_is_safe(answer in "[ \\n*_`~<>\\[\\]()!#|:a-c0-2&;\"'/\\\\-]{0,200}") {
        let blocks = parse(&answer);
        for link in links(&blocks) {
            prop_assert!(allowed(&link).is_some());
        }
        walk(&blocks, 0, &mut |_, depth| assert!(depth <= 2 * MAX_DEPTH + 4));
    }

    #[test]
    fn plain_words_stay_as_they_are(words in "[a-z]{1,8}( [a-z]{1,8}){0,12}") {
        prop_assert_eq!(parse(&words), vec![paragraph(&words)]);
    }
}
