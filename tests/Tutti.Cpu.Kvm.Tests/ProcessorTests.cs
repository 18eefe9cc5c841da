using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Several vCPUs: what each is told of itself, and how the first one starts the others.</summary>
public sealed class ProcessorTests
{
    private const ulong StartupAddress = 0x9000;
    private const uint CommandLow = 0x300;
    private const uint CommandHigh = 0x310;
    private const uint Init = 0x4500;
    private const uint Startup = 0x4600;

    [KvmFact]
    public void Each_vcpu_sees_its_own_apic_id()
    {
        const int Count = 3;
        using SmallGuest guest = new(Count);
        for (int i = 0; i < Count; i++)
        {
            guest.Start(
                GuestMode.Long,
                a =>
                {
                    a.mov(eax, 1);
                    a.cpuid();
                    a.shr(ebx, 24);
                    a.mov(esi, ebx);
                    a.mov(eax, 0xB);
                    a.xor(ecx, ecx);
                    a.cpuid();
                    a.mov(edi, edx);
                    a.mov(ebx, InterruptTests.LocalApic + 0x20);
                    a.mov(ebp, __dword_ptr[ebx]);
                    a.@out((byte)SmallGuest.EndPort, al);
                },
                i);
        }

        for (int i = 0; i < Count; i++)
        {
            Assert.Equal(ProcessorExitKind.Requested, guest.Finish(guest.BeginRun(i)).Kind);
            ProcessorRegisters registers = guest.GetRegisters(i);
            Assert.Equal((ulong)i, registers.Gpr[6]);
            Assert.Equal((ulong)i, registers.Gpr[7]);
            Assert.Equal((ulong)i << 24, registers.Gpr[5]);
        }
    }

    /// <summary>From the state after power-on, and from the one that a snapshot between INIT and STARTUP has.</summary>
    [KvmTheory]
    [InlineData(true)]
    [InlineData(false)]
    public void Init_and_startup_bring_a_vcpu_up_in_real_mode(bool sendsInit)
    {
        using SmallGuest guest = new(processors: 2);
        guest.Load(StartupAddress, GuestMode.Real, a =>
        {
            a.mov(ax, cs);
            a.mov(ds, ax);
            a.mov(__word_ptr[0x100], ax);
            a.mov(eax, cr0);
            a.mov(__dword_ptr[0x104], eax);
            a.mov(__word_ptr[0x102], 0x1234);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        guest.Start(GuestMode.Long, a =>
        {
            Label wait = a.CreateLabel();
            InterruptTests.EnableLocalApic(a);
            if (sendsInit)
            {
                Send(a, Init);
            }

            Send(a, Startup | (uint)(StartupAddress >> 12));
            a.Label(ref wait);
            a.pause();
            a.cmp(__word_ptr[StartupAddress + 0x102], 0x1234);
            a.jne(wait);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        if (!sendsInit)
        {
            ProcessorRegisters registers = guest.GetRegisters(1);
            Assert.Equal(ProcessorActivity.WaitForStartup, registers.Activity);
            guest.Partition.Processors[1].SetRegisters(registers);
            Assert.Equal(ProcessorActivity.WaitForStartup, guest.GetRegisters(1).Activity);
        }

        Task<ProcessorExit> second = guest.BeginRun(1);
        guest.WaitUntilAsleep(1);
        Task<ProcessorExit> first = guest.BeginRun();

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(first).Kind);
        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(second).Kind);
        Assert.Equal(StartupAddress >> 4, guest.Read<ushort>(StartupAddress + 0x100));
        Assert.Equal(0u, guest.Read<uint>(StartupAddress + 0x104) & 1);
        Assert.Equal(ProcessorActivity.Running, guest.GetRegisters(1).Activity);
    }

    [KvmFact]
    public void Vcpus_interrupt_each_other()
    {
        const int Vector = 0x31;
        const int Rounds = 200;
        using SmallGuest guest = new(processors: 2);
        // The second counts in its handler and the first waits for each count.
        guest.SetHandler(GuestMode.Long, Vector, a =>
        {
            a.inc(__dword_ptr[SmallGuest.DataAddress]);
            InterruptTests.WriteLocalApic(a, 0xB0, 0);
            a.iretq();
        });
        guest.Start(
            GuestMode.Long,
            a =>
            {
                Label again = a.CreateLabel();
                InterruptTests.EnableLocalApic(a);
                a.Label(ref again);
                a.sti();
                a.hlt();
                a.cli();
                a.cmp(__dword_ptr[SmallGuest.DataAddress], Rounds);
                a.jne(again);
                a.@out((byte)SmallGuest.EndPort, al);
            },
            1);
        guest.Start(GuestMode.Long, a =>
        {
            Label again = a.CreateLabel();
            Label wait = a.CreateLabel();
            InterruptTests.EnableLocalApic(a);
            a.xor(esi, esi);
            a.Label(ref again);
            a.inc(esi);
            Send(a, 0x4000 | Vector);
            a.Label(ref wait);
            a.pause();
            a.cmp(__dword_ptr[SmallGuest.DataAddress], esi);
            a.jne(wait);
            a.cmp(esi, Rounds);
            a.jne(again);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        Task<ProcessorExit> second = guest.BeginRun(1);
        // Its local APIC must be on before the first message.
        guest.WaitUntilAsleep(1);

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(guest.BeginRun()).Kind);
        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(second).Kind);
        Assert.Equal(Rounds, guest.Read<int>(SmallGuest.DataAddress));
    }

    /// <summary>Writes the interrupt command register, for APIC ID 1.</summary>
    private static void Send(Assembler a, uint command)
    {
        InterruptTests.WriteLocalApic(a, CommandHigh, 1 << 24);
        InterruptTests.WriteLocalApic(a, CommandLow, command);
    }
}
