//! The exact integer model format, its tokenizer and the reference interpreter that defines its semantics.
