using System.Runtime.InteropServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// The KVM paravirtual clock: two structures in guest memory from which a guest computes its time without an exit.
/// Source: Linux Documentation/virt/kvm/x86/msr.rst.
/// </summary>
internal sealed unsafe partial class SoftwareProcessor
{
    private const byte TscStableFlag = 1;

    /// <summary>struct pvclock_vcpu_time_info.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct SystemTimeInfo
    {
        public uint Version;
        public uint Padding;
        public ulong TscTimestamp;
        public ulong SystemTime;
        public uint TscToSystemMul;
        public sbyte TscShift;
        public byte Flags;
        public ushort Padding2;
    }

    /// <summary>struct pvclock_wall_clock.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct WallClock
    {
        public uint Version;
        public uint Seconds;
        public uint Nanoseconds;
    }

    /// <summary>MSR_KVM_SYSTEM_TIME_NEW: bit 0 enables, the rest is the structure's guest physical address.</summary>
    private void WriteKvmSystemTime()
    {
        if ((_kvmSystemTime & 1) == 0)
        {
            return;
        }

        // Nanoseconds = ((tsc - timestamp) << 1) * 2^31 >> 32: the TSC runs at 1 GHz and a factor of 1 has no 32-bit form.
        long now = Clock.Nanoseconds;
        _kvmSystemTimeVersion += 2;
        Memory.TryWrite(_kvmSystemTime & ~1UL, new SystemTimeInfo
        {
            Version = _kvmSystemTimeVersion,
            TscTimestamp = (ulong)(now + State->TscOffset),
            SystemTime = (ulong)now,
            TscToSystemMul = 0x8000_0000,
            TscShift = 1,
            Flags = TscStableFlag,
        });
    }

    /// <summary>MSR_KVM_WALL_CLOCK_NEW: writes the wall-clock time at guest time zero, once for each write of the MSR.</summary>
    private void WriteKvmWallClock()
    {
        if (_kvmWallClock == 0)
        {
            return;
        }

        long ticks = Clock.PowerOnTime.UtcTicks - DateTimeOffset.UnixEpoch.UtcTicks;
        Memory.TryWrite(_kvmWallClock, new WallClock
        {
            Version = 2,
            Seconds = (uint)(ticks / TimeSpan.TicksPerSecond),
            Nanoseconds = (uint)(ticks % TimeSpan.TicksPerSecond * 100),
        });
    }
}
