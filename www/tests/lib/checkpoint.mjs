// Small made-up decoders, as Hugging Face publishes them, compiled to files a network can serve.
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

function weights(layers) {
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
  await writeFile(join(dir, 'model.safetensors'), weights(layers));
  const { code, err } = await nesa(['model', 'compile', dir, '--out', file], { dir: folder });
  if (code !== 0) throw new Error(`compiling ${name}: ${err}`);
  return file;
}

/** Turns every ☃ into a quarter of a million of them, and then every one of those into itself, again and again. */
export const endless = {
  type: 'Sequence',
  normalizers: [
    ...Array.from({ length: 18 }, () => ({ type: 'Replace', pattern: { String: '☃' }, content: '☃☃' })),
    ...Array.from({ length: 400 }, () => ({ type: 'Replace', pattern: { String: '☃' }, content: '☃' })),
  ],
};
