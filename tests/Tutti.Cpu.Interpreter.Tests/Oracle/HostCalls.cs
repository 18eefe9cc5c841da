using System.Runtime.InteropServices;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>What the oracle needs of the C library: pages at chosen addresses, and handlers for processor faults.</summary>
internal static unsafe partial class HostCalls
{
    public const int ProtNone = 0;
    public const int ProtRead = 1;
    public const int ProtWrite = 2;
    public const int ProtExec = 4;
    public const int MapShared = 1;
    public const int MapPrivate = 2;
    public const int MapFixed = 0x10;
    public const int MapAnonymous = 0x20;
    public const int MapFixedNoReplace = 0x10_0000;
    public const int SigIll = 4;
    public const int SigTrap = 5;
    public const int SigBus = 7;
    public const int SigFpe = 8;
    public const int SigSegv = 11;
    public const int SigSetMask = 2;
    public const int SaSigInfo = 4;
    public const int SaOnStack = 0x0800_0000;

    /// <summary>Whether programs here have the upper halves of the YMM registers.</summary>
    public static bool HasAvx => global::System.Runtime.Intrinsics.X86.Avx.IsSupported;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint mmap(nint address, nuint length, int prot, int flags, int fd, long offset);

    /// <summary>Whether the kernel gives this process pages at these addresses.</summary>
    internal static bool CanMap(ulong address, int length)
    {
        nint mapped = mmap((nint)address, (nuint)length, ProtNone, MapPrivate | MapAnonymous | MapFixedNoReplace, -1, 0);
        if (mapped != -1)
        {
            _ = munmap(mapped, (nuint)length);
        }

        return mapped == (nint)address;
    }

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int munmap(nint address, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int mprotect(nint address, nuint length, int prot);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int memfd_create(byte* name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ftruncate(int fd, long length);

    [LibraryImport("libc")]
    internal static partial int close(int fd);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sigaction(int signal, SigAction* action, SigAction* old);

    [LibraryImport("libc")]
    internal static partial int pthread_sigmask(int how, ulong* set, ulong* old);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sigaltstack(AltStack* stack, AltStack* old);

    /// <summary>The C library's struct sigaction on x86-64.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct SigAction
    {
        public nint Handler;
        public fixed ulong Mask[16];
        public int Flags;
        public nint Restorer;
    }

    /// <summary>stack_t.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct AltStack
    {
        public nint Pointer;
        public int Flags;
        public nuint Size;
    }
}
