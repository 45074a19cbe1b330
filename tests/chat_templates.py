"""The chat formats of Qwen2.5-Instruct and Llama-3.2-Instruct, with tokenizers that write them.

The templates are those of the published tokenizers without their parts for tools. A byte-level
BPE is trained on a few texts, with each family's own splitting rule and special tokens.
"""

import json

SPACES = r'|\s*[\r\n]+|\s+(?!\S)|\s+'
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SIGNS = r'| ?[^\s\p{L}\p{N}]+[\r\n]*'
SPLIT = {
    'qwen2': WORDS + r'\p{N}' + SIGNS + SPACES,
    'llama': WORDS + r'\p{N}{1,3}' + SIGNS + SPACES,
}
QWEN = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful \
assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or \
(message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ \
message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
TEMPLATE = {'qwen2': QWEN, 'llama': LLAMA}
# The same texts, with what an assistant says marked as transformers asks for it.
MARKED = {
    'qwen2': QWEN.replace(
        "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}",
        "{{- '<|im_start|>' + message.role + '\\n' }}{%- if message.role == 'assistant' %}"
        "{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}{%- else %}"
        "{{- message.content + '<|im_end|>' }}{%- endif %}{{- '\\n' }}",
    ),
    'llama': LLAMA.replace(
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ "
        "message['content'] | trim + '<|eot_id|>' }}",
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
        "{%- if message['role'] == 'assistant' %}{% generation %}"
        "{{- message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}{%- else %}"
        "{{- message['content'] | trim + '<|eot_id|>' }}{%- endif %}",
    ),
}
SPECIAL = {
    'qwen2': ['<|endoftext|>', '<|im_start|>', '<|im_end|>'],
    'llama': ['<|begin_of_text|>', '<|end_of_text|>', '<|start_header_id|>', '<|end_header_id|>',
              '<|eom_id|>', '<|eot_id|>', '<|finetune_right_pad_id|>'],
}  # fmt: skip
END = {'qwen2': '<|im_end|>', 'llama': '<|eot_id|>'}
PAD = {'qwen2': '<|endoftext|>', 'llama': '<|finetune_right_pad_id|>'}
STOPS = {
    'qwen2': ['<|im_end|>', '<|endoftext|>'],
    'llama': ['<|end_of_text|>', '<|eom_id|>', '<|eot_id|>'],
}
# Line breaks are merged, so that a boundary can fall within a token.
TEXTS = ['system user assistant\n\n', '\n\n\n', 'What is 2 + 2? It is 4.', 'Paris is in France.',
         'You are a helpful assistant.', 'Cutting Knowledge Date: December 2023'] * 3  # fmt: skip


def write(directory, family):
    """Writes tokenizer, config.json and generation_config.json; returns the tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    directory.mkdir(parents=True, exist_ok=True)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT[family]), 'isolated'),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL[family], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator(TEXTS, trainer)
    bos = SPECIAL['llama'][0] if family == 'llama' else None
    if bos:  # as Llama's own: plain text gets it from the tokenizer, chats from the template
        backend.post_processor = processors.TemplateProcessing(
            single=f'{bos} $A', special_tokens=[(bos, backend.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=END[family], pad_token=PAD[family]
    )
    tokenizer.chat_template = TEMPLATE[family]
    tokenizer.save_pretrained(directory)
    stops = [backend.token_to_id(token) for token in STOPS[family]]
    (directory / 'generation_config.json').write_text(json.dumps({'eos_token_id': stops}))
    config = {'model_type': family, 'eos_token_id': stops[0]}
    (directory / 'config.json').write_text(json.dumps(config))
    return tokenizer
