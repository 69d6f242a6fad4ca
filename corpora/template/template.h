/* template.h: chat templates as text. A small, safe evaluator for the part of Jinja that the
   chat_template of a Hugging Face checkpoint uses, equal to jinja2 3.1 as transformers sets it up:
   ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls, its own tojson,
   raise_exception, strftime_now, generation blocks.
   Data only: a template reads the context and writes text. Steps, depth, memory and output are
   capped, so a hostile template ends in an error. Refuses: include, import, inheritance, with,
   raw and filter blocks, powers, * and ** in calls, varargs and kwargs of macros, mutation,
   integers beyond 64 bits. A filter or test that does not exist fails where it is reached. Every
   error names the template line. */
#ifndef RT_TEMPLATE_H
#define RT_TEMPLATE_H

#include "core/base/err.h"
#include "core/base/file.h"
#include "core/base/json.h"

RT_BEGIN

typedef struct rt_template rt_template; /* immutable after parsing: threads may share one */

typedef struct rt_template_limits {
    int64_t steps;        /* nodes evaluated, plus a share of the bytes that each operation reads */
    int64_t depth;        /* macros, calls and captured blocks inside one another */
    int64_t output_bytes; /* of the rendered text */
    int64_t memory_bytes; /* parsed template, values and output together */
} rt_template_limits;

#define RT_TEMPLATE_SOURCE_MAX (1LL << 20) /* bytes of template source */
/* 1e6 steps, depth 64, 60 MiB and 60 MiB, so that a process grows by no more than 64 MiB. */
rt_template_limits rt_template_limits_default(void);

/* source: UTF-8, need not be NUL-terminated, not kept. Syntax errors name the line. */
int rt_template_parse(rt_template **out, const char *source, int64_t bytes, rt_err *err);
void rt_template_free(rt_template *t); /* accepts NULL */
/* Identity of the source text, for archive manifests. */
rt_hash rt_template_hash(const rt_template *t);

/* context: an object with the variables: messages, tools, add_generation_prompt, bos_token,
   eos_token, ... It is only read. A string under "strftime_now" ("2026-11-26" or
   "2026-11-26T08:30:00") is the clock of strftime_now(); without it the clock is the machine's.
   *text is malloc'd and NUL-terminated after *bytes. raise_exception(m) fails with m in err. */
int rt_template_render(const rt_template *t, const cJSON *context, char **text, int64_t *bytes,
                       rt_err *err);

/* The same with limits of one's own, and with what it took. */
typedef struct rt_template_result {
    char *text; /* bytes, NUL-terminated */
    int64_t bytes;
    int64_t steps, memory_bytes; /* filled after a failure too */
} rt_template_result;
int rt_template_render_limited(const rt_template *t, const cJSON *context,
                               const rt_template_limits *limits, rt_template_result *result,
                               rt_err *err);

/* What messages call their reasoning: reasoning_content, thinking, reasoning. Where several stand,
   the first of this order counts, as in transformers 5. */
enum { RT_REASONING_NAMES = 3 };
extern const char *const rt_reasoning_names[RT_REASONING_NAMES];
/* As transformers 5 does before it renders: copy the first one found to reasoning_content, and to
   thinking where absent. */
void rt_template_alias_reasoning(cJSON *messages);

/* The chat template of a model directory: chat_template.jinja, else the chat_template of
   tokenizer_config.json (a string, or the entry named "default" of a list), malloc'd text; NULL
   and success when the directory has none. */
int rt_template_find(char **source, int64_t *bytes, const char *model_dir, rt_err *err);
/* What transformers defines for every template: tools and documents, none until they are given.
   cJSON_Delete it. */
cJSON *rt_template_bare_context(void);
/* That, and what transformers takes from a model directory: bos_token, eos_token, pad_token, ... of
   tokenizer_config.json (string or {"content": ...}). cJSON_Delete it. */
int rt_template_context(cJSON **context, const char *model_dir, rt_err *err);

RT_END

#endif
