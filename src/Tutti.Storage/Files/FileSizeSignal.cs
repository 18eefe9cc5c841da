using System.Runtime.InteropServices;

namespace Tutti.Storage.Files;

/// <summary>SIGXFSZ, by which the kernel ends a process whose file would grow over its limit, unless it is caught: then the write fails with EFBIG.</summary>
internal static class FileSizeSignal
{
    private const int SIGXFSZ = 25;
    private static readonly Lazy<PosixSignalRegistration> s_registration =
        new(() => PosixSignalRegistration.Create((PosixSignal)SIGXFSZ, context => context.Cancel = true));

    /// <summary>Catches the signal from now on; later calls do nothing.</summary>
    internal static void Ignore() => _ = s_registration.Value;
}
