/* State of x87, SSE and AVX through signals and changes of thread. */
#include "stress.h"
#include <cpuid.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static volatile unsigned long interrupted;

static void spoil(int number)
{
    (void)number;
    interrupted++;
    uint32_t csr = 0x7F80;
    uint16_t control = 0x0C7F;
    __asm__ volatile("pxor %%xmm0, %%xmm0\n\tpcmpeqd %%xmm5, %%xmm5\n\tpxor %%xmm15, %%xmm15\n\tldmxcsr %0\n\tfninit\n\tfldcw %1\n\tfldpi\n\tfldz"
                     : : "m"(csr), "m"(control) : "xmm0", "xmm5", "xmm15");
}

static void spoil_wide(int number)
{
    spoil(number);
    __asm__ volatile("vpcmpeqd %%ymm1, %%ymm1, %%ymm1\n\tvpxor %%ymm9, %%ymm9, %%ymm9\n\tvzeroupper" : : : "xmm1", "xmm9");
}

static void interrupts(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &every, NULL);
}

#define ALL16(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define LOAD16(n) "movdqu " #n "*16(%[in]), %%xmm" #n "\n\t"
#define STORE16(n) "movdqu %%xmm" #n ", " #n "*16(%[out])\n\t"
#define LOAD32(n) "vmovdqu " #n "*32(%[in]), %%ymm" #n "\n\t"
#define STORE32(n) "vmovdqu %%ymm" #n ", " #n "*32(%[out])\n\t"
#define ALL_XMM                                                                                                          \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
        "xmm14", "xmm15"

static void keep_xmm(int number)
{
    uint64_t state = seed_of(number), in[32], out[32];
    uint32_t csr = 0x1F80 | (uint32_t)(number % 4) << 13, after;
    while (running()) {
        for (int i = 0; i < 32; i++) {
            in[i] = next_random(&state);
        }
        uint64_t rounds = next_random(&state) % 20000;
        __asm__ volatile("ldmxcsr %[csr]\n\t" ALL16(LOAD16) "1:\n\tdec %[rounds]\n\tjns 1b\n\t" ALL16(STORE16) "stmxcsr %[after]"
                         : [rounds] "+r"(rounds), [after] "=m"(after) : [in] "r"(in), [out] "r"(out), [csr] "m"(csr) : "memory", "cc", ALL_XMM);
        if (memcmp(in, out, sizeof in) != 0 || after != csr) {
            fail("XMM registers or MXCSR (%x, was %x) have changed", after, csr);
        }
        if (number % 3 == 0) {
            sched_yield();
        }
        counted(1);
    }
}
static void xmm(void)
{
    interrupts(spoil);
    run_threads(threads * 2, keep_xmm);
}

static void keep_ymm(int number)
{
    uint64_t state = seed_of(number), in[64], out[64];
    while (running()) {
        for (int i = 0; i < 64; i++) {
            in[i] = next_random(&state);
        }
        uint64_t rounds = next_random(&state) % 20000;
        __asm__ volatile(ALL16(LOAD32) "1:\n\tdec %[rounds]\n\tjns 1b\n\t" ALL16(STORE32) "vzeroupper"
                         : [rounds] "+r"(rounds) : [in] "r"(in), [out] "r"(out) : "memory", "cc", ALL_XMM);
        if (memcmp(in, out, sizeof in) != 0) {
            fail("YMM registers have changed");
        }
        if (number % 3 == 0) {
            sched_yield();
        }
        counted(1);
    }
}
static void ymm(void)
{
    uint32_t a, b, c, d;
    __cpuid(1, a, b, c, d);
    if ((c & bit_OSXSAVE) == 0 || (c & bit_AVX) == 0) {
        leave_out("the processor shows no AVX");
    }
    interrupts(spoil_wide);
    run_threads(threads * 2, keep_ymm);
}

/* Eight numbers on the stack of the x87 unit, with a control word of the thread's own. */
static void keep_x87(int number)
{
    static const uint16_t controls[] = {0x037F, 0x0B7F, 0x067F, 0x0F7F};
    uint64_t state = seed_of(number);
    uint16_t control = controls[number % 4], after;
    while (running()) {
        int64_t in[8], out[8];
        for (int i = 0; i < 8; i++) {
            in[i] = next_random(&state) >> 16; /* exact whatever the precision */
        }
        uint64_t rounds = next_random(&state) % 20000;
        __asm__ volatile("fninit\n\tfldcw %[control]\n\tfildq (%[in])\n\tfildq 8(%[in])\n\tfildq 16(%[in])\n\tfildq 24(%[in])\n\t"
                         "fildq 32(%[in])\n\tfildq 40(%[in])\n\tfildq 48(%[in])\n\tfildq 56(%[in])\n\t1:\n\tdec %[rounds]\n\tjns 1b\n\t"
                         "fistpq 56(%[out])\n\tfistpq 48(%[out])\n\tfistpq 40(%[out])\n\tfistpq 32(%[out])\n\tfistpq 24(%[out])\n\t"
                         "fistpq 16(%[out])\n\tfistpq 8(%[out])\n\tfistpq (%[out])\n\tfnstcw %[after]\n\tfninit"
                         : [rounds] "+r"(rounds), [after] "=m"(after) : [in] "r"(in), [out] "r"(out), [control] "m"(control) : "memory", "cc");
        if (memcmp(in, out, sizeof in) != 0 || after != control) {
            fail("the x87 stack or control word (%x, was %x) has changed", after, control);
        }
        if (number % 3 == 1) {
            sched_yield();
        }
        counted(1);
    }
}
static void x87(void)
{
    interrupts(spoil);
    run_threads(threads * 2, keep_x87);
}

/* The same sums again and again, in both units: each time the same to the last bit. */
static void add_up(int number)
{
    double first = 0;
    long double first_long = 0;
    (void)number;
    for (bool begun = false; running(); begun = true) {
        double sum = 0;
        long double sum_long = 0;
        for (int i = 1; i < 5000; i++) {
            double divided = 1.0 / i, root;
            __asm__("sqrtsd %1, %0" : "=x"(root) : "x"((double)i));
            sum += divided * root - divided / 3;
            long double wide = i;
            __asm__("fsqrt" : "+t"(wide));
            sum_long += wide / 3 - 1 / wide;
        }
        if (begun && (sum != first || sum_long != first_long)) {
            fail("sums differ: %.17g and %.17g, %.20Lg and %.20Lg", sum, first, sum_long, first_long);
        }
        first = sum;
        first_long = sum_long;
        counted(1);
    }
}
static void sums(void)
{
    interrupts(spoil);
    run_threads(threads + 1, add_up);
}

const part unit_parts[] = {
    {"xmm", xmm}, {"ymm", ymm}, {"x87", x87}, {"floating-sums", sums}, {NULL, NULL},
};
