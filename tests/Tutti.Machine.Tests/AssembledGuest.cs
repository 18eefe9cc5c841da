using Iced.Intel;
using Tutti.Cpu;
using Tutti.Memory;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Machine.Tests;

/// <summary>
/// Small real-mode programs for a whole machine, and the boot step that starts one at <see cref="CodeAddress"/> with all
/// segments based at 0 and data that reaches to 4 GiB.
/// </summary>
internal static class AssembledGuest
{
    internal const ushort CodeAddress = 0x1000;

    /// <summary>A word that the test writes at each boot and the guest reads.</summary>
    internal const ushort Parameter = 0x500;

    /// <summary>A doubleword that the guest writes and the test reads.</summary>
    internal const ushort Counter = 0x504;

    /// <summary>A doubleword that the second processor, once <see cref="StartSecondProcessor"/> was there, counts up for ever.</summary>
    internal const ushort SecondCounter = 0x520;

    private const ushort StartupAddress = 0x2000;

    /// <summary>xor ax, ax; mov ds, ax; inc dword [SecondCounter]; jmp to the inc.</summary>
    private static readonly byte[] StartupCode = [0x31, 0xC0, 0x8E, 0xD8, 0x66, 0xFF, 0x06, SecondCounter & 0xFF, SecondCounter >> 8, 0xEB, 0xF9];

    /// <summary>Where <see cref="SetUpInterrupts"/> puts IRQ 0.</summary>
    private const int FirstVector = 0x20;

    internal static ProcessorRegisters Boot(GuestMemory memory, Action<Assembler> write)
    {
        Assembler code = new(16);
        write(code);
        using MemoryStream bytes = new();
        _ = code.Assemble(new StreamCodeWriter(bytes), CodeAddress);
        Assert.True(memory.TryWrite(CodeAddress, bytes.ToArray()));
        Assert.True(memory.TryWrite(StartupAddress, StartupCode));
        ProcessorRegisters registers = new()
        {
            Rip = CodeAddress,
            Cr0 = Cr0.ExtensionType,
            IdtLimit = 0x3FF,
        };
        registers.Gpr[4] = 0x8000;
        for (int i = 0; i < registers.Segments.Length; i++)
        {
            registers.Segments[i] = i == 1 ? new SegmentRegister(0, 0, 0xFFFF, 0x9B) : new SegmentRegister(0, 0, uint.MaxValue, 0x8093);
        }

        // A task register and a local descriptor table as a reset leaves them.
        registers.Tr = new SegmentRegister(0, 0, 0xFFFF, 0x8B);
        registers.Ldtr = new SegmentRegister(0, 0, 0xFFFF, 0x82);
        return registers;
    }

    internal static void Out(Assembler code, ushort port, byte value)
    {
        code.mov(dx, port);
        code.mov(al, value);
        code.@out(dx, al);
    }

    internal static void Print(Assembler code, char value) => Out(code, 0x3F8, (byte)value);

    /// <summary>ACPI soft-off: SLP_EN with the sleep type of S5 (5).</summary>
    internal static void PowerOff(Assembler code)
    {
        code.mov(dx, 0x604);
        code.mov(ax, 0x3400);
        code.@out(dx, ax);
        Halt(code);
    }

    internal static void Reset(Assembler code)
    {
        Out(code, 0xCF9, 0x06);
        Halt(code);
    }

    /// <summary>INIT and STARTUP for the vCPU with APIC ID 1. Source: SDM volume 3, "Interrupt Command Register".</summary>
    internal static void StartSecondProcessor(Assembler code)
    {
        foreach ((uint register, uint value) in ((uint, uint)[])
            [(0xF0, 0x1FF), (0x310, 1 << 24), (0x300, 0x4500), (0x310, 1 << 24), (0x300, 0x4600 | (StartupAddress >> 12))])
        {
            code.mov(ebx, 0xFEE0_0000 + register);
            code.mov(__dword_ptr[ebx], value);
        }
    }

    /// <summary>Halts for good, whatever interrupts.</summary>
    internal static void Halt(Assembler code)
    {
        Label again = code.CreateLabel();
        code.Label(ref again);
        code.cli();
        code.hlt();
        code.jmp(again);
    }

    /// <summary>Initialises the 8259s with one IRQ enabled, and gives it a handler, whose registers are its own.</summary>
    internal static void SetUpInterrupts(Assembler code, int irq, Action writeHandler)
    {
        foreach ((ushort port, byte value) in ((ushort, byte)[])
            [(0x20, 0x11), (0x21, FirstVector), (0x21, 4), (0x21, 1), (0xA0, 0x11), (0xA1, FirstVector + 8), (0xA1, 2), (0xA1, 1)])
        {
            Out(code, port, value);
        }

        Out(code, 0xA1, 0xFF);
        Out(code, 0x21, (byte)~(1 << irq));
        PushAddress(code, () =>
        {
            code.pusha();
            writeHandler();
            Out(code, 0x20, 0x20);
            code.popa();
            code.iret();
        });
        code.pop(ax);
        code.mov(__word_ptr[(FirstVector + irq) * 4], ax);
        code.mov(__word_ptr[((FirstVector + irq) * 4) + 2], 0);
    }

    /// <summary>Puts code or data here, goes past it, and leaves its address on the stack.</summary>
    internal static void PushAddress(Assembler code, Action write)
    {
        Label past = code.CreateLabel();
        code.call(past);
        write();
        code.Label(ref past);
    }

    /// <summary>Halts again after each interrupt.</summary>
    internal static void WaitForInterrupts(Assembler code)
    {
        Label loop = code.CreateLabel();
        code.Label(ref loop);
        code.sti();
        code.hlt();
        code.jmp(loop);
    }
}
