using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.Review;

/// <summary>What vCPUs see of each other's writes to data and code, and that none waits for one that is blocked.</summary>
public sealed class SharedMemoryTests
{
    private const ulong Code0 = 0x1_0000;
    private const ulong Code1 = 0x2_0000;
    private const ulong Function = 0x4_0000;
    private const ulong Data = 0x5_0000;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [Fact]
    public void CompareAndExchangeOf16BytesIsAtomic()
    {
        const int Rounds = 200_000;
        using var machine = new SharedMemoryMachine(2);
        for (int i = 0; i < 2; i++)
        {
            byte port = (byte)(SharedMemoryMachine.ExitPort + i);
            machine.Assemble(i == 0 ? Code0 : Code1, a =>
            {
                Label again = a.CreateLabel();
                a.mov(esi, Rounds);
                a.mov(edi, (uint)Data);
                a.Label(ref again);
                a.mov(rbx, rax);
                a.mov(rcx, rdx);
                a.add(rbx, 1);
                a.add(rcx, 1);
                a.@lock.cmpxchg16b(__[rdi]);
                a.jne(again);
                a.dec(esi);
                a.jne(again);
                a.@out(port, al);
                a.hlt();
            });
        }

        machine.Start(0, Code0);
        machine.Start(1, Code1);
        Assert.True(machine.Join(0, Patience) && machine.Join(1, Patience));
        Assert.True(machine.Memory.TryRead(Data, out UInt128 value));
        Assert.Equal(new UInt128(2 * Rounds, 2 * Rounds), value);
    }

    /// <summary>
    /// One vCPU changes a function that another calls, and says so by a flag; while it waits it writes data into the function's
    /// page, so that the page is claimed as code and given up again and again.
    /// </summary>
    [Fact]
    public void CodeChangedByAnotherProcessorRunsAsChanged()
    {
        const int Rounds = 3_000;
        using var machine = new SharedMemoryMachine(2);
        machine.Assemble(Function, a =>
        {
            a.mov(eax, 0);
            a.ret();
        });
        machine.Assemble(Code0, a =>
        {
            Label again = a.CreateLabel();
            Label wait = a.CreateLabel();
            a.xor(ecx, ecx);
            a.Label(ref again);
            a.inc(ecx);
            a.mov(__dword_ptr[Function + 1], ecx);
            a.mov(__dword_ptr[Data], ecx);
            a.Label(ref wait);
            a.inc(__dword_ptr[Function + 0x800]);
            a.cmp(__dword_ptr[Data + 64], ecx);
            a.jne(wait);
            a.cmp(ecx, Rounds);
            a.jne(again);
            a.@out(SharedMemoryMachine.ExitPort, al);
            a.hlt();
        });
        machine.Assemble(Code1, a =>
        {
            Label again = a.CreateLabel();
            Label wait = a.CreateLabel();
            Label end = a.CreateLabel();
            a.xor(ecx, ecx);
            a.Label(ref again);
            a.inc(ecx);
            a.Label(ref wait);
            a.pause();
            a.cmp(__dword_ptr[Data], ecx);
            a.jne(wait);
            a.call(Function);
            a.cmp(eax, ecx);
            a.jne(end);
            a.mov(__dword_ptr[Data + 64], ecx);
            a.cmp(ecx, Rounds);
            a.jne(again);
            a.Label(ref end);
            a.mov(__dword_ptr[Data + 128], eax);
            a.@out(SharedMemoryMachine.ExitPort + 1, al);
            a.hlt();
        });
        machine.Start(1, Code1);
        machine.Start(0, Code0);

        // On a busy host a round takes two changes of threads: as long as rounds pass, nobody has stopped.
        bool ended;
        int asked = 0;
        int before;
        do
        {
            before = asked;
            ended = machine.Join(0, Patience);
            machine.Memory.TryRead(Data, out asked);
        }
        while (!ended && asked != before);

        machine.Memory.TryRead(Data + 64, out int answered);
        machine.Memory.TryRead(Data + 128, out int wrong);
        Assert.True(ended, $"The calling vCPU does not end: round {asked}, answered {answered}, ended with {wrong}.");
        Assert.True(machine.Memory.TryRead(Data + 128, out int last));
        Assert.Equal(Rounds, last);
        Assert.Null(machine.Failure);
    }

    /// <summary>A vCPU waits in a device (a console that nobody reads) while another decodes new pages and writes to old ones.</summary>
    [Fact]
    public void ProcessorBlockedInADeviceHoldsUpNobodyAndGathersNoRequests()
    {
        using var machine = new SharedMemoryMachine(2);
        using var blocked = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        machine.PortRead = _ =>
        {
            blocked.Set();
            release.Wait();
        };
        machine.Assemble(Code0, a =>
        {
            a.@in(al, 0x60);

            // Its own code has been changed meanwhile.
            a.mov(eax, __dword_ptr[Data]);
            a.call(Function);
            a.mov(__dword_ptr[Data + 8], eax);
            a.@out(SharedMemoryMachine.ExitPort, al);
            a.hlt();
        });
        machine.Assemble(Function, a =>
        {
            a.mov(eax, 1);
            a.ret();
        });
        machine.Assemble(Code1, a =>
        {
            Label again = a.CreateLabel();
            a.mov(ecx, 100_000);
            a.Label(ref again);
            a.mov(__byte_ptr[Code0 + 0x100], cl);
            a.dec(ecx);
            a.jne(again);
            a.call(Function);
            a.mov(__dword_ptr[Function + 1], 2);
            a.@out(SharedMemoryMachine.ExitPort + 1, al);
            a.hlt();
        });
        machine.Start(0, Code0);
        Assert.True(blocked.Wait(Patience));
        machine.Start(1, Code1);
        bool done = machine.Join(1, TimeSpan.FromSeconds(20));
        int pending = machine.Processors[0].Watch.PendingCount;
        release.Set();
        Assert.True(done, "The other vCPU waits for the blocked one.");
        Assert.InRange(pending, 0, 1024);
        Assert.True(machine.Join(0, Patience));
        Assert.True(machine.Memory.TryRead(Data + 8, out int result));
        Assert.Equal(2, result);
    }
}
