using System.Runtime.InteropServices;
using Tutti.Host;

namespace Tutti.Cpu.Kvm;

/// <summary>The one system call that KVM is driven by.</summary>
internal static unsafe partial class KvmCalls
{
    internal const int EPERM = 1;
    internal const int ENOENT = 2;
    internal const int EINTR = 4;
    internal const int ENXIO = 6;
    internal const int E2BIG = 7;
    internal const int EAGAIN = 11;
    internal const int ENOMEM = 12;
    internal const int EACCES = 13;
    internal const int EBUSY = 16;
    internal const int ENODEV = 19;
    internal const int ENFILE = 23;
    internal const int EMFILE = 24;

    /// <summary>Variadic in C; one argument is passed alike on x86-64.</summary>
    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ioctl(int fd, nuint request, void* arg);

    /// <summary>Makes a call whose argument is a number.</summary>
    /// <exception cref="HostException">The kernel refuses.</exception>
    internal static int Call(FileDescriptor fd, string name, uint request, nuint argument = 0) =>
        Call(fd, name, request, (void*)argument);

    /// <summary>Makes a call whose argument is a structure of the size that the request wants.</summary>
    /// <exception cref="HostException">The kernel refuses.</exception>
    /// <exception cref="ObjectDisposedException">The descriptor is closed, and its number may be another's by now.</exception>
    internal static int Call(FileDescriptor fd, string name, uint request, void* argument)
    {
        bool isHeld = false;
        try
        {
            fd.DangerousAddRef(ref isHeld);
            while (true)
            {
                // SAFETY: callers pass a pointer to what the request reads and writes, alive for the call.
                int result = ioctl(fd.Number, request, argument);
                if (result >= 0)
                {
                    return result;
                }

                HostException error = HostException.FromLastError(name);
                if (error.Errno != EINTR)
                {
                    throw error;
                }
            }
        }
        finally
        {
            if (isHeld)
            {
                fd.DangerousRelease();
            }
        }
    }
}
