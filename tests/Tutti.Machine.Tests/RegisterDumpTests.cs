using System.Runtime.InteropServices;
using Tutti.Cpu;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Machine.Tests;

public sealed class RegisterDumpTests : IDisposable
{
    private readonly HostMapping _mapping = new(1 << 20);
    private readonly GuestMemory _memory;

    public RegisterDumpTests() => _memory = new GuestMemory(GuestMemoryLayout.Pc(1 << 20), _mapping.Address);

    public void Dispose() => _mapping.Dispose();

    [Fact]
    public void RealModeDumpShowsRegistersFlagsAndCode()
    {
        ProcessorRegisters registers = new() { Rip = 0x10, Rflags = Rflags.Carry | Rflags.Interrupt | Rflags.AlwaysOne };
        registers.Segments[1] = new SegmentRegister(0x100, 0x1000, 0xFFFF, 0x9B);
        registers.Gpr[12] = 0x1122_3344_5566_7788;
        Assert.True(_memory.TryWrite(0x1010, [0x0F, 0x0B]));
        string text = RegisterDump.Format(0, registers, _memory);
        Assert.Contains("real mode, Running", text);
        Assert.Contains("CS:RIP 0100:0000000000000010", text);
        Assert.Contains("[--I-----C]", text);
        Assert.Contains("R12 1122334455667788", text);
        Assert.Contains("code at RIP: 0f 0b 00", text);
    }

    [Fact]
    public void LongModeDumpWalksThePageTables()
    {
        ProcessorRegisters registers = LongMode(rip: 0xFFFF_8000_0020_0123);
        // Source: SDM volume 3, 4-level paging: PML4 entry 256, page-directory entry 1 as a 2 MiB page over physical 0.
        Assert.True(_memory.TryWrite(0x1000 + (256 * 8), 0x2001UL));
        Assert.True(_memory.TryWrite(0x2000, 0x3001UL));
        Assert.True(_memory.TryWrite(0x3000 + 8, 0x81UL));
        Assert.True(_memory.TryWrite(0x123, [0xF4]));
        string text = RegisterDump.Format(1, registers, _memory);
        Assert.Contains("vCPU 1: 64-bit mode", text);
        Assert.Contains("code at RIP: f4 00", text);
    }

    [Fact]
    public void CodeThatIsNotMappedOrNotRamIsSaidSo()
    {
        Assert.Contains("not mapped", RegisterDump.Format(0, LongMode(rip: 0xDEAD_0000), _memory));
        ProcessorRegisters registers = new() { Rip = 0xFFFF_0000 };
        Assert.Contains("no RAM at physical address ffff0000", RegisterDump.Format(0, registers, _memory));
        // Page tables that point out of RAM.
        ProcessorRegisters wild = LongMode(rip: 0);
        wild.Cr3 = 0x000F_FFFF_FFFF_F000;
        Assert.Contains("not mapped", RegisterDump.Format(0, wild, _memory));
    }

    private static ProcessorRegisters LongMode(ulong rip)
    {
        ProcessorRegisters registers = new()
        {
            Rip = rip,
            Cr0 = Cr0.ProtectionEnable | Cr0.Paging,
            Cr3 = 0x1000,
            Efer = Efer.LongModeActive | Efer.LongModeEnable,
        };
        registers.Segments[1] = new SegmentRegister(0x10, 0, uint.MaxValue, 0xA09B);
        return registers;
    }
}
