using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Tutti.Network.Tests.Tap;

/// <summary>A network namespace: a Linux stack of its own, gone with this object.</summary>
internal sealed class NetworkNamespace : IDisposable
{
    private const int NewNetwork = 0x4000_0000;

    public NetworkNamespace(string name)
    {
        Name = name;
        Command.Run("ip", "netns", "add", name);
    }

    public string Name { get; }

    /// <summary>Runs a program in it.</summary>
    public string Run(string program, params string[] arguments) => Command.Run("ip", ["netns", "exec", Name, program, .. arguments]);

    /// <summary>Runs work on a thread of the namespace; sockets that it makes stay there, whoever uses them.</summary>
    public T Do<T>(Func<T> work)
    {
        T? result = default;
        Exception? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                using SafeFileHandle file = File.OpenHandle($"/run/netns/{Name}");
                if (SetNamespace(file, NewNetwork) != 0)
                {
                    throw new InvalidOperationException($"setns: {Marshal.GetLastPInvokeErrorMessage()}");
                }

                result = work();
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        return failure == null ? result! : throw new InvalidOperationException($"In {Name}: {failure.Message}", failure);
    }

    public void Dispose() => Command.Run("ip", "netns", "del", Name);

#pragma warning disable SYSLIB1054 // The generated code would need unsafe blocks, which tests have no other use for.
    [DllImport("libc", EntryPoint = "setns", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SetNamespace(SafeFileHandle file, int kind);
#pragma warning restore SYSLIB1054
}
