#!/usr/bin/env python3
"""Golden files of tests/test_tokenizer.c, made with Hugging Face tokenizers (pip install tokenizers==0.23.3 gguf).

tokenizers/NAME/{tokenizer.json,tokenizer_config.json,cases.json}: one small vocabulary for each
pipeline that models have, trained on SEED below, and what the reference makes of TEXTS.
tokenizers/variants.json: one vocabulary under many normalizers, pre-tokenizers, decoders and added-token
flags. `make_tokenizers.py --trained DIR` prints what the reference makes of TEXTS with the tokenizer in
DIR, which `retort tokenizer` trained, after checking that transformers agrees; --reference-merges trains
the reference itself on SEED for comparison.
"""
import collections
import json
import os
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")

SEED = [
    "The quick brown fox jumps over the lazy dog. It's what we've done, they'll say; I'm sure she'd agree.",
    "In 2024, 1234567 people (12.5%) paid $3,400.00 for 42 apples and 17 pears.\n\n  They had 3 left.\n",
    "def main(argc, argv):\n    for i in range(10):\n        print(f\"{i:>3} {i**2}\")\n\treturn 0\n",
    "#include <stdio.h>\nint main(void)\n{\n    printf(\"hello, world\\n\");\n    return 0; /* done */\n}\n",
    "Größe, naïve café, Ångström, Straße; El niño comió mañana; Çok güzel bir gün.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Москва, 1999 год.",
    "我们的老师说：今天天气很好，大家一起去公园。中文分词，很有意思！",
    "これはテストです。カタカナとひらがなと漢字。東京都に行きました。",
    "안녕하세요. 오늘은 날씨가 좋네요. 한국어 문장입니다.",
    "مرحبا بالعالم، كيف حالك اليوم؟ العربية ١٢٣٤",
    "नमस्ते दुनिया, आज मौसम अच्छा है। १२३ किताबें",
    "สวัสดีชาวโลก วันนี้อากาศดี ๑๒๓",
    "שלום עולם, מה שלומך היום?",
    "😀👍🏽👨‍👩‍👧‍👦🇩🇪 ✨ e\u0301 a\u0308 n\u0303 ﬁ ½ ² ① ㎏",
    "WHAT'S THAT? HTTPServer getUserName camelCase snake_case CONSTANT_NAME x1y2z3",
    "https://example.org/path?query=1&other=two#top  user@example.com  --flag=value  ...!!!???",
]

TEXTS = SEED + [
    "", " ", "  ", "   \n", "\n", "\r\n", "\n\n\n", "\t\tx", " a", "a ", "  a  ", "a\n b", "a \n b", "\u3000全角",
    "a                    b", "x" * 40, "ab" * 40, " " * 70 + "x", "0123456789", "1 22 333 4444 55555", "3.14159e-10",
    "I'S it's IT'LL they'Re 'tis rock'n'roll 'ſ", "don\u2019t", "'s't're've'm'll'd", "İstanbul ǅ ß ẞ ŉ",
    "<|endoftext|>", "a<|endoftext|>b", "<|im_start|>user\nhi<|im_end|>\n", "<think>\nno\n</think>\n\nyes",
    "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜>", "<s>a</s> b", " <unk> ", "<0x0A>", "▁a▁▁b", "Ġa Ċ",
    "\u00a0nbsp\u2003em\u180emong\u200bzero\u0085nel\u2028line", "e\u0301\u0323 \u1e69 s\u0323\u0307 \u212b \uac00 \u1100\u1161",
    "\ufb01\ufb02 ①② ㌔ ｶﾞ Ａ", "\u0915\u094d\u0937\u093f \u0e01\u0e33 \u0b95\u0bca", "a\u0300\u0301\u0302b\u20dd", "👩🏿‍🚀🏳️‍🌈1️⃣",
    "𝕳𝖊𝖑𝖑𝖔 𐍈 𠜎𠜱 🀄", "中文English混合123テスト", "漢字かな交じり文 Kanji and 한글 together", "一龥ヿ゠ぁ", "...---...", "!abc ?def #ghi $jkl",
    "([{<>}])", "a_b__c", "\"quoted\" 'single' `code`", "foo\u0301bar", "²³¹ ½ Ⅷ ٣ ௧ 〇", "ÀÉÎõü", "The\u00adsoft", "\ufeffbom", "��",
    "~!@#$%^&*()_+-=[]\\{}|;':\",./<>?", "/* c */ // d\n", "a//b\n/c", "\x01\x02\x7f", "x\r\ry\r\nz\n\rw",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]


def cased(inner, suffix):
    up, low = rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}{inner}]", rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}{inner}]"
    head = r"[^\r\n\p{L}\p{N}]?"
    return f"{head}{up}*{low}+{suffix}|{head}{up}+{low}*{suffix}"


SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = cased("", SUFFIX) + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = cased("", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KIMI = (r"[\p{Han}]+|" + cased(r"&&[^\p{Han}]", SUFFIX) +
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(*patterns):
    return pre_tokenizers.Sequence([split(p) for p in patterns] +
                                   [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def template(bos, t):
    return processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                         special_tokens=[(bos, t.token_to_id(bos))])


def special(*names):
    return [AddedToken(n, special=True, normalized=False) for n in names]


def ordinary(*names):
    return [AddedToken(n, special=False, normalized=False) for n in names]


def train(t, vocab, alphabet=0, **kw):
    if alphabet:  # the most frequent characters; the reference itself breaks ties by chance
        count = collections.Counter("▁" + "".join(SEED))
        kept = sorted(count, key=lambda c: (-count[c], c))[:alphabet]
        kw |= {"initial_alphabet": kept, "limit_alphabet": alphabet}
    t.train_from_iterator(SEED, trainers.BpeTrainer(vocab_size=vocab, show_progress=False, **kw))


def byte_bpe(name, pre, added, config, vocab=560, normalizer=None, ignore_merges=False, bos=None):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    train(t, vocab, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    for a in added:
        (t.add_special_tokens if a.special else t.add_tokens)([a])
    level = processors.ByteLevel(trim_offsets=False)
    t.post_processor = processors.Sequence([level, template(bos, t)]) if bos else level
    return name, t, config


def sentencepiece(name, metaspace):
    """Llama-2 style (Prepend + Replace) or Mistral style (Metaspace, first word only)."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if metaspace:
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
        trained = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=True)
    else:
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trained = split(" ", "merged_with_next")
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(content=" ", left=1, right=0)])
    keep, t.pre_tokenizer = t.pre_tokenizer, trained
    train(t, 640, special_tokens=special("<unk>", "<s>", "</s>") + ordinary(*[f"<0x{i:02X}>" for i in range(256)]),
          alphabet=150)
    if keep:
        t.pre_tokenizer = keep
    state = json.loads(t.to_str())
    if not metaspace:
        state["pre_tokenizer"] = None
    state["added_tokens"] = [a for a in state["added_tokens"] if a["id"] < 3]
    t = Tokenizer.from_str(json.dumps(state))
    t.post_processor = template("<s>", t)
    return name, t, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def pipelines():
    im = special("<|endoftext|>", "<|im_start|>", "<|im_end|>") + ordinary("<think>", "</think>")
    chat = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "add_bos_token": False,
            "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    ds = special("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>") + ordinary("<｜User｜>", "<｜Assistant｜>", "<think>",
                                                                          "</think>")
    eot = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": None}
    return [
        byte_bpe("gpt-2", pre_tokenizers.ByteLevel(add_prefix_space=False), special("<|endoftext|>"), eot),
        byte_bpe("llama-bpe", byte_level(LLAMA3), special("<|begin_of_text|>", "<|eot_id|>"),
                 {"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|eot_id|>", "special": True}},
                 ignore_merges=True, bos="<|begin_of_text|>"),
        byte_bpe("qwen2", byte_level(QWEN2), im, chat, normalizer=normalizers.NFC()),
        byte_bpe("deepseek-v3", byte_level(*DEEPSEEK), ds,
                 {"bos_token": {"content": "<｜begin▁of▁sentence｜>"}, "eos_token": "<｜end▁of▁sentence｜>",
                  "add_bos_token": True, "add_eos_token": False}),
        byte_bpe("gpt-4o", byte_level(O200K), special("<|endoftext|>"), eot),
        byte_bpe("kimi-k2", byte_level(KIMI), special("<|endoftext|>"), eot),
        sentencepiece("llama-2", False),
        sentencepiece("mistral", True),
    ]


def cases(t, config):
    out = []
    add_bos = [t.token_to_id("<｜begin▁of▁sentence｜>")] if config.get("add_bos_token") else []
    for text in TEXTS:
        t.encode_special_tokens = True
        row = {"text": text, "plain": t.encode(text, add_special_tokens=False).ids}
        t.encode_special_tokens = False
        ids = t.encode(text, add_special_tokens=False).ids
        if ids != row["plain"]:
            row["special"] = ids
        bos = add_bos + t.encode(text, add_special_tokens=True).ids
        row["bos"] = len(bos) - len(ids)
        assert bos[row["bos"]:] == ids
        decoded = t.decode(ids, skip_special_tokens=False)
        if decoded != text:
            row["decoded"] = decoded
        skipped = t.decode(ids, skip_special_tokens=True)
        if skipped != decoded:
            row["skipped"] = skipped
        out.append(row)
    return out


def variants():
    """One vocabulary learned without any pre-tokenizer, so that every cut is seen in the ids."""
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    train(t, 900, special_tokens=special("<unk>") + ordinary(*[f"<0x{i:02X}>" for i in range(256)]),
          alphabet=200, max_token_length=6)
    base = json.loads(t.to_str())
    base["added_tokens"] = base["added_tokens"][:1]
    rx = r"\d+|[ab]|, "
    pres = {f"split {b}{' inverted' if inv else ''}": split(rx, b, inv) for inv in (False, True)
            for b in ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous")}
    pres |= {
        "string": pre_tokenizers.Split(".", "merged_with_previous"),
        "empty matches": split(r"\d*"), "lookahead": split(r"(?=[A-Z])"), "interval plus": split(r"\p{N}{1,2}+"),
        "interval lazy": split(r"[0-9]{2}?"), "line ends": split(r"\s+$"), "line begins": split(r"^[a-z]+"),
        "dot": split(r"p.+"), "open interval": split(r"[a-z]{,3}"), "word": split(r"\b\w+\b"), "not word": split(r"[\W&&[^ ]]+"),
        "hex": split(r"\h\h"), "scripts": split(r"\p{Greek}+|\p{^Latin}+"), "nested": split(r"[a-f[x-z]&&[^bc]]+"),
        "negated nested": split(r"[^a-f[0-9]]+"), "space class": split(r"[\s\d]+|\S"), "ignore case": split(r"(?i)the|[k-s]+"),
        "possessive": split(r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}+?"), "atomic": split(r"(?>a|ab)c|b"),
        "lookbehind": split(r"(?<=\p{L})\p{N}|(?<![a-z])\("), "unicode escape": split("\\u0061|\\x62|\\x{1F600}|\\x{4e2d}"),
        "bracket first": split(r"[]a]+|[a\-z]|[z-]"),
        "digits": pre_tokenizers.Digits(individual_digits=False), "single digits": pre_tokenizers.Digits(individual_digits=True),
        "punctuation": pre_tokenizers.Punctuation(), "punctuation contiguous": pre_tokenizers.Punctuation("contiguous"),
        "punctuation removed": pre_tokenizers.Punctuation("removed"), "whitespace": pre_tokenizers.Whitespace(),
        "whitespace split": pre_tokenizers.WhitespaceSplit(), "metaspace": pre_tokenizers.Metaspace(),
        "metaspace never": pre_tokenizers.Metaspace(prepend_scheme="never"),
        "byte level in front": pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(), pre_tokenizers.Digits()]),
        "byte level with space": pre_tokenizers.ByteLevel(add_prefix_space=True),
        "falcon": pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
                                           pre_tokenizers.Digits(), split("[0-9][0-9][0-9]")]),
    }
    norms = {
        "nfc": normalizers.NFC(), "nfd": normalizers.NFD(), "nfkc": normalizers.NFKC(), "nfkd": normalizers.NFKD(),
        "strip": normalizers.Strip(), "strip left": normalizers.Strip(right=False), "replace": normalizers.Replace("a", "bb"),
        "replace regex": normalizers.Replace(Regex(r" {2,}|\d"), "_"), "replace empty": normalizers.Replace("e", ""),
        "prepend": normalizers.Prepend("▁"),
        "sequence": normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.Replace(" ", "▁")]),
    }
    decs = {
        "metaspace": decoders.Metaspace(), "metaspace never": decoders.Metaspace(prepend_scheme="never"), "byte level": decoders.ByteLevel(),
        "strip": decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip("T", 1, 0), decoders.Strip(".", 0, 2)]),
        "replace regex": decoders.Sequence([decoders.Replace(Regex("[aeiou]"), "*"), decoders.ByteFallback()]),
    }
    flags = {
        "lstrip": dict(lstrip=True), "rstrip": dict(rstrip=True), "both": dict(lstrip=True, rstrip=True),
        "single word": dict(single_word=True), "normalized": dict(normalized=True), "plain": {},
    }
    rows = []

    def row(name, t, texts):
        state = json.loads(t.to_str())
        r = {"name": name, "cases": []}
        for key in ("added_tokens", "normalizer", "pre_tokenizer", "decoder"):
            if state[key] != base[key]:
                r[key] = state[key]
        for text in texts:
            ids = t.encode(text).ids
            c = {"text": text, "ids": ids}
            if name.startswith("decoder") and ids:  # the reference panics when it trims an empty text
                c["decoded"] = t.decode(ids, skip_special_tokens=False)
            r["cases"].append(c)
        rows.append(r)

    some = SEED[:6] + SEED[6:9] + SEED[13:15] + ["", " ", "a, b, 12ab34", "aa  bb", "  x  ", "ab12", "\n\na\nb \n", "a\u0301 b_c d",
                                                 "ﬁ ½ Å A\u030a", "\u180ea\u0085b\u3000c", "Αα Ββ12 中文 x", "zzyx]a-z", ".5..6."]
    fresh = lambda: Tokenizer.from_str(json.dumps(base))
    for name, p in pres.items():
        v = fresh()
        v.pre_tokenizer = p
        row("pre " + name, v, some)
    for name, n in norms.items():
        v = fresh()
        v.normalizer = n
        row("normalizer " + name, v, some)
    for name, d in decs.items():
        v = fresh()
        v.decoder = d
        row("decoder " + name, v, some)
    for name, f in flags.items():
        v = fresh()
        v.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("q", "k")])
        f = {"normalized": False, **f}
        v.add_tokens([AddedToken("quick", **f), AddedToken("[X]", **f), AddedToken("[XY]", **f), AddedToken("qu", **f)])
        row("added " + name, v, ["the quick fox", "quickly unquick quick", "a [X] b[XY]c  [X]  [X]", "[X", "[XY", "  [X]\n\n[XY] quick  ",
                                 "kuick quic", "_quick 1quick équick -quick quick\u200d", "[X][X][XY]quqick", "\u3000quick\u00a0quick"])
    return {"base": base, "variants": rows}


def write(path, value, indent=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=indent, separators=None if indent else (",", ":"))
        f.write("\n")


def write_gguf(path, t):
    """The keys of qwen2 as llama.cpp's converter writes them, the vocabulary padded as embeddings are."""
    import gguf
    w = gguf.GGUFWriter(path, "qwen2")
    vocab = {i: s for s, i in t.get_vocab().items()}
    added = t.get_added_tokens_decoder()
    n = len(vocab) + 11
    kind = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED}
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list([vocab.get(i, f"[PAD{i}]") for i in range(n)])
    w.add_token_types([kind[added[i].special] if i in added else gguf.TokenType.NORMAL if i in vocab
                       else gguf.TokenType.UNUSED for i in range(n)])
    w.add_token_merges([" ".join(m) for m in json.loads(t.to_str())["model"]["merges"]])
    w.add_eos_token_id(t.token_to_id("<|im_end|>"))
    w.add_pad_token_id(t.token_to_id("<|endoftext|>"))
    w.add_add_bos_token(False)
    w.add_chat_template("{{ messages }}")
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def compact(t, pair_merges):
    """Both ways to write merges are in the golden files."""
    state = json.loads(t.to_str())
    if not pair_merges:
        state["model"]["merges"] = [" ".join(m) for m in state["model"]["merges"]]
    return state


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--trained":
        from transformers import AutoTokenizer
        t = Tokenizer.from_file(os.path.join(sys.argv[2], "tokenizer.json"))
        hf = AutoTokenizer.from_pretrained(sys.argv[2])
        for text in TEXTS:
            assert hf.encode(text, add_special_tokens=False) == t.encode(text, add_special_tokens=False).ids, text
        config = json.load(open(os.path.join(sys.argv[2], "tokenizer_config.json")))
        write(os.path.join(sys.argv[2], "cases.json"), cases(t, config))
        return
    if len(sys.argv) == 3 and sys.argv[1] == "--reference-merges":
        _, t, _ = byte_bpe("", byte_level(QWEN2), [], {}, vocab=500, normalizer=normalizers.NFC())
        t = Tokenizer(models.BPE())
        t.normalizer, t.pre_tokenizer = normalizers.NFC(), byte_level(QWEN2)
        train(t, 500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=2)
        write(sys.argv[2], json.loads(t.to_str())["model"]["merges"])
        return
    with open(os.path.join(HERE, "seed.jsonl"), "w", encoding="utf-8") as f:
        for text in SEED:
            f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    for i, (name, t, config) in enumerate(pipelines()):
        write(os.path.join(HERE, name, "tokenizer.json"), compact(t, i % 2 == 0))
        write(os.path.join(HERE, name, "tokenizer_config.json"), config, 2)
        write(os.path.join(HERE, name, "cases.json"), cases(t, config))
        if name == "qwen2":
            write_gguf(os.path.join(HERE, "qwen2.gguf"), t)
    write(os.path.join(HERE, "variants.json"), variants())


main()
