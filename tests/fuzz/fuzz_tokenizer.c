/* fuzz_tokenizer.c: tokenizer.json, and tokenizer_config.json behind a line of "====". What opens
   encodes a short text three ways; every id that comes out is in the vocabulary and decodes. */
#include "fuzz.h"

#include "corpora/tokenizer/regex.h"
#include "corpora/tokenizer/tokenizer.h"

static const char TEXT[] = "Hi the <s> 12345\n\n a\xc3\xa9\xef\xac\x81 <|end|>\xe4\xbd\xa0 "
                           "don't\xf0\x9f\x98\x80\xff x";

static void use(const rt_tokenizer *t)
{
    rt_ids ids = { 0 };
    rt_text text = { 0 };
    rt_err err;
    int32_t vocab = rt_tokenizer_vocab(t);
    for (unsigned flags = 0; flags < 8; flags += flags ? 1 : 3) // none, special or more of them
        if (rt_tokenizer_encode(t, TEXT, sizeof TEXT - 1, flags, &ids, &err))
            break;
    if (rt_tokenizer_guard(t, TEXT, NULL, 0, &text, &err) == 1)
        rt_tokenizer_encode(t, text.data, text.bytes, RT_TOKENIZE_SPECIAL | RT_TOKENIZE_GUARDED,
                            &ids, &err);
    rt_text_clear(&text);
    for (int64_t i = 0; i < ids.n; i++) {
        FUZZ_CHECK(ids.id[i] >= 0 && ids.id[i] < vocab);
        FUZZ_CHECK(rt_tokenizer_token(t, ids.id[i]).data);
    }
    FUZZ_CHECK(rt_tokenizer_decode(t, ids.id, ids.n, 0, &text, &err) == 0 ||
               strstr(err.text, "Replace steps"));
    rt_tokenizer_decode(t, ids.id, ids.n, RT_DETOKENIZE_SKIP_SPECIAL, &text, &err);
    for (int64_t i = 0; i < rt_tokenizer_merges(t) && i < 16; i++)
        rt_tokenizer_merge(t, i, &text, &err);
    for (int32_t id = 0; id < vocab && id < 64; id++)
        rt_tokenizer_type(t, id);
    rt_tokenizer_pre(t);
    rt_ids_free(&ids);
    rt_text_free(&text);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    rt_tokenizer *t;
    rt_err err;
    static rt_regex *kept; // with no pattern left, the compiler of patterns gives its pages back
    if (!kept)
        FUZZ_CHECK(rt_regex_open(&kept, "x+", false, &err) == 0);
    fuzz_two_files("tokenizer.json", "tokenizer_config.json", data, size);
    if (rt_tokenizer_open(&t, FUZZ_DIR, &err) == 0)
        use(t);
    rt_tokenizer_close(t);
    return 0;
}

static const char WORDS[] =
    "type\nnormalizer\nnormalizers\npre_tokenizer\npretokenizers\npost_processor\n"
    "processors\ndecoder\ndecoders\nSequence\nSplit\nByteLevel\nDigits\nMetaspace\n"
    "Punctuation\nReplace\nPrepend\nStrip\nNFC\nNFKC\nByteFallback\nFuse\n"
    "TemplateProcessing\npattern\nRegex\nString\nbehavior\nIsolated\nRemoved\n"
    "MergedWithPrevious\nMergedWithNext\nContiguous\ninvert\ncontent\nprepend\n"
    "prepend_scheme\nfirst\nalways\nnever\nreplacement\nadd_prefix_space\nuse_regex\n"
    "individual_digits\nunk_token\nfuse_unk\nbyte_fallback\nignore_merges\nsingle_word\n"
    "lstrip\nrstrip\nnormalized\nspecial\nstart\nstop\na\ne\n \nt h\n<0x41>\n\\p{L}+\n"
    "[^\\s\\p{L}]\n(?i:x)|\\s+(?!\\S)\n\\d{1,3}";

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    return fuzz_json_mutate(data, size, max, seed, WORDS);
}
