/* Protection keys, addresses that only 5-level paging has, and instructions that CR4.UMIP keeps from programs. */
#include "stress.h"
#include <cpuid.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OSPKE = 1 << 4, UMIP = 1 << 2, PKU_FAULT = 4 };

static __thread sigjmp_buf back;
static __thread volatile int expected = -1; /* the key whose fault is meant */
static __thread volatile uintptr_t fault_address;

static unsigned features(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) ? c : 0;
}

static void denied(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (expected < 0 || info->si_code != PKU_FAULT || (int)info->si_pkey != expected) {
        fail("a fault at %p, code %d, key %d, where key %d was meant", info->si_addr, info->si_code, (int)info->si_pkey, expected);
    }
    fault_address = (uintptr_t)info->si_addr;
    siglongjmp(back, 1);
}

static void catch_faults(void)
{
    struct sigaction action = {.sa_sigaction = denied, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
}

/* Whether the access is denied by the key; rights are as after the fault, when the caller sets them anew. */
static bool is_denied(volatile uint64_t *at, bool writes, int key)
{
    bool was_denied = true;
    expected = key;
    if (sigsetjmp(back, 1) == 0) {
        if (writes) {
            *at = *at + 1;
        } else {
            (void)*at;
        }
        was_denied = false;
    } else if (fault_address != (uintptr_t)at) {
        fail("the fault is at %lx, not %p", fault_address, (void *)at);
    }
    expected = -1;
    return was_denied;
}

static int keys[3];
static char *pages; /* one of each key for each thread */

static void use_rights(int number)
{
    uint64_t state = seed_of(number);
    int pipes[2];
    if (pipe(pipes) != 0) {
        fail("pipe: %s", strerror(errno));
    }
    while (running()) {
        int which = next_random(&state) % 3, other = (which + 1) % 3;
        volatile uint64_t *mine = (uint64_t *)(pages + (number * 3 + which) * PAGE + (next_random(&state) & 0xFF8));
        volatile uint64_t *free_one = (uint64_t *)(pages + (number * 3 + other) * PAGE);
        pkey_set(keys[which], 0);
        pkey_set(keys[other], 0);
        uint64_t value = next_random(&state);
        for (int i = 0; i < 20; i++) {
            *mine = value + i;
            *free_one += 1;
        }
        int rights = next_random(&state) % 2 ? PKEY_DISABLE_WRITE : PKEY_DISABLE_ACCESS;
        pkey_set(keys[which], rights);
        *free_one += 1;
        if (next_random(&state) % 8 == 0) {
            relax();
            serialize();
        }
        if (pkey_get(keys[which]) != rights) {
            fail("thread %d: rights %d of key %d, not %d", number, pkey_get(keys[which]), keys[which], rights);
        }
        /* The kernel's own accesses obey the program's rights. */
        if (rights == PKEY_DISABLE_ACCESS) {
            if (write(pipes[1], (void *)mine, 8) != -1 || errno != EFAULT) {
                fail("write from a page that may not be read: %s", strerror(errno));
            }
        } else if (write(pipes[1], "12345678", 8) != 8 || read(pipes[0], (void *)mine, 8) != -1 || errno != EFAULT) {
            fail("read into a page that may not be written: %s", strerror(errno));
        }
        bool writes = rights == PKEY_DISABLE_WRITE || next_random(&state) % 2;
        if (!writes || rights == PKEY_DISABLE_ACCESS ? !is_denied(mine, writes, keys[which]) : *mine != value + 19 || !is_denied(mine, true, keys[which])) {
            fail("thread %d: key %d with rights %d lets a %s through", number, keys[which], rights, writes ? "write" : "read");
        }
        pkey_set(keys[which], 0);
        char rest[8];
        if (rights == PKEY_DISABLE_WRITE && *mine == value + 19 && read(pipes[0], rest, 8) != 8 && errno != EAGAIN) {
            fail("read: %s", strerror(errno));
        }
        if (*mine != value + 19) {
            fail("thread %d: %lx, not %lx, where a write was denied", number, *mine, value + 19);
        }
        counted(1);
    }
}

static void test_rights(void)
{
    if ((features() & OSPKE) == 0) {
        leave_out("no protection keys");
    }
    catch_faults();
    pages = map_pages(3 * MAX_THREADS, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 3; i++) {
        keys[i] = pkey_alloc(0, 0);
        if (keys[i] < 1) {
            fail("pkey_alloc: %s", strerror(errno));
        }
    }
    for (int i = 0; i < 3 * MAX_THREADS; i++) {
        if (pkey_mprotect(pages + i * PAGE, PAGE, PROT_READ | PROT_WRITE, keys[i % 3]) != 0) {
            fail("pkey_mprotect: %s", strerror(errno));
        }
    }
    run_threads(threads + 1, use_rights);
}

/* A child has its parent's rights, and what it changes is its own. */
static void test_fork(void)
{
    if ((features() & OSPKE) == 0) {
        leave_out("no protection keys");
    }
    catch_faults();
    int key = pkey_alloc(0, 0);
    volatile uint64_t *page = map_pages(1, PROT_READ | PROT_WRITE);
    if (key < 1 || pkey_mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE, key) != 0) {
        fail("pkey_alloc: %s", strerror(errno));
    }
    while (running()) {
        *page = 7;
        pkey_set(key, PKEY_DISABLE_ACCESS);
        pid_t child = fork();
        if (child == 0) {
            bool was_denied = is_denied(page, false, key);
            pkey_set(key, 0);
            _exit(was_denied && *page == 7 ? 0 : 1);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            fail("the child ended with %x", status);
        }
        if (!is_denied(page, true, key)) {
            fail("the child has changed its parent's rights");
        }
        pkey_set(key, 0);
        counted(1);
    }
}

static void use_far(int number)
{
    static const uint8_t code[] = {0x48, 0x8D, 0x05, 0xF9, 0xFF, 0xFF, 0xFF, 0x48, 0x03, 0x07, 0xC3}; /* lea rax,[rip-7]; add rax,[rdi]; ret */
    uint64_t state = seed_of(number);
    while (running()) {
        uintptr_t wanted = 1ul << 48 | (next_random(&state) & 0x7FFFFFFFFFF000);
        char *p = mmap((void *)wanted, 3 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || (uintptr_t)p < 1ul << 47) {
            fail("mmap at %lx gives %p: %s", wanted, (void *)p, strerror(errno));
        }
        char *at = p + PAGE - 5; /* across a page's end */
        memcpy(at, code, sizeof code);
        volatile uint64_t *data = (uint64_t *)(p + 2 * PAGE - 4);
        for (int i = 0; i < 50; i++) {
            *data = next_random(&state);
            uint64_t found = ((uint64_t(*)(volatile uint64_t *))(uintptr_t)at)(data);
            if (found != (uintptr_t)at + *data) {
                fail("code at %p gives %lx for %lx", (void *)at, found, *data);
            }
            __atomic_fetch_add((uint64_t *)(p + 8), 1, __ATOMIC_SEQ_CST);
        }
        if (*(uint64_t *)(p + 8) != 50) {
            fail("50 additions at %p make %lu", (void *)(p + 8), *(uint64_t *)(p + 8));
        }
        munmap(p, 3 * PAGE);
        counted(1);
    }
}

/* The kernel shows the flag where it uses five levels. */
static bool has_far_addresses(void)
{
    static char text[1 << 16];
    FILE *file = fopen("/proc/cpuinfo", "r");
    size_t length = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    text[length] = 0;
    if (file != NULL) {
        fclose(file);
    }
    return strstr(text, " la57") != NULL;
}

static void test_far(void)
{
    if (!has_far_addresses()) {
        leave_out("no 5-level paging");
    }
    run_threads(threads, use_far);
}

/* The kernel answers these in the processor's stead, with values that tell nothing. */
static void test_prevented(void)
{
    if ((features() & UMIP) == 0) {
        leave_out("no UMIP");
    }
    while (running()) {
        struct __attribute__((packed)) {
            uint16_t limit;
            uint64_t base;
        } table = {0xFFFF, 0};
        uint64_t status = ~0ul;
        __asm__ volatile("sgdt %0" : "=m"(table));
        if (table.limit != 0 || table.base != 0xFFFFFFFFFFFE0000) {
            fail("SGDT tells %lx, limit %x", table.base, table.limit);
        }
        __asm__ volatile("smsw %0" : "=r"(status));
        if ((status & 0xFFFF) != 0x33) {
            fail("SMSW tells %lx", status);
        }
        counted(1);
    }
}

const part key_parts[] = {
    {"protection-keys", test_rights}, {"protection-keys-fork", test_fork}, {"far-addresses", test_far}, {"user-mode-instruction-prevention", test_prevented}, {NULL, NULL},
};
