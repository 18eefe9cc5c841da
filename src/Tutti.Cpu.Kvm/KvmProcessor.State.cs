using System.Buffers.Binary;
using System.Globalization;
using Tutti.Host;
using Tutti.X86;
using static Tutti.Cpu.Kvm.KvmCalls;
using static Tutti.Cpu.Kvm.KvmIoctl;

namespace Tutti.Cpu.Kvm;

/// <summary>The architectural state, out of the kernel and back.</summary>
internal sealed unsafe partial class KvmProcessor
{
    private const int FxStateSize = 512;

    /// <summary>What the legacy area holds ahead of bytes that software may use as it likes.</summary>
    private const int FxStateUsed = 416;

    private const int XstateBvOffset = 512;
    private const ulong LegacyComponents = 3;

    /// <summary>MSRs that the structures for registers hold, or that follow from them.</summary>
    private static readonly uint[] MsrsWithFields = [Msr.Efer, Msr.FsBase, Msr.GsBase, Msr.ApicBase];

    public void GetRegisters(ProcessorRegisters registers)
    {
        ArgumentNullException.ThrowIfNull(registers);
        KvmRegs regs = default;
        _ = Call(_vcpu, nameof(KVM_GET_REGS), KVM_GET_REGS, &regs);
        FromKvm(registers, regs);
        KvmSregs sregs = default;
        _ = Call(_vcpu, nameof(KVM_GET_SREGS), KVM_GET_SREGS, &sregs);
        FromKvm(registers, sregs);
        KvmDebugregs debug = default;
        _ = Call(_vcpu, nameof(KVM_GET_DEBUGREGS), KVM_GET_DEBUGREGS, &debug);
        ((ReadOnlySpan<ulong>)debug.Db).CopyTo(registers.Dr);
        registers.Dr[6] = debug.Dr6;
        registers.Dr[7] = debug.Dr7;
        GetExtendedState(registers);
        GetEvents(registers);
        registers.Msrs.Clear();
        foreach (uint msr in _model.Msrs)
        {
            if (!MsrsWithFields.Contains(msr) && TryReadMsr(msr, out ulong value))
            {
                registers.Msrs[msr] = value;
            }
        }
    }

    /// <exception cref="HostException">KVM refuses the state.</exception>
    /// <exception cref="ArgumentException">KVM refuses the value of an MSR.</exception>
    public void SetRegisters(ProcessorRegisters registers)
    {
        ArgumentNullException.ThrowIfNull(registers);
        KvmSregs sregs = default;
        _ = Call(_vcpu, nameof(KVM_GET_SREGS), KVM_GET_SREGS, &sregs);
        ToKvm(registers, ref sregs);
        _ = Call(_vcpu, nameof(KVM_SET_SREGS), KVM_SET_SREGS, &sregs);
        KvmRegs regs = ToKvm(registers);
        _ = Call(_vcpu, nameof(KVM_SET_REGS), KVM_SET_REGS, &regs);
        SetExtendedState(registers);
        foreach ((uint msr, ulong value) in registers.Msrs)
        {
            SetMsr(msr, value);
        }

        KvmDebugregs debug = new() { Dr6 = registers.Dr[6], Dr7 = registers.Dr[7] };
        registers.Dr.AsSpan(0, 4).CopyTo(debug.Db);
        _ = Call(_vcpu, nameof(KVM_SET_DEBUGREGS), KVM_SET_DEBUGREGS, &debug);
        SetEvents(registers);
    }

    /// <exception cref="ArgumentException">KVM has no such MSR.</exception>
    internal ulong ReadMsr(uint msr) =>
        TryReadMsr(msr, out ulong value) ? value : throw new ArgumentException(Invariant($"KVM has no MSR 0x{msr:x}."), nameof(msr));

    /// <summary>Whether the kernel (5.16 and later) lets the time-stamp counter's offset be set.</summary>
    internal bool HasTscOffset
    {
        get
        {
            KvmDeviceAttr attribute = TscOffsetAttribute(null);
            return ioctl(_fd, KVM_HAS_DEVICE_ATTR, &attribute) == 0;
        }
    }

    /// <summary>What the guest's time-stamp counter is ahead of the host's, in the guest's ticks.</summary>
    /// <exception cref="HostException">The kernel has no such offset.</exception>
    internal long TscOffset
    {
        get
        {
            long offset;
            KvmDeviceAttr attribute = TscOffsetAttribute(&offset);
            _ = Call(_vcpu, nameof(KVM_GET_DEVICE_ATTR), KVM_GET_DEVICE_ATTR, &attribute);
            return offset;
        }

        set
        {
            KvmDeviceAttr attribute = TscOffsetAttribute(&value);
            _ = Call(_vcpu, nameof(KVM_SET_DEVICE_ATTR), KVM_SET_DEVICE_ATTR, &attribute);
        }
    }

    /// <summary>Lets the guest's watchdogs know that it was stopped; a guest without the paravirtual clock can't be told.</summary>
    internal void NotifyClockStopped() => _ = ioctl(_fd, KVM_KVMCLOCK_CTRL, null);

    /// <param name="offset">The 8 bytes that the kernel reads or writes; null to ask whether there is one.</param>
    private static KvmDeviceAttr TscOffsetAttribute(long* offset) => new()
    {
        Group = KvmDeviceAttr.KVM_VCPU_TSC_CTRL,
        Attr = KvmDeviceAttr.KVM_VCPU_TSC_OFFSET,
        Addr = offset,
    };

    private static void FromKvm(ProcessorRegisters to, in KvmRegs from)
    {
        ulong[] gpr = to.Gpr;
        (gpr[0], gpr[1], gpr[2], gpr[3]) = (from.Rax, from.Rcx, from.Rdx, from.Rbx);
        (gpr[4], gpr[5], gpr[6], gpr[7]) = (from.Rsp, from.Rbp, from.Rsi, from.Rdi);
        ((ReadOnlySpan<ulong>)from.R8ToR15).CopyTo(gpr.AsSpan(8));
        to.Rip = from.Rip;
        to.Rflags = from.Rflags;
    }

    private static KvmRegs ToKvm(ProcessorRegisters from)
    {
        ulong[] gpr = from.Gpr;
        KvmRegs to = new()
        {
            Rax = gpr[0],
            Rcx = gpr[1],
            Rdx = gpr[2],
            Rbx = gpr[3],
            Rsp = gpr[4],
            Rbp = gpr[5],
            Rsi = gpr[6],
            Rdi = gpr[7],
            Rip = from.Rip,
            Rflags = from.Rflags,
        };
        gpr.AsSpan(8).CopyTo(to.R8ToR15);
        return to;
    }

    private static void FromKvm(ProcessorRegisters to, in KvmSregs from)
    {
        SegmentRegister[] segments = to.Segments;
        (segments[0], segments[1], segments[2]) = (from.Es.ToRegister(), from.Cs.ToRegister(), from.Ss.ToRegister());
        (segments[3], segments[4], segments[5]) = (from.Ds.ToRegister(), from.Fs.ToRegister(), from.Gs.ToRegister());
        to.Tr = from.Tr.ToRegister();
        to.Ldtr = from.Ldt.ToRegister();
        (to.GdtBase, to.GdtLimit) = (from.Gdt.Base, from.Gdt.Limit);
        (to.IdtBase, to.IdtLimit) = (from.Idt.Base, from.Idt.Limit);
        (to.Cr0, to.Cr2, to.Cr3, to.Cr4) = (from.Cr0, from.Cr2, from.Cr3, from.Cr4);
        (to.Cr8, to.Efer) = (from.Cr8, from.Efer);
    }

    /// <summary>Replaces all but the local APIC's base and the interrupt on its way, which belong to the controllers.</summary>
    private static void ToKvm(ProcessorRegisters from, ref KvmSregs to)
    {
        SegmentRegister[] segments = from.Segments;
        (to.Es, to.Cs, to.Ss) = (segments[0].ToKvm(), segments[1].ToKvm(), segments[2].ToKvm());
        (to.Ds, to.Fs, to.Gs) = (segments[3].ToKvm(), segments[4].ToKvm(), segments[5].ToKvm());
        to.Tr = ToTaskRegister(from.Tr);
        to.Ldt = from.Ldtr.ToKvm();
        to.Gdt = new KvmDtable { Base = from.GdtBase, Limit = from.GdtLimit };
        to.Idt = new KvmDtable { Base = from.IdtBase, Limit = from.IdtLimit };
        (to.Cr0, to.Cr2, to.Cr3, to.Cr4) = (from.Cr0, from.Cr2, from.Cr3, from.Cr4);
        (to.Cr8, to.Efer) = (from.Cr8, from.Efer);
    }

    /// <summary>The task register can't hold nothing, and VT-x enters no guest with one that does: then it is as after reset.</summary>
    private static KvmSegment ToTaskRegister(in SegmentRegister tr) =>
        ((tr.Attributes & SegmentAttributes.Present) != 0 ? tr : tr with { Attributes = SegmentAttributes.Present | SystemDescriptorType.BusyTss }).ToKvm();

    private void GetExtendedState(ProcessorRegisters registers)
    {
        byte[] state = new byte[_model.XsaveSize];
        ReadXsave(state);
        state.AsSpan(0, FxStateSize).CopyTo(registers.FxState);
        registers.ExtendedState = state;
        KvmXcrs xcrs = default;
        _ = Call(_vcpu, nameof(KVM_GET_XCRS), KVM_GET_XCRS, &xcrs);
        // A host without XSAVE has none; XCR0 is then what it would be after reset.
        registers.Xcr0 = xcrs.NrXcrs > 0 ? xcrs.Value : 1;
    }

    private void SetExtendedState(ProcessorRegisters registers)
    {
        KvmXcrs current = default;
        _ = Call(_vcpu, nameof(KVM_GET_XCRS), KVM_GET_XCRS, &current);
        if (current.NrXcrs > 0)
        {
            KvmXcrs xcrs = new() { NrXcrs = 1, Value = registers.Xcr0 };
            _ = Call(_vcpu, nameof(KVM_SET_XCRS), KVM_SET_XCRS, &xcrs);
        }

        byte[] state = new byte[_model.XsaveSize];
        if (registers.ExtendedState is { } extended)
        {
            if (extended.AsSpan(Math.Min(extended.Length, state.Length)).ContainsAnyExcept((byte)0))
            {
                throw new ArgumentException(Invariant($"The extended state has {extended.Length} bytes; this host's processor takes {state.Length}."), nameof(registers));
            }

            extended.AsSpan(0, Math.Min(extended.Length, state.Length)).CopyTo(state);
        }

        registers.FxState.AsSpan(0, FxStateUsed).CopyTo(state);
        Span<byte> present = state.AsSpan(XstateBvOffset, sizeof(ulong));
        BinaryPrimitives.WriteUInt64LittleEndian(present, BinaryPrimitives.ReadUInt64LittleEndian(present) | LegacyComponents);
        // SAFETY: the kernel reads as many bytes as it said that the state has, and no fewer are here.
        fixed (byte* xsave = state)
        {
            _ = Call(_vcpu, nameof(KVM_SET_XSAVE), KVM_SET_XSAVE, xsave);
        }
    }

    private void ReadXsave(byte[] state)
    {
        // SAFETY: the kernel writes as many bytes as it said that the state has: 4096 for the older call.
        fixed (byte* xsave = state)
        {
            _ = _model.HasXsave2
                ? Call(_vcpu, nameof(KVM_GET_XSAVE2), KVM_GET_XSAVE2, xsave)
                : Call(_vcpu, nameof(KVM_GET_XSAVE), KVM_GET_XSAVE, xsave);
        }
    }

    private void GetEvents(ProcessorRegisters registers)
    {
        KvmVcpuEvents events = default;
        _ = Call(_vcpu, nameof(KVM_GET_VCPU_EVENTS), KVM_GET_VCPU_EVENTS, &events);
        registers.InterruptShadow = events.InterruptShadow != 0;
        registers.NmiBlocked = events.NmiMasked != 0;
        // One that was on its way when the vCPU left goes back to wait.
        registers.NmiPending = (events.NmiPending | events.NmiInjected) != 0;
        registers.NmiBlocked &= events.NmiInjected == 0;
        KvmMpState activity;
        _ = Call(_vcpu, nameof(KVM_GET_MP_STATE), KVM_GET_MP_STATE, &activity);
        registers.Activity = activity switch
        {
            KvmMpState.HALTED => ProcessorActivity.Halted,
            KvmMpState.UNINITIALIZED or KvmMpState.INIT_RECEIVED => ProcessorActivity.WaitForStartup,
            _ => ProcessorActivity.Running,
        };
    }

    private void SetEvents(ProcessorRegisters registers)
    {
        KvmVcpuEvents current = default;
        _ = Call(_vcpu, nameof(KVM_GET_VCPU_EVENTS), KVM_GET_VCPU_EVENTS, &current);
        // The local APIC has counted an interrupt on its way as taken: it would never come again.
        bool keepsInterrupt = current.InterruptInjected != 0 && current.InterruptSoft == 0 && (registers.Rflags & Rflags.Interrupt) != 0;
        KvmVcpuEvents events = new()
        {
            InterruptInjected = keepsInterrupt ? (byte)1 : (byte)0,
            InterruptNr = keepsInterrupt ? current.InterruptNr : (byte)0,
            Flags = KvmVcpuEvents.KVM_VCPUEVENT_VALID_NMI_PENDING | KvmVcpuEvents.KVM_VCPUEVENT_VALID_SHADOW,
            InterruptShadow = registers.InterruptShadow ? KvmVcpuEvents.KVM_X86_SHADOW_INT_STI : (byte)0,
            NmiMasked = registers.NmiBlocked ? (byte)1 : (byte)0,
            NmiPending = registers.NmiPending ? (byte)1 : (byte)0,
        };
        _ = Call(_vcpu, nameof(KVM_SET_VCPU_EVENTS), KVM_SET_VCPU_EVENTS, &events);
        KvmMpState activity = registers.Activity switch
        {
            ProcessorActivity.Halted => KvmMpState.HALTED,
            // Not UNINITIALIZED: there only INIT counts, and STARTUP would be lost.
            ProcessorActivity.WaitForStartup => KvmMpState.INIT_RECEIVED,
            _ => KvmMpState.RUNNABLE,
        };
        _ = Call(_vcpu, nameof(KVM_SET_MP_STATE), KVM_SET_MP_STATE, &activity);
    }

    /// <summary>Sets an MSR unless it has the value already: some can be read and not written, and some writes act.</summary>
    private void SetMsr(uint msr, ulong value)
    {
        if (MsrsWithFields.Contains(msr) || (TryReadMsr(msr, out ulong current) && current == value))
        {
            return;
        }

        if (!TryWriteMsr(msr, value))
        {
            throw new ArgumentException(Invariant($"KVM refuses the value 0x{value:x} for MSR 0x{msr:x}."), nameof(value));
        }
    }

    private bool TryWriteMsr(uint msr, ulong value)
    {
        KvmMsr one = new() { Count = 1, Entry = new KvmMsrEntry { Index = msr, Data = value } };
        return Call(_vcpu, nameof(KVM_SET_MSRS), KVM_SET_MSRS, &one) == 1;
    }

    private bool TryReadMsr(uint msr, out ulong value)
    {
        KvmMsr one = new() { Count = 1, Entry = new KvmMsrEntry { Index = msr } };
        bool isThere = Call(_vcpu, nameof(KVM_GET_MSRS), KVM_GET_MSRS, &one) == 1;
        value = one.Entry.Data;
        return isThere;
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
