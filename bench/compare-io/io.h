/* What every measurement is made of; main.c runs them all alike. */
#ifndef IO_H
#define IO_H

#include <netinet/in.h>
#include <stdint.h>

struct total {
    uint64_t operations, bytes, ns;
};

struct measurement {
    const char *name;
    void (*prepare)(void);
    /* Some milliseconds' work at most; gives what was done, without the time. */
    struct total (*round)(void);
};

extern const struct measurement disk_read, disk_write, disk_randread_1, disk_randread_32, disk_randwrite_1, disk_randwrite_32,
    net_send, net_receive, net_connect, net_request, net_ping;

/* Where serve() runs, as it is seen from here. */
extern struct sockaddr_in server;

/* The disk, or the file in its place. */
extern const char *disk_path;

/* Ends this measurement with the line "NAME - failed: ..." and what errno says. */
_Noreturn void fail(const char *what);

/* Nanoseconds of a clock that only goes forward. */
uint64_t now(void);

/* The next of a fixed row of numbers (xorshift64*). */
uint64_t next_random(uint64_t *state);

/* The other side of the network's measurements; does not return while all is well. */
int serve(void);

/* As init of a guest: drivers, device files, the network card's address. */
void set_up_guest(void);

#endif
