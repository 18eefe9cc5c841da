/* loops memcpy|clock|getpid COUNT: the same small thing again and again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64 << 20 };

static int copy(long count)
{
    unsigned char *from = malloc(SIZE), *to = malloc(SIZE);
    if (from == NULL || to == NULL) {
        perror("loops");
        return 1;
    }

    memset(to, 1, SIZE);
    for (long i = 0; i < SIZE; i++) {
        from[i] = (unsigned char)(i * 7);
    }

    for (long i = 0; i < count; i++) {
        from[i % SIZE]++;
        memcpy(to, from, SIZE);
        /* Or the compiler leaves all copies but the last out. */
        __asm__ volatile("" : : "r"(to) : "memory");
    }

    printf("%d %d\n", to[0], to[SIZE - 1]);
    return 0;
}

static int ask_clock(long count)
{
    struct timespec last = { 0, 0 }, now;
    for (long i = 0; i < count; i++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec < last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec < last.tv_nsec)) {
            fprintf(stderr, "the clock went back\n");
            return 1;
        }

        last = now;
    }

    puts("forward");
    return 0;
}

static int ask_number(long count)
{
    long number = syscall(SYS_getpid), same = 0;
    for (long i = 0; i < count; i++) {
        same += syscall(SYS_getpid) == number;
    }

    printf("%ld\n", same);
    return 0;
}

int main(int count, char **words)
{
    if (count == 3) {
        long times = atol(words[2]);
        if (strcmp(words[1], "memcpy") == 0) {
            return copy(times);
        }

        if (strcmp(words[1], "clock") == 0) {
            return ask_clock(times);
        }

        if (strcmp(words[1], "getpid") == 0) {
            return ask_number(times);
        }
    }

    fprintf(stderr, "usage: loops memcpy|clock|getpid COUNT\n");
    return 2;
}
