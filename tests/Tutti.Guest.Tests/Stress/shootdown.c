/* Page tables that change under threads that use them: once the call has returned, nobody works with what was before. */
#include "stress.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGES = 8 };

static volatile uint64_t *page_at[PAGES];
static volatile uint64_t least[PAGES]; /* what a reader must find at least in each page from now on */
static volatile bool over;
static unsigned long changes;

static void check(bool right)
{
    if (!right) {
        fail("%s", strerror(errno));
    }
}

static uint64_t *fresh(void *at, uint64_t value)
{
    uint64_t *p = mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (at != NULL ? MAP_FIXED : 0), -1, 0);
    check(p != MAP_FAILED);
    *p = value;
    return p;
}

static void read_pages(int seed)
{
    uint64_t state = seed_of(seed);
    while (!over) {
        int i = next_random(&state) % PAGES;
        for (int n = 0; n < 50; n++) {
            uint64_t must = least[i], seen = *page_at[i];
            if (seen < must) {
                fail("page %d is of round %lu, %lu was there already", i, seen, must);
            }
        }
    }
}

/* New memory is put over old by one call, already filled, and from then on nobody may see the old one. */
static void remap(int number)
{
    if (number != 0) {
        read_pages(number);
        return;
    }
    for (uint64_t round = 1; running(); round++) {
        int i = round % PAGES;
        uint64_t *filled = fresh(NULL, round);
        check(mremap(filled, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page_at[i]) == page_at[i]);
        least[i] = round;
        changes++;
    }
    over = true;
}
static void remapped(void)
{
    for (int i = 0; i < PAGES; i++) {
        page_at[i] = fresh(NULL, 0);
    }
    run_threads(threads, remap);
    counted(changes);
}

/* A file's pages change places: what is there before is never seen after. */
static void exchange(int number)
{
    static int file;
    if (number != 0) {
        read_pages(number);
        return;
    }
    file = memfd_create("exchange", 0);
    check(file >= 0 && ftruncate(file, 2 * PAGE) == 0);
    uint64_t *both = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    for (uint64_t round = 1; running(); round++) {
        both[round % 2 * PAGE / 8] = round;
        check(mmap((void *)page_at[0], PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, round % 2 * PAGE) == page_at[0]);
        least[0] = round;
        changes++;
    }
    over = true;
}
static void exchanged(void)
{
    for (int i = 0; i < PAGES; i++) {
        page_at[i] = fresh(NULL, 0);
    }
    run_threads(threads, exchange);
    counted(changes);
}

/* Threads that write until they fault; a page that may not be written keeps its words. */
static volatile uint64_t *written;
static volatile bool closed;
static volatile unsigned long caught;

static void wait_until_open(int number)
{
    (void)number;
    __atomic_fetch_add(&caught, 1, __ATOMIC_RELAXED);
    for (int spins = 0; closed; spins++) {
        relax();
        if (spins % 512 == 511) {
            nanosleep(&(struct timespec){0, 1000}, NULL);
        }
    }
}

static void write_words(int number)
{
    volatile uint64_t *word = written + number * 8;
    while (!over) {
        for (int n = 0; n < 50; n++) {
            ++*word;
            word[1] += 1;
            __asm__ volatile("lock incq %0" : "+m"(word[2]) : : "cc");
            __asm__ volatile("movaps %%xmm1, %0" : "=m"(*(char (*)[16])(word + 4)));
        }
    }
}

static void close_page(int number)
{
    if (number != 0) {
        write_words(number);
        return;
    }
    uint64_t state = seed_of(0), before[PAGE / 8];
    int protections[] = {PROT_READ, PROT_NONE};
    while (running()) {
        int protection = protections[next_random(&state) % 2];
        closed = true;
        check(mprotect((void *)written, PAGE, protection) == 0);
        if (protection == PROT_READ) {
            memcpy(before, (void *)written, PAGE);
            for (int wait = next_random(&state) % 2000; wait > 0; wait--) {
                relax();
            }
            if (memcmp(before, (void *)written, PAGE) != 0) {
                fail("a page was written after mprotect had returned");
            }
        }
        check(mprotect((void *)written, PAGE, PROT_READ | PROT_WRITE) == 0);
        closed = false;
        changes++;
        for (int wait = next_random(&state) % 500; wait > 0; wait--) {
            relax();
        }
    }
    over = true;
}
static void protection(void)
{
    struct sigaction action = {.sa_handler = wait_until_open};
    sigaction(SIGSEGV, &action, NULL);
    written = fresh(NULL, 0);
    run_threads(threads, close_page);
    for (int i = 1; i < threads; i++) {
        volatile uint64_t *word = written + i * 8;
        if (word[0] != word[1] || word[0] != word[2]) {
            fail("thread %d's words are %lu, %lu and %lu", i, word[0], word[1], word[2]);
        }
    }
    counted(changes + caught);
}

/* Readers of a page that goes and comes back. The epoch counts up through four phases; while it is what it was, so is the
   page: a read that begins after munmap has returned must fault, and one of a page that is there must not. */
enum { THERE, GOING, GONE, COMING };
static volatile uint64_t epoch;
static __thread sigjmp_buf home;
static __thread volatile uint64_t epoch_before;

static void go_home(int number)
{
    (void)number;
    siglongjmp(home, 1);
}

static void read_or_fault(int number)
{
    volatile unsigned long faults = 0;
    (void)number;
    while (!over) {
        if (sigsetjmp(home, 1) == 0) {
            for (int n = 0; n < 20; n++) {
                epoch_before = epoch;
                uint64_t seen = *written;
                if (epoch != epoch_before) {
                    continue;
                }
                if (epoch_before % 4 == GONE || (epoch_before % 4 == THERE && seen != epoch_before)) {
                    fail("read %lx in epoch %lx", seen, epoch_before);
                }
            }
        } else {
            faults++;
            if (epoch == epoch_before && epoch_before % 4 == THERE) {
                fail("a fault in epoch %lx, while the page was there", epoch_before);
            }
        }
    }
    __atomic_fetch_add(&caught, faults, __ATOMIC_RELAXED);
}

static void wait_at_random(uint64_t *state)
{
    for (int wait = next_random(state) % 500; wait > 0; wait--) {
        relax();
    }
}

static void unmap(int number)
{
    if (number != 0) {
        read_or_fault(number);
        return;
    }
    uint64_t state = seed_of(0);
    while (running()) {
        wait_at_random(&state);
        epoch++;
        check(munmap((void *)written, PAGE) == 0);
        epoch++;
        wait_at_random(&state);
        epoch++;
        uint64_t *filled = fresh((char *)written - 2 * PAGE, epoch + 1); /* not where the page was: that is any mmap's now */
        check(mremap(filled, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, written) == written);
        epoch++;
        changes++;
    }
    over = true;
}
static void unmapped(void)
{
    struct sigaction action = {.sa_handler = go_home};
    sigaction(SIGSEGV, &action, NULL);
    written = map_pages(3, PROT_NONE) + 2 * PAGE;
    fresh((void *)written, 0);
    run_threads(threads, unmap);
    counted(changes + caught);
}

/* Pages that are given back read as zero at once. Each thread keeps the word counting while it may. */
static void give_back(int number)
{
    volatile uint64_t *words = written;
    if (number != 0) {
        while (!over) {
            words[number * 8] = 0;
            if (words[number * 8 + 1] > 1) {
                fail("words of two rounds in one page");
            }
        }
        return;
    }
    while (running()) {
        for (int i = 1; i < threads; i++) {
            words[i * 8 + 1] = 1;
        }
        words[1] = changes;
        check(madvise((void *)written, PAGE, MADV_DONTNEED) == 0);
        for (int i = 0; i < threads; i++) {
            if (words[i * 8 + 1] != 0) {
                fail("a page that was given back still has %lx", words[i * 8 + 1]);
            }
        }
        changes++;
    }
    over = true;
}
static void given_back(void)
{
    written = fresh(NULL, 0);
    run_threads(threads, give_back);
    counted(changes);
}

/* fork while a thread writes: the child's copy is of one moment. */
static volatile uint64_t *first, *second;

static void write_in_order(int number)
{
    (void)number;
    for (uint64_t n = 1; !over; n++) {
        *first = n;
        *second = n;
    }
}
static void snapshots(void)
{
    first = fresh(NULL, 0);
    second = fresh(NULL, 0);
    pthread_t writer = begin_thread(write_in_order, 1);
    while (running()) {
        pid_t child = fork();
        if (child == 0) {
            uint64_t b = *second, a = *first;
            for (int wait = 0; wait < 2000; wait++) {
                relax();
            }
            if (a - b > 1 || *first != a || *second != b) {
                fail("a child's copy has %lu and %lu, then %lu and %lu", a, b, *first, *second);
            }
            _exit(0);
        }
        int status;
        check(waitpid(child, &status, 0) == child);
        if (status != 0) {
            _exit(1);
        }
        counted(1);
    }
    over = true;
    end_thread(writer);
}

const part shootdown_parts[] = {
    {"remapped", remapped},   {"exchanged", exchanged}, {"protection", protection},
    {"unmapped", unmapped},   {"given-back", given_back}, {"snapshots", snapshots},
    {NULL, NULL},
};
