using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

public sealed class AllocationTests
{
    private const int Rounds = 20_000;

    [KvmFact]
    public void Exits_allocate_nothing()
    {
        CountingIo io = new();
        using SmallGuest guest = new(io: io);
        guest.Start(GuestMode.Long, a =>
        {
            Iced.Intel.Label again = a.CreateLabel();
            a.mov(ebx, 0xD000_0FFE);
            a.mov(ecx, Rounds);
            a.Label(ref again);
            a.@out(0x80, eax);
            a.@in(eax, 0x80);
            a.mov(__dword_ptr[rbx], eax);
            a.mov(rax, __qword_ptr[rbx]);
            a.dec(ecx);
            a.jnz(again);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        io.Processor = guest.Processor;
        ProcessorExit exit = default;
        long allocated = -1;
        Thread thread = new(() =>
        {
            // The first run is for what happens once, such as compilation.
            guest.Processor.Run();
            guest.Enter(GuestMode.Long, SmallGuest.CodeAddress);
            io.Accesses = 0;
            long before = GC.GetAllocatedBytesForCurrentThread();
            exit = guest.Processor.Run();
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        });
        thread.Start();
        Assert.True(thread.Join(2 * SmallGuest.Patience));

        Assert.Equal(ProcessorExitKind.Requested, exit.Kind);
        Assert.InRange(io.Accesses, 4 * Rounds, int.MaxValue);
        Assert.Equal(0, allocated);
    }

    private sealed class CountingIo : ICpuIo
    {
        internal int Accesses { get; set; }

        internal IVirtualProcessor? Processor { get; set; }

        public void ReadPort(ushort port, Span<byte> data) => Accesses++;

        public void WritePort(ushort port, ReadOnlySpan<byte> data)
        {
            Accesses++;
            if (port == SmallGuest.EndPort)
            {
                Processor!.RequestExit();
            }
        }

        public void ReadMmio(ulong address, Span<byte> data) => Accesses++;

        public void WriteMmio(ulong address, ReadOnlySpan<byte> data) => Accesses++;
    }
}
