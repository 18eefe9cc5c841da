/* The plainest user of /dev/kvm, to compare with: runs a guest and handles each exit with as little as can be.
 * Arguments: the guest's code in hex, which begins at 0x1000 in real mode with DS based at 0xD0000000, ES and others at 0.
 * Prints the nanoseconds between the guest's first and second byte to port 0xF5. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define MEMORY_SIZE (1 << 20)
#define CODE 0x1000
#define MARK 0xF5

static void check(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    check(kvm, "/dev/kvm");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    check(vm, "KVM_CREATE_VM");
    check(ioctl(vm, KVM_SET_TSS_ADDR, 0xFFFBD000), "KVM_SET_TSS_ADDR");
    unsigned char *memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region region = { .memory_size = MEMORY_SIZE, .userspace_addr = (unsigned long)memory };
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    check(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
    check(ioctl(vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
    for (size_t i = 0; i < strlen(argv[1]) / 2; i++)
        sscanf(argv[1] + 2 * i, "%2hhx", memory + CODE + i);

    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    check(vcpu, "KVM_CREATE_VCPU");
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    volatile struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_sregs sregs;
    check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    sregs.ds.base = 0xD0000000;
    check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
    check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");

    volatile unsigned char *io = (unsigned char *)run;
    unsigned char device = 0;
    long long start = 0;
    for (;;) {
        check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        switch (run->exit_reason) {
        case KVM_EXIT_IO:
            if (run->io.port == MARK) {
                if (start != 0) {
                    printf("%lld\n", now() - start);
                    return 0;
                }
                start = now();
            } else if (run->io.direction == KVM_EXIT_IO_OUT) {
                device = io[run->io.data_offset];
            } else {
                io[run->io.data_offset] = device;
            }
            break;
        case KVM_EXIT_MMIO:
            if (run->mmio.is_write)
                device = run->mmio.data[0];
            else
                run->mmio.data[0] = device;
            break;
        default:
            fprintf(stderr, "exit %u\n", run->exit_reason);
            return 1;
        }
    }
}
