//! A small made-up decoder, as Hugging Face publishes them.

use std::{collections::BTreeMap, path::Path};

use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

const VOCAB: usize = 260;
const WIDTH: usize = 16;
const LAYERS: usize = 2;

/// Writes one: two layers, a token for each byte, made-up weights.
pub(crate) fn write(dir: &Path) {
    let config = json!({
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": VOCAB,
        "max_position_embeddings": 300, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        "bos_token_id": 0, "eos_token_id": 1,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut vocab = serde_json::Map::new();
    vocab.insert("<s>".into(), json!(0));
    vocab.insert("</s>".into(), json!(1));
    for byte in 0..=255u32 {
        // GPT-2's printable stand-ins for bytes: themselves, or code points from 256 on.
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let stand_in = if printable { byte } else { 0x100 + rank(byte) };
        vocab.insert(char::from_u32(stand_in).unwrap().to_string(), json!(byte + 2));
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let template = "{% for m in messages %}{{ bos_token + m.role + ':' + m.content|trim + eos_token }}{% endfor %}\
        {% if add_generation_prompt %}{{ bos_token }}{% endif %}";
    let settings = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template});
    std::fs::write(dir.join("tokenizer_config.json"), settings.to_string()).unwrap();

    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".into(), vec![VOCAB, WIDTH]),
        ("model.norm.weight".into(), vec![WIDTH]),
    ];
    for layer in 0..LAYERS {
        let parts = [
            ("input_layernorm", vec![WIDTH]),
            ("post_attention_layernorm", vec![WIDTH]),
            ("self_attn.q_proj", vec![16, WIDTH]),
            ("self_attn.k_proj", vec![8, WIDTH]),
            ("self_attn.v_proj", vec![8, WIDTH]),
            ("self_attn.o_proj", vec![WIDTH, 16]),
            ("mlp.gate_proj", vec![24, WIDTH]),
            ("mlp.up_proj", vec![24, WIDTH]),
            ("mlp.down_proj", vec![WIDTH, 24]),
        ];
        let name = |part| format!("model.layers.{layer}.{part}.weight");
        shapes.extend(parts.map(|(part, shape)| (name(part), shape)));
    }
    save(dir, shapes);
}

/// A small made-up text classifier: a BERT of one layer whose tokens are letters.
pub(crate) fn write_text_classifier(dir: &Path) {
    let config = json!({
        "model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": WIDTH,
        "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 56,
        "max_position_embeddings": 32, "type_vocab_size": 2, "hidden_act": "gelu",
        "id2label": {"0": "bad", "1": "so so", "2": "good"},
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(String::from);
    let letters = ('a'..='z').flat_map(|c| [c.to_string(), format!("##{c}")]);
    let vocab: serde_json::Map<String, serde_json::Value> =
        specials.into_iter().chain(letters).enumerate().map(|(i, t)| (t, json!(i))).collect();
    let tokenizer = json!({
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let mut shapes = vec![
        ("bert.embeddings.word_embeddings.weight".to_owned(), vec![56, WIDTH]),
        ("bert.embeddings.position_embeddings.weight".to_owned(), vec![32, WIDTH]),
        ("bert.embeddings.token_type_embeddings.weight".to_owned(), vec![2, WIDTH]),
    ];
    let mut pair = |name: &str, shape: Vec<usize>| {
        shapes.push((format!("{name}.bias"), vec![shape[0]]));
        shapes.push((format!("{name}.weight"), shape));
    };
    let layer = "bert.encoder.layer.0";
    for part in [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    ] {
        pair(&format!("{layer}.{part}"), vec![WIDTH, WIDTH]);
    }
    pair(&format!("{layer}.intermediate.dense"), vec![24, WIDTH]);
    pair(&format!("{layer}.output.dense"), vec![WIDTH, 24]);
    for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
        pair(&format!("{layer}.{part}"), vec![WIDTH]);
    }
    pair("bert.embeddings.LayerNorm", vec![WIDTH]);
    pair("bert.pooler.dense", vec![WIDTH, WIDTH]);
    pair("classifier", vec![3, WIDTH]);
    save(dir, shapes);
}

/// Writes tensors of these shapes with made-up values.
fn save(dir: &Path, shapes: Vec<(String, Vec<usize>)>) {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let data: BTreeMap<String, (Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = (0..shape.iter().product()).flat_map(|_| next().to_le_bytes()).collect();
            (name, (shape, values))
        })
        .collect();
    let views = data.iter().map(|(name, (shape, bytes))| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
}

/// How many bytes below `byte` have no printable form of their own.
fn rank(byte: u32) -> u32 {
    (0..byte).filter(|b| !matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)).count() as u32
}
