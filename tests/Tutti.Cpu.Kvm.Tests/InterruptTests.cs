using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Interrupts reach guest code through the kernel's 8259s, I/O APIC, local APICs and 8254.</summary>
public sealed class InterruptTests
{
    internal const ushort HandlerPort = 0x81;
    internal const uint LocalApic = 0xFEE0_0000;
    internal const uint IoApic = 0xFEC0_0000;
    private const int Vector = 0x31;
    private const uint Masked = 1 << 16;
    private const uint LevelTriggered = 1 << 15;
    private const uint SpuriousVector = 0xF0;
    private const uint EndOfInterrupt = 0xB0;

    [KvmTheory]
    [InlineData(GuestMode.Real)]
    [InlineData(GuestMode.Long)]
    public void A_line_wakes_a_halted_guest_through_the_8259s(GuestMode mode) => CheckLegacyLines(mode);

    [KvmFact(KvmAbility.ProtectedReturn)]
    public void A_line_wakes_a_halted_guest_in_protected_mode() => CheckLegacyLines(GuestMode.Protected32);

    private static void CheckLegacyLines(GuestMode mode)
    {
        using SmallGuest guest = new();
        // Vector 20h + 5, and 28h + 3 behind the slave.
        foreach (int vector in (int[])[0x25, 0x2B])
        {
            guest.SetHandler(mode, vector, a =>
            {
                a.mov(al, (byte)vector);
                a.@out((byte)HandlerPort, al);
                a.mov(al, 0x20);
                a.@out(0xA0, al);
                a.@out(0x20, al);
                Return(a, mode);
            });
        }

        guest.Start(mode, a =>
        {
            WritePorts(a, (0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0xA0, 0x11), (0xA1, 0x28), (0xA1, 2), (0xA1, 1), (0x21, 0), (0xA1, 0));
            HaltTwice(a);
        });
        Task<ProcessorExit> run = guest.BeginRun();

        guest.WaitFor("out 80 01");
        guest.WaitUntilAsleep();
        Pulse(guest, 5);
        guest.WaitFor("out 80 02");
        guest.WaitUntilAsleep();
        Pulse(guest, 11);

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
        Assert.Equal(["out 80 01", "out 81 25", "out 80 02", "out 81 2B", "out f4 02"], guest.Accesses);
    }

    [KvmFact]
    public void Lines_reach_their_pins_of_the_io_apic()
    {
        using SmallGuest guest = new();
        Count(guest, Vector);
        guest.Start(GuestMode.Long, a =>
        {
            EnableLocalApic(a);
            Redirect(a, 4, Vector);
            Redirect(a, 23, Vector);
            HaltTwice(a);
        });
        Task<ProcessorExit> run = guest.BeginRun();

        guest.WaitFor("out 80 01");
        Pulse(guest, 4);
        guest.WaitFor("out 80 02");
        Pulse(guest, 23);

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
        Assert.Equal(2, guest.Accesses.Count(a => a == "out 81 31"));
    }

    [KvmFact]
    public void A_level_line_interrupts_until_it_falls()
    {
        using SmallGuest guest = new();
        int handled = 0;
        guest.OnAccess = access =>
        {
            if (access == "out 81 31" && ++handled == 3)
            {
                guest.Partition.InterruptControllers.SetLine(10, false);
            }
        };
        guest.SetHandler(GuestMode.Long, Vector, a =>
        {
            a.inc(__dword_ptr[SmallGuest.DataAddress]);
            a.mov(al, Vector);
            a.@out((byte)HandlerPort, al);
            WriteLocalApic(a, EndOfInterrupt, 0);
            a.iretq();
        });
        guest.Start(GuestMode.Long, a =>
        {
            Label again = a.CreateLabel();
            EnableLocalApic(a);
            Redirect(a, 10, Vector | LevelTriggered);
            a.@out(0x80, al);
            a.Label(ref again);
            a.sti();
            a.hlt();
            a.cli();
            a.cmp(__dword_ptr[SmallGuest.DataAddress], 3);
            a.jl(again);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        Task<ProcessorExit> run = guest.BeginRun();
        guest.WaitFor("out 80 00");

        guest.Partition.InterruptControllers.SetLine(10, true);

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
        Assert.Equal(3, guest.Accesses.Count(a => a == "out 81 31"));
    }

    [KvmTheory]
    [InlineData(-1)]
    [InlineData(2)]
    [InlineData(24)]
    public void There_is_no_other_line(int irq)
    {
        using SmallGuest guest = new();

        Assert.Throws<ArgumentOutOfRangeException>(() => guest.Partition.InterruptControllers.SetLine(irq, true));
    }

    [KvmTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_message_reaches_the_local_apic(bool isX2Apic)
    {
        using SmallGuest guest = new();
        Count(guest, Vector, isX2Apic);
        guest.Start(GuestMode.Long, a =>
        {
            EnableLocalApic(a, isX2Apic);
            HaltTwice(a);
        });
        Task<ProcessorExit> run = guest.BeginRun();

        guest.WaitFor("out 80 01");
        guest.Partition.InterruptControllers.SignalMsi(LocalApic, Vector);
        guest.WaitFor("out 80 02");
        guest.Partition.InterruptControllers.SignalMsi(LocalApic, Vector);

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
        Assert.Equal(2, guest.Accesses.Count(a => a == "out 81 31"));
    }

    /// <summary>The guest chooses what a device's message says: nonsense is nobody's error.</summary>
    [KvmTheory]
    [InlineData(0xFEE4_D000ul, 0x31u)]
    [InlineData(0xFEE0_0000ul, 0x7FFu)]
    [InlineData(0xFEE0_0000ul, 0u)]
    [InlineData(0ul, 0u)]
    [InlineData(0xFFFF_FFFF_FFFF_FFFFul, 0xFFFF_FFFFu)]
    public void A_message_to_nobody_is_lost_in_silence(ulong address, uint data)
    {
        using SmallGuest guest = new();

        guest.Partition.InterruptControllers.SignalMsi(address, data);
        int gsi = guest.Partition.InterruptControllers.AddMessageRoute(address, data);
        guest.Partition.InterruptControllers.RemoveMessageRoute(gsi);
    }

    [KvmFact]
    public void The_kernels_interval_timer_ticks_on_pin_2()
    {
        using SmallGuest guest = new();
        Count(guest, Vector);
        guest.Start(GuestMode.Long, a =>
        {
            EnableLocalApic(a);
            Redirect(a, 2, Vector);
            // Channel 0, mode 2, every 1000 ticks of 1.193 MHz.
            WritePorts(a, (0x43, 0x34), (0x40, 1000 & 0xFF), (0x40, 1000 >> 8));
            HaltTwice(a);
        });

        guest.RunToEnd();

        Assert.InRange(guest.Accesses.Count(a => a == "out 81 31"), 2, int.MaxValue);
        Assert.DoesNotContain(guest.Accesses, a => a.StartsWith("out 4", StringComparison.Ordinal));
    }

    [KvmFact]
    public void What_devices_raise_after_the_end_goes_nowhere()
    {
        SmallGuest guest = new();
        KvmInterruptControllers controllers = guest.Partition.InterruptControllers;
        guest.Dispose();

        controllers.SetLine(4, true);
        controllers.SignalMsi(LocalApic, Vector);
        Assert.Throws<ObjectDisposedException>(() => controllers.AddMessageRoute(LocalApic, Vector));
    }

    /// <summary>A vCPU that is stopped between an interrupt's acceptance and its handler still owes the handler.</summary>
    [KvmFact]
    public void Interrupts_outlive_a_replacement_of_the_registers()
    {
        const int Interrupts = 300;
        using SmallGuest guest = new();
        Count(guest, Vector);
        guest.Start(GuestMode.Long, a =>
        {
            Label here = a.CreateLabel();
            EnableLocalApic(a);
            a.@out(0x80, al);
            a.sti();
            a.Label(ref here);
            a.jmp(here);
        });
        Task<ProcessorExit> run = guest.BeginRun();
        guest.WaitFor("out 80 00");
        ProcessorRegisters registers = new();
        for (int i = 0; i < Interrupts; i++)
        {
            // Both at once, so that the vCPU leaves with the interrupt accepted now and then.
            guest.Partition.InterruptControllers.SignalMsi(LocalApic, Vector);
            guest.Processor.RequestExit();
            Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
            guest.Processor.GetRegisters(registers);
            guest.Processor.SetRegisters(registers);
            run = guest.BeginRun();
            guest.WaitFor("out 81 31", i + 1);
        }

        guest.Processor.RequestExit();
        _ = guest.Finish(run);
        Assert.Equal(Interrupts, guest.Accesses.Count(a => a == "out 81 31"));
    }

    /// <summary>Says 01 and halts, says 02 and halts, and ends, with interrupts only while halted.</summary>
    internal static void HaltTwice(Assembler a)
    {
        for (int i = 1; i <= 2; i++)
        {
            a.mov(al, (byte)i);
            a.@out(0x80, al);
            a.sti();
            a.hlt();
            a.cli();
        }

        a.mov(al, 2);
        a.@out((byte)SmallGuest.EndPort, al);
    }

    /// <summary>A handler that says its vector and ends the interrupt at the local APIC.</summary>
    internal static void Count(SmallGuest guest, int vector, bool isX2Apic = false) => guest.SetHandler(GuestMode.Long, vector, a =>
    {
        a.mov(al, (byte)vector);
        a.@out((byte)HandlerPort, al);
        WriteLocalApic(a, EndOfInterrupt, 0, isX2Apic);
        a.iretq();
    });

    /// <summary>Switches the local APIC on and the 8259s off; EAX is 0 then.</summary>
    internal static void EnableLocalApic(Assembler a, bool isX2Apic = false)
    {
        WritePorts(a, (0x21, 0xFF), (0xA1, 0xFF));
        if (isX2Apic)
        {
            a.mov(ecx, Msr.ApicBase);
            a.rdmsr();
            a.or(eax, 0xC00);
            a.wrmsr();
        }

        WriteLocalApic(a, SpuriousVector, 0x1FF, isX2Apic);
        a.xor(eax, eax);
    }

    internal static void WriteLocalApic(Assembler a, uint register, uint value, bool isX2Apic = false)
    {
        if (isX2Apic)
        {
            a.mov(ecx, Msr.X2ApicFirst + (register >> 4));
            a.mov(eax, value);
            a.xor(edx, edx);
            a.wrmsr();
        }
        else
        {
            a.mov(ebx, LocalApic + register);
            a.mov(__dword_ptr[ebx], value);
        }
    }

    /// <summary>Programs a redirection entry of the I/O APIC for APIC ID 0.</summary>
    internal static void Redirect(Assembler a, uint pin, uint entry)
    {
        a.mov(ebx, IoApic);
        a.mov(__dword_ptr[ebx], 0x11 + (2 * pin));
        a.mov(__dword_ptr[ebx + 0x10], 0);
        a.mov(__dword_ptr[ebx], 0x10 + (2 * pin));
        a.mov(__dword_ptr[ebx + 0x10], entry & ~Masked);
    }

    internal static void Pulse(SmallGuest guest, int irq)
    {
        guest.Partition.InterruptControllers.SetLine(irq, true);
        guest.Partition.InterruptControllers.SetLine(irq, false);
    }

    private static void WritePorts(Assembler a, params (int Port, int Value)[] writes)
    {
        foreach ((int port, int value) in writes)
        {
            a.mov(al, (byte)value);
            a.@out((byte)port, al);
        }
    }

    private static void Return(Assembler a, GuestMode mode)
    {
        switch (GuestTables.Bits(mode))
        {
            case 16:
                a.iret();
                break;
            case 32:
                a.iretd();
                break;
            default:
                a.iretq();
                break;
        }
    }
}
