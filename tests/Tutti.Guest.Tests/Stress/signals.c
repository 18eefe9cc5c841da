/* Signals between threads and processes: none is lost, and none changes what the interrupted code has in its registers. */
#include "stress.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t taken;

static void note(int number)
{
    (void)number;
    taken++;
}

static void on(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(number, &action, NULL);
}

/* Two processes: each waits for the other's signal before it sends its own. */
static void processes(void)
{
    sigset_t blocked, open;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &open);
    on(SIGUSR1, note);
    pid_t parent = getpid(), child = fork(), other = child == 0 ? parent : child;
    if (child != 0) {
        kill(other, SIGUSR1);
    }
    for (int n = 1; child == 0 || running(); n++) {
        while (taken < n) {
            sigsuspend(&open);
        }
        kill(other, SIGUSR1);
        if (child != 0) {
            counted(1);
        }
    }
    kill(child, SIGKILL);
    wait(NULL);
}

/* Two threads that interrupt each other in the middle of their work. */
static volatile unsigned long sent[2], handled[2];
static volatile pthread_t ids[2];
static __thread int self;
static volatile bool over;

static void handle(int number)
{
    (void)number;
    handled[self]++;
}

static void interrupt_other(int number)
{
    self = number;
    ids[number] = pthread_self();
    while (ids[1 - number] == 0) {
        relax();
    }
    while (!over) {
        unsigned long n = ++sent[1 - number];
        if (pthread_kill(ids[1 - number], SIGUSR1) != 0) {
            fail("pthread_kill");
        }
        for (unsigned long spins = 0; handled[1 - number] < n && !over; spins++) {
            relax();
            if (spins % 4096 == 4095) {
                nanosleep(&(struct timespec){0, 1000}, NULL);
            }
        }
        counted(1);
        if (number == 0 && !running()) {
            over = true;
        }
    }
}
static void thread_signals(void)
{
    on(SIGUSR1, handle);
    run_threads(2, interrupt_other);
}

/* Timers that interrupt code whose every register, flag and stack word is known. */
static void spoil(int number)
{
    taken++;
    (void)number;
    __asm__ volatile("pxor %%xmm0, %%xmm0\n\tpxor %%xmm7, %%xmm7\n\tpxor %%xmm15, %%xmm15\n\tfninit\n\tfldpi\n\tfldpi\n\t"
                     "xorl %%eax, %%eax\n\tnotq %%rcx\n\tnotq %%rdx\n\tnotq %%r8\n\tnotq %%r11\n\tcld"
                     : : : "rax", "rcx", "rdx", "r8", "r11", "xmm0", "xmm7", "xmm15", "cc", "memory");
}

/* Counts in eight registers at once with a carry that goes through all of them, and gives the sum of their differences. */
static uint64_t count_in_registers(uint64_t rounds)
{
    uint64_t wrong;
    __asm__ volatile(
        "pushq %%rbp\n\tsubq $256, %%rsp\n\t"
        "xorl %%eax, %%eax\n\txorl %%ebx, %%ebx\n\txorl %%edx, %%edx\n\txorl %%esi, %%esi\n\txorl %%edi, %%edi\n\t"
        "xorl %%ebp, %%ebp\n\txorl %%r8d, %%r8d\n\txorl %%r9d, %%r9d\n\txorl %%r10d, %%r10d\n\txorl %%r11d, %%r11d\n\t"
        "xorl %%r12d, %%r12d\n\txorl %%r13d, %%r13d\n\txorl %%r14d, %%r14d\n\txorl %%r15d, %%r15d\n\t"
        "1:\n\tstc\n\tadcq $0, %%rax\n\tstc\n\tadcq $0, %%rbx\n\tstc\n\tadcq $0, %%rdx\n\tstc\n\tadcq $0, %%rsi\n\t"
        "stc\n\tadcq $0, %%rdi\n\tstc\n\tadcq $0, %%rbp\n\tstc\n\tadcq $0, %%r8\n\tstc\n\tadcq $0, %%r9\n\t"
        "stc\n\tadcq $0, %%r10\n\tstc\n\tadcq $0, %%r11\n\tstc\n\tadcq $0, %%r12\n\tstc\n\tadcq $0, %%r13\n\t"
        "stc\n\tadcq $0, %%r14\n\tpushq %%r14\n\tpopq %%r15\n\tmovq %%rax, 64(%%rsp)\n\tcmpq %%rbx, 64(%%rsp)\n\tjne 2f\n\t"
        "cmpq %%rcx, %%rax\n\tjne 1b\n\t"
        "2:\n\tsubq %%rcx, %%rax\n\tsubq %%rcx, %%rbx\n\tsubq %%rcx, %%rdx\n\tsubq %%rcx, %%rsi\n\tsubq %%rcx, %%rdi\n\t"
        "subq %%rcx, %%rbp\n\tsubq %%rcx, %%r8\n\tsubq %%rcx, %%r9\n\tsubq %%rcx, %%r10\n\tsubq %%rcx, %%r11\n\t"
        "subq %%rcx, %%r12\n\tsubq %%rcx, %%r13\n\tsubq %%rcx, %%r14\n\tsubq %%rcx, %%r15\n\t"
        "orq %%rbx, %%rax\n\torq %%rdx, %%rax\n\torq %%rsi, %%rax\n\torq %%rdi, %%rax\n\torq %%rbp, %%rax\n\torq %%r8, %%rax\n\t"
        "orq %%r9, %%rax\n\torq %%r10, %%rax\n\torq %%r11, %%rax\n\torq %%r12, %%rax\n\torq %%r13, %%rax\n\torq %%r14, %%rax\n\t"
        "orq %%r15, %%rax\n\taddq $256, %%rsp\n\tpopq %%rbp"
        : "=&a"(wrong) : "c"(rounds)
        : "rbx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
    return wrong;
}

static void timers(void)
{
    on(SIGALRM, spoil);
    struct itimerval every = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &every, NULL);
    timer_t second;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    on(SIGUSR2, spoil);
    struct itimerspec other = {{0, 170000}, {0, 170000}};
    if (timer_create(CLOCK_MONOTONIC, &event, &second) != 0 || timer_settime(second, 0, &other, NULL) != 0) {
        fail("timer: %s", strerror(errno));
    }
    while (running()) {
        uint64_t wrong = count_in_registers(20000);
        if (wrong != 0) {
            fail("a register was changed: %lx", wrong);
        }
    }
    counted(taken);
}

/* Many queued signals, each with a value of its own, in their order. */
static void queued(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        for (int n = 0; running();) {
            n += sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = n}) == 0;
        }
        _exit(0);
    }
    bool ended = false;
    for (int n = 0;;) {
        siginfo_t info;
        if (sigtimedwait(&set, &info, &(struct timespec){0, 1000000}) == SIGRTMIN) {
            if (info.si_value.sival_int != n) {
                fail("signal %d came as number %d", info.si_value.sival_int, n);
            }
            n++;
            counted(1);
        } else if (ended) {
            return;
        } else {
            ended = waitpid(child, NULL, WNOHANG) == child;
        }
    }
}

const part signal_parts[] = {
    {"signals-processes", processes},
    {"signals-threads", thread_signals},
    {"signals-timers", timers},
    {"signals-queued", queued},
    {NULL, NULL},
};
