using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>Starting and tracing processes. Sources: posix_spawn(3), ptrace(2), waitpid(2), sched_setaffinity(2), <c>asm/ptrace-abi.h</c>.</summary>
internal static unsafe partial class LibC
{
    internal const nint PTRACE_POKEUSR = 6;
    internal const nint PTRACE_CONT = 7;
    internal const nint PTRACE_GETREGS = 12;
    internal const nint PTRACE_SETREGS = 13;
    internal const nint PTRACE_SYSEMU = 31;
    internal const nint PTRACE_GETSIGINFO = 0x4202;
    internal const nint PTRACE_GETREGSET = 0x4204;
    internal const nint PTRACE_SETREGSET = 0x4205;
    internal const nint PTRACE_SEIZE = 0x4206;
    internal const nint PTRACE_INTERRUPT = 0x4207;
    internal const nint PTRACE_O_TRACESYSGOOD = 1;
    internal const nint PTRACE_O_EXITKILL = 1 << 20;

    /// <summary>Offset of DR0 in <c>struct user</c>.</summary>
    internal const nint USER_DEBUGREG = 848;

    internal const nint NT_X86_XSTATE = 0x202;

    /// <summary>By number: the C library's ptrace is variadic, and gives what it peeks as its result.</summary>
    internal const nint SYS_ptrace = 101;

    internal const int WALL = 0x40000000;

    internal const int SIGKILL = 9;
    internal const int SIGUSR1 = 10;

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int waitpid(int pid, int* wstatus, int options);

    /// <summary>Gives the error's number.</summary>
    [LibraryImport(Library)]
    internal static partial int posix_spawn(int* pid, byte* path, void* file_actions, void* attrp, byte** argv, byte** envp);

    [LibraryImport(Library)]
    internal static partial int posix_spawn_file_actions_init(void* file_actions);

    [LibraryImport(Library)]
    internal static partial int posix_spawn_file_actions_destroy(void* file_actions);

    [LibraryImport(Library)]
    internal static partial int posix_spawn_file_actions_adddup2(void* file_actions, int fildes, int newfildes);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int sched_setaffinity(int pid, nuint cpusetsize, void* mask);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int sched_getaffinity(int pid, nuint cpusetsize, void* mask);

    [LibraryImport(Library)]
    internal static partial int sched_getcpu();
}

/// <summary><c>struct iovec</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct TraceVector
{
    internal void* Base;
    internal nuint Length;
}
