"""Writes shared/tokenizer/tests/data/chat.json: chats as transformers renders and tokenises them with the
templates of well-known models (without their parts for tools), over a small byte-level tokenizer.

    pip install transformers jinja2 && python tools/conformance/chat_templates.py
"""

import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

OUT = pathlib.Path(__file__).parents[2] / "shared/tokenizer/tests/data/chat.json"

# name: (bos, eos, other special tokens, template)
TEMPLATES = {
    "chatml": ("<s>", "<|im_end|>", ["<|im_start|>"], (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
        " + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")),
    "qwen2.5": (None, "<|im_end|>", ["<|im_start|>", "<|endoftext|>"], """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""),
    "llama 3": ("<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"], (
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' +"
        " message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0"
        " %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}")),
    "llama 3.2": ("<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"], """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- System message #}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""),
    "mistral": ("<s>", "</s>", ["[INST]", "[/INST]"], (
        "{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] %}\n"
        "    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n\n"
        "{{- bos_token }}\n{%- for message in loop_messages %}\n"
        "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
        "        {{- raise_exception('After the optional system message, conversation roles must alternate user/assistant') }}\n"
        "    {%- endif %}\n    {%- if message['role'] == 'user' %}\n"
        "        {%- if loop.first and system_message is defined %}\n"
        "            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}\n"
        "        {%- else %}\n            {{- ' [INST] ' + message['content'] + ' [/INST]' }}\n        {%- endif %}\n"
        "    {%- elif message['role'] == 'assistant' %}\n        {{- ' ' + message['content'] + eos_token}}\n    {%- else %}\n"
        "        {{- raise_exception('Only user and assistant roles are supported') }}\n    {%- endif %}\n{%- endfor %}\n")),
    "llama 2": ("<s>", "</s>", [], (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message ="
        " messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
        "{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message +"
        " '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")),
    "zephyr": ("<s>", "</s>", [], (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")),
    "smollm2": ("<|im_start|>", "<|im_end|>", ["<|endoftext|>"], (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' +"
        " message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' }}{% endif %}")),
    # Drops what a model thought; looks into what was said, and carries state in a namespace.
    "r1 distill": ("<|begin|>", "<|end|>", ["<|User|>", "<|Assistant|>"], (
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns ="
        " namespace(is_first=false, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}"
        "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}"
        "{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<|User|>' + message['content']}}{%- endif %}"
        "{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}"
        "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
        "{{'<|Assistant|>' + content + '<|end|>'}}{%- endif %}{%- endfor -%}{% if add_generation_prompt %}"
        "{{'<|Assistant|>'}}{% endif %}")),
    # The rest of what templates do: generation marks, JSON, loop controls, methods, filters, tests.
    "the rest": ("<s>", "</s>", [], """{{ bos_token }}
{%- for message in messages -%}
    {%- if message.content.startswith('skip') %}{% continue %}{% endif %}
    {%- if loop.index > 6 %}{% break %}{% endif %}
    {% if message.role == 'assistant' %}
    {% generation %}{{ message.content.rstrip() ~ eos_token }}{% endgeneration %}

    {% else %}
    {{ loop.index0 }}/{{ messages|length }} {{ message.role|upper }}: {{ message.content|tojson }} {{ message|tojson }}
    {% endif %}
{%- endfor %}
{{ none }}{{ true }}{{ 1.5 }}{{ undefined_thing }}{{ messages|map_free if false else 'x'|default('y') }}
{{ (messages|selectattr('role', 'equalto', 'user')|list|length) ~ messages[-1].role.capitalize().replace('s', 'z', 1) }}
{{ ['a', 'b']|join('-') }}{{ {'b': 1, 'a': [1, none, true]}|tojson }}{{ messages[0].get('name', 'nobody') }}
{%- for key, value in {'z': 1, 'y': 2}.items() %} {{ key }}={{ value }}{% endfor %}
""".replace("messages|map_free if false else ", "")),
}

CHATS = {
    "one": [("user", "What is a lighthouse?")],
    "system": [("system", "Be brief."), ("user", "Why?")],
    "turns": [("system", " You are a lighthouse. \n"), ("user", "  Hello,\nyou  "), ("assistant", " Blink. "), ("user", "skip 🦀 é\t\"quoted\" \\ </b>")],
    "thinking": [("user", "2 + 2"), ("assistant", "<think>\nadd\n</think>\n\n4\n"), ("user", "sure?\n\n")],
    "wrong order": [("assistant", "Hi"), ("assistant", "Hi again")],
    "empty": [("user", "")],
}


def tokenizer(bos, eos, others):
    """Bytes and some merges, as GPT-2 writes them; special tokens after."""
    special = [t for t in dict.fromkeys([bos, eos, *others]) if t]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    merges = [("Ċ", "Ċ"), ("Ġ", "Ġ"), ("l", "l"), ("i", "s"), ("Ġ", "a"), ("u", "s"), ("us", "e"), ("use", "r")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return made, special


def main() -> None:
    out = []
    for name, (bos, eos, others, template) in TEMPLATES.items():
        made, special = tokenizer(bos, eos, others)
        fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=bos, eos_token=eos, chat_template=template)
        cases = []
        for label, chat in CHATS.items():
            messages = [{"role": r, "content": c} for r, c in chat]
            for prompt in (True, False):
                case = {"chat": label, "add_generation_prompt": prompt}
                try:
                    case["text"] = fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
                    case["tokens"] = fast.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
                except Exception as error:  # the template's own
                    case["refused"] = str(error)
                cases.append(case)
        out.append({
            "name": name, "bos": bos, "eos": eos, "special": special, "template": template,
            "tokenizer": json.loads(made.to_str()), "cases": cases,
        })
    chats = {k: [{"role": r, "content": c} for r, c in v] for k, v in CHATS.items()}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"chats": chats, "templates": out}, ensure_ascii=False, separators=(",", ":"))
    OUT.write_text(text + "\n")
    print(OUT, OUT.stat().st_size, "bytes;", sum("refused" in c for t in out for c in t["cases"]), "refused")


main()
