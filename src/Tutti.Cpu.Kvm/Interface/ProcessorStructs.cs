using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tutti.X86;

namespace Tutti.Cpu.Kvm;

/// <summary><c>struct kvm_regs</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmRegs
{
    internal ulong Rax;
    internal ulong Rbx;
    internal ulong Rcx;
    internal ulong Rdx;
    internal ulong Rsi;
    internal ulong Rdi;
    internal ulong Rsp;
    internal ulong Rbp;
    internal HighRegisters R8ToR15;
    internal ulong Rip;
    internal ulong Rflags;

    [InlineArray(8)]
    internal struct HighRegisters
    {
        private ulong _r8;
    }
}

/// <summary><c>struct kvm_segment</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmSegment
{
    internal ulong Base;
    internal uint Limit;
    internal ushort Selector;
    internal byte Type;
    internal byte Present;
    internal byte Dpl;
    internal byte Db;
    internal byte S;
    internal byte L;
    internal byte G;
    internal byte Avl;
    internal byte Unusable;
    internal byte Padding;
}

/// <summary><c>struct kvm_dtable</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmDtable
{
    internal ulong Base;
    internal ushort Limit;
    internal ushort Padding0;
    internal ushort Padding1;
    internal ushort Padding2;
}

/// <summary><c>struct kvm_sregs</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmSregs
{
    internal KvmSegment Cs;
    internal KvmSegment Ds;
    internal KvmSegment Es;
    internal KvmSegment Fs;
    internal KvmSegment Gs;
    internal KvmSegment Ss;
    internal KvmSegment Tr;
    internal KvmSegment Ldt;
    internal KvmDtable Gdt;
    internal KvmDtable Idt;
    internal ulong Cr0;
    internal ulong Cr2;
    internal ulong Cr3;
    internal ulong Cr4;
    internal ulong Cr8;
    internal ulong Efer;
    internal ulong ApicBase;
    internal InterruptBits InterruptBitmap;

    [InlineArray(4)]
    internal struct InterruptBits
    {
        private ulong _first;
    }
}

/// <summary><c>struct kvm_msr_entry</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmMsrEntry
{
    internal uint Index;
    internal uint Reserved;
    internal ulong Data;
}

/// <summary><c>struct kvm_cpuid_entry2</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmCpuidEntry2
{
    internal const uint KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1;

    internal uint Function;
    internal uint Index;
    internal uint Flags;
    internal uint Eax;
    internal uint Ebx;
    internal uint Ecx;
    internal uint Edx;
    internal uint Padding0;
    internal uint Padding1;
    internal uint Padding2;

    internal static KvmCpuidEntry2 From(in CpuidEntry entry) => new()
    {
        Function = entry.Leaf,
        Index = entry.Subleaf,
        Flags = entry.HasSubleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        Eax = entry.Eax,
        Ebx = entry.Ebx,
        Ecx = entry.Ecx,
        Edx = entry.Edx,
    };

    internal readonly CpuidEntry ToEntry() =>
        new(Function, Index, (Flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0, Eax, Ebx, Ecx, Edx);
}

/// <summary><c>struct kvm_vcpu_events</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
internal struct KvmVcpuEvents
{
    internal const uint KVM_VCPUEVENT_VALID_NMI_PENDING = 1;
    internal const uint KVM_VCPUEVENT_VALID_SHADOW = 4;
    internal const byte KVM_X86_SHADOW_INT_MOV_SS = 1;
    internal const byte KVM_X86_SHADOW_INT_STI = 2;

    internal byte ExceptionInjected;
    internal byte ExceptionNr;
    internal byte ExceptionHasErrorCode;
    internal byte ExceptionPending;
    internal uint ExceptionErrorCode;
    internal byte InterruptInjected;
    internal byte InterruptNr;
    internal byte InterruptSoft;
    internal byte InterruptShadow;
    internal byte NmiInjected;
    internal byte NmiPending;
    internal byte NmiMasked;
    internal byte NmiPad;
    internal uint SipiVector;
    internal uint Flags;
}

/// <summary><c>struct kvm_debugregs</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = 128)]
internal struct KvmDebugregs
{
    internal Breakpoints Db;
    internal ulong Dr6;
    internal ulong Dr7;
    internal ulong Flags;

    [InlineArray(4)]
    internal struct Breakpoints
    {
        private ulong _first;
    }
}

/// <summary><c>struct kvm_xcrs</c> with its one register.</summary>
[StructLayout(LayoutKind.Sequential, Size = 392)]
internal struct KvmXcrs
{
    internal uint NrXcrs;
    internal uint Flags;
    internal uint Xcr;
    internal uint Reserved;
    internal ulong Value;
}

/// <summary><c>struct kvm_mp_state</c>.</summary>
internal enum KvmMpState : uint
{
    RUNNABLE = 0,
    UNINITIALIZED = 1,
    INIT_RECEIVED = 2,
    HALTED = 3,
    SIPI_RECEIVED = 4,
}

/// <summary><c>struct kvm_msrs</c> with one entry.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmMsr
{
    internal uint Count;
    internal uint Pad;
    internal KvmMsrEntry Entry;
}
