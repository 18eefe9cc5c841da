using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>IN and OUT of every width, and their string forms, from every mode.</summary>
public sealed class PortTests
{
    /// <summary>More than the kernel gathers into one exit: two pages of bytes.</summary>
    private const int ManyBytes = 9000;

    [KvmTheory]
    [InlineData(GuestMode.Real)]
    [InlineData(GuestMode.Protected16)]
    [InlineData(GuestMode.Protected32)]
    [InlineData(GuestMode.Long)]
    [InlineData(GuestMode.LongUser)]
    public void Ports_of_every_width_reach_their_owner(GuestMode mode) => CheckWidths(mode);

    [KvmTheory(KvmAbility.LegacyPaging)]
    [InlineData(GuestMode.Paged32)]
    [InlineData(GuestMode.Pae32)]
    public void Ports_of_every_width_reach_their_owner_under_legacy_paging(GuestMode mode) => CheckWidths(mode);

    private static void CheckWidths(GuestMode mode)
    {
        using SmallGuest guest = new() { Answer = 0x5A };
        guest.Start(mode, a =>
        {
            a.mov(dx, 0x3F8);
            a.mov(eax, 0x1122_3344);
            a.@out(dx, al);
            a.@out(dx, ax);
            a.@out(dx, eax);
            a.@in(al, dx);
            a.@in(ax, dx);
            a.@in(eax, dx);
            a.@out(0x80, eax);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(
            ["out 3f8 44", "out 3f8 4433", "out 3f8 44332211", "in 3f8/1", "in 3f8/2", "in 3f8/4", "out 80 5A000000", "out f4 5A"],
            guest.Accesses);
        Assert.Equal(0x5Aul, guest.GetRegisters().Gpr[0]);
    }

    [KvmFact]
    public void Byte_and_word_reads_leave_the_rest_of_the_register()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(rax, 0x1122_3344_5566_7788);
            a.@in(al, 0x60);
            a.mov(rbx, rax);
            a.@in(ax, 0x60);
            a.mov(rcx, rax);
            a.@in(eax, 0x60);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        ProcessorRegisters registers = guest.GetRegisters();
        Assert.Equal(0x1122_3344_5566_7742ul, registers.Gpr[3]);
        Assert.Equal(0x1122_3344_5566_0042ul, registers.Gpr[1]);
        Assert.Equal(0x42ul, registers.Gpr[0]);
    }

    [KvmTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void String_output_of_every_width_comes_in_order(int width)
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(rsi, SmallGuest.DataAddress);
            a.mov(ecx, 3);
            a.mov(dx, 0x1F0);
            Repeat(a, width, isInput: false);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        byte[] bytes = [.. Enumerable.Range(1, 12).Select(i => (byte)i)];
        guest.Load(SmallGuest.DataAddress, bytes);

        guest.RunToEnd();

        Assert.Equal(
            Enumerable.Range(0, 3).Select(i => "out 1f0 " + Convert.ToHexString(bytes.AsSpan(i * width, width))),
            guest.Accesses.SkipLast(1));
        Assert.Equal(SmallGuest.DataAddress + (3ul * (ulong)width), guest.GetRegisters().Gpr[6]);
        Assert.Equal(0ul, guest.GetRegisters().Gpr[1]);
    }

    [KvmTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void Long_string_input_fills_memory_whatever_the_kernel_batches(int width)
    {
        using SmallGuest guest = new();
        byte next = 0;
        guest.OnAccess = _ => guest.Answer = ++next;
        guest.Start(GuestMode.Long, a =>
        {
            // Not aligned to a page, so that batches end in the middle of the values.
            a.mov(rdi, SmallGuest.DataAddress + 0x101);
            a.mov(ecx, ManyBytes / width);
            a.mov(dx, 0x1F0);
            Repeat(a, width, isInput: true);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        guest.Answer = 0;

        guest.RunToEnd();

        Assert.Equal(ManyBytes / width, guest.Accesses.Count(a => a == $"in 1f0/{width}"));
        byte[] read = new byte[ManyBytes];
        Assert.True(guest.Memory.TryRead(SmallGuest.DataAddress + 0x101, read));
        for (int i = 0; i < ManyBytes; i++)
        {
            Assert.Equal(i % width == 0 ? (byte)(i / width) : (byte)0, read[i]);
        }

        Assert.Equal((byte)0, guest.Read<byte>(SmallGuest.DataAddress + 0x100));
        Assert.Equal((byte)0, guest.Read<byte>(SmallGuest.DataAddress + 0x101 + ManyBytes));
        Assert.Equal(SmallGuest.DataAddress + 0x101 + ManyBytes, guest.GetRegisters().Gpr[7]);
        Assert.Equal(0ul, guest.GetRegisters().Gpr[1]);
    }

    [KvmFact]
    public void String_input_goes_downwards_with_the_direction_flag()
    {
        using SmallGuest guest = new();
        byte next = 0;
        guest.OnAccess = _ => guest.Answer = ++next;
        guest.Answer = 0;
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(rdi, SmallGuest.DataAddress + 7);
            a.mov(ecx, 8);
            a.mov(dx, 0x1F0);
            a.std();
            a.rep.insb();
            a.cld();
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(0x0001_0203_0405_0607ul, guest.Read<ulong>(SmallGuest.DataAddress));
        Assert.Equal(SmallGuest.DataAddress - 1, guest.GetRegisters().Gpr[7]);
    }

    [KvmFact]
    public void A_request_within_string_input_loses_no_value()
    {
        using SmallGuest guest = new();
        int reads = 0;
        guest.OnAccess = access =>
        {
            guest.Answer = (byte)++reads;
            guest.Processor.RequestExit();
        };
        guest.Answer = 0;
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(rdi, SmallGuest.DataAddress);
            a.mov(ecx, ManyBytes);
            a.mov(dx, 0x1F0);
            a.rep.insb();
            a.@out((byte)SmallGuest.EndPort, al);
        });

        int runs = 0;
        while (!guest.Accesses.Contains("out f4 00"))
        {
            guest.RunToEnd();
            ulong done = ManyBytes - guest.GetRegisters().Gpr[1];
            Assert.Equal((ulong)Math.Min(reads, ManyBytes), done);
            Assert.True(++runs <= ManyBytes);
        }

        byte[] read = new byte[ManyBytes];
        Assert.True(guest.Memory.TryRead(SmallGuest.DataAddress, read));
        Assert.Equal(Enumerable.Range(0, ManyBytes).Select(i => (byte)i), read);
    }

    private static void Repeat(Iced.Intel.Assembler a, int width, bool isInput)
    {
        Iced.Intel.Assembler repeat = a.rep;
        switch (width)
        {
            case 1 when isInput:
                repeat.insb();
                break;
            case 2 when isInput:
                repeat.insw();
                break;
            case 4 when isInput:
                repeat.insd();
                break;
            case 1:
                repeat.outsb();
                break;
            case 2:
                repeat.outsw();
                break;
            default:
                repeat.outsd();
                break;
        }
    }
}
