/* Part of rows_kernel.c: codes of few bits to fp32, V at a time. value = code x scale, rounded
 * once, as moe_dequantise does it: products have the bits that they have with the values in fp32.
 */

/* Sign-extended bytes. */
OB_INLINE vec vec_of_int8(const unsigned char *p) {
#if defined(HAVE_HALVES) && defined(__AVX512F__)
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif defined(HAVE_HALVES)
    return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#else
    vec v;
    for (int i = 0; i < V; i++)
        v[i] = (float)(int8_t)p[i];
    return v;
#endif
}

/* Two in a byte, the even one low, each 8 more than what it stands for. */
OB_INLINE vec vec_of_int4(const unsigned char *p) {
    uint32_t word[(V + 7) / 8] = {0};
    words w, shift;
    memcpy(word, p, V / 2);
    for (int i = 0; i < V; i++) {
        w[i] = word[i / 8];
        shift[i] = (uint32_t)(4 * (i % 8));
    }
    return __builtin_convertvector((integers)(w >> shift & 15) - 8, vec);
}

/* e4m3, 256 times too small: its bits are those of a half precision number whose exponent is 8 too
 * low, subnormal ones too. */
OB_INLINE vec vec_of_fp8(const unsigned char *p) {
    uint16_t half[V];
    for (int i = 0; i < V; i++)
        half[i] = (uint16_t)((p[i] & 0x80) << 8 | (p[i] & 0x7f) << 7);
    return vec_of_halves((const char *)half);
}

OB_INLINE vec vec_of_codes(form f, const unsigned char *p) {
    return f == FORM_INT8 ? vec_of_int8(p) : f == FORM_INT4 ? vec_of_int4(p) : vec_of_fp8(p);
}

/* `count` codes that have one scale; p begins at an even one. */
OB_INLINE void decode_run(form f, const unsigned char *p, float scale, int64_t count, float *ret) {
    const int64_t whole = count / V * V;
    const float factor = f == FORM_FP8 ? 256 * scale : scale;
    for (int64_t i = 0; i < whole; i += V) {
        vec v = vec_of_codes(f, p + i * value_bits(f) / 8) * factor;
        memcpy(ret + i, &v, sizeof v);
    }
    if (whole < count) {
        unsigned char tail[V] = {0};
        memcpy(tail, p + whole * value_bits(f) / 8,
               (size_t)(((count - whole) * value_bits(f) + 7) / 8));
        vec v = vec_of_codes(f, tail) * factor;
        memcpy(ret + whole, &v, (size_t)(count - whole) * sizeof *ret);
    }
}

/* Columns p .. p+depth-1 of W's row `row`, zeros up to a whole step behind them. */
OB_INLINE void decode_codes(form f, const ob_matrix *w, int64_t row, int64_t p, int64_t depth,
                            float *ret) {
    const unsigned char *code =
        (const unsigned char *)w->data + row * ((w->ld * value_bits(f) + 7) / 8);
    const int64_t wide = w->block_columns ? w->block_columns : w->ld;
    const int64_t above = w->block_rows ? (w->first_row + row) / w->block_rows : 0;
    const float *scale = w->scale + above * ((w->ld + wide - 1) / wide);
    for (int64_t at = p, next; at < p + depth; at = next) {
        next = (at / wide + 1) * wide;
        next = next < p + depth ? next : p + depth;
        const float own = scale[at / wide];
        if (f == FORM_INT4 && at % 2) { /* a block that begins inside a byte */
            ret[at - p] = (float)((code[at / 2] >> 4) - 8) * own;
            at++;
        }
        if (at < next)
            decode_run(f, code + at * value_bits(f) / 8, own, next - at, ret + (at - p));
    }
    for (int64_t i = depth; i % STEP; i++)
        ret[i] = 0;
}
