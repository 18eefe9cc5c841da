/* Faults that a handler mends: at each the processor shows exactly where it stopped, and afterwards nothing tells of it. */
#include "block.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* An access to the memory that RSI or RDI points to; the bytes of prefix run before it and cannot fault. What follows may
   ask for any flag, so behind an access that leaves some undefined stands TEST RSI, RSI: processors may differ in them, and
   an access that faults may be done by another part of the engine when it is tried again. */
typedef struct {
    const char *name, *bytes;
    uint8_t length, prefix, size;
    bool writes, string;
} access_form;

#define DEFINE_FLAGS "\x48\x85\xF6"
#define FORM(text, prefix, bytes, size, writes, string) {text, prefix bytes, sizeof(prefix bytes) - 1, sizeof(prefix) - 1, size, writes, string}

static const access_form forms[] = {
    FORM("mov load", "", "\x48\x8B\x06", 8, false, false),
    FORM("mov store", "", "\x48\x89\x06", 8, true, false),
    FORM("mov store 32", "", "\x89\x16", 4, true, false),
    FORM("mov store 16", "", "\x66\x89\x16", 2, true, false),
    FORM("mov immediate", "", "\x48\xC7\x06\x44\x33\x22\x11", 8, true, false),
    FORM("movzx", "", "\x0F\xB6\x06", 1, false, false),
    FORM("movsx", "", "\x4C\x0F\xBF\x06", 2, false, false),
    FORM("add to memory", "", "\x48\x01\x1E", 8, true, false),
    FORM("add from memory", "", "\x4C\x03\x06", 8, false, false),
    FORM("adc to memory", "", "\x48\x11\x16", 8, true, false),
    FORM("sbb from memory", "", "\x1B\x06", 4, false, false),
    FORM("inc", "", "\x48\xFF\x06", 8, true, false),
    FORM("neg", "", "\xF7\x1E", 4, true, false),
    FORM("not", "", "\x48\xF7\x16", 8, true, false),
    FORM("shl", "", "\x48\xC1\x26\x03" DEFINE_FLAGS, 8, true, false),
    FORM("rcr", "", "\x48\xD1\x1E", 8, true, false),
    FORM("cmp", "", "\x48\x39\x06", 8, false, false),
    FORM("test", "", "\x84\x06", 1, false, false),
    FORM("imul", "", "\x48\x69\x06\x10\x00\x00\x00" DEFINE_FLAGS, 8, false, false),
    FORM("sete", "", "\x0F\x94\x06", 1, true, false),
    FORM("cmovb", "", "\x48\x0F\x42\x06", 8, false, false),
    FORM("bts", "", "\x48\x0F\xBA\x2E\x05" DEFINE_FLAGS, 8, true, false),
    FORM("bt", "", "\x48\x0F\xBA\x26\x25" DEFINE_FLAGS, 8, false, false),
    FORM("lock xadd", "", "\xF0\x48\x0F\xC1\x1E", 8, true, false),
    FORM("lock cmpxchg", "", "\xF0\x48\x0F\xB1\x1E", 8, true, false),
    FORM("lock dec", "", "\xF0\xFF\x0E", 4, true, false),
    FORM("xchg", "", "\x48\x87\x16", 8, true, false),
    FORM("push", "", "\xFF\x36\x5D", 8, false, false),
    FORM("pop", "\x55", "\x8F\x06", 8, true, false),
    FORM("movups load", "", "\x0F\x10\x06", 16, false, false),
    FORM("movups store", "", "\x0F\x11\x1E", 16, true, false),
    FORM("movd store", "", "\x66\x0F\x7E\x1E", 4, true, false),
    FORM("cvtsi2sd", "", "\xF2\x48\x0F\x2A\x06", 8, false, false),
    FORM("fld", "", "\xDB\x06\xDD\xD8", 4, false, false),
    FORM("fstp", "\xD9\xEB", "\xDD\x1E", 8, true, false),
    FORM("fistp", "\xD9\xE8", "\xDF\x3E", 8, true, false),
    FORM("lodsq", "", "\x48\xAD", 8, false, false),
    FORM("stosq", "", "\x48\xAB", 8, true, false),
    FORM("movsw", "", "\x66\xA5", 2, true, false),
    FORM("scasb", "", "\xAE", 1, false, false),
    FORM("rep movsb", "", "\xF3\xA4", 1, true, true),
    FORM("rep movsq", "", "\xF3\x48\xA5", 8, true, true),
    FORM("rep stosb", "", "\xF3\xAA", 1, true, true),
    FORM("rep stosd", "", "\xF3\xAB", 4, true, true),
    FORM("rep lodsb", "", "\xF3\xAC", 1, false, true),
};

/* Behind the guarded pages lies one more, so that nothing runs off the end. */
enum { GUARDED = 2, DATA = GUARDED + 2 };

/* What the thread's next fault must look like. */
static __thread struct {
    uint8_t *code, *at;           /* the block, and the instruction that may fault */
    char *data;                   /* DATA pages; the middle GUARDED ones may be closed */
    const registers *before;      /* what the instruction starts with */
    const access_form *form;
    volatile int faults, open;    /* closed pages that have been opened again, as bits */
} next;

static void check_context(const siginfo_t *info, const ucontext_t *context)
{
    static const int order[] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
    };
    const greg_t *seen = context->uc_mcontext.gregs;
    if ((uint8_t *)seen[REG_RIP] != next.at) {
        fail("%s: RIP %llx, not %p, address %p", next.form->name, seen[REG_RIP], next.at, info->si_addr);
    }
    uint64_t flags = seen[REG_EFL] ^ next.before->value[FLAGS];
    if ((flags & DEFINED_FLAGS) != 0) {
        fail("%s: flags %llx, not %lx", next.form->name, seen[REG_EFL], next.before->value[FLAGS]);
    }
    for (int i = 0; i < 16; i++) {
        bool moves = i == RSP || (next.form->string && (i == RCX || i == RSI || i == RDI || (i == RAX && !next.form->writes)));
        if (!moves && (uint64_t)seen[order[i]] != next.before->value[i]) {
            fail("%s: register %d is %llx, not %lx", next.form->name, i, seen[order[i]], next.before->value[i]);
        }
    }
    if (next.form->string) {
        /* Whole elements have been done, each counted, and the fault is in the next one. */
        uint64_t done = next.before->value[RCX] - seen[REG_RCX];
        uint8_t opcode = next.form->bytes[next.form->length - 1] & 0xFE;
        bool source = opcode != 0xAA, target = opcode != 0xAC; /* STOS has no source, LODS no target */
        uint64_t from = next.before->value[RSI] + (source ? done * next.form->size : 0);
        uint64_t to = next.before->value[RDI] + (target ? done * next.form->size : 0);
        uint64_t address = (uint64_t)info->si_addr;
        bool near = (source && address - from < next.form->size) || (target && address - to < next.form->size);
        if ((uint64_t)seen[REG_RSI] != from || (uint64_t)seen[REG_RDI] != to || !near) {
            fail("%s: %lu done, RSI %llx not %lx, RDI %llx not %lx, address %lx", next.form->name, done, seen[REG_RSI], from, seen[REG_RDI], to, address);
        }
    }
}

static void mend(int number, siginfo_t *info, void *pointer)
{
    ucontext_t *context = pointer;
    (void)number;
    if (next.form == NULL) {
        fail("a fault at %llx, address %p, that nobody meant", context->uc_mcontext.gregs[REG_RIP], info->si_addr);
    }
    check_context(info, context);
    long page = ((char *)info->si_addr - next.data) / PAGE;
    if (page < 1 || page > GUARDED || (next.open & 1 << page) != 0) {
        fail("%s: fault at %p in page %ld, data at %p", next.form->name, info->si_addr, page, next.data);
    }
    next.open |= 1 << page;
    next.faults++;
    if (mprotect(next.data + page * PAGE, PAGE, PROT_READ | PROT_WRITE) != 0) {
        fail("mprotect in the handler: %s", strerror(errno));
    }
    __asm__ volatile("pxor %%xmm0, %%xmm0\n\tpxor %%xmm3, %%xmm3\n\tfninit" : : : "xmm0", "xmm3");
}

static void fill(char *data)
{
    for (int i = 0; i < DATA * PAGE / 8; i++) {
        ((uint64_t *)data)[i] = i * 0x0101010101010101ul ^ 0x5A;
    }
}

static void compare(const access_form *form, const registers *a, const registers *b, const char *x, const char *y)
{
    for (int i = 0; i < 16; i++) {
        if (i != RSP && a->value[i] != b->value[i]) {
            fail("%s: after the fault register %d is %lx, not %lx", form->name, i, b->value[i], a->value[i]);
        }
    }
    if (((a->value[FLAGS] ^ b->value[FLAGS]) & DEFINED_FLAGS) != 0) {
        fail("%s: after the fault the flags are %lx, not %lx", form->name, b->value[FLAGS], a->value[FLAGS]);
    }
    for (int i = 0; i < DATA * PAGE; i++) {
        if (x[i] != y[i]) {
            fail("%s: after the fault byte %x is %x, not %x", form->name, i, y[i], x[i]);
        }
    }
}

static void on(int number)
{
    struct sigaction action = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO};
    sigaction(number, &action, NULL);
}

/* One block: once up to the access, once whole, once with pages closed that the handler opens. */
static void try_block(uint8_t *code, char *data, char *copy, uint64_t *state)
{
    const access_form *form = &forms[next_random(state) % (sizeof forms / sizeof *forms)];
    int room = form->string ? 200 * form->size : form->size;
    long where = next_random(state) % 2 == 0 ? (long)(2 * PAGE) - (long)(next_random(state) % room) : (long)(PAGE + next_random(state) % PAGE);
    registers in, before, whole, again;
    random_registers(&in, state);
    in.value[RSI] = (uint64_t)data + where;
    in.value[RDI] = (uint64_t)data + (next_random(state) % 2 == 0 || !form->string ? where : (long)(PAGE + next_random(state) % PAGE));
    in.value[RCX] = next_random(state) % 200 + 1;
    uint64_t kept = *state;
    int n = next_random(&kept) % 24;
    uint8_t *at = write_arithmetic(code, n, &kept, NULL);
    *at = 0xC3;
    call_block(code, &in, &before);
    memcpy(at, form->bytes, form->length);
    uint8_t *end = write_arithmetic(at + form->length, next_random(&kept) % 8, &kept, NULL);
    *end = 0xC3;
    *state = kept;
    fill(data);
    call_block(code, &in, &whole);
    memcpy(copy, data, DATA * PAGE);
    fill(data);
    int protection = form->writes && !form->string && next_random(state) % 2 == 0 ? PROT_READ : PROT_NONE;
    int closed = next_random(state) % 3 + 1;
    for (int page = 1; page <= GUARDED; page++) {
        if ((closed & page) != 0 && mprotect(data + page * PAGE, PAGE, protection) != 0) {
            fail("mprotect: %s", strerror(errno));
        }
    }
    next.code = code;
    next.at = at + form->prefix;
    next.data = data;
    next.before = &before;
    next.faults = 0;
    next.open = ~(closed << 1);
    next.form = form;
    call_block(code, &in, &again);
    next.form = NULL;
    mprotect(data, DATA * PAGE, PROT_READ | PROT_WRITE);
    compare(form, &whole, &again, copy, data);
    counted(next.faults);
}

static void take_faults(int number)
{
    uint64_t state = seed_of(number);
    uint8_t *code = map_pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
    char *data = map_pages(DATA, PROT_READ | PROT_WRITE), *copy = map_pages(DATA, PROT_READ | PROT_WRITE);
    while (running()) {
        try_block(code + next_random(&state) % PAGE, data, copy, &state);
    }
}

static void data_faults(void)
{
    on(SIGSEGV);
    run_threads(threads, take_faults);
}

/* Code that lies across a border to a page that is closed, or that is not for running. */
static __thread struct {
    uint8_t *code, *starts[40];
    int n;
    volatile int faults;
} fetch;

static void open_code(int number, siginfo_t *info, void *pointer)
{
    (void)number;
    uint64_t rip = ((ucontext_t *)pointer)->uc_mcontext.gregs[REG_RIP];
    uint8_t *border = fetch.code + PAGE;
    int i = 0;
    while (i < fetch.n && (uint64_t)fetch.starts[i] != rip) {
        i++;
    }
    if (i == fetch.n || fetch.starts[i + 1] <= border || fetch.starts[i] > border || info->si_addr != border || fetch.faults != 0) {
        fail("fetch: RIP %lx is instruction %d of %d, address %p, border %p", rip, i, fetch.n, info->si_addr, border);
    }
    fetch.faults++;
    mprotect(border, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static void take_fetch_faults(int number)
{
    uint64_t state = seed_of(number);
    fetch.code = map_pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
    while (running()) {
        registers in, whole, again;
        random_registers(&in, &state);
        uint8_t *from = fetch.code + PAGE - next_random(&state) % 60;
        fetch.n = 36;
        uint8_t *end = write_arithmetic(from, fetch.n - 1, &state, fetch.starts);
        fetch.starts[fetch.n - 1] = end;
        fetch.starts[fetch.n] = end + 1;
        *end = 0xC3;
        call_block(from, &in, &whole);
        mprotect(fetch.code + PAGE, PAGE, next_random(&state) % 2 == 0 ? PROT_NONE : PROT_READ | PROT_WRITE);
        fetch.faults = 0;
        call_block(from, &in, &again);
        if (fetch.faults != 1) {
            fail("code ran that is not for running");
        }
        for (int i = 0; i < 16; i++) {
            if (i != RSP && whole.value[i] != again.value[i]) {
                fail("fetch: register %d is %lx, not %lx", i, again.value[i], whole.value[i]);
            }
        }
        counted(1);
    }
}

static void fetch_faults(void)
{
    struct sigaction action = {.sa_sigaction = open_code, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    run_threads(threads, take_fetch_faults);
}

/* Single steps: a trap behind each instruction, and only there. */
enum { STEPS = 30 };
static __thread uint8_t *starts[STEPS + 1];
static __thread volatile int step;

static void note_step(int number, siginfo_t *info, void *pointer)
{
    (void)number;
    (void)info;
    greg_t *seen = ((ucontext_t *)pointer)->uc_mcontext.gregs;
    if (step > 0 || (uint8_t *)seen[REG_RIP] == starts[0]) {
        if ((uint8_t *)seen[REG_RIP] != starts[step]) {
            fail("step %d: RIP %llx, not %p", step, seen[REG_RIP], starts[step]);
        }
        if (step == STEPS) {
            seen[REG_EFL] &= ~0x100;
            return;
        }
        step++;
    }
}

static void take_steps(int number)
{
    uint64_t state = seed_of(number);
    uint8_t *code = map_pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
    while (running()) {
        registers in, whole, again;
        random_registers(&in, &state);
        uint8_t *from = code + next_random(&state) % PAGE;
        starts[STEPS] = write_arithmetic(from, STEPS, &state, starts);
        *starts[STEPS] = 0xC3;
        call_block(from, &in, &whole);
        step = 0;
        in.value[FLAGS] |= 0x100;
        call_block(from, &in, &again);
        if (step != STEPS) {
            fail("%d steps, not %d", step, STEPS);
        }
        for (int i = 0; i < 16; i++) {
            if (i != RSP && whole.value[i] != again.value[i]) {
                fail("stepped: register %d is %lx, not %lx", i, again.value[i], whole.value[i]);
            }
        }
        counted(STEPS);
    }
}

static void single_steps(void)
{
    struct sigaction action = {.sa_sigaction = note_step, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    run_threads(threads, take_steps);
}

/* Exceptions without memory: division, invalid opcodes, breakpoints. The handler goes on behind the instruction. */
static __thread uint8_t *trap_at;
static __thread volatile int trap_kind, traps;
static __thread int trap_length;

static void go_on(int number, siginfo_t *info, void *pointer)
{
    (void)info;
    greg_t *seen = ((ucontext_t *)pointer)->uc_mcontext.gregs;
    uint8_t *expected = trap_at + (number == SIGTRAP ? trap_length : 0);
    if (number != trap_kind || (uint8_t *)seen[REG_RIP] != expected) {
        fail("signal %d at %llx, not %d at %p", number, seen[REG_RIP], trap_kind, expected);
    }
    seen[REG_RIP] = (greg_t)(trap_at + trap_length);
    traps++;
}

static void take_traps(int number)
{
    static const struct {
        const char *bytes;
        int length, signal;
    } kinds[] = {
        {"\xF7\xF1", 2, SIGFPE}, {"\x48\xF7\xF9", 3, SIGFPE}, {"\x0F\x0B", 2, SIGILL}, {"\xCC", 1, SIGTRAP}, {"\xF4", 1, SIGSEGV}, {"\x0F\x22\xD8", 3, SIGSEGV},
    };
    uint64_t state = seed_of(number);
    uint8_t *code = map_pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
    while (running()) {
        registers in, out;
        random_registers(&in, &state);
        in.value[RCX] = 0;
        int kind = next_random(&state) % (sizeof kinds / sizeof *kinds);
        uint8_t *from = code + next_random(&state) % PAGE;
        trap_at = write_arithmetic(from, next_random(&state) % 20, &state, NULL);
        memcpy(trap_at, kinds[kind].bytes, kinds[kind].length);
        trap_length = kinds[kind].length;
        trap_kind = kinds[kind].signal;
        traps = 0;
        *write_arithmetic(trap_at + trap_length, next_random(&state) % 20, &state, NULL) = 0xC3;
        call_block(from, &in, &out);
        if (traps != 1) {
            fail("%d signals for one exception", traps);
        }
        counted(1);
    }
}

static void exceptions(void)
{
    struct sigaction action = {.sa_sigaction = go_on, .sa_flags = SA_SIGINFO};
    for (const char *s = (const char[]){SIGFPE, SIGILL, SIGTRAP, SIGSEGV, 0}; *s != 0; s++) {
        sigaction(*s, &action, NULL);
    }
    run_threads(threads, take_traps);
}

const part fault_parts[] = {
    {"faults-data", data_faults},
    {"faults-fetch", fetch_faults},
    {"single-steps", single_steps},
    {"exceptions", exceptions},
    {NULL, NULL},
};
