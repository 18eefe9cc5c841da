using System.Buffers.Binary;
using System.Runtime.Intrinsics.X86;
using Tutti.Host;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>The architectural state goes into the kernel and comes back, and the guest sees it.</summary>
public sealed class StateTests
{
    private const int ControlWord = 0;
    private const int Mxcsr = 24;
    private const int St0 = 32;
    private const int Xmm0 = 160;
    private const int UsedFxState = 416;
    private const int XstateBv = 512;
    private const ulong AvxState = 4;

    [KvmFact]
    public void Every_register_comes_back()
    {
        using SmallGuest guest = new();
        GuestTables.Write(guest.Memory);
        ProcessorRegisters set = guest.GetRegisters();
        GuestTables.Enter(set, GuestMode.Long, 0x1234);
        for (int i = 0; i < 16; i++)
        {
            set.Gpr[i] = 0x0101_0101_0101_0101ul * (ulong)(i + 1);
        }

        set.Rflags = Rflags.AlwaysOne | Rflags.Arithmetic | Rflags.Direction | Rflags.Interrupt | Rflags.AlignmentCheck | Rflags.Identification;
        set.Segments[4] = new SegmentRegister(0x13, 0x1111_2222_3333, 0xFFFF_FFFF, 0xC0F3);
        set.Segments[5] = new SegmentRegister(0x2B, 0xFFFF_8000_0000_1000, 0xFFFF, 0x0093);
        set.Ldtr = new SegmentRegister(0x58, 0x5_0000, 0x2F, 0x0082);
        (set.GdtBase, set.GdtLimit) = (0xFFFF_8000_0001_0000, 0x7F);
        (set.IdtBase, set.IdtLimit) = (0xFFFF_8000_0002_0000, 0xFFE);
        set.Cr0 |= Cr0.WriteProtect | Cr0.MonitorCoprocessor | Cr0.TaskSwitched | Cr0.AlignmentMask;
        set.Cr2 = 0x1234_5678_9ABC;
        set.Cr4 |= Cr4.PageGlobalEnable | Cr4.DebuggingExtensions | Cr4.OsXmmException;
        set.Cr8 = 5;
        set.Efer |= Efer.NoExecuteEnable;
        for (int i = 0; i < 4; i++)
        {
            set.Dr[i] = 0x7000_0000_0000ul + (ulong)i;
        }

        set.Dr[6] = Dr6.AlwaysOne | 3;
        set.Dr[7] = Dr7.AlwaysOne | 0x55;
        Fill(set.FxState);
        // AMD's SYSENTER registers keep 32 bits (APM volume 2, "SYSENTER and SYSEXIT MSRs").
        (uint Msr, ulong Value)[] msrs =
        [
            (Msr.SysenterCs, 0x10), (Msr.SysenterEsp, 0x8111_0000), (Msr.SysenterEip, 0x8222_0000), (Msr.Pat, 0x0007_0406_0007_0406),
            (Msr.Star, 0x0023_0010_0000_0000), (Msr.Lstar, 0xFFFF_8000_3333_0000), (Msr.Cstar, 0xFFFF_8000_4444_0000), (Msr.Sfmask, 0x4_7700),
            (Msr.KernelGsBase, 0xFFFF_8000_5555_0000),
        ];
        foreach ((uint msr, ulong value) in msrs)
        {
            Assert.Contains(msr, set.Msrs.Keys);
            set.Msrs[msr] = value;
        }

        guest.Processor.SetRegisters(set);

        ProcessorRegisters got = guest.GetRegisters();
        Assert.Equal(Describe(set), Describe(got));
        Assert.Equal(set.FxState[..UsedFxState], got.FxState[..UsedFxState]);
        Assert.All(msrs, m => Assert.Equal((m.Msr, m.Value), (m.Msr, got.Msrs[m.Msr])));
    }

    /// <summary>What the kernel gives it takes back, whole: no field, MSR or state byte is refused or lost.</summary>
    [KvmTheory]
    [InlineData(GuestMode.Real)]
    [InlineData(GuestMode.Protected16)]
    [InlineData(GuestMode.Protected32)]
    [InlineData(GuestMode.Long)]
    [InlineData(GuestMode.LongUser)]
    public void The_state_of_every_mode_moves_to_another_vm(GuestMode mode)
    {
        using SmallGuest from = new();
        from.Start(mode, a =>
        {
            a.mov(ecx, 0x1234);
            a.@out((byte)SmallGuest.EndPort, al);
            a.mov(edx, ecx);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        from.RunToEnd();
        ProcessorRegisters state = from.GetRegisters();
        Fill(state.FxState);
        using SmallGuest to = new();
        Assert.True(from.Memory.TryGetSpan(0, 1 << 20, out Span<byte> memory));
        Assert.True(to.Memory.TryWrite(0, memory));

        to.Processor.SetRegisters(state);

        Assert.Equal(Describe(state), Describe(to.GetRegisters()));
        Assert.Equal(state.FxState[..UsedFxState], to.GetRegisters().FxState[..UsedFxState]);
        to.RunToEnd();
        Assert.Equal(0x1234ul, to.GetRegisters().Gpr[2]);
    }

    [KvmTheory]
    [InlineData(ProcessorActivity.Running)]
    [InlineData(ProcessorActivity.Halted)]
    [InlineData(ProcessorActivity.WaitForStartup)]
    public void Activity_comes_back(ProcessorActivity activity)
    {
        using SmallGuest guest = new(processors: 2);
        ProcessorRegisters registers = guest.GetRegisters(1);
        registers.Activity = activity;

        guest.Partition.Processors[1].SetRegisters(registers);

        Assert.Equal(activity, guest.GetRegisters(1).Activity);
    }

    [KvmTheory]
    [InlineData(false, false, false)]
    [InlineData(true, false, false)]
    [InlineData(false, true, false)]
    [InlineData(false, true, true)]
    public void Events_come_back(bool shadow, bool nmiBlocked, bool nmiPending)
    {
        using SmallGuest guest = new();
        ProcessorRegisters registers = guest.GetRegisters();
        GuestTables.Enter(registers, GuestMode.Real, SmallGuest.CodeAddress);
        (registers.InterruptShadow, registers.NmiBlocked, registers.NmiPending) = (shadow, nmiBlocked, nmiPending);

        guest.Processor.SetRegisters(registers);

        ProcessorRegisters got = guest.GetRegisters();
        Assert.Equal((shadow, nmiBlocked, nmiPending), (got.InterruptShadow, got.NmiBlocked, got.NmiPending));
    }

    [KvmFact]
    public void A_pending_nmi_reaches_its_handler()
    {
        using SmallGuest guest = new();
        guest.SetHandler(GuestMode.Long, ExceptionVector.Nmi, a => a.@out((byte)SmallGuest.EndPort, al));
        guest.Start(GuestMode.Long, a => a.hlt());
        ProcessorRegisters registers = guest.GetRegisters();
        registers.NmiPending = true;
        guest.Processor.SetRegisters(registers);

        guest.RunToEnd();

        Assert.InRange(guest.GetRegisters().Rip, SmallGuest.HandlerAddress, SmallGuest.HandlerAddress + 0x100);
    }

    [KvmFact]
    public void The_guest_sees_the_debug_registers_and_changes_them()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(rsi, dr2);
            a.mov(rax, 0x7777_0000);
            a.mov(dr3, rax);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        ProcessorRegisters registers = guest.GetRegisters();
        registers.Dr[2] = 0x1234_5678_9AB0;
        guest.Processor.SetRegisters(registers);

        guest.RunToEnd();

        Assert.Equal(0x1234_5678_9AB0ul, guest.GetRegisters().Gpr[6]);
        Assert.Equal(0x7777_0000ul, guest.GetRegisters().Dr[3]);
    }

    [KvmFact]
    public void The_guest_sees_the_vector_registers_and_changes_them()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.LongUser, a =>
        {
            a.mov(ebx, (uint)SmallGuest.DataAddress);
            a.movups(__xmmword_ptr[rbx], xmm5);
            a.movups(xmm6, __xmmword_ptr[rbx + 16]);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        ProcessorRegisters registers = guest.GetRegisters();
        Fill(registers.FxState);
        guest.Processor.SetRegisters(registers);
        guest.Load(SmallGuest.DataAddress + 16, [.. Enumerable.Range(200, 16).Select(i => (byte)i)]);

        guest.RunToEnd();

        byte[] stored = new byte[16];
        Assert.True(guest.Memory.TryRead(SmallGuest.DataAddress, stored));
        Assert.Equal(registers.FxState[(Xmm0 + 80)..(Xmm0 + 96)], stored);
        Assert.Equal(Enumerable.Range(200, 16).Select(i => (byte)i), guest.GetRegisters().FxState[(Xmm0 + 96)..(Xmm0 + 112)]);
    }

    [KvmFact(KvmAbility.Avx)]
    public void Upper_halves_of_ymm_registers_go_in_and_come_out()
    {
        int upper = X86Base.CpuId(0xD, 2).Ebx;
        using SmallGuest guest = new();
        guest.Start(GuestMode.LongUser, a =>
        {
            a.mov(ebx, (uint)SmallGuest.DataAddress);
            a.vmovups(__ymmword_ptr[rbx], ymm5);
            a.vmovups(ymm15, __ymmword_ptr[rbx + 32]);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        ProcessorRegisters registers = guest.GetRegisters();
        registers.Cr4 |= Cr4.OsXsave;
        registers.Xcr0 = 7;
        Fill(registers.FxState);
        byte[] extended = registers.ExtendedState!;
        BinaryPrimitives.WriteUInt64LittleEndian(extended.AsSpan(XstateBv), 7);
        for (int i = 0; i < 256; i++)
        {
            extended[upper + i] = (byte)(255 - i);
        }

        byte[] expected = [.. extended[upper..(upper + 256)]];
        guest.Processor.SetRegisters(registers);
        ProcessorRegisters got = guest.GetRegisters();
        Assert.Equal(7ul, got.Xcr0);
        Assert.Equal(AvxState, BinaryPrimitives.ReadUInt64LittleEndian(got.ExtendedState.AsSpan(XstateBv)) & AvxState);
        Assert.Equal(expected, got.ExtendedState![upper..(upper + 256)]);
        guest.Load(SmallGuest.DataAddress + 32, [.. Enumerable.Range(100, 32).Select(i => (byte)i)]);

        guest.RunToEnd();

        byte[] stored = new byte[32];
        Assert.True(guest.Memory.TryRead(SmallGuest.DataAddress, stored));
        Assert.Equal([.. registers.FxState[(Xmm0 + 80)..(Xmm0 + 96)], .. expected[80..96]], stored);
        Assert.Equal(Enumerable.Range(116, 16).Select(i => (byte)i), guest.GetRegisters().ExtendedState![(upper + 240)..(upper + 256)]);
    }

    [KvmFact]
    public void Extended_state_may_be_short_and_may_not_be_more_than_the_host_has()
    {
        using SmallGuest guest = new();
        ProcessorRegisters registers = guest.GetRegisters();
        byte[] state = registers.ExtendedState!;
        registers.ExtendedState = [.. state, .. new byte[100]];
        guest.Processor.SetRegisters(registers);
        registers.ExtendedState = null;
        guest.Processor.SetRegisters(registers);
        registers.ExtendedState = [.. state, 1];

        ArgumentException error = Assert.Throws<ArgumentException>(() => guest.Processor.SetRegisters(registers));

        Assert.Contains($"{state.Length + 1} bytes", error.Message);
    }

    [KvmFact]
    public void Refused_states_say_what_was_refused()
    {
        using SmallGuest guest = new();
        ProcessorRegisters registers = guest.GetRegisters();
        registers.Msrs[0x1234_5678] = 1;
        Assert.Contains("0x1 for MSR 0x12345678", Assert.Throws<ArgumentException>(() => guest.Processor.SetRegisters(registers)).Message);
        registers = guest.GetRegisters();
        registers.Dr[7] = 1ul << 40;
        Assert.StartsWith("KVM_SET_DEBUGREGS: ", Assert.Throws<HostException>(() => guest.Processor.SetRegisters(registers)).Message);
        registers = guest.GetRegisters();
        registers.Xcr0 = 0;
        Assert.StartsWith("KVM_SET_XCRS: ", Assert.Throws<HostException>(() => guest.Processor.SetRegisters(registers)).Message);
    }

    /// <summary>Distinct bytes in all that FXSAVE saves, with control registers that are allowed.</summary>
    private static void Fill(byte[] state)
    {
        Array.Clear(state);
        BinaryPrimitives.WriteUInt16LittleEndian(state.AsSpan(ControlWord), 0x27F);
        BinaryPrimitives.WriteUInt16LittleEndian(state.AsSpan(2), 0x3800);
        state[4] = 0x80;
        BinaryPrimitives.WriteUInt32LittleEndian(state.AsSpan(Mxcsr), 0x3F80);
        BinaryPrimitives.WriteUInt32LittleEndian(state.AsSpan(28), 0xFFFF);
        BinaryPrimitives.WriteUInt64LittleEndian(state.AsSpan(St0), 0xC000_0000_0000_0001);
        BinaryPrimitives.WriteUInt16LittleEndian(state.AsSpan(St0 + 8), 0x3FFF);
        for (int i = Xmm0; i < UsedFxState; i++)
        {
            state[i] = (byte)i;
        }
    }

    private static string Describe(ProcessorRegisters r) => string.Join(
        '\n',
        [
            .. r.Gpr.Select(v => $"{v:x}"), $"{r.Rip:x} {r.Rflags:x}", .. r.Segments.Select(s => s.ToString()), $"{r.Tr} {r.Ldtr with { Limit = r.Ldtr.Attributes == 0 ? 0 : r.Ldtr.Limit }}",
            $"{r.GdtBase:x} {r.GdtLimit:x} {r.IdtBase:x} {r.IdtLimit:x}", $"{r.Cr0:x} {r.Cr2:x} {r.Cr3:x} {r.Cr4:x} {r.Cr8:x} {r.Efer:x} {r.Xcr0:x}",
            .. r.Dr.Select(v => $"{v:x}"), $"{r.Activity} {r.InterruptShadow} {r.NmiBlocked} {r.NmiPending}",
        ]);
}
