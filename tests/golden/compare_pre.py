"""compare_pre.py RETORT LIBLLAMA.so OUT [TEXT]: every tokenizer.ggml.pre name of corpora/tokenizer/split.c against llama.cpp.

Learns a byte-level vocabulary whose merges cross every boundary a pre-tokenizer could draw, so that
ids tell where a text was cut; writes it as one vocabulary-only GGUF a name; tokenizes TEXT (or the
lines below) with `retort tokenize` and with llama.cpp's llama_tokenize through ctypes. Prints the
names on which they differ. With OUT ending in .json it writes the golden ids of
tests/test_tokenizer.c instead: names on which both agree, grouped by what they give.

Needs: pip install tokenizers gguf numpy pyyaml tqdm requests, and any shared library that holds
llama.cpp (the wheel xllamacpp has one)."""
import ctypes, json, os, re, subprocess, sys, tempfile, unicodedata
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEXT = [
    "Hello World, it's I'M we'Ve they'LL don't I'd 'S 's ’s",
    "12345 1,234.56 1234567 12 1 007 3.14e-10 0xFF v1.2.3 100000000",
    "a  1 b   22\n    0 * 2\n\t\t7 x,  (3)  .  4",
    "  two  spaces   three    four     five\t tab\t\ttabs \n newline\n\n two\r\nCRLF \r\n\r\n  \n  end   ",
    "def f(x):\n    return {'a': [1, 2], \"b\": x**2}  # comment // ok /* c */ -> => != == <= >= && || ::\n",
    "$100 50% #1 @user a_b a-b a.b a/b/c (paren) [brack] {brace} <tag> ^caret~tilde`tick` |pipe| \\back + = x+y=z",
    "naïve café Ünïcödé straße ÀÉÎ œuvre ŁÓDŹ ñandú İstanbul ß",
    "Привет, мир! ЁЖИК ёжик 2024 года. Ελληνικά ΑΒΓ αβγ 1999",
    "日本語のテキスト、漢字かなカナ。 中文文本123个字。 한국어 텍스트 입니다. 混合mixed文字",
    "مرحبا بالعالم، كيف الحال؟ שלום עולם हिन्दी पाठ में। ไทยภาษา ภาษาไทย",
    "😀😃👍🏽 emoji 👩‍👩‍👧 ™©® ½ ² ³ Ⅳ ① ٣٤٥ १२३",
    "¿Qué? ¡Sí! «guillemets» „quotes“ — dash – en … dots · mid • bullet",
    "camelCase PascalCase UPPERCASE lowerUPPERlower HTTPServer iPhone McDonald aB Ab AB ab",
    "a\u00a0nbsp\u3000ideographic\u2003em\u200bzero\ufeffbom",
    "！？：；，。、（）「」『』【】《》 ﹏ ・ ･ ー ｱｲｳ ＡＢＣ ａｂｃ １２３",
    "The quick brown fox. Jumps over, the lazy dog! Really? Yes: no; maybe...",
    "\n\n\n   \n\t\n x \n\n y", " ", "  ", "\n", "\r\n", "a", "1", "'", "''", "'s", " 's", "x's", "X'S",
]


# Names whose vocabularies are not cut by patterns alone, or that encoders have: not in split.c.
# afmoe, tiny_aya: llama.cpp does not cut digits as its patterns say, and what the original does is not known.
MORE = "jina-v1-en jina-v2-code roberta-bpe sarvam-moe afmoe tiny_aya".split()


class Params(ctypes.Structure):  # llama_model_params, whatever its fields: larger than any version
    _fields_ = [("b", ctypes.c_uint8 * 512)]


class Llama:
    def __init__(self, path):
        lib = self.lib = ctypes.CDLL(path)
        lib.llama_model_default_params.restype = Params
        lib.llama_model_load_from_file.restype = ctypes.c_void_p
        lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Params]
        lib.llama_model_get_vocab.restype = ctypes.c_void_p
        lib.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
        lib.llama_model_free.argtypes = [ctypes.c_void_p]
        lib.llama_vocab_get_add_bos.argtypes, lib.llama_vocab_get_add_bos.restype = [ctypes.c_void_p], ctypes.c_bool
        lib.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32,
                                       ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *a: None)
        lib.llama_log_set(self.quiet, None)
        lib.llama_backend_init()
        self.params = lib.llama_model_default_params()
        self.params.b[72] = 1  # vocab_only, behind nine words of pointers and numbers

    def ids(self, gguf, text):
        model = self.lib.llama_model_load_from_file(gguf.encode(), self.params)
        if not model:
            return None
        raw, vocab = text.encode(), self.lib.llama_model_get_vocab(model)
        room = (ctypes.c_int32 * (len(raw) + 16))()
        n = self.lib.llama_tokenize(vocab, raw, len(raw), room, len(room), False, True)
        self.adds_bos = self.lib.llama_vocab_get_add_bos(vocab)
        self.lib.llama_model_free(model)
        return list(room[:n])


def names():
    """Every name of split.c: first column of families, every word of aliases."""
    source = open(os.path.join(os.path.dirname(__file__), "../../corpora/tokenizer/split.c"), encoding="utf-8").read()
    families = source[source.index("families[] = {"):source.index("/* Further names")]
    rest = source[source.index("aliases[][") :source.index("rt_split_find(")]
    found = re.findall(r'^    \{ "([^"]+)"', families, re.M)
    return found + [n for n in re.findall(r'"([^"]+)"', rest) if n not in found]


def learn(texts, size):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.train_from_iterator([t[i : i + 4000] for t in texts for i in range(0, len(t), 4000)],
                          trainers.BpeTrainer(vocab_size=size, min_frequency=2, max_token_length=12, show_progress=False,
                                              initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(t.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]


def write(path, pre, tokens, merges):
    import gguf
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(4096), w.add_embedding_length(8), w.add_block_count(1), w.add_feed_forward_length(8)
    w.add_head_count(1), w.add_layer_norm_rms_eps(1e-6)
    w.add_tokenizer_model("gpt2"), w.add_tokenizer_pre(pre), w.add_token_list(tokens), w.add_token_merges(merges)
    w.add_token_types([1] * (len(tokens) - 1) + [3]), w.add_bos_token_id(0), w.add_eos_token_id(0)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.close()


def retort_ids(program, gguf, text):
    r = subprocess.run([program, "tokenize", "--model", gguf, "--whole", "--special"], input=text.encode(),
                       capture_output=True)
    return r.stderr.decode() if r.returncode else json.loads(r.stdout)


def split(ids, at):
    """The ids of each text: what stands between separators."""
    out = [[]]
    for i in ids:
        out.append([]) if i == at else out[-1].append(i)
    return out


def main():
    program, library, out = sys.argv[1:4]
    golden = out.endswith(".json")
    texts = [unicodedata.normalize("NFC", t) for t in TEXT]
    if len(sys.argv) > 4 and not golden:
        whole = unicodedata.normalize("NFC", open(sys.argv[4], encoding="utf-8", newline="").read())
        texts += [whole[i : i + 20000] for i in range(0, len(whole), 20000)]
    tokens, merges = learn([t + "\n" + t for t in texts] if golden else texts + texts, 700 if golden else 12000)
    tokens.append("zqzqzq")  # no merge makes it: only where merges are ignored for whole words
    texts.append("zqzqzq")
    separator = len(tokens)
    tokens.append("<|separator|>")
    joined = "<|separator|>".join(texts)
    llama, groups, bad = Llama(library), {}, 0
    with tempfile.TemporaryDirectory() as folder:
        known = names()
        for name in known + [n for n in MORE if n not in known]:
            path = os.path.join(folder, name + ".gguf")
            write(path, name, tokens, merges)
            want, got = llama.ids(path, joined), retort_ids(program, path, joined) if name in known else []
            if want is None or isinstance(got, str):
                print(f"{name}: {'llama.cpp refuses it' if want is None else got.strip()}")
                continue
            want, got = split(want, separator), split(got, separator)
            if name not in known:
                like = [n for key, n in groups.items() if json.loads(key) == want]
                print(f"{name:28} not in split.c; in llama.cpp like {like[0][0] if like else 'none of these'}")
                continue
            wrong = [i for i in range(len(texts)) if want[i] != got[i]]
            print(f"{name:28} {sum(map(len, want))} ids, {len(wrong)} of {len(texts)} texts differ"
                  f"{', BOS' if llama.adds_bos else ''}", flush=True)
            for i in wrong[:2]:
                k = next((k for k, (a, b) in enumerate(zip(want[i], got[i])) if a != b), 0)
                show = lambda ids: [tokens[t] for t in ids[max(k - 1, 0) : k + 5]]
                print(f"    {texts[i][:50]!r}: llama.cpp {show(want[i])}, retort {show(got[i])}")
            bad += bool(wrong)
            groups.setdefault(json.dumps(want), []).append(name)
            if wrong and golden:
                groups[json.dumps(want)].remove(name)
    if golden:
        cases = [{"names": n, "ids": json.loads(k)} for k, n in groups.items() if n]
        with open(out, "w", encoding="utf-8") as f:
            json.dump({"texts": texts, "tokens": tokens, "merges": merges, "cases": cases}, f, ensure_ascii=False,
                      separators=(",", ":"))
    print(f"{bad} names differ")


main()
