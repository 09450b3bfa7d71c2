"""Golden renderings of chat templates: tests/golden/chat/<name>.json from tests/golden/chat/<name>.jinja.

Made with transformers 5.23.0 and Jinja2 (the version is in each file), by transformers' own environment
(`_compile_jinja_template`); today is 2025-03-09 instead of the clock.
The templates follow the style of the published families; `python_values` prints what Jinja2 takes from Python.

    python tests/golden/chat_templates.py
"""

import datetime
import json
import pathlib

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = pathlib.Path(__file__).parent / "chat"
DATE = "2025-03-09"
TOKENS = {
    "qwen2_5": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "qwen3": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "olmo2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "olmo3": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "smollm2": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
    "smollm3": {"eos_token": "<|im_end|>"},
    "gemma": {"bos_token": "<bos>", "eos_token": "<eos>"},
    "mistral": {"bos_token": "<s>", "eos_token": "</s>"},
    "python_values": {"bos_token": "<s>", "eos_token": "</s>"},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Today's weather, in <b>°C</b> & \"words\"",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 3}},
                "required": ["place"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The hour", "parameters": {}}},
]


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, id="abc123def"):
    return {"type": "function", "id": id, "function": {"name": name, "arguments": arguments}}


USED = [
    turn("system", "You know the sky."),
    turn("user", "Weather in Zürich?"),
    turn("assistant", "", tool_calls=[call("weather", {"place": "Zürich", "days": 2, "exact": True, "at": None})]),
    turn("tool", "{\"sky\": \"blue\"}", tool_call_id="abc123def"),
    turn("assistant", "Blue."),
    turn("user", "Thanks"),
]
CONVERSATIONS = {
    "one question": dict(messages=[turn("user", "What is 2 + 2?")], add_generation_prompt=True),
    "with a system": dict(
        messages=[turn("system", "Be brief."), turn("user", "Hi")], add_generation_prompt=True
    ),
    "several turns": dict(
        messages=[
            turn("system", "  Be kind.\n"),
            turn("user", "Hello  \n"),
            turn("assistant", "\n\nHi! <b>&amp;</b>  "),
            turn("user", "  \tAnd \"now\"? it's {{ odd }} {% here %}  "),
        ],
        add_generation_prompt=True,
    ),
    "a whole dialogue": dict(
        messages=[turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d\n")],
    ),
    "unicode": dict(
        messages=[turn("user", "Grüße 🙂 \u2028 \x7f 日本語 e\u0301"), turn("assistant", "∀x∈ℝ: x²≥0")],
        add_generation_prompt=True,
    ),
    "reasoning": dict(
        messages=[
            turn("user", "2+2"),
            turn("assistant", "<think>\nTwo and two.\n</think>\n\n4"),
            turn("user", "3+3"),
            turn("assistant", "<think>\nThree twice.\n</think>\n\n6"),
        ],
    ),
    "reasoning apart": dict(
        messages=[turn("user", "2+2"), turn("assistant", "4", reasoning_content="\nTwo and two.\n")]
    ),
    "thinking off": dict(
        messages=[turn("user", "2+2")], add_generation_prompt=True, variables={"enable_thinking": False}
    ),
    "thinking on": dict(
        messages=[turn("user", "2+2")], add_generation_prompt=True, variables={"enable_thinking": True}
    ),
    "thinking by the system": dict(
        messages=[turn("system", "Calm. /no_think"), turn("user", "2+2"), turn("assistant", "\n4")],
        add_generation_prompt=True,
    ),
    "tools offered": dict(
        messages=[turn("system", "Help."), turn("user", "Rain?")], tools=TOOLS, add_generation_prompt=True
    ),
    "tools without system": dict(messages=[turn("user", "Rain?")], tools=TOOLS, add_generation_prompt=True),
    "tools in the system message": dict(
        messages=[turn("user", "Rain?")],
        tools=TOOLS,
        add_generation_prompt=True,
        variables={"tools_in_user_message": False, "date_string": "1 Jan 2020"},
    ),
    "tools used": dict(messages=USED, tools=TOOLS, add_generation_prompt=True),
    "two users in a row": dict(messages=[turn("user", "a"), turn("user", "b")], add_generation_prompt=True),
    "two calls": dict(
        messages=[
            turn("user", "Both?"),
            turn("assistant", "Yes:", tool_calls=[call("now", {}), call("weather", {"place": "<Rome>"})]),
            turn("tool", "12"),
            turn("tool", "hot"),
        ],
    ),
    "empty answer": dict(messages=[turn("user", "Say nothing."), turn("assistant", "")]),
}
VALUES = {
    "every kind": dict(
        messages=[
            turn("text", "a'b \"c\" \\ \n\t é \u007f <&>"),
            turn("quote", "it's"),
            turn("double", "\"both\" and 'single'"),
            turn("skip", 1),
            turn("none", None),
            turn("true", True),
            turn("int", -12345678901),
            turn("float", 1.5),
            turn("tiny", 1.5e-9),
            turn("huge", 1e16),
            turn("almost", 123456789012345.6),
            turn("list", ["a", 1, None, True, 2.0, [], {}]),
            turn("dict", {"z": 1, "a": [1, {"n": "it's"}], "é": "ü🙂\x01"}),
            turn("stop", 0),
            turn("never", "seen"),
        ]
    )
}


def render(name, case):
    template = _compile_jinja_template((HERE / f"{name}.jinja").read_text(encoding="utf-8"))
    day = datetime.datetime.fromisoformat(DATE)
    template.globals["strftime_now"] = lambda form: day.strftime(form)
    try:
        text = template.render(
            messages=case["messages"],
            tools=case.get("tools"),
            documents=None,
            add_generation_prompt=case.get("add_generation_prompt", False),
            **TOKENS[name],
            **case.get("variables", {}),
        )
        return {"rendered": text}
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error)}
    except TypeError as error:
        return {"type_error": str(error)}


for name in TOKENS:
    cases = []
    for title, case in (VALUES if name == "python_values" else CONVERSATIONS).items():
        result = render(name, case)
        if "type_error" in result:
            print(f"{name}, {title}: left out, {result['type_error']}")
            continue
        cases.append({"title": title, **case, **result})
    out = {
        "made_by": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "date": DATE,
        "special_tokens": TOKENS[name],
        "template": (HERE / f"{name}.jinja").read_text(encoding="utf-8"),
        "cases": cases,
    }
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(path.name, len(cases), sum("error" in c for c in cases), "refused")
