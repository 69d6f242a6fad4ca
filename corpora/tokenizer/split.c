/* split.c: the byte-level families by the names that GGUF has for them (tokenizer.ggml.pre): how a
   text is cut before merges, its normal form, what else the name says. One row a family, one line
   for all its further names. Names and cuts are those of llama.cpp (src/llama-vocab.cpp), which
   tests/golden/compare_pre.py compares with; where it only comes near the original tokenizer.json
   (cased letters of gpt-4o and tekken, normal forms, which it leaves out) the original counts.
   Refuses: names that it does not know, with the nearest. */
#include <string.h>

#include "core/base/suggest.h"
#include "corpora/tokenizer/tokenizer_parts.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORDS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define SIGNS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
#define LLAMA3(digits) CONTRACTIONS "|" WORDS digits SIGNS TAIL
#define UPPER(more) "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}" more "]"
#define LOWER(more) "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}" more "]"
#define CASED(more, suffix)                                                                        \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER(more) "*" LOWER(                                                \
        more) "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER(more) "+" LOWER(more) "*" suffix
#define CASED_SIGNS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL
#define DEEPSEEK_WORDS                                                                             \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"                                       \
    "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" TAIL
#define BLOOM " ?[^(\\s|.,!?…。，、।۔،)]+"
#define OLD_CJK "[一-龥ࠀ-一가-\xed\x9f\xbf]+"

/* Letters with case, as DeepSeek-LLM lists them. */
#define DEEPSEEK_LETTERS                                                                                                                         \
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-"                                               \
    "ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-"                         \
    "ᾼιῂ-"                                                                                                                                 \
    "ῄῆ-"                                                                                                                                    \
    "ῌ"                                                                                                                                        \
    "ῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-" \
    "ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-"                                \
    "𐳲𑢠-"                                                                                                                                  \
    "𑣟𞤀-"                                                                                                                                  \
    "𞥃"

static const rt_split families[] = {
    { "qwen2", .nfc = true, .pattern = { LLAMA3("\\p{N}") } },
    { "llama-bpe", .ignore_merges = true, .add_bos = true, .pattern = { LLAMA3("\\p{N}{1,3}") } },
    { "gpt-2", .pattern = { RT_GPT2_PATTERN } },
    { "deepseek-v3", .pattern = { "\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_WORDS } },
    { "deepseek-r1-qwen", .pattern = { LLAMA3("\\p{N}") } },
    { "smaug-bpe", .pattern = { LLAMA3("\\p{N}{1,3}") } },
    { "minicpm5", .ignore_merges = true, .pattern = { "\\p{N}{1,3}", LLAMA3("\\p{N}{1,3}") } },
    { "glm4", .ignore_merges = true, .pattern = { LLAMA3("\\p{N}{1,3}") } },
    { "qwen35", .nfc = true,
      .pattern = { CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
                                "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" TAIL } },
    { "gpt-4o", .pattern = { CASED("", CONTRACTIONS "?") "|\\p{N}{1,3}" CASED_SIGNS } },
    { "tekken", .ignore_merges = true, .add_bos = true,
      .pattern = { CASED("", "") "|\\p{N}" CASED_SIGNS } },
    { "kimi-k2", .pattern = { "[\\p{Han}]+|" CASED("&&[^\\p{Han}]",
                                                   CONTRACTIONS "?") "|\\p{N}{1,3}" SIGNS TAIL } },
    { "smollm", .pattern = { "\\p{N}", RT_GPT2_PATTERN } },
    { "mpt", .nfc = true, .pattern = { RT_GPT2_PATTERN } },
    { "command-r", .nfc = true, .pattern = { "\\p{N}", RT_GPT2_PATTERN } },
    { "falcon", .pattern = { "[\\p{P}\\$\\+<=>\\^~\\|`]+", RT_GPT2_PATTERN, "[0-9][0-9][0-9]" } },
    { "deepseek-llm",
      .pattern = { "[\r\n]", "\\s?[" DEEPSEEK_LETTERS "]+", "\\s?[!-/:-~！-／：-～‘-‟　-。]+",
                   "\\s+$", OLD_CJK, "\\p{N}+" } },
    { "deepseek-coder", .pattern = { "[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", OLD_CJK, "\\p{N}" } },
    { "bloom", .pattern = { BLOOM } },
    { "viking", .pattern = { BLOOM, "\\p{N}" } },
    { "chameleon", .add_bos = true,
      .pattern = { "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )",
                   "\\p{N}", "[\\p{P}!-/:-@\\[-`{-~]", RT_GPT2_PATTERN } },
    { "jais-2",
      .pattern = { CONTRACTIONS
                   "|" WORDS "\\p{N}{1,3}" SIGNS "\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|"
                   "\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|"
                   "\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}" } },
    { "bailingmoe", .pattern = { "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" WORDS "\\p{N}" SIGNS
                                 "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" } },
    { "seed-coder",
      .pattern = { CONTRACTIONS "|" WORDS "\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" TAIL } },
    { "exaone-moe",
      .pattern = { CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|"
                                "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|"
                                "\\s+(?!\\S)|\\s+" } },
    { "superbpe", .pattern = { "\\p{N}+", "(?=(\\d{3})+(?!\\d))" } },
    { "youtu", .ignore_merges = true,
      .pattern = { "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-"
                   "ゟ゠-"
                   "ヿ]"
                   "+",
                   CASED("", CONTRACTIONS "?") "|\\p{N}" CASED_SIGNS } },
    { "default",
      .pattern = { "[\\p{P}\\$\\+<=>\\^~\\|]+", RT_GPT2_PATTERN, "\\p{N}+", "[0-9][0-9][0-9]" } },
};

/* Further names of the first of each line. */
static const char *const aliases[][20] = {
    { "qwen2", "hunyuan", "megrez" },
    { "deepseek-r1-qwen", "stablelm2", "kormo", "f2llmv2", "solar-open", "grok-2", "ufakzeka" },
    { "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
      "jina-v5-nano" },
    { "gpt-2", "gpt2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "jais", "exaone4",
      "a.x-4.0", "mellum", "modern-bert", "gigachat", "trillion", "granite-docling" },
    { "smaug-bpe", "dbrx", "chatglm-bpe" },
    { "glm4", "glm5" },
    { "deepseek-v3", "hunyuan-dense", "joyai-llm" },
    { "gpt-4o", "llama4", "kanana2", "minimax-m2" },
    { "smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2" },
    { "mpt", "olmo" },
    { "bloom", "poro-chat", "gpt3-finnish" },
    { "bailingmoe", "bailingmoe2", "llada-moe" },
};

const rt_split *rt_split_find(const char *name)
{
    for (int i = 0; i < RT_COUNT(aliases); i++)
        for (int k = 1; k < RT_COUNT(aliases[i]) && aliases[i][k]; k++)
            if (strcmp(name, aliases[i][k]) == 0)
                name = aliases[i][0];
    for (int i = 0; i < RT_COUNT(families); i++)
        if (strcmp(families[i].name, name) == 0)
            return &families[i];
    return NULL;
}

const char *rt_split_suggest(char *buf, size_t size, const char *name)
{
    const char *known[RT_COUNT(families) + RT_COUNT(aliases) * RT_COUNT(aliases[0])];
    int n = 0;
    for (int i = 0; i < RT_COUNT(families); i++)
        known[n++] = families[i].name;
    for (int i = 0; i < RT_COUNT(aliases); i++)
        for (int k = 1; k < RT_COUNT(aliases[i]) && aliases[i][k]; k++)
            known[n++] = aliases[i][k];
    return rt_suggest_name(buf, size, name, known, n);
}

static bool same_pattern(const rt_step *step, const char *pattern, rt_text *spare, rt_err *err)
{
    rt_text_clear(spare);
    return step->kind == RT_STEP_SPLIT && step->behavior == RT_SPLIT_ISOLATED && !step->invert &&
           !rt_regex_rewrite(pattern, false, spare, err) &&
           strcmp(rt_regex_source(step->regex), spare->data) == 0;
}

const rt_split *rt_split_of(const rt_tokenizer *t, rt_err *err)
{
    rt_text spare = { 0 };
    const rt_split *found = NULL;
    bool nfc = t->normal.n == 1 && t->normal.step[0].kind == RT_STEP_UNICODE &&
               t->normal.step[0].form == RT_NFC;
    if (t->normal.n > (nfc ? 1 : 0))
        return NULL;
    for (int i = 0; i < RT_COUNT(families) && !found; i++) {
        const rt_split *f = &families[i];
        int n = 0;
        while (n < RT_COUNT(f->pattern) && f->pattern[n])
            n++;
        /* Only the two families that differ in nothing else are told apart by ignore_merges. */
        bool pair = strcmp(f->name, "llama-bpe") == 0 || strcmp(f->name, "smaug-bpe") == 0;
        bool same = f->nfc == nfc && n == t->pre.n &&
                    (!pair || f->ignore_merges == t->bpe.ignore_merges);
        for (int k = 0; k < n && same; k++)
            same = same_pattern(&t->pre.step[k], f->pattern[k], &spare, err);
        found = same ? f : NULL;
    }
    rt_text_free(&spare);
    return found;
}
