/*
What decoding.py does with PyTorch, in C: tokens are read into a cache, and logits are made. native.py compiles it and
tells what it is given.

One token of a small model takes some 170 calls of PyTorch, most of which last longer than what they compute. Here it is
one call, and the rest of the time goes into reading weights. A matrix is therefore kept in the order in which it is
read: as tiles of 64 rows, and in each tile column by column. As many columns as fit into 32 bits, 1, 2 or 4, stand side
by side, so that one instruction multiplies them for 16 rows by the same numbers of a vector:

    rows 0 to 63 of columns 0 and 1, rows 0 to 63 of columns 2 and 3, …, rows 64 to 127 of columns 0 and 1, …

In what follows n is the number of tokens, C is n_embd, H n_head, d head_dim, F hidden_dim.
*/
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
enum { LANES = 16, TOGETHER = 6 };            /* numbers in a register; vectors multiplied at a time, one sum each */
#elif defined(__AVX__)
enum { LANES = 8, TOGETHER = 2 };
#else
enum { LANES = 4, TOGETHER = 2 };
#endif
enum { FLOAT32, BFLOAT16, INT8 };             /* kinds of weights */
enum { TILE = 64, REGISTERS = 4 };            /* rows of a tile; those whose sums are made at a time, by LANES */
enum { SOME = TOGETHER < 4 ? TOGETHER : 4 };  /* vectors multiplied at a time where there are fewer than TOGETHER */
enum { PIECE = 64 };                          /* so many tokens at a time leave their vectors in the processor's cache */

#define INLINE static inline __attribute__((always_inline))
typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t wholes __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    const void *tiles;
    const float *steps;   /* of INT8: what a weight of 1 stands for, by row */
    const int32_t *sums;  /* of INT8: the sum of the weights of a row */
    int32_t kind, rows, columns;
} Matrix;
typedef struct { Matrix qkv, proj, gate_up, down; } Layer;
typedef struct {
    int32_t n_layer, n_head, head_dim, n_embd, hidden_dim;
    float shortest;                                 /* sqrt(n_embd * norm_eps) */
    const float *embedding;                         /* (vocab_size, n_embd) */
    const float *turns;                             /* (block_size, head_dim / 2, 2): cosines and sines */
    const Layer *layers;
    Matrix head;
} Model;

static int bigger(int a, int b) { return a > b ? a : b; }
static int smaller(int a, int b) { return a < b ? a : b; }
static int in_word(int kind) { return kind == FLOAT32 ? 1 : kind == BFLOAT16 ? 2 : 4; }  /* columns in 32 bits */
static int words_of(const Matrix *m) { return (m->columns + in_word(m->kind) - 1) / in_word(m->kind); }
static size_t laid_floats(int columns) { return columns + 3; }  /* a vector that is laid out takes no more */

/* e to the power of x, to some 3e-7: 2 to the power of a whole number by its bits, and Taylor's series for the rest. */
INLINE float power_of_e(float x) {
    const float y = (x < -87 ? -87 : x > 88 ? 88 : x) * 1.44269504f, whole = floorf(y + 0.5f);
    const float z = (y - whole) * 0.693147181f;
    const union { int32_t bits; float number; } power = {((int32_t)whole + 127) << 23};
    return power.number * (1 + z * (1 + z * (1 / 2.f + z * (1 / 6.f + z * (1 / 24.f + z * (1 / 120.f + z / 720))))));
}

/* ---- a matrix times vectors */

/* Whether the processor multiplies words of this kind as they are. Else columns are turned into floats one by one. */
INLINE int as_they_are(int kind) {
#ifdef __AVX512BF16__
    if (kind == BFLOAT16) return 1;
#endif
#ifdef __AVX512VNNI__
    if (kind == INT8) return 1;
#endif
    return kind == FLOAT32;
}

/* sum + weights * x, where words of both hold in_word(kind) numbers. */
INLINE floats add_product(int kind, floats sum, floats weights, floats x) {
#ifdef __AVX512BF16__
    if (kind == BFLOAT16) return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)x);
#endif
#ifdef __AVX512VNNI__
    if (kind == INT8) return (floats)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)weights);
#endif
    (void)kind;
    return sum + weights * x;
}

/* One of the columns in words, as floats. */
INLINE floats column(int kind, floats weights, int i) {
    const wholes words = (wholes)weights;
    if (kind == BFLOAT16) return (floats)(i ? words & (int32_t)0xffff0000 : words << 16);
    return __builtin_convertvector(words << (24 - 8 * i) >> 24, floats);
}

INLINE floats broadcast(const void *word) {
    int32_t bits;
    memcpy(&bits, word, 4);
    return (floats)((wholes){0} + bits);
}

/* LANES * REGISTERS rows, whose weights begin at w, times so many vectors x, at most TOGETHER, stride bytes apart.
   kind and vectors are constants. */
INLINE void multiply_tile(const int kind, const int vectors, const char *w, const char *x, size_t stride, int words,
                          floats sums[TOGETHER][REGISTERS]) {
    floats s[TOGETHER][REGISTERS] = {{{0}}};
    for (int i = 0; i < words; i++) {
        floats v[REGISTERS];
        for (int r = 0; r < REGISTERS; r++) v[r] = ((const floats *)(w + (size_t)i * 4 * TILE))[r];
        if (as_they_are(kind)) {
            #pragma GCC unroll 8
            for (int b = 0; b < vectors; b++) {
                const floats y = broadcast(x + b * stride + (size_t)i * 4);
                #pragma GCC unroll 4
                for (int r = 0; r < REGISTERS; r++) s[b][r] = add_product(kind, s[b][r], v[r], y);
            }
            continue;
        }
        #pragma GCC unroll 4
        for (int j = 0; j < in_word(kind); j++)
            #pragma GCC unroll 4
            for (int r = 0; r < REGISTERS; r++) {
                const floats c = column(kind, v[r], j);
                #pragma GCC unroll 8
                for (int b = 0; b < vectors; b++)
                    s[b][r] += c * broadcast(x + b * stride + (size_t)(i * in_word(kind) + j) * 4);
            }
    }
    memcpy(sums, s, sizeof(floats) * REGISTERS * vectors);
}

/* Lay vectors x (n, columns) out as words that the matrix can be multiplied by, stride bytes apart. For INT8 they are
   rounded to whole numbers of steps[b], a 127th of the largest; the instruction for them wants none below zero, so 128
   is added. */
static void lay_out(const Matrix *m, const float *x, int n, char *laid, size_t stride, float *steps) {
    const int columns = m->columns;
    memset(laid, 0, stride * n);
    for (int b = 0; b < n; b++, x += columns, laid += stride) {
        if (m->kind == INT8) {
            float largest = 0, sum = 0;
            for (int i = 0; i < columns; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest, sum += x[i];
            const float factor = largest > 0 ? 127 / largest : 0;
            steps[b] = isfinite(sum) ? largest / 127 : NAN;  /* what is rounded would hide it */
            if (as_they_are(INT8))
                for (int i = 0; i < columns; i++) ((uint8_t *)laid)[i] = (int32_t)(x[i] * factor + 128.5f);
            else
                for (int i = 0; i < columns; i++) ((float *)laid)[i] = floorf(x[i] * factor + 0.5f);
#ifdef __AVX512BF16__
        } else if (m->kind == BFLOAT16) {
            int i = 0;
            for (; i + LANES <= columns; i += LANES) {
                const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
                memcpy((uint16_t *)laid + i, &rounded, sizeof rounded);
            }
            const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps((1 << (columns - i)) - 1, x + i));
            memcpy((uint16_t *)laid + i, &rounded, sizeof(uint16_t) * (columns - i));
#endif
        } else memcpy(laid, x, sizeof(float) * columns);
    }
}

/* out (n, rows) = x (n, columns) times the matrix; laid and steps are memory for lay_out. */
static void multiply(const Matrix *m, const float *x, int n, int threads, void *laid, float *steps, float *out) {
    const int words = words_of(m), block = LANES * REGISTERS, offset = m->kind == INT8 && as_they_are(INT8) ? 128 : 0;
    const size_t stride = 4 * (size_t)words * (as_they_are(m->kind) ? 1 : in_word(m->kind));
    (void)threads;  /* without OpenMP there is one */
    lay_out(m, x, n, laid, stride, steps);
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int r0 = 0; r0 < m->rows; r0 += block) {
        const char *w = (const char *)m->tiles + ((size_t)(r0 / TILE) * words * TILE + r0 % TILE) * 4;
        const int rows = smaller(block, m->rows - r0);
        for (int b0 = 0, vectors; b0 < n; b0 += vectors) {
            const char *v = (const char *)laid + b0 * stride;
            floats sums[TOGETHER][REGISTERS];
            vectors = n - b0 >= TOGETHER ? TOGETHER : n - b0 >= SOME ? SOME : n - b0 >= 2 ? 2 : 1;
#define MULTIPLY(kind) if (vectors == 1) multiply_tile(kind, 1, w, v, stride, words, sums); \
                       else if (vectors == 2) multiply_tile(kind, 2, w, v, stride, words, sums); \
                       else if (vectors == SOME) multiply_tile(kind, SOME, w, v, stride, words, sums); \
                       else multiply_tile(kind, TOGETHER, w, v, stride, words, sums)
            if (m->kind == FLOAT32) { MULTIPLY(FLOAT32); }
            else if (m->kind == BFLOAT16) { MULTIPLY(BFLOAT16); }
            else { MULTIPLY(INT8); }
#undef MULTIPLY
            for (int b = 0; b < vectors; b++) {
                float *to = out + (size_t)(b0 + b) * m->rows + r0;
                const float *found = (const float *)sums[b], scale = m->kind == INT8 ? steps[b0 + b] : 1;
                if (m->kind != INT8) memcpy(to, found, sizeof(float) * rows);
                else if (!offset) for (int r = 0; r < rows; r++) to[r] = found[r] * m->steps[r0 + r] * scale;
                else for (int r = 0; r < rows; r++) {
                    const int32_t whole = ((const int32_t *)found)[r] - offset * m->sums[r0 + r];
                    to[r] = whole * m->steps[r0 + r] * scale;
                }
            }
        }
    }
}

/* ---- the rest of a layer */

/* RMSNorm, but for its weights, which are in the matrix that follows: out = x / length, both (n, C). */
static void norm(const Model *m, const float *x, int n, float *out) {
    for (int b = 0; b < n; b++, x += m->n_embd, out += m->n_embd) {
        float squares = m->shortest * m->shortest;
        for (int i = 0; i < m->n_embd; i++) squares += x[i] * x[i];
        const float factor = 1 / sqrtf(squares);
        for (int i = 0; i < m->n_embd; i++) out[i] = x[i] * factor;
    }
}

/* Rotary positions: pairs of neighbours are turned as complex numbers. */
static void turn(float *x, const float *turns, int d) {
    for (int i = 0; i < d; i += 2) {
        const float a = x[i], b = x[i + 1];
        x[i] = a * turns[i] - b * turns[i + 1];
        x[i + 1] = a * turns[i + 1] + b * turns[i];
    }
}

/* y (d): what a query (d) finds in the first T keys and values, (T, d) each. A softmax that never holds all of its
   numbers: what was summed up fades as a larger one is met (arXiv:1805.02867). */
static void attend(int d, const float *query, const float *keys, const float *values, int T, float *y) {
    const float scale = 1 / sqrtf(d);
    float largest = -INFINITY, sum = 0;
    memset(y, 0, sizeof(float) * d);
    for (int t0 = 0; t0 < T; t0 += PIECE) {
        const int some = smaller(PIECE, T - t0);
        const float *k = keys + (size_t)t0 * d, *v = values + (size_t)t0 * d, before = largest;
        float p[PIECE];
        for (int t = 0; t < some; t++) {
            float score = 0;
            for (int i = 0; i < d; i++) score += query[i] * k[t * d + i];
            p[t] = score * scale;
            largest = p[t] > largest ? p[t] : largest;
        }
        const float fading = power_of_e(before - largest);
        sum *= fading;
        for (int i = 0; i < d; i++) y[i] *= fading;
        for (int t = 0; t < some; t++) sum += p[t] = power_of_e(p[t] - largest);
        for (int t = 0; t < some; t++)
            for (int i = 0; i < d; i++) y[i] += p[t] * v[t * d + i];
    }
    for (int i = 0; i < d; i++) y[i] /= sum;
}

/* ---- what native.py calls */

static void read_piece(const Model *m, int n, const int64_t *ids, const int64_t *texts, const int64_t *positions,
                       float *keys, float *values, int64_t n_texts, int64_t max_len, int threads, float *memory,
                       float *x) {
    const int C = m->n_embd, H = m->n_head, d = m->head_dim, F = m->hidden_dim;
    float *steps = memory, *z = steps + n, *y = z + n * C, *wide = y + n * C, *laid = wide + n * bigger(3 * C, 2 * F);
    for (int b = 0; b < n; b++) memcpy(x + b * C, m->embedding + ids[b] * C, sizeof(float) * C);
    for (int l = 0; l < m->n_layer; l++) {
        const Layer *layer = m->layers + l;
        norm(m, x, n, z);
        multiply(&layer->qkv, z, n, threads, laid, steps, wide);                /* (n, 3 * H, d) */
        for (int b = 0; b < n; b++)
            for (int h = 0; h < H; h++) {
                float *q = wide + (b * 3 * H + h) * d, *k = q + C, *v = k + C;
                const size_t at = (((l * n_texts + texts[b]) * H + h) * max_len + positions[b]) * d;
                turn(q, m->turns + positions[b] * d, d);
                turn(k, m->turns + positions[b] * d, d);
                memcpy(keys + at, k, sizeof(float) * d);
                memcpy(values + at, v, sizeof(float) * d);
            }
        #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
        for (int bh = 0; bh < n * H; bh++) {
            const int b = bh / H, h = bh % H;
            const size_t first = ((l * n_texts + texts[b]) * H + h) * max_len * d;
            attend(d, wide + (b * 3 * H + h) * d, keys + first, values + first, positions[b] + 1, y + bh * d);
        }
        multiply(&layer->proj, y, n, threads, laid, steps, z);
        for (int i = 0; i < n * C; i++) x[i] += z[i];
        norm(m, x, n, z);
        multiply(&layer->gate_up, z, n, threads, laid, steps, wide);            /* (n, 2, F) */
        for (int b = 0; b < n; b++) {
            const float *gate = wide + b * 2 * F, *up = gate + F;
            for (int i = 0; i < F; i++) wide[b * F + i] = gate[i] / (1 + power_of_e(-gate[i])) * up[i];
        }
        multiply(&layer->down, wide, n, threads, laid, steps, z);
        for (int i = 0; i < n * C; i++) x[i] += z[i];
    }
}

/* Read n ids, each the next one, at positions[b], of the text that stands in row texts[b] of a cache, keys and values
   (n_layer, n_texts, H, max_len, d); x becomes what the output layer reads, (n, C). Returns 0, or 1 without memory. */
int read_tokens(const Model *m, int64_t n, const int64_t *ids, const int64_t *texts, const int64_t *positions,
                float *keys, float *values, int64_t n_texts, int64_t max_len, int threads, float *x) {
    const int most = n < PIECE ? n : PIECE, C = m->n_embd, F = m->hidden_dim;
    float *memory = malloc(sizeof(float) * most * (1 + 2 * C + bigger(3 * C, 2 * F) + laid_floats(bigger(C, F))));
    if (!memory) return 1;
    for (int64_t b = 0; b < n; b += most)
        read_piece(m, n - b < most ? n - b : most, ids + b, texts + b, positions + b, keys, values, n_texts, max_len,
                   threads, memory, x + b * C);
    free(memory);
    return 0;
}

/* out (n, vocab_size): logits for x (n, C). Returns as above. */
int logits(const Model *m, int64_t n, const float *x, int threads, float *out) {
    const int most = n < PIECE ? n : PIECE, C = m->n_embd;
    float *memory = malloc(sizeof(float) * most * (1 + C + laid_floats(C)));
    if (!memory) return 1;
    for (int64_t b = 0; b < n; b += most) {
        const int some = n - b < most ? n - b : most;
        float *steps = memory, *z = steps + some;
        norm(m, x + b * C, some, z);
        multiply(&m->head, z, some, threads, z + some * C, steps, out + b * m->head.rows);
    }
    free(memory);
    return 0;
}
