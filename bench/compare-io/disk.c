/* The disk, past the page cache of whoever runs this (O_DIRECT), by the kernel's own asynchronous calls. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "io.h"

enum { SMALL = 4096, LARGE = 1 << 20, MOST = 32 };

static int disk;
static off_t size;
static aio_context_t context;
static struct iocb blocks[MOST];
static uint8_t *buffers;
static uint64_t state = 0x9E3779B97F4A7C15;
static off_t position;
static unsigned under_way;

static void prepare(void)
{
    disk = open(disk_path, O_RDWR | O_DIRECT);
    if (disk < 0) {
        fail("the disk cannot be opened");
    }

    size = lseek(disk, 0, SEEK_END);
    if (size < 64 << 20) {
        fail("the disk is too small");
    }

    buffers = mmap(NULL, MOST * SMALL > LARGE ? MOST * SMALL : LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (buffers == MAP_FAILED) {
        fail("no memory");
    }

    for (int i = 0; i < LARGE; i++) {
        buffers[i] = (uint8_t)next_random(&state);
    }

    if (syscall(SYS_io_setup, MOST, &context) != 0) {
        fail("no asynchronous input and output");
    }
}

static struct total sequential(int is_write)
{
    if (position + LARGE > size) {
        position = 0;
    }

    ssize_t done = is_write ? pwrite(disk, buffers, LARGE, position) : pread(disk, buffers, LARGE, position);
    if (done != LARGE) {
        fail("the disk fails");
    }

    position += LARGE;
    return (struct total){ 1, LARGE, 0 };
}

static void begin(unsigned index, int is_write)
{
    struct iocb *block = &blocks[index];
    memset(block, 0, sizeof *block);
    block->aio_data = index;
    block->aio_lio_opcode = is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
    block->aio_fildes = (uint32_t)disk;
    block->aio_buf = (uint64_t)(buffers + index * SMALL);
    block->aio_nbytes = SMALL;
    block->aio_offset = (int64_t)(next_random(&state) % (uint64_t)(size / SMALL) * SMALL);
}

/* Keeps so many requests under way: each that has ended is followed by another. They go on from one round to the next. */
static struct total scattered(unsigned depth, int is_write)
{
    struct io_event events[MOST];
    struct iocb *list[MOST];
    unsigned count = 0;
    for (; under_way < depth; under_way++) {
        begin(under_way, is_write);
        list[count++] = &blocks[under_way];
    }

    struct total sum = { 0 };
    while (sum.operations < 256) {
        if (count > 0 && syscall(SYS_io_submit, context, (long)count, list) != (long)count) {
            fail("the disk takes no requests");
        }

        long ended = syscall(SYS_io_getevents, context, 1L, (long)depth, events, NULL);
        if (ended < 1) {
            fail("no request ends");
        }

        for (count = 0; count < (unsigned)ended; count++) {
            if (events[count].res != SMALL) {
                fail("the disk fails");
            }

            unsigned index = (unsigned)events[count].data;
            begin(index, is_write);
            list[count] = &blocks[index];
        }

        sum.operations += (uint64_t)ended;
    }

    if (syscall(SYS_io_submit, context, (long)count, list) != (long)count) {
        fail("the disk takes no requests");
    }

    sum.bytes = sum.operations * SMALL;
    return sum;
}

static struct total read_on(void) { return sequential(0); }
static struct total write_on(void) { return sequential(1); }
static struct total read_1(void) { return scattered(1, 0); }
static struct total read_32(void) { return scattered(32, 0); }
static struct total write_1(void) { return scattered(1, 1); }
static struct total write_32(void) { return scattered(32, 1); }

const struct measurement disk_read = { "disk-read", prepare, read_on };
const struct measurement disk_write = { "disk-write", prepare, write_on };
const struct measurement disk_randread_1 = { "disk-randread-1", prepare, read_1 };
const struct measurement disk_randread_32 = { "disk-randread-32", prepare, read_32 };
const struct measurement disk_randwrite_1 = { "disk-randwrite-1", prepare, write_1 };
const struct measurement disk_randwrite_32 = { "disk-randwrite-32", prepare, write_32 };
