// Small made-up models, as Hugging Face publishes them, compiled to files a network can serve.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nesa } from './command.mjs';

const VOCAB = 260;
const WIDTH = 16;

/** GPT-2's printable stand-ins for bytes. */
function alphabet() {
  const own = (b) => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(own(b) ? b : next++));
}

function tokenizer(normalizer) {
  const vocab = Object.fromEntries([['<s>', 0], ['</s>', 1], ...alphabet().map((c, b) => [c, b + 2])]);
  const special = (id, content) => ({
    id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true,
  });
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0', truncation: null, padding: null, normalizer, post_processor: null,
    added_tokens: [special(0, '<s>'), special(1, '</s>')], pre_tokenizer: bytes, decoder: bytes,
    model: { type: 'BPE', vocab, merges: [] },
  };
}

/** Shapes of a decoder's tensors. */
function decoder(layers) {
  const layer = {
    'input_layernorm.weight': [WIDTH], 'post_attention_layernorm.weight': [WIDTH],
    'self_attn.q_proj.weight': [16, WIDTH], 'self_attn.k_proj.weight': [8, WIDTH],
    'self_attn.v_proj.weight': [8, WIDTH], 'self_attn.o_proj.weight': [WIDTH, 16],
    'mlp.gate_proj.weight': [24, WIDTH], 'mlp.up_proj.weight': [24, WIDTH], 'mlp.down_proj.weight': [WIDTH, 24],
  };
  const shapes = { 'model.embed_tokens.weight': [VOCAB, WIDTH], 'model.norm.weight': [WIDTH] };
  for (let i = 0; i < layers; i++) {
    for (const [name, shape] of Object.entries(layer)) shapes[`model.layers.${i}.${name}`] = shape;
  }
  return shapes;
}

/** Tensors of these shapes with made-up values. */
function weights(shapes) {
  let state = 7, at = 0;
  const header = {}, values = [];
  for (const [name, shape] of Object.entries(shapes)) {
    const count = shape.reduce((a, b) => a * b, 1);
    for (let i = 0; i < count; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      values.push((state >>> 8) / (1 << 24) - 0.5);
    }
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at + 4 * count] };
    at += 4 * count;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, Buffer.from(new Float32Array(values).buffer)]);
}

/**
 * Writes a decoder into `folder` and compiles it; resolves with the file's path.
 * @param {{template?: string, normalizer?: object, layers?: number}} parts
 */
export async function compile(folder, name, { template, normalizer = null, layers = 1 } = {}) {
  const dir = join(folder, name), file = join(folder, `${name}.nesa`);
  await mkdir(dir, { recursive: true });
  const config = {
    model_type: 'llama', hidden_size: WIDTH, intermediate_size: 24, num_hidden_layers: layers,
    num_attention_heads: 2, num_key_value_heads: 1, vocab_size: VOCAB, max_position_embeddings: 300,
    rms_norm_eps: 1e-6, tie_word_embeddings: true, bos_token_id: 0, eos_token_id: 1,
  };
  await writeFile(join(dir, 'config.json'), JSON.stringify(config));
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify(tokenizer(normalizer)));
  const settings = { bos_token: '<s>', eos_token: '</s>', ...(template ? { chat_template: template } : {}) };
  await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify(settings));
  await writeFile(join(dir, 'model.safetensors'), weights(decoder(layers)));
  return made(folder, dir, name, file);
}

async function made(folder, dir, name, file) {
  const { code, err } = await nesa(['model', 'compile', dir, '--out', file], { dir: folder });
  if (code !== 0) throw new Error(`compiling ${name}: ${err}`);
  return file;
}

/** The parts of a BERT whose tokens are letters. */
function letters() {
  const pieces = Array.from({ length: 26 }, (_, i) => String.fromCharCode(97 + i)).flatMap((c) => [c, `##${c}`]);
  const vocab = Object.fromEntries(['[PAD]', '[UNK]', '[CLS]', '[SEP]', ...pieces].map((token, i) => [token, i]));
  return {
    config: { model_type: 'bert', architectures: ['BertForSequenceClassification'], vocab_size: 56, max_position_embeddings: 48, type_vocab_size: 2 },
    tokenizer: {
      normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab },
    },
    heads: ['bert.pooler.dense', 'classifier'],
  };
}

/** The parts of a RoBERTa whose tokens are bytes. */
function bytes() {
  const described = tokenizer(null);
  Object.assign(described.model.vocab, { '<unk>': VOCAB - 2, '<pad>': VOCAB - 1 });
  return {
    config: {
      model_type: 'roberta', architectures: ['RobertaForSequenceClassification'], vocab_size: VOCAB,
      max_position_embeddings: 128, type_vocab_size: 1, pad_token_id: 1, layer_norm_eps: 1e-5,
    },
    tokenizer: described,
    heads: ['classifier.dense', 'classifier.out_proj'],
  };
}

/**
 * Writes a text classifier into `folder`, a BERT or a RoBERTa, and compiles it; resolves with the file's path.
 * @param {{labels?: string[], kind?: 'bert' | 'roberta'}} parts
 */
export async function compileClassifier(folder, name, { labels = ['bad', 'so so', 'good'], kind = 'bert' } = {}) {
  const dir = join(folder, name), file = join(folder, `${name}.nesa`);
  await mkdir(dir, { recursive: true });
  const parts = kind === 'bert' ? letters() : bytes();
  const config = {
    hidden_size: WIDTH, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, hidden_act: 'gelu',
    id2label: Object.fromEntries(labels.entries()), ...parts.config,
  };
  await writeFile(join(dir, 'config.json'), JSON.stringify(config));
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify(parts.tokenizer));
  const shapes = {
    [`${kind}.embeddings.word_embeddings.weight`]: [config.vocab_size, WIDTH],
    [`${kind}.embeddings.position_embeddings.weight`]: [config.max_position_embeddings, WIDTH],
    [`${kind}.embeddings.token_type_embeddings.weight`]: [config.type_vocab_size, WIDTH],
  };
  const both = (part, ...shape) => { shapes[`${part}.weight`] = shape; shapes[`${part}.bias`] = [shape[0]]; };
  const layer = `${kind}.encoder.layer.0`;
  for (const part of ['attention.self.query', 'attention.self.key', 'attention.self.value', 'attention.output.dense']) both(`${layer}.${part}`, WIDTH, WIDTH);
  both(`${layer}.intermediate.dense`, 24, WIDTH);
  both(`${layer}.output.dense`, WIDTH, 24);
  for (const part of [`${layer}.attention.output.LayerNorm`, `${layer}.output.LayerNorm`, `${kind}.embeddings.LayerNorm`]) both(part, WIDTH);
  both(parts.heads[0], WIDTH, WIDTH);
  both(parts.heads[1], labels.length, WIDTH);
  await writeFile(join(dir, 'model.safetensors'), weights(shapes));
  return made(folder, dir, name, file);
}

/** Makes 48 letters of every ☃, and counts to twenty thousand from each of them at once: no part of it is refused. */
export const endless = {
  type: 'Sequence',
  normalizers: [
    { type: 'Replace', pattern: { String: '☃' }, content: 'aac'.repeat(16) },
    { type: 'Replace', pattern: { Regex: 'a[ac]{0,20000}[一-鿿]' }, content: '' },
  ],
};
