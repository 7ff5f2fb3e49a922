//! Licences of the models that come with the project. Nothing on the chain states a model's licence, so of
//! any other model none is known.

/// What a model's weights may be used under, by the model's digest; the table of `models/README.md`.
const KNOWN: [(&str, &str); 3] = [
    ("94106e3dcaa490c9740a872b8a5537b71072c41f954ed129ca686aa25a3748aa", "Apache-2.0"),
    (
        "55598a669d87d4a86f428523f0b42679b7f29f0628e00a0b9a7733245fde93b4",
        "Apache-2.0 or MIT; data WordNet's licence",
    ),
    (
        "a95d54124e509567012953afef5ae28322fc8d6ff691f617d96ca527665a5bd0",
        "Apache-2.0 or MIT; data CC BY 4.0",
    ),
];

/// The licence of a model, or that none is stated.
pub fn of(digest: &str) -> &'static str {
    let known = KNOWN.iter().find(|(model, _)| *model == digest);
    known.map_or("licence not stated", |(_, licence)| licence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_strangers_have_no_licence_that_is_known() {
        assert_eq!(of(&"ab".repeat(32)), "licence not stated");
        assert_eq!(of(""), "licence not stated");
    }

    /// The table that people read says the same of the same files, and of no others.
    #[test]
    fn the_table_beside_the_models_says_the_same() {
        let table = include_str!("../../../models/README.md");
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
        let rows = &rows[..KNOWN.len()];
        for (row, (digest, licence)) in rows.iter().zip(KNOWN) {
            assert!(row.contains(&format!("| `{digest}` |")), "{row}");
            for word in licence.split(['/', ';']).flat_map(str::split_whitespace) {
                assert!(row.contains(word), "{word}: {row}");
            }
            assert_eq!(of(digest), licence);
        }
    }
}
