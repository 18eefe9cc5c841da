using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace Tutti.Host;

/// <summary>
/// The time-stamp counter as a clock: emitted code can read it, as it cannot ask the kernel. Used only where it counts at one rate for
/// ever and the kernel itself tells the time by it. Source: AMD APM volume 2, "Time-Stamp Counter"; CPUID 8000_0007h.
/// </summary>
public static unsafe class HostCounter
{
    /// <summary>Nanoseconds between the two readings that the rate is made of: their error, some 20 ns each, is 2 ppm of this.</summary>
    private const long Baseline = 20_000_000;

    private const int Readings = 8;
    private const int InvariantCounterBit = 8;
    private const string ClockSource = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

    private static readonly Lock Gate = new();

    /// <summary>LFENCE, RDTSC, SHL RDX, 32; OR RAX, RDX; RET.</summary>
    private static readonly byte[] Code = [0x0F, 0xAE, 0xE8, 0x0F, 0x31, 0x48, 0xC1, 0xE2, 0x20, 0x48, 0x09, 0xD0, 0xC3];

    /// <summary>Kept for the process's life, as the function in it is.</summary>
    private static readonly ExecutableMapping? Mapping = MakeCode();

    private static readonly delegate* unmanaged[SuppressGCTransition]<ulong> ReadCounter = (delegate* unmanaged[SuppressGCTransition]<ulong>)(Mapping?.ExecuteAddress ?? 0);

    private static readonly (ulong Counter, long Time) First = Mapping == null ? default : ReadBoth();

    private static ulong _rate;

    /// <summary>Whether the counter tells the time; asked early, its rate is known the sooner.</summary>
    public static bool IsReliable => ReadCounter != null;

    /// <summary>The counter now. Only where <see cref="IsReliable"/>.</summary>
    // SAFETY: the function reads a register of the processor, and its code stays for good.
    public static ulong Value => ReadCounter();

    /// <summary>
    /// Nanoseconds in a tick of the counter, times 2^64; the same for the process's life. Waits up to 20 ms the first time. 0 where the
    /// counter does not run faster than 1 GHz.
    /// </summary>
    public static ulong Rate
    {
        get
        {
            lock (Gate)
            {
                if (_rate == 0)
                {
                    while (HostTime.Nanoseconds - First.Time < Baseline)
                    {
                        Thread.Sleep(1);
                    }

                    (ulong counter, long time) = ReadBoth();
                    ulong ticks = counter - First.Counter;
                    ulong nanoseconds = (ulong)(time - First.Time);
                    _rate = nanoseconds >= ticks ? 0 : (ulong)(((UInt128)nanoseconds << 64) / ticks);
                }

                return _rate;
            }
        }
    }

    /// <summary>Counter and CLOCK_MONOTONIC at one time: of several readings the one that took least.</summary>
    public static (ulong Counter, long Time) ReadBoth()
    {
        (ulong Counter, long Time) best = default;
        ulong least = ulong.MaxValue;
        for (int i = 0; i < Readings; i++)
        {
            ulong before = Value;
            long time = HostTime.Nanoseconds;
            ulong took = Value - before;
            if (took < least)
            {
                least = took;
                best = (before + (took / 2), time);
            }
        }

        return best;
    }

    private static ExecutableMapping? MakeCode()
    {
        if (!X86Base.X64.IsSupported || (uint)X86Base.CpuId(unchecked((int)0x8000_0000), 0).Eax < 0x8000_0007
            || ((X86Base.CpuId(unchecked((int)0x8000_0007), 0).Edx >> InvariantCounterBit) & 1) == 0)
        {
            return null;
        }

        try
        {
            // Else the kernel knows that it stops, differs between processors, or changes with the machine that this one runs on.
            if (File.ReadAllText(ClockSource).Trim() != "tsc")
            {
                return null;
            }

            var mapping = new ExecutableMapping(Code.Length);
            Marshal.Copy(Code, 0, mapping.WriteAddress, Code.Length);
            return mapping;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or HostException)
        {
            return null;
        }
    }
}
