using System.Runtime.InteropServices;
using Tutti.Memory;

namespace Tutti.Cpu.Software;

/// <summary>
/// The KVM paravirtual clock: two structures in guest memory from which a guest computes its time without an exit. Source: Linux
/// Documentation/virt/kvm/x86/msr.rst.
/// </summary>
internal sealed unsafe class ParavirtualClock
{
    private const byte TscStableFlag = 1;

    private readonly CpuState* _state;
    private readonly GuestMemory _memory;
    private readonly IGuestClock _clock;

    private ulong _systemTime;
    private ulong _wallClock;
    private uint _systemTimeVersion;

    public ParavirtualClock(CpuState* state, GuestMemory memory, IGuestClock clock)
    {
        _state = state;
        _memory = memory;
        _clock = clock;
    }

    /// <summary>MSR_KVM_SYSTEM_TIME_NEW: bit 0 enables, the rest is the structure's guest physical address.</summary>
    public ulong SystemTime
    {
        get => _systemTime;
        set
        {
            _systemTime = value;
            Refresh();
        }
    }

    /// <summary>MSR_KVM_WALL_CLOCK_NEW: the guest physical address of the structure.</summary>
    public ulong WallClock
    {
        get => _wallClock;
        set
        {
            _wallClock = value;
            WriteWallClock();
        }
    }

    public void Reset()
    {
        _systemTime = 0;
        _wallClock = 0;
    }

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
    internal struct WallClockTime
    {
        public uint Version;
        public uint Seconds;
        public uint Nanoseconds;
    }

    /// <summary>Writes the structure anew: its address or the TSC has been set.</summary>
    public void Refresh()
    {
        if ((_systemTime & 1) == 0)
        {
            return;
        }

        // Nanoseconds = ((tsc - timestamp) << 1) * 2^31 >> 32: the TSC runs at 1 GHz and a factor of 1 has no 32-bit form.
        long now = _clock.Nanoseconds;
        _systemTimeVersion += 2;
        _memory.TryWrite(_systemTime & ~1UL, new SystemTimeInfo
        {
            Version = _systemTimeVersion,
            TscTimestamp = (ulong)(now + _state->TscOffset),
            SystemTime = (ulong)now,
            TscToSystemMul = 0x8000_0000,
            TscShift = 1,
            Flags = TscStableFlag,
        });
    }

    /// <summary>Writes the wall-clock time at guest time zero, once for each write of the MSR.</summary>
    private void WriteWallClock()
    {
        if (_wallClock == 0)
        {
            return;
        }

        long ticks = _clock.PowerOnTime.UtcTicks - DateTimeOffset.UnixEpoch.UtcTicks;
        _memory.TryWrite(_wallClock, new WallClockTime
        {
            Version = 2,
            Seconds = (uint)(ticks / TimeSpan.TicksPerSecond),
            Nanoseconds = (uint)(ticks % TimeSpan.TicksPerSecond * 100),
        });
    }
}
