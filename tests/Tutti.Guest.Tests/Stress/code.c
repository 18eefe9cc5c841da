/* Code that is written while it runs, as just-in-time compilers and kernels do: whoever comes to it next runs what it is
   then. */
#include "block.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t (*function)(void);

static volatile bool over;

static uint8_t *code_pages(size_t n) { return map_pages(n, PROT_READ | PROT_WRITE | PROT_EXEC); }

/* mov eax, value; ret */
static void write_constant(uint8_t *to, uint32_t value)
{
    to[0] = 0xB8;
    memcpy(to + 1, &value, 4);
    to[5] = 0xC3;
}

static void expect(uint64_t seen, uint64_t value, const char *what)
{
    if (seen != value) {
        fail("%s gave %lx, not %lx", what, seen, value);
    }
}

/* A function written anew and called at once, at places all over two pages and across their border. */
static void write_and_call(int number)
{
    uint64_t state = seed_of(number);
    uint8_t *code = code_pages(3);
    while (running()) {
        for (int n = 0; n < 64; n++) {
            uint8_t *at = code + next_random(&state) % (2 * PAGE);
            uint32_t value = next_random(&state);
            write_constant(at, value);
            expect(((function)at)(), value, "code written just now");
        }
        counted(64);
    }
}
static void rewritten(void) { run_threads(threads, write_and_call); }

/* The same through two mappings of one file: one to write, one to run. */
static uint8_t *writable, *runnable;

static void map_twice(size_t n)
{
    int file = memfd_create("code", 0);
    if (file < 0 || ftruncate(file, n * PAGE) != 0) {
        fail("memfd: %s", strerror(errno));
    }
    writable = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    runnable = mmap(NULL, n * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    if (writable == MAP_FAILED || runnable == MAP_FAILED) {
        fail("mmap: %s", strerror(errno));
    }
    close(file);
}

static void two_mappings(void)
{
    uint64_t state = seed_of(0);
    map_twice(3);
    while (running()) {
        size_t at = next_random(&state) % (2 * PAGE);
        for (int n = 0; n < 8; n++) {
            uint32_t value = next_random(&state);
            write_constant(writable + at, value);
            serialize();
            expect(((function)(runnable + at))(), value, "code written through another mapping");
        }
        counted(8);
    }
}

/* One thread writes, the others run it: they wait for the word that it is ready, and serialize. */
static volatile uint32_t ready, answered;

static void write_for_others(int number)
{
    uint64_t state = seed_of(99);
    for (uint32_t round = 1;; round++) {
        size_t at = next_random(&state) % 256 * 61 % (2 * PAGE);
        uint32_t value = next_random(&state);
        if (number == 0) {
            if (round % 8 == 1) {
                memset(writable + at, 0xCC, 6);
            }
            write_constant(writable + at, value);
            over = !running();
            ready = round;
            while (answered != (uint32_t)(threads - 1) * round) {
                relax();
            }
            if (over) {
                return;
            }
        } else {
            while (ready != round) {
                relax();
            }
            serialize();
            bool last = over;
            expect(((function)(runnable + at))(), value, "code of another thread");
            counted(1);
            __atomic_fetch_add(&answered, 1, __ATOMIC_SEQ_CST);
            if (last) {
                return;
            }
            while (__atomic_load_n(&answered, __ATOMIC_SEQ_CST) < (uint32_t)(threads - 1) * round) {
                relax();
            }
        }
    }
}
static void other_thread(void)
{
    writable = runnable = code_pages(3);
    run_threads(threads, write_for_others);
}
static void other_thread_mapping(void)
{
    map_twice(3);
    run_threads(threads, write_for_others);
}

/* An immediate that lies in one word is patched while others are in the code: each sees numbers that only grow. */
static uint32_t *immediate;

static void patch_immediate(int number)
{
    if (number == 0) {
        uint64_t state = seed_of(0);
        for (uint32_t value = 1; running(); value++) {
            __atomic_store_n(immediate, value, __ATOMIC_SEQ_CST);
            for (int wait = next_random(&state) % 200; wait > 0; wait--) {
                relax();
            }
        }
        over = true;
        return;
    }
    uint32_t last = 0;
    do {
        for (int n = 0; n < 64; n++) {
            uint32_t value = ((function)runnable)();
            if (value < last) {
                fail("an immediate went from %u back to %u", last, value);
            }
            last = value;
        }
        counted(64);
    } while (!over);
    serialize();
    expect(((function)runnable)(), *immediate, "the last immediate");
}
static void immediates(void)
{
    map_twice(1);
    memset(writable, 0x90, 64);
    write_constant(writable + 7, 0);
    immediate = (uint32_t *)(writable + 8);
    run_threads(threads, patch_immediate);
}

/* A jump whose target is patched: first a breakpoint's place is not needed, as the distance lies in one word. */
enum { TARGETS = 16 };

static void patch_jump(int number)
{
    uint64_t state = seed_of(number);
    uint32_t *distance = (uint32_t *)(writable + 64);
    if (number == 0) {
        while (running()) {
            int target = next_random(&state) % TARGETS;
            /* The jump lies at 63 and ends at 68. */
            __atomic_store_n(distance, 2 * PAGE - 30 + target * 16 - 68, __ATOMIC_SEQ_CST);
            serialize();
            uint64_t seen = ((function)(runnable + 60))();
            expect(seen, 0xABC000 + target, "a patched jump");
            counted(1);
        }
        over = true;
        return;
    }
    while (!over) {
        uint64_t seen = ((function)(runnable + 60))();
        if (seen - 0xABC000 >= TARGETS) {
            fail("a jump under change led to %lx", seen);
        }
    }
}
static void jumps(void)
{
    map_twice(4);
    memset(writable, 0x90, 64);
    writable[63] = 0xE9;
    for (int i = 0; i < TARGETS; i++) {
        write_constant(writable + 2 * PAGE - 30 + i * 16, 0xABC000 + i);
    }
    uint32_t distance = 2 * PAGE - 30 - 68;
    memcpy(writable + 64, &distance, 4);
    run_threads(threads, patch_jump);
}

/* Code that changes the instruction just ahead of it, by stores of many kinds; the block is put together anew each time. */
static const struct {
    const char *name, *bytes;
    int length;
} stores[] = {
    {"mov", "\x88\x07", 2},                        /* mov [rdi], al */
    {"stosb", "\xAA", 1},                          /* stosb */
    {"xchg", "\x86\x07", 2},                       /* xchg [rdi], al */
    {"add", "\x28\x1F\x00\x07", 4},                /* sub [rdi], bl; add [rdi], al: bl holds what was there */
    {"lock xadd", "\x28\x1F\xF0\x0F\xC0\x07", 6},  /* sub [rdi], bl; lock xadd [rdi], al */
    {"rep stosb", "\xF3\xAA", 2},                  /* rcx is 1 */
    {"movs", "\xA4", 1},                           /* movsb; rsi points to the byte */
    {"push", "\x48\x8D\x67\x08\x41\x50", 6},       /* lea rsp, [rdi+8]; push r8 */
    {"movq", "\x66\x4C\x0F\x7E\x07", 5},           /* movq [rdi], xmm8: eight bytes, the seven behind as they are */
    {"mov 64", "\x4C\x89\x07", 3},                 /* mov [rdi], r8 */
    {"cmpxchg", "\x93\xF0\x0F\xB0\x1F", 5},        /* xchg eax, ebx; lock cmpxchg [rdi], bl */
    {"fistp", "\xDF\x2E\xDF\x3F", 4},              /* fild qword [rsi+...]: r8 in memory; fistp qword [rdi] */
};

static void change_ahead(uint8_t *code, uint64_t *state)
{
    uint64_t source[2] __attribute__((aligned(16)));
    int kind = next_random(state) % (sizeof stores / sizeof *stores);
    uint8_t old = next_random(state), new = next_random(state);
    uint8_t *at = code + next_random(state) % (PAGE + 200);
    /* mov r11, rsp; [push xmm8's value by movq]; store; fill; mov dl, old; fill; mov rsp, r11; mov eax, edx; ret */
    uint8_t *p = at;
    memcpy(p, "\x49\x89\xE3\x66\x4D\x0F\x6E\xC0", 8); /* mov r11, rsp; movq xmm8, r8 */
    p += 8;
    memcpy(p, stores[kind].bytes, stores[kind].length);
    p += stores[kind].length;
    for (int fill = next_random(state) % 2 == 0 ? 0 : next_random(state) % 40; fill > 0; fill--) {
        *p++ = 0x90;
    }
    *p++ = 0xB2;
    uint8_t *patched = p;
    *p++ = old;
    memcpy(p, "\x4C\x89\xDC\x0F\xB6\xC2\xC3\x90\x90", 9);
    registers in, out;
    memset(&in, 0, sizeof in);
    memcpy(&in.value[8], patched, 8);
    in.value[8] = (in.value[8] & ~0xFFul) | new;
    source[0] = in.value[8];
    in.value[RAX] = new;
    in.value[RBX] = old;
    in.value[RCX] = 1;
    in.value[RSI] = (uint64_t)source;
    in.value[RDI] = (uint64_t)patched;
    in.value[FLAGS] = 0x202;
    for (int again = 0; again < 3; again++) {
        call_block(at, &in, &out);
        if (out.value[RAX] != new) {
            fail("%s, %d bytes ahead: ran %lx, not %x (was %x)", stores[kind].name, (int)(patched - at), out.value[RAX], new, old);
        }
        *(volatile uint8_t *)patched = old;
    }
    counted(1);
}

static void change_ahead_often(int number)
{
    uint64_t state = seed_of(number);
    uint8_t *code = code_pages(3);
    while (running()) {
        change_ahead(code, &state);
    }
}
static void ahead(void) { run_threads(threads, change_ahead_often); }

/* A loop that counts up its own immediate: each turn adds one more than the one before. */
static void count_up_in_code(int number)
{
    uint64_t state = seed_of(number);
    uint8_t *code = code_pages(2);
    /* 1: add rax, imm32 (48 05); inc dword [rdi]; dec rcx; jnz 1b; ret */
    static const uint8_t loop[] = {0x48, 0x05, 0, 0, 0, 0, 0xFF, 0x07, 0x48, 0xFF, 0xC9, 0x75, 0xF3, 0xC3};
    while (running()) {
        uint8_t *at = code + next_random(&state) % PAGE;
        memcpy(at, loop, sizeof loop);
        registers in, out;
        memset(&in, 0, sizeof in);
        uint64_t n = next_random(&state) % 300 + 1;
        in.value[RCX] = n;
        in.value[RDI] = (uint64_t)(at + 2);
        in.value[FLAGS] = 0x202;
        call_block(at, &in, &out);
        expect(out.value[RAX], n * (n - 1) / 2, "a loop that counts in its code");
        counted(n);
    }
}
static void counting(void) { run_threads(threads, count_up_in_code); }

/* Data beside code in one page, and code that comes and goes: W or X, never both; other memory at the same address; the
   kernel as the writer. */
static void write_then_protect(int number)
{
    uint64_t state = seed_of(number);
    uint8_t *code = code_pages(2);
    int ends[2];
    if (pipe(ends) != 0) {
        fail("pipe");
    }
    while (running()) {
        uint8_t text[6], *at = code + next_random(&state) % (PAGE + 100);
        uint32_t value = next_random(&state);
        write_constant(text, value);
        switch (next_random(&state) % 4) {
        case 0:
            mprotect(code, 2 * PAGE, PROT_READ | PROT_WRITE);
            memcpy(at, text, 6);
            mprotect(code, 2 * PAGE, PROT_READ | PROT_EXEC);
            break;
        case 1:
            if (mmap(code, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != code) {
                fail("mmap: %s", strerror(errno));
            }
            memcpy(at, text, 6);
            break;
        case 2:
            mprotect(code, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
            if (write(ends[1], text, 6) != 6 || read(ends[0], at, 6) != 6) {
                fail("pipe: %s", strerror(errno));
            }
            break;
        default:
            mprotect(code, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
            memcpy(at, text, 6);
            for (int i = 0; i < 100; i++) {
                volatile uint64_t *beside = (uint64_t *)(code + (at < code + PAGE / 2 ? PAGE - 256 : 0)) + i % 8;
                *beside = i;
                expect(((function)at)(), value, "code beside data");
            }
            break;
        }
        expect(((function)at)(), value, "code after a change of its page");
        counted(1);
    }
}
static void protected_code(void) { run_threads(threads, write_then_protect); }

/* Random arithmetic written again and again over itself, checked against a copy elsewhere. */
static void write_blocks(int number)
{
    uint64_t state = seed_of(number);
    uint8_t *code = code_pages(2), *other = code_pages(64);
    for (unsigned n = 0; running(); n++) {
        registers in, a, b;
        random_registers(&in, &state);
        uint8_t *at = code + PAGE - next_random(&state) % 300, *copy = other + n % 63 * PAGE;
        uint8_t *end = write_arithmetic(at, next_random(&state) % 64 + 1, &state, NULL);
        *end++ = 0xC3;
        memcpy(copy, at, end - at);
        call_block(at, &in, &a);
        call_block(copy, &in, &b);
        for (int i = 0; i < 16; i++) {
            if (i != RSP && a.value[i] != b.value[i]) {
                fail("a block and its copy differ in register %d: %lx and %lx", i, a.value[i], b.value[i]);
            }
        }
        counted(1);
    }
}
static void blocks(void) { run_threads(threads, write_blocks); }

const part code_parts[] = {
    {"code-rewritten", rewritten},
    {"code-two-mappings", two_mappings},
    {"code-other-thread", other_thread},
    {"code-other-mapping", other_thread_mapping},
    {"code-immediates", immediates},
    {"code-jumps", jumps},
    {"code-ahead", ahead},
    {"code-counting", counting},
    {"code-protected", protected_code},
    {"code-blocks", blocks},
    {NULL, NULL},
};
