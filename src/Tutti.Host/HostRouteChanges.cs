using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>Tells that the host's addresses, routes or policy rules have changed; not how. For one thread. Source: rtnetlink(7).</summary>
public sealed unsafe class HostRouteChanges : IDisposable
{
    private const uint Groups = LibC.RTMGRP_IPV4_IFADDR | LibC.RTMGRP_IPV4_ROUTE | LibC.RTMGRP_IPV4_RULE |
        LibC.RTMGRP_IPV6_IFADDR | LibC.RTMGRP_IPV6_ROUTE | LibC.RTMGRP_IPV6_RULE;

    private const int MaxTaken = 256;
    private readonly FileDescriptor _descriptor;

    private HostRouteChanges(FileDescriptor descriptor) => _descriptor = descriptor;

    /// <summary>To watch it: it is readable when something has changed.</summary>
    public FileDescriptor Descriptor => _descriptor;

    /// <summary>Changes from here on.</summary>
    /// <param name="errno">Why there is none.</param>
    public static HostRouteChanges? TryOpen(out int errno) =>
        HostRoutes.TryOpen(Groups, out errno) is FileDescriptor descriptor ? new HostRouteChanges(descriptor) : null;

    /// <summary>Takes what has come, up to 256 of them; whether there was any.</summary>
    public bool TryTake()
    {
        byte first;
        for (int i = 0; i < MaxTaken; i++)
        {
            // SAFETY: the kernel writes at most one byte into the local; the rest of the message is dropped.
            if (LibC.recv(_descriptor.Number, &first, 1, LibC.MSG_DONTWAIT) < 0 && Marshal.GetLastPInvokeError() != Errno.ENOBUFS)
            {
                return i > 0;
            }

            // ENOBUFS: there were more than the kernel kept, which is as good as one.
        }

        return true;
    }

    public void Dispose() => _descriptor.Dispose();
}
