using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>Accesses that share the region of what their addresses come from: within it, over its end, and after faults.</summary>
public class WindowOriginTests
{
    private const ulong Tables = 0x20_0000;

    /// <summary>What is mapped around the end of the first region, two pages on each side.</summary>
    private const ulong Frames = 0x30_0000;

    private const ulong RegionSize = 1UL << StateLayout.RegionShift;
    private const ulong Last = RegionSize - 8;
    private const ulong Writable = PageTableEntry.Present | PageTableEntry.User | PageTableEntry.Writable;

    [Theory]
    [InlineData(1, "488B03 4889DA 488B4A08")] // MOV RAX, [RBX]; MOV RDX, RBX; MOV RCX, [RDX+8]
    [InlineData(1, "488B03 89CE 488B14F3")] // MOV RAX, [RBX]; MOV ESI, ECX; MOV RDX, [RBX+RSI*8]
    [InlineData(1, "480FB6F1 488D14B3 488B02 488B4B08")] // MOVZX RSI, CL; LEA RDX, [RBX+RSI*4]; MOV RAX, [RDX]; MOV RCX, [RBX+8]
    [InlineData(1, "4963F3 4801F3 488B03 48894318")] // MOVSXD RSI, R11D; ADD RBX, RSI; MOV RAX, [RBX]; MOV [RBX+24], RAX
    [InlineData(1, "4D8B02 4D89D6 498B4608 4983C608 498B06")] // MOV R8, [R10]; MOV R14, R10; MOV RAX, [R14+8]; ADD R14, 8; MOV RAX, [R14]
    [InlineData(1, "50 4883EC20 4883E4F0 48890424 58")] // PUSH RAX; SUB RSP, 32; AND RSP, -16; MOV [RSP], RAX; POP RAX
    [InlineData(2, "488B03 488B0B 4801CB 488B0B")] // MOV RAX, [RBX]; MOV RCX, [RBX]; ADD RBX, RCX; MOV RCX, [RBX]
    [InlineData(2, "488B03 488B1B 488B03")] // MOV RAX, [RBX]; MOV RBX, [RBX]; MOV RAX, [RBX]
    [InlineData(2, "488B03 0FBCCA 488B14CB")] // MOV RAX, [RBX]; BSF ECX, EDX, which may leave the upper half; MOV RDX, [RBX+RCX*8]
    [InlineData(2, "488B03 7500 488B03")] // MOV RAX, [RBX]; JNZ to the next; MOV RAX, [RBX]
    [InlineData(0, "89CE 8B04B5 00004000 8B0425 00004000")] // MOV ESI, ECX; MOV EAX, [RSI*4+400000h]; MOV EAX, [400000h]
    public unsafe void Accesses_of_one_origin_share_a_lookup(int lookups, string hex)
    {
        ArgumentNullException.ThrowIfNull(hex);
        using TranslationCache cache = new();
        byte[] bytes = new byte[4096];
        Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal) + "F4").CopyTo(bytes, 0);

        // SAFETY: the page is in the array, which stays where it is; the region can be read where the block lies.
        fixed (byte* page = bytes)
        {
            TranslatedBlock block = cache.Translate(page, 1, 4096, TlbSet.UserWindow);
            byte[] code = new ReadOnlySpan<byte>((byte*)block.FarEntry, (int)(cache.End - block.FarEntry)).ToArray();
            var decoder = Decoder.Create(64, new ByteArrayCodeReader(code));
            int found = 0;
            while (decoder.IP < (ulong)code.Length)
            {
                found += decoder.Decode().Mnemonic == Mnemonic.Shrx ? 1 : 0;
            }

            Assert.Equal(lookups, found);
        }
    }

    [Theory]
    [InlineData(Last, 1, true)]
    [InlineData(RegionSize, -1, true)]
    [InlineData(RegionSize + 0x1000, -0x201, true)]
    [InlineData(Last, 0x201, true)]
    [InlineData(Last, 0x401, false)]
    [InlineData(Last, 0x4000_0000, false)]
    [InlineData(RegionSize, -0x4000_0000, false)]
    public void What_leaves_its_region_is_found_in_the_next_one(ulong address, long index, bool isMapped)
    {
        using TestMachine machine = Machine();
        ulong target = address + ((ulong)index * 8);
        for (int run = 0; run < 40; run++)
        {
            if (isMapped)
            {
                machine.Write(FrameOf(target), 500UL + (ulong)run);
            }

            Code(machine, static a =>
            {
                a.movsxd(rsi, ecx);
                a.mov(rax, __[rbx]);
                a.add(__qword_ptr[rbx + rsi * 8], 1);
                a.lea(rdi, __[rbx + rsi * 8]);
                a.mov(rdx, __[rdi]);
            });
            machine.Registers.Gpr[1] = (uint)index;
            machine.Registers.Gpr[2] = 0;
            Run(machine, isMapped ? 6 : 14, address);
            if (isMapped)
            {
                Assert.Equal(501UL + (ulong)run, machine.Registers.Gpr[2]);
            }
            else
            {
                Assert.Equal(target, machine.Registers.Cr2);
                Assert.Equal(PageFaultError.Write | PageFaultError.User, machine.Frame(0));
            }
        }
    }

    [Theory]
    [InlineData(0x7FFF_FFFF_FFF8, 1, 13)]
    [InlineData(0x8, -2, 14)]
    [InlineData(0x8000_0000_0008, -1, 13)]
    public void What_leads_to_no_address_of_user_mode_faults_as_the_processor_says(ulong address, int index, int vector)
    {
        using TestMachine machine = Machine();
        Code(machine, static a =>
        {
            a.movsxd(rsi, ecx);
            a.mov(rax, __[rbx + rsi * 8]);
        });
        machine.Registers.Gpr[1] = (uint)index;
        Run(machine, vector, address);
        if (vector == 14)
        {
            Assert.Equal(address + ((ulong)index * 8), machine.Registers.Cr2);
        }
    }

    [Fact]
    public void An_access_that_has_faulted_goes_on_with_the_region_of_another_register()
    {
        using TestMachine machine = Machine();
        machine.Write(FrameOf(RegionSize), TestMachine.Data);
        machine.Write(FrameOf(RegionSize + 0x1018), 7UL);
        machine.Write(FrameOf(RegionSize + 0x1020), 70UL);

        // RBX leads to another region when [R10+...] faults, whose page has not been shown, and so does what is near to R10 then.
        Code(machine, static a =>
        {
            a.mov(r10, rbx);
            a.mov(rdi, rbx);
            a.mov(rbx, __[rbx]);
            a.mov(esi, ecx);
            a.add(__qword_ptr[r10 + rsi * 8 + 0x1000], 1);
            a.mov(rax, __[r10 + rsi * 8 + 0x1000]);
            a.mov(rdi, 0);
            a.add(r10, 0x1000);
            a.mov(r11, r10);
            a.add(__qword_ptr[r11 + rsi * 8 + 8], 2);
            a.mov(rdx, __[r11 + rsi * 8 + 8]);
        });
        machine.Registers.Gpr[1] = 3;
        Run(machine, 6, RegionSize);
        Assert.Equal(8UL, machine.Registers.Gpr[0]);
        Assert.Equal(72UL, machine.Registers.Gpr[2]);
        Assert.Equal(8UL, machine.Read<ulong>(FrameOf(RegionSize + 0x1018)));
        Assert.Equal(TestMachine.Data, machine.Registers.Gpr[3]);
        Assert.Equal(0, Interpreted(machine));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Where_jumps_come_together_nothing_is_known(ulong taken)
    {
        using TestMachine machine = Machine();
        machine.Write(TestMachine.Data, 3UL);
        machine.Write(FrameOf(RegionSize), 30UL);
        Code(machine, static a =>
        {
            Label over = a.CreateLabel();
            a.mov(rax, __[rbx]);
            a.test(rcx, rcx);
            a.jne(over);
            a.mov(rbx, rdi);
            a.mov(rax, __[rbx]);
            a.Label(ref over);
            a.mov(rdx, __[rdi]);
        });
        machine.Registers.Gpr[1] = taken;
        machine.Registers.Gpr[7] = RegionSize;
        Run(machine, 6, TestMachine.Data);
        Assert.Equal(30UL, machine.Registers.Gpr[2]);
        Assert.Equal(0, Interpreted(machine));
    }

    [Fact]
    public void A_loop_goes_from_one_region_to_the_next()
    {
        using TestMachine machine = Machine();
        ulong sum = 0;
        for (ulong i = 0; i < 1024; i++)
        {
            machine.Write(FrameOf(RegionSize - 0x1000 + (i * 8)), i * i);
            sum += i < 1023 ? i * i : 0;
        }

        Code(machine, static a =>
        {
            Label again = a.CreateLabel();
            a.xor(eax, eax);
            a.mov(r10d, 1023);
            a.Label(ref again);
            a.add(rax, __[rbx]);
            a.lea(r11, __[rbx + 8]);
            a.mov(rdx, __[r11]);
            a.mov(rbx, r11);
            a.dec(r10);
            a.jne(again);
        });
        Run(machine, 6, RegionSize - 0x1000);
        Assert.Equal(sum, machine.Registers.Gpr[0]);
        Assert.Equal(1023UL * 1023, machine.Registers.Gpr[2]);
    }

    /// <summary>Accesses that have been carried out by the interpreter: right, but not by the region's distance.</summary>
    private static long Interpreted(TestMachine machine) => Assert.IsType<Translator>(machine.Cpu.Tier).Counters.SlowAccesses;

    private static ulong FrameOf(ulong linear) => linear - (RegionSize - 0x2000) + Frames;

    private static TestMachine Machine()
    {
        TestMachine machine = TestMachine.Long();
        Assert.IsType<Translator>(machine.Cpu.Tier).Windows.IsAlways = true;
        ulong free = Tables;
        for (ulong linear = RegionSize - 0x2000; linear < RegionSize + 0x2000; linear += 0x1000)
        {
            ulong table = TestMachine.PageTables;
            for (int shift = 39; shift > 12; shift -= 9)
            {
                ulong place = table + (((linear >> shift) & 511) * 8);
                if (machine.Read<ulong>(place) == 0)
                {
                    machine.Write(place, free | Writable);
                    free += 0x1000;
                }

                table = machine.Read<ulong>(place) & PageTableEntry.AddressMask;
            }

            machine.Write(table + (((linear >> 12) & 511) * 8), FrameOf(linear) | Writable);
        }

        return machine;
    }

    private static void Code(TestMachine machine, Action<Assembler> write) => machine.Assemble(TestMachine.UserCode, 64, a =>
    {
        write(a);
        a.ud2();
    });

    private static void Run(TestMachine machine, int vector, ulong rbx)
    {
        machine.Registers.Rip = TestMachine.UserCode;
        machine.EnterUser();
        machine.Registers.Gpr[3] = rbx;
        machine.Apply();
        Assert.Equal(vector, machine.RunToStub());
    }
}
