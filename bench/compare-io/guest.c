/* A guest's first steps, which an init has to take by itself. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "io.h"

/* modules.dep names each module before those that need it, in the archive that this runs from. */
static void load_drivers(void)
{
    struct utsname kernel;
    char path[512], line[512];
    uname(&kernel);
    snprintf(path, sizeof path, "/lib/modules/%s/modules.dep", kernel.release);
    FILE *list = fopen(path, "r");
    if (list == NULL) {
        fail("no drivers");
    }

    while (fgets(line, sizeof line, list) != NULL) {
        line[strcspn(line, ":\n")] = '\0';
        if (strncmp(line, "virtio", 6) != 0 && strstr(line, "failover") == NULL) {
            continue;
        }

        snprintf(path, sizeof path, "/lib/modules/%.100s/%.200s", kernel.release, line);
        int file = open(path, O_RDONLY);
        if (file < 0 || syscall(SYS_finit_module, file, "", 0) != 0) {
            fail(line);
        }

        close(file);
    }

    fclose(list);
}

static struct sockaddr address(const char *text)
{
    struct sockaddr any;
    struct sockaddr_in in = { .sin_family = AF_INET };
    inet_pton(AF_INET, text, &in.sin_addr);
    memcpy(&any, &in, sizeof any);
    return any;
}

/* The addresses of QEMU's user network, which Tutti's has, too. */
static void set_up_network(void)
{
    int any = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq card = { .ifr_name = "eth0" };
    struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
    card.ifr_addr = address("10.0.2.15");
    if (ioctl(any, SIOCSIFADDR, &card) != 0) {
        fail("no network card");
    }

    card.ifr_netmask = address("255.255.255.0");
    ioctl(any, SIOCSIFNETMASK, &card);
    ioctl(any, SIOCGIFFLAGS, &card);
    card.ifr_flags |= IFF_UP;
    ioctl(any, SIOCSIFFLAGS, &card);
    route.rt_dst = address("0.0.0.0");
    route.rt_genmask = address("0.0.0.0");
    route.rt_gateway = address("10.0.2.2");
    ioctl(any, SIOCADDRT, &route);
    close(any);
}

void set_up_guest(void)
{
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    load_drivers();
    set_up_network();
    /* The card's link comes up by and by. */
    usleep(300000);
}
