"""Prints the golden ids of src/text/tests.rs: what Hugging Face reads out of assets/seed.

Run from the repository's root; written with transformers 5.23 and tokenizers 0.23.
"""

import transformers

TEXTS = [
    "Paul minus 5 is Tina. Tina plus 2 is Cora. Cora minus 5 is Ana. Paul has 16. Ana?\n",
    "Paul minus 5 is Tina 11\nTina plus 2 is Cora 13\nCora minus 5 is Ana 8\nA: 8",
    "Uma twice is Hugo 18\n",
    "3 5 7 make 56?\n",
    "3+5=8\n8*7=56\nA: (3+5)*7",
    "12/4-1",
    "",
]

tokenizer = transformers.AutoTokenizer.from_pretrained("assets/seed")
print(f"// transformers {transformers.__version__}, {type(tokenizer).__name__}, {len(tokenizer)} tokens")
for text in TEXTS:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer(text)["input_ids"] == ids, "the tokenizer adds special tokens"
    assert tokenizer.decode(ids) == text, (text, tokenizer.decode(ids))
    print(f"({rf'{text!r}'}, &{ids}),")
print(tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
