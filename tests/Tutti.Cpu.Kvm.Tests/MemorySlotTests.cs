using Tutti.Memory;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>RAM below and above the gap under 4 GiB.</summary>
public sealed class MemorySlotTests
{
    private const long Size = 4L << 30;

    [KvmFact]
    public void Ram_lies_on_both_sides_of_the_gap_and_nowhere_else()
    {
        ulong[] addresses =
        [
            GuestMemoryLayout.LowMemoryLimit - 8, GuestMemoryLayout.LowMemoryLimit, GuestMemoryLayout.HighMemoryStart,
            GuestMemoryLayout.HighMemoryStart + (1ul << 30) - 8,
        ];
        using SmallGuest guest = new(memorySize: Size);
        GuestTables.MapHighMemory(guest.Memory);
        guest.Start(GuestMode.Long, a =>
        {
            for (int i = 0; i < addresses.Length; i++)
            {
                a.mov(rbx, addresses[i]);
                a.mov(rax, 0x1111_1111_1111_1111ul * (ulong)(i + 1));
                a.mov(__qword_ptr[rbx], rax);
                a.mov(rsi, __qword_ptr[rbx]);
            }

            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(["write c0000000 2222222222222222", "read c0000000/8", "out f4 44"], guest.Accesses);
        Assert.Equal(0x1111_1111_1111_1111ul, guest.Read<ulong>(addresses[0]));
        Assert.Equal(0x3333_3333_3333_3333ul, guest.Read<ulong>(addresses[2]));
        Assert.Equal(0x4444_4444_4444_4444ul, guest.Read<ulong>(addresses[3]));
        Assert.Equal(0x4444_4444_4444_4444ul, guest.GetRegisters().Gpr[6]);
    }

    [KvmFact]
    public void What_the_host_writes_the_guest_reads_at_once()
    {
        using SmallGuest guest = new(memorySize: Size);
        GuestTables.MapHighMemory(guest.Memory);
        const ulong Address = GuestMemoryLayout.HighMemoryStart + 0x1234_5678;
        guest.Start(GuestMode.Long, a =>
        {
            Iced.Intel.Label wait = a.CreateLabel();
            a.mov(rbx, Address);
            a.@out(0x80, al);
            a.Label(ref wait);
            a.pause();
            a.cmp(__dword_ptr[rbx], 0x55);
            a.jne(wait);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        Task<ProcessorExit> run = guest.BeginRun();
        guest.WaitFor("out 80 00");

        Assert.True(guest.Memory.TryWrite(Address, 0x55));

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
    }

    [KvmFact]
    public void Memory_ends_where_it_ends()
    {
        using SmallGuest guest = new(memorySize: 0x10_0000);
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(ebx, 0xF_FFFC);
            a.mov(rax, 0x1122_3344_5566_7788);
            a.mov(__dword_ptr[rbx], eax);
            a.mov(__dword_ptr[rbx + 4], eax);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(["write 100000 88776655", "out f4 88"], guest.Accesses);
        Assert.Equal(0x5566_7788u, guest.Read<uint>(0xF_FFFC));
    }
}
