using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tutti.Cpu.Kvm;

/// <summary>
/// <c>struct kvm_run</c>, the page that a vCPU shares with the kernel, as far as an x86 exit uses it. The members of its
/// union overlap; <see cref="ExitReason"/> says which one counts.
/// </summary>
[StructLayout(LayoutKind.Explicit)]
internal struct KvmRun
{
    [FieldOffset(1)]
    internal byte ImmediateExit;

    [FieldOffset(8)]
    internal KvmExitReason ExitReason;

    /// <summary>KVM_EXIT_UNKNOWN.</summary>
    [FieldOffset(32)]
    internal ulong HardwareExitReason;

    [FieldOffset(32)]
    internal FailEntryExit FailEntry;

    [FieldOffset(32)]
    internal ExceptionExit Exception;

    [FieldOffset(32)]
    internal IoExit Io;

    [FieldOffset(32)]
    internal MmioExit Mmio;

    [FieldOffset(32)]
    internal InternalErrorExit Internal;

    [FieldOffset(32)]
    internal SystemEventExit SystemEvent;

    [FieldOffset(32)]
    internal MsrExit Msr;

    [FieldOffset(32)]
    internal MemoryFaultExit MemoryFault;

    [StructLayout(LayoutKind.Sequential)]
    internal struct FailEntryExit
    {
        internal ulong HardwareEntryFailureReason;
        internal uint Cpu;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct ExceptionExit
    {
        internal uint Exception;
        internal uint ErrorCode;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct IoExit
    {
        internal const byte KVM_EXIT_IO_OUT = 1;

        internal byte Direction;
        internal byte Size;
        internal ushort Port;
        internal uint Count;

        /// <summary>Bytes from the start of the structure to Count values of Size bytes.</summary>
        internal ulong DataOffset;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct MmioExit
    {
        internal ulong PhysAddr;
        internal ulong Data;
        internal uint Len;
        internal byte IsWrite;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct InternalErrorExit
    {
        internal const uint KVM_INTERNAL_ERROR_EMULATION = 1;

        internal uint Suberror;
        internal uint Ndata;
        internal DataWords Data;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct SystemEventExit
    {
        internal uint Type;
        internal uint Ndata;
        internal DataWords Data;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct MsrExit
    {
        /// <summary>Set by us: the access shall raise #GP.</summary>
        internal byte Error;
        internal uint Reason;
        internal uint Index;
        internal ulong Data;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct MemoryFaultExit
    {
        internal ulong Flags;
        internal ulong Gpa;
        internal ulong Size;
    }

    [InlineArray(16)]
    internal struct DataWords
    {
        private ulong _first;
    }
}
