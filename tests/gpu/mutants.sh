#!/bin/bash
# mutants.sh FOLDER: faults planted one at a time in the CUDA device's source, each of which a test on the emulated
# device must see: barriers left out, rows and masks off by one, wrong strides and directions, buffers reused too
# early. Prints a table: fault, test, what it said. (Blocks run one after another there: what two share is not seen.) Exit 1 when one lived. Half an hour on two cores; not part of CI.
set -u
cd "$(dirname "$0")/../.."
folder=$1
mkdir -p "$folder"
git ls-files -z | xargs -0 cp --parents -t "$folder"
cd "$folder" || exit 2
export CK_FORK=no
cmake -S . -B build -G Ninja -DRETORT_CUDA=EMULATE >cmake.log 2>&1 || { tail cmake.log; exit 2; }
targets="test_ops test_matmul test_attention test_capture test_strict test_layers test_stream"
ninja -C build $targets >ninja.log 2>&1 || { tail ninja.log; exit 2; }

lived=0
try() { # NAME FILE PERL TEST[:CASE] TEAM [ORDER [PRECISION]]
    local name=$1 file=$2 change=$3 test=${4%%:*} team=$5 order=${6:-late} precision=${7:-f32} saw rc
    local only=${4#"$test"}
    cp "$file" original
    perl -0pi -e "$change" "$file"
    if cmp -s original "$file"; then
        echo "| $name | the change does not apply | |"
        lived=1
        return
    fi
    if ! ninja -C build "$test" >ninja.log 2>&1; then
        saw="does not compile: $(grep -m1 error ninja.log | cut -c1-80)"
        lived=1
    else
        env ${only:+CK_RUN_CASE=${only#:}} RETORT_EMULATE_TEAM=$team RETORT_EMULATE_ORDER=$order \
            RETORT_CUDA_PRECISION=$precision timeout 600 "build/$test" >said 2>&1
        rc=$?
        if [ $rc = 0 ] || [ $rc = 124 ]; then
            saw="LIVED ($rc)"
            lived=1
        else
            saw=$(grep -m1 -E ':F:|:E:|device cuda' said | sed 's/.*_[a-z]*\.[ch]:[0-9]*:F://; s/|/\//g' | cut -c1-110)
            [ -n "$saw" ] || saw="exit $(tail -n 1 said | cut -c1-80)"
        fi
    fi
    echo "| $name | $test$only, team of $team | $saw |"
    cp original "$file"
    touch "$file"
}

k=core/device/kernels c=core/device/cuda
echo "| fault | test | seen |"
echo "|---|---|---|"
try "sum: no barrier before the warps' results are read" $k/team.h 's/(part\[threadIdx\.x \/ 32\] = x;\n    )team_sync\(\);\n(    return warp_sum)/$1\n$2/' test_ops 64
try "sum: results overwritten while a warp still reads them" $k/team.h 's/(x = warp_sum\(x\);\n    )team_sync\(\);/$1/' test_ops 64 backwards
try "maximum: no barrier before the warps' results are read" $k/team.h 's/(part\[threadIdx\.x \/ 32\] = x;\n    )team_sync\(\);\n(    return warp_max)/$1\n$2/' test_capture 64
try "shuffle of half a warp only" $k/team.h 's/(float warp_sum\(float x\)\n\{\n    for \(int step = )16/${1}8/' test_ops 32
try "shuffle from a rank that is not there" $k/team.h 's/\(threadIdx\.x \^ \(unsigned\)step\) < blockDim\.x \? y : none/y/' test_ops 3
try "search keeps the last hit, not the lowest" $k/team.h 's/atomicMin\(found, \(unsigned long long\)i\);/found[0] = (unsigned long long)i;/' test_ops 3
try "search: start not awaited" $k/team.h 's/(found\[0\] = \(unsigned long long\)n;\n    )team_sync\(\);/$1/' test_ops 3 backwards
try "norm: last column left out" $k/norm.h 's/(for \(int64_t i = team_rank\(\); i < c); (i \+= team_size\(\)\)\n        y\[i\] = x\[i\] \* rstd)/$1 - 1; $2/' test_ops 3
try "norm: rows of wider inputs at the wrong stride" $k/norm.h 's/act_row\(&a->x, unit, a->x\.dim\[1\]\)/act_row(&a->x, unit, c)/' test_ops 3
try "rope: backward turns forward" $k/norm.h 's/a->backward \? -1\.0f : 1\.0f/1.0f/' test_ops 3
try "gather: the next row" $k/data.h 's/team_i32\(&a->index\)\[unit\] \* c;/(team_i32(&a->index)[unit] + 1) * c;/' test_ops 3
try "loss: head zeroed without a barrier before the sum" $k/loss.h 's/(et\[r\.id\[i\]\] = 0\.0f;\n        )team_sync\(\);/$1/' test_ops 32 backwards
try "loss: items corrected before the row is scaled" $k/loss.h 's/(z\[j\] = 0\.0f;\n    )team_sync\(\);(\n    \/\* the head lost)/$1$2/' test_ops 32 backwards
try "router: choice struck out too late" $k/route.h 's/(choice\[e\] = -INFINITY;\n        \}\n        )team_sync\(\);(\n    \}\n    if)/$1$2/' test_ops 32 backwards
try "router's sort: counts of a run at the wrong stride" $k/route.h 's/a->count \+ unit \* \(a->offset\.dim\[0\] - 1\)/a->count + unit * (a->offset.dim[0] - 2)/' test_ops 32
try "router's sort: places read before the experts' beginnings are known" $k/route.h 's/(offset\[experts\] = total;\n    \}\n    )team_sync\(\);/$1/' test_ops 32 backwards
try "sums over rows: a part is not begun at 0" $k/data.h 's/at\[i\] = 0\.0f;/at[i] = at[i];/' test_ops 32
try "sums over rows: the last part is left out" $k/data.h 's/\(last - 1\) \/ a->parts\.rows \+ 1/(last - 1) \/ a->parts.rows/' test_ops 32
try "bias: experts share a part's row" $k/data.h 's/part \+ e, c, begin/part, c, begin/' test_ops 32
try "scatter: rows of an id added by each of them" $k/data.h 's/\(votes & 1\) && i < unit/(votes \& 1) \&\& i < 0/' test_ops 32
try "capture: chunk's best written by every lane" $k/capture.h 's/most = warp_max\(most\);\n        if \(lane == 0\)\n            r/r/' test_capture 32
try "capture: sums read before all chunks are made" $k/capture.h 's/(r->part\[c\] = m;\n    \}\n    )team_sync\(\);/$1/' test_capture 64 backwards
try "team kernels: a block skips units" $c/kernels.cu 's/i \+= gridDim\.x\)/i += gridDim.x + 1)/' test_ops 32
try "attention: a row sees the next key" $c/attention.h 's/: row - v\.row0\) \+ 1;/: row - v.row0) + 2;/' test_attention:against_f64 32
try "attention: no window" $c/attention.h 's/v\.end - p->window : 0;/0 : 0;/' test_attention:against_f64 32
try "attention: segments run together" $c/attention.h 's/v\.row0 = p->offset\[s\];/v.row0 = 0;/' test_attention:against_f64 32
try "attention: weights overwritten while values are added" $c/attention.cu 's/(out\[i\] = o;\n        \}\n        )team_sync\(\);/$1/' test_attention:against_f64 32 backwards
try "attention: a page too far" $c/attention.h 's/key_in_cache\(p, v->page\[t \/ RT_KV_PAGE\], t/key_in_cache(p, v->page[t \/ RT_KV_PAGE + 1], t/' test_attention:cached_together 32
try "attention: outputs of bf16 on top of each other" $c/attention.h 's/i \* \(bf16 \? 2 : 4\)/i * (bf16 ? 1 : 4)/' test_attention:against_f64 32 late bf16
try "attention: columns of the next head in a tile" $c/flash.h 's/bool is = row < rows && chunk \* 8 < width;/bool is = row < rows;/' test_attention:against_f64 32 late bf16
try "attention: rows of bf16 at the stride of copies" $c/attention_flash.cu 's/\(int\)\(lies_well\(&s, s\.dk\) \? s\.dk : forms\[form\]\.dk\)/(int)forms[form].dk/' test_attention:against_f64 32 late bf16
try "attention: rows off their 16 bytes read as they lie" $c/attention_flash.cu 's/width % 8 == 0;/width % 4 == 0;/' test_attention:against_f64 32 late bf16
try "attention: pairs of bf16 the wrong way round" $c/flash.h 's/\[c \/ 2\] = bf16_pair\(x, y\)/[c \/ 2] = bf16_pair(y, x)/' test_attention:against_f64 32 late bf16
try "attention: values not awaited" $c/attention_flash.cu 's/copy_wait<0>\(\);\n(        __syncthreads\(\); \/\* values)/$1/' test_attention:against_f64 32 late bf16
try "attention: delta of another row" $c/attention_flash.cu 's/out = p\.out\.from\(at \* p\.width_v\)/out = p.out.from((at ^ 1) * p.width_v)/' test_attention:against_f64 32 late bf16
try "attention: gradients of keys without the scale" $c/attention_flash_back.cu 's/(column_k, dk, )by/$1one/' test_attention:against_f64 32 late bf16
try "cache: a row's padding not zeroed" $c/attention.cu 's/i < cache_row\(p\.width_k\); i/i < p.width_k; i/' test_attention:cached_together 32 late bf16
try "cache: half a page copied" $c/attention.cu 's/(bytes = page_bytes\(d, kv\))(;\n    rt_tensor y)/$1 \/ 2$2/' test_attention:cached 32 late bf16
try "cache: values where the keys are" $c/attention.h 's/key_in_cache\(p, page, 0, p->kv_heads\)/key_in_cache(p, page, 0, 0)/' test_attention:cached_together 32 late bf16
try "cache: values not awaited" $c/attention_paged.cu 's/copy_wait<0>\(\);\n(        __syncthreads\(\); \/\* weights)/$1/' test_attention:cached_together 32 late bf16
try "cache: keys come while they are summed as values" $c/attention_paged.cu 's/__syncthreads\(\); \/\* the values are done with \*\/\n//' test_attention:cached_together 32 late bf16
try "cache: rows past the last key not zeroed" $c/attention_paged.cu 's/bool is = row < rows && c < step;/bool is = c < step;/' test_attention:cached_together 32 late bf16
try "cache: a window of one key more" $c/attention_paged.cu 's/pos - at < window/pos - at <= window/' test_attention:cached_together 32 late bf16
try "product: tile read before it is whole" $c/matmul.cu 's/(: 0\.0f;\n        \}\n        )__syncthreads\(\);/$1/' test_matmul 32
try "product: tile overwritten while it is read" $c/matmul.cu 's/(sum\[i\]\[j\]\);\n        \}\n        )__syncthreads\(\);/$1/' test_matmul 32
try "product: rows beyond the matrix written" $c/matmul.cu 's/if \(m < t->m && n < p->n\)/if (n < p->n)/' test_matmul 32
try "product: an expert's rows from the stack's first" $c/matmul.h 's/out->row0 = p->offset\[g\] - p->offset\[0\];/out->row0 = p->offset[g];/' test_matmul 32
try "bf16 product: one group of copies too few awaited" $c/matmul_tile.cu 's/copy_wait<1>/copy_wait<2>/' test_matmul:two_halves 32 late bf16
try "bf16 product: a stage overwritten while it is read" $c/matmul_tile.cu 's/__syncthreads\(\); (\/\* this stage)/$1/' test_matmul:two_halves 32 backwards bf16
try "bf16 product: copies into the stage that is read" $c/matmul_tile.cu 's/\(stage \+ 2\) % STAGES/(stage + 1) % STAGES/' test_matmul:two_halves 32 late bf16
try "bf16 product: copies off their 16 bytes" $c/matmul_tile.cu 's/RT_BF16, 16\)\)\n        \(small/RT_BF16, 2))\n        (small/' test_matmul:two_halves 32 late bf16
try "bf16 product: parts of a row not exchanged but moved" $c/matmul_tile.cu 's/\(there \^ 2 \* columns\)/(there + 2 * columns)/' test_matmul:two_halves 32 late bf16
try "bf16 product: pairs lose what was there" $c/matmul_tile.cu 's/\*to = p->add \?/*to = false ?/' test_matmul:two_halves 32 late bf16
try "bf16 product: a pair where one column is left" $c/matmul_tile.cu 's/if \(p->c16 && both && pairs\)/if (p->c16 \&\& pairs)/' test_matmul:heads 32 late bf16
try "bf16 product: cut instead of rounded" $c/matmul.h 's/\(uint16_t\)bf16_bits\(p->add \? bf16_value\(\*to\) \+ sum : sum\)/(uint16_t)(rt_bits_of_float(p->add ? bf16_value(*to) + sum : sum) >> 16)/' test_matmul:every_row_count 32 late bf16
try "bf16 product: a fourth element where three are left" $c/matmul.h 's/left > 3 \? \(uint32_t\)x/left > 2 ? (uint32_t)x/' test_matmul:every_row_count 32 late bf16
try "bf16 product: few rows read as f32" $c/matmul_vector.cu 's/if \(p\.a16\)/if (false)/' test_matmul:every_row_count 32 late bf16
try "e4m3: subnormals too coarse" $c/matmul_fp8.cu 's/0x1p14f/0x1p15f/g' test_matmul:e4m3_codes 32 late fp8
try "e4m3: ties away from zero" $c/matmul_fp8.cu 's/0x7ffffu \+ \(size >> 20 & 1u\)/0x80000u/' test_matmul:e4m3_codes 32 late fp8
try "e4m3: the scale of the activations alone" $c/matmul_tile.cu 's/p\.divisors\[0\] \* p\.divisors\[1\]/p.divisors[0]/' test_matmul:e4m3 32 late fp8
try "e4m3: every slice of rows is the first" $c/matmul_fp8.cu 's/o->data \+ first \* o->ld/o->data + 0 * o->ld/' test_matmul:e4m3 32 late fp8
try "e4m3: the largest of half a warp" $c/matmul_fp8.cu 's/step = 16/step = 8/' test_matmul:e4m3_ends 32 late fp8
try "copies in the wrong direction" $c/cuda.cu 's/bytes, cudaMemcpyHostToDevice, "a copy to/bytes, cudaMemcpyDeviceToHost, "a copy to/' test_ops 1
try "a wait that does not wait" $c/cuda.cu 's/!rt_cuda_ok\(d, cudaStreamSynchronize\(c->stream\), "an operation"\)/!rt_cuda_ok(d, cudaSuccess, "an operation")/' test_ops 1
try "staged bytes reused before they were read" core/device/device.c 's/\(void\)rt_sync\(d, &later\);/d->stage_used = 0;/; s/if \(room > d->stage_size - d->stage_used\) \{/if (d->stage_used > 0) {/' test_strict 1
try "repeats: a recording that is never launched" $c/cuda.cu 's/\(void\)rt_cuda_ok\(d, cudaGraphLaunch.*\n/;\n/' test_strict 1
try "repeats: recorded with a workspace that has moved" $c/cuda.cu 's/if \(!g->open && r->scratch != c->scratch\)/if (0)/' test_strict 32
try "repeats: no room for the graph, and nothing runs" $c/cuda.cu 's/if \(g->open && !keep\(d, r\)\)\n        return true;/if (g->open \&\& !keep(d, r))\n        return false;/' test_strict 1
s=core/network/stream.c
try "streaming: a layer's operations do not follow its copy" $s 's/(&s->used\[layer % 2\]\);\n        )rt_mark_follow\(s->dev, &s->copied\[layer % 2\], RT_COMPUTE\);/$1/' test_stream 1
try "streaming: products do not follow their experts' copy" $s 's/(\+ 1;\n    \}\n    )rt_mark_follow\(s->dev, &s->copied\[layer % 2\], RT_COMPUTE\);/$1/' test_stream 1
try "streaming: copies over buffers that are still read" $s 's/rt_mark_follow\(s->dev, free, RT_BESIDE\);//' test_stream 1 ahead
try "streaming: a layer left without a mark" $s 's/rt_mark_set\(s->dev, &s->used\[layer % 2\], RT_COMPUTE\);//' test_stream 1 ahead
try "streaming: experts copied over those that multiply" $s 's/rt_mark_set\(s->dev, &s->multiplied\[0\], RT_COMPUTE\);//' test_stream 1 ahead
try "streaming: host buffers refilled before they were copied" $s 's/return is_away\(s\) \? rt_mark_wait\(s->dev, &s->copied\[layer % 2\], err\)/return is_away(s) ? 0/' test_stream 1
try "streaming: the other layer's copies waited for" $s 's/rt_mark_wait\(s->dev, &s->copied\[layer % 2\], err\)/rt_mark_wait(s->dev, \&s->copied[(layer + 1) % 2], err)/' test_stream 1
try "streaming: a mark in the wrong order" $s 's/(rt_mark_set\(s->dev, &s->copied\[layer % 2\], )RT_BESIDE\)/${1}RT_COMPUTE)/' test_stream 1
exit $lived
