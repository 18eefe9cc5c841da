using System.Runtime.InteropServices;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>Runs tested code on the host's own processor.</summary>
internal sealed unsafe class NativeRunner : IDisposable
{
    private static readonly int[] FaultSignals =
        [HostCalls.SigIll, HostCalls.SigTrap, HostCalls.SigBus, HostCalls.SigFpe, HostCalls.SigSegv];

    private const int AltStackSize = 128 * 1024;
    private readonly Trampoline _trampoline = Trampoline.Emit();
    private readonly delegate* unmanaged<void> _entry;
    private readonly nint _altStack;
    private readonly HostCalls.SigAction[] _old = new HostCalls.SigAction[FaultSignals.Length];

    public NativeRunner()
    {
        MapPages();
        _trampoline.Bytes.CopyTo(new Span<byte>((void*)ArenaLayout.CodeAlias, ArenaLayout.PageSize));
        _entry = (delegate* unmanaged<void>)_trampoline.Entry;
        _altStack = Marshal.AllocHGlobal(AltStackSize);
    }

    /// <summary>The record page.</summary>
    public static byte* Record => (byte*)ArenaLayout.Record;

    public static ref ulong Field(int offset) => ref *(ulong*)(Record + offset);

    /// <summary>Says where the next run begins, and whether in 64-bit mode or in 32-bit compatibility mode.</summary>
    public static void SetTarget(ulong address, int bits)
    {
        bool isLong = bits == 64;
        Field(RecordLayout.Target) = address | ((ulong)(isLong ? Trampoline.LongCode : Trampoline.LegacyCode) << 32);
        Field(RecordLayout.DataSelector) = isLong ? 0UL : Trampoline.UserData;
    }

    /// <summary>Where pad code jumps to.</summary>
    public ulong PadExit(int pad) => _trampoline.PadExits[pad];

    /// <summary>Bytes of tested code as the host writes them; at most two pages.</summary>
    public static Span<byte> Code => new((void*)(ArenaLayout.CodeAlias + ArenaLayout.PageSize), 2 * ArenaLayout.PageSize);

    public static Span<byte> Page(ulong address) => new((void*)address, ArenaLayout.PageSize);

    /// <summary>
    /// Takes this thread into a state in which tested code may run on it: other signals wait, faults come to our handler on a
    /// stack of its own. Undone by <see cref="Leave"/>, on the same thread.
    /// </summary>
    public ThreadState Enter()
    {
        ThreadState state = default;
        ulong* block = stackalloc ulong[16];
        new Span<ulong>(block, 16).Fill(ulong.MaxValue);
        foreach (int signal in FaultSignals)
        {
            block[0] &= ~(1UL << (signal - 1));
        }

        HostCalls.pthread_sigmask(HostCalls.SigSetMask, block, state.Mask);
        HostCalls.AltStack stack = new() { Pointer = _altStack, Size = AltStackSize };
        Check(HostCalls.sigaltstack(&stack, &state.Stack), "sigaltstack");
        for (int i = 0; i < FaultSignals.Length; i++)
        {
            HostCalls.SigAction action;
            Check(HostCalls.sigaction(FaultSignals[i], null, &action), "sigaction");
            _old[i] = action;
            Field(RecordLayout.OldHandlers + (8 * FaultSignals[i])) = (ulong)action.Handler;
            action.Handler = (nint)_trampoline.SignalHandler;
            action.Flags |= HostCalls.SaSigInfo | HostCalls.SaOnStack;
            Check(HostCalls.sigaction(FaultSignals[i], &action, null), "sigaction");
        }

        return state;
    }

    public void Leave(ThreadState state)
    {
        for (int i = 0; i < FaultSignals.Length; i++)
        {
            fixed (HostCalls.SigAction* action = &_old[i])
            {
                Check(HostCalls.sigaction(FaultSignals[i], action, null), "sigaction");
            }
        }

        Check(HostCalls.sigaltstack(&state.Stack, null), "sigaltstack");
        HostCalls.pthread_sigmask(HostCalls.SigSetMask, state.Mask, null);
    }

    /// <summary>Runs what the record page asks for.</summary>
    public void Run() => _entry();

    public void Dispose()
    {
        HostCalls.munmap((nint)ArenaLayout.Base, ArenaLayout.Size);
        if (ArenaLayout.HasLowData)
        {
            HostCalls.munmap((nint)ArenaLayout.LowData, 2 * ArenaLayout.PageSize);
        }

        Marshal.FreeHGlobal(_altStack);
    }

    private static void MapPages()
    {
        nint whole = HostCalls.mmap((nint)ArenaLayout.Base, ArenaLayout.Size, HostCalls.ProtNone, HostCalls.MapPrivate | HostCalls.MapAnonymous | HostCalls.MapFixedNoReplace, -1, 0);
        Check(whole == (nint)ArenaLayout.Base ? 0 : -1, "mmap at a fixed address");
        int fd;
        fixed (byte* name = "tutti-oracle\0"u8)
        {
            fd = HostCalls.memfd_create(name, 1);
        }

        Check(fd, "memfd_create");
        const int Pages = 3 * ArenaLayout.PageSize;
        Check(HostCalls.ftruncate(fd, Pages), "ftruncate");
        Map(ArenaLayout.CodeAlias, Pages, HostCalls.ProtRead | HostCalls.ProtWrite, HostCalls.MapShared, fd);
        Map(ArenaLayout.Trampoline, Pages, HostCalls.ProtRead | HostCalls.ProtExec, HostCalls.MapShared, fd);
        HostCalls.close(fd);
        foreach (ulong page in (ulong[])[ArenaLayout.Record, ArenaLayout.ReadOnly, .. ArenaLayout.WritablePages(32)])
        {
            Map(page, ArenaLayout.PageSize, HostCalls.ProtRead | HostCalls.ProtWrite, HostCalls.MapPrivate | HostCalls.MapAnonymous, -1);
            Page(page).Fill(0x5A);
        }

        Page(ArenaLayout.Record).Clear();
        Check(HostCalls.mprotect((nint)ArenaLayout.ReadOnly, ArenaLayout.PageSize, HostCalls.ProtRead), "mprotect");
    }

    private static void Map(ulong address, int length, int prot, int flags, int fd)
    {
        nint mapped = HostCalls.mmap((nint)address, (nuint)length, prot, flags | HostCalls.MapFixed, fd, 0);
        Check(mapped == (nint)address ? 0 : -1, "mmap");
    }

    private static void Check(int result, string call)
    {
        if (result < 0)
        {
            throw new InvalidOperationException($"{call} failed with errno {Marshal.GetLastPInvokeError()}.");
        }
    }

    /// <summary>What <see cref="Enter"/> found on the thread.</summary>
    internal struct ThreadState
    {
        public fixed ulong Mask[16];
        public HostCalls.AltStack Stack;
    }
}
