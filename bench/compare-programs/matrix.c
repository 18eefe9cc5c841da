/* Products of two matrices of doubles, once with SSE2 and once with AVX2 and FMA, each in blocks that fill the vector registers. */
#include <immintrin.h>
#include "programs.h"

enum { N = 192 };

static double a[N][N] __attribute__((aligned(64))), b[N][N] __attribute__((aligned(64))), c[N][N] __attribute__((aligned(64)));

static void prepare(void)
{
    uint64_t state = 4711;
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < N; k++) {
            a[i][k] = (double)(int64_t)next_random(&state) / 9223372036854775808.0;
            b[i][k] = (double)(int64_t)next_random(&state) / 9223372036854775808.0;
        }
    }
}

static void run_sse2(void)
{
    for (int i = 0; i < N; i += 4) {
        for (int j = 0; j < N; j += 4) {
            __m128d sum[4][2];
#pragma GCC unroll 4
            for (int row = 0; row < 4; row++) {
                sum[row][0] = sum[row][1] = _mm_setzero_pd();
            }
            for (int k = 0; k < N; k++) {
                __m128d b0 = _mm_load_pd(&b[k][j]), b1 = _mm_load_pd(&b[k][j + 2]);
#pragma GCC unroll 4
                for (int row = 0; row < 4; row++) {
                    __m128d factor = _mm_set1_pd(a[i + row][k]);
                    sum[row][0] = _mm_add_pd(sum[row][0], _mm_mul_pd(factor, b0));
                    sum[row][1] = _mm_add_pd(sum[row][1], _mm_mul_pd(factor, b1));
                }
            }
#pragma GCC unroll 4
            for (int row = 0; row < 4; row++) {
                _mm_store_pd(&c[i + row][j], sum[row][0]);
                _mm_store_pd(&c[i + row][j + 2], sum[row][1]);
            }
        }
    }
}

__attribute__((target("avx2,fma"))) static void run_avx2(void)
{
    for (int i = 0; i < N; i += 4) {
        for (int j = 0; j < N; j += 12) {
            __m256d sum[4][3];
#pragma GCC unroll 4
            for (int row = 0; row < 4; row++) {
                sum[row][0] = sum[row][1] = sum[row][2] = _mm256_setzero_pd();
            }
            for (int k = 0; k < N; k++) {
                __m256d b0 = _mm256_load_pd(&b[k][j]), b1 = _mm256_load_pd(&b[k][j + 4]), b2 = _mm256_load_pd(&b[k][j + 8]);
#pragma GCC unroll 4
                for (int row = 0; row < 4; row++) {
                    __m256d factor = _mm256_broadcast_sd(&a[i + row][k]);
                    sum[row][0] = _mm256_fmadd_pd(factor, b0, sum[row][0]);
                    sum[row][1] = _mm256_fmadd_pd(factor, b1, sum[row][1]);
                    sum[row][2] = _mm256_fmadd_pd(factor, b2, sum[row][2]);
                }
            }
#pragma GCC unroll 4
            for (int row = 0; row < 4; row++) {
                _mm256_store_pd(&c[i + row][j], sum[row][0]);
                _mm256_store_pd(&c[i + row][j + 4], sum[row][1]);
                _mm256_store_pd(&c[i + row][j + 8], sum[row][2]);
            }
        }
    }
}

/* Elements of the diagonal by hand: with and without the intermediate rounding both lie within this. */
static uint64_t checksum(void)
{
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int k = 0; k < N; k++) {
            sum += a[i][k] * b[k][i];
        }
        double difference = sum - c[i][i];
        if (!(difference < 1e-12 && difference > -1e-12)) {
            fail("the product is wrong");
        }
    }

    return hash_bytes(c, sizeof c);
}

static const char *lacks_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? NULL : "no AVX2";
}

/* One operation is one floating-point operation. */
const struct program matrix_sse2 = { .name = "matrix-sse2", .prepare = prepare, .round = run_sse2, .checksum = checksum, .ops = 2ull * N * N * N };
const struct program matrix_avx2 =
    { .name = "matrix-avx2", .prepare = prepare, .round = run_avx2, .checksum = checksum, .ops = 2ull * N * N * N, .lacks = lacks_avx2 };
