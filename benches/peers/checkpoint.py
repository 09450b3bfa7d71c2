"""Writes a checkpoint of a published model's shape with random bf16 weights and a byte-level tokenizer.

    python benches/peers/checkpoint.py DIR [qwen2.5-0.5b | smollm2-135m] [TEXT_FILE]

The tokenizer's merges are learnt from TEXT_FILE, if one is given. Needs torch and transformers.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

folder = Path(sys.argv[1])
shape = sys.argv[2] if len(sys.argv) > 2 else "qwen2.5-0.5b"
text = Path(sys.argv[3]).read_text() if len(sys.argv) > 3 else ""

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
trainer = trainers.BpeTrainer(vocab_size=4096, special_tokens=SPECIAL, initial_alphabet=alphabet)
tokenizer.train_from_iterator(text.splitlines(), trainer)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
fast.chat_template = TEMPLATE
ends = {"bos_token_id": 0, "eos_token_id": tokenizer.token_to_id("<|im_end|>")}

torch.manual_seed(0)
if shape == "qwen2.5-0.5b":
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, max_position_embeddings=32768, rope_theta=1e6, tie_word_embeddings=True,
        rms_norm_eps=1e-6, **ends))
elif shape == "smollm2-135m":
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, rope_theta=1e5, tie_word_embeddings=True,
        rms_norm_eps=1e-5, **ends))
else:
    sys.exit(f"{shape} is no shape: qwen2.5-0.5b or smollm2-135m")
model.to(torch.bfloat16).save_pretrained(folder)
fast.save_pretrained(folder)
print(f"{sum(p.numel() for p in model.parameters())} parameters in {folder}")
