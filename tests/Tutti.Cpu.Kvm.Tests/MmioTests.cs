using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Accesses to addresses that are not RAM: every width, unaligned, across pages, string forms.</summary>
public sealed class MmioTests
{
    private const uint Device = 0xD000_0000;

    [KvmTheory]
    [InlineData(GuestMode.Protected32)]
    [InlineData(GuestMode.Long)]
    [InlineData(GuestMode.LongUser)]
    public void Accesses_of_every_width_reach_their_owner(GuestMode mode) => CheckWidths(mode);

    [KvmTheory(KvmAbility.LegacyPaging)]
    [InlineData(GuestMode.Paged32)]
    [InlineData(GuestMode.Pae32)]
    public void Accesses_of_every_width_reach_their_owner_under_legacy_paging(GuestMode mode) => CheckWidths(mode);

    private static void CheckWidths(GuestMode mode)
    {
        using SmallGuest guest = new() { Answer = 0x5A };
        guest.Start(mode, a =>
        {
            a.mov(ebx, Device);
            a.mov(eax, 0x1122_3344);
            a.mov(__byte_ptr[ebx + 1], al);
            a.mov(__word_ptr[ebx + 2], ax);
            a.mov(__dword_ptr[ebx + 4], eax);
            a.mov(cl, __byte_ptr[ebx + 1]);
            a.mov(cx, __word_ptr[ebx + 2]);
            a.mov(ecx, __dword_ptr[ebx + 4]);
            a.movzx(edx, __byte_ptr[ebx + 8]);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(
            [
                "write d0000001 44", "write d0000002 4433", "write d0000004 44332211",
                "read d0000001/1", "read d0000002/2", "read d0000004/4", "read d0000008/1", "out f4 44",
            ],
            guest.Accesses);
        Assert.Equal(0x5Aul, guest.GetRegisters().Gpr[1]);
        Assert.Equal(0x5Aul, guest.GetRegisters().Gpr[2]);
    }

    [KvmFact]
    public void Real_mode_reaches_a_device_below_1_MiB()
    {
        using SmallGuest guest = new(memorySize: 0xA_0000);
        guest.Start(GuestMode.Real, a =>
        {
            a.mov(ax, 0xB800);
            a.mov(ds, ax);
            a.mov(__byte_ptr[4], 0x41);
            a.mov(al, __byte_ptr[5]);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(["write b8004 41", "read b8005/1", "out f4 42"], guest.Accesses);
    }

    [KvmFact]
    public void Quadwords_are_one_access()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(ebx, Device);
            a.mov(rax, 0x1122_3344_5566_7788);
            a.mov(__qword_ptr[rbx], rax);
            a.mov(rcx, __qword_ptr[rbx + 8]);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(["write d0000000 8877665544332211", "read d0000008/8", "out f4 88"], guest.Accesses);
        Assert.Equal(0x42ul, guest.GetRegisters().Gpr[1]);
    }

    [KvmFact]
    public void Unaligned_accesses_within_a_page_stay_whole()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(ebx, Device);
            a.mov(eax, 0x1122_3344);
            a.mov(__dword_ptr[rbx + 3], eax);
            a.mov(ecx, __dword_ptr[rbx + 5]);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(["write d0000003 44332211", "read d0000005/4", "out f4 44"], guest.Accesses);
    }

    /// <summary>Devices know accesses of 1, 2, 4 and 8 bytes: an engine cuts what is left in a page into such pieces.</summary>
    [KvmTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    [InlineData(7)]
    public void Accesses_across_a_page_come_in_natural_pieces_and_in_order(int inFirstPage)
    {
        using SmallGuest guest = new();
        byte next = 0;
        guest.OnAccess = _ => guest.Answer = ++next;
        guest.Answer = 0;
        ulong start = Device + 0x1000 - (ulong)inFirstPage;
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(rbx, start);
            a.mov(rax, 0x1122_3344_5566_7788);
            a.mov(rcx, __qword_ptr[rbx]);
            a.mov(__qword_ptr[rbx], rax);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        List<(ulong Address, int Length)> pieces = [.. Pieces(start, inFirstPage), .. Pieces(Device + 0x1000, 8 - inFirstPage)];
        byte[] written = Convert.FromHexString("8877665544332211");
        Assert.Equal(
            [
                .. pieces.Select(p => $"read {p.Address:x}/{p.Length}"),
                .. pieces.Select(p => $"write {p.Address:x} {Convert.ToHexString(written.AsSpan((int)(p.Address - start), p.Length))}"),
                "out f4 88",
            ],
            guest.Accesses);
        ulong read = 0;
        for (int i = 0; i < pieces.Count; i++)
        {
            read |= (ulong)i << (8 * (int)(pieces[i].Address - start));
        }

        Assert.Equal(read, guest.GetRegisters().Gpr[1]);
    }

    [KvmFact]
    public void String_moves_reach_a_device_and_back()
    {
        using SmallGuest guest = new();
        byte next = 0;
        guest.OnAccess = _ => guest.Answer = ++next;
        guest.Answer = 0;
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(esi, Device);
            a.mov(edi, (uint)SmallGuest.DataAddress);
            a.mov(ecx, 3);
            a.rep.movsd();
            a.mov(esi, (uint)SmallGuest.DataAddress);
            a.mov(edi, Device);
            a.mov(ecx, 3);
            a.rep.movsd();
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(
            [
                "read d0000000/4", "read d0000004/4", "read d0000008/4",
                "write d0000000 00000000", "write d0000004 01000000", "write d0000008 02000000", "out f4 00",
            ],
            guest.Accesses);
    }

    [KvmFact]
    public void Read_modify_write_is_a_read_and_a_write()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(ebx, Device);
            a.add(__dword_ptr[rbx], 1);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(["read d0000000/4", "write d0000000 43000000"], guest.Accesses.SkipLast(1));
    }

    private static IEnumerable<(ulong Address, int Length)> Pieces(ulong address, int length)
    {
        while (length > 0)
        {
            int piece = length >= 4 ? 4 : length >= 2 ? 2 : 1;
            yield return (address, piece);
            address += (ulong)piece;
            length -= piece;
        }
    }
}
