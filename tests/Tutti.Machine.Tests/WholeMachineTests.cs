using System.Diagnostics;
using System.Text;
using Iced.Intel;
using Tutti.Cpu;
using Tutti.Memory;
using static Iced.Intel.AssemblerRegisters;
using static Tutti.Machine.Tests.AssembledGuest;

namespace Tutti.Machine.Tests;

/// <summary>The same small guests on the same machine, in every engine: what the board and an engine do together.</summary>
public sealed class WholeMachineTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Theory, SoftwareData, KvmData]
    public void GuestPrintsByInterruptsAndPowersOff(string engine)
    {
        const string Text = "Printed by the transmitter's interrupts.";
        FakeConsole console = new();
        MachineExit exit = Run(engine, console, code =>
        {
            SetUpInterrupts(code, irq: 4, () =>
            {
                (Label more, Label done) = (code.CreateLabel(), code.CreateLabel());
                code.mov(dx, 0x3FA);
                code.@in(al, dx);
                code.test(al, 1);
                code.jne(done);
                code.mov(si, __word_ptr[Counter]);
                code.inc(__word_ptr[Counter]);
                code.lodsb();
                code.test(al, al);
                code.jne(more);
                PowerOff(code);
                code.Label(ref more);
                code.mov(dx, 0x3F8);
                code.@out(dx, al);
                code.Label(ref done);
                code.nop();
            });
            PushAddress(code, () => code.db([.. Encoding.ASCII.GetBytes(Text), 0]));
            code.pop(__word_ptr[Counter]);
            Out(code, 0x3FC, 0x0B);
            Out(code, 0x3F9, 0x02);
            WaitForInterrupts(code);
        });
        Assert.Equal(MachineExitKind.PoweredOff, exit.Kind);
        Assert.Equal(Text, console.Text);
    }

    [Theory, SoftwareData, KvmData]
    public void ConsoleInputWakesAHaltedGuestThatEchoesIt(string engine)
    {
        FakeConsole console = new();
        string sent = string.Concat(Enumerable.Range(0, 200).Select(i => (char)('a' + (i % 26)))).Replace('q', '-');
        console.Type(sent + "q");
        MachineExit exit = Run(engine, console, code =>
        {
            SetUpInterrupts(code, irq: 4, () =>
            {
                (Label more, Label last, Label done) = (code.CreateLabel(), code.CreateLabel(), code.CreateLabel());
                code.Label(ref more);
                code.mov(dx, 0x3FD);
                code.@in(al, dx);
                code.test(al, 1);
                code.je(done);
                code.mov(dx, 0x3F8);
                code.@in(al, dx);
                code.cmp(al, (sbyte)'q');
                code.je(last);
                code.@out(dx, al);
                code.jmp(more);
                code.Label(ref last);
                PowerOff(code);
                code.Label(ref done);
                code.nop();
            });
            Out(code, 0x3FC, 0x0B);
            Out(code, 0x3F9, 0x01);
            WaitForInterrupts(code);
        });
        Assert.Equal(MachineExitKind.PoweredOff, exit.Kind);
        Assert.Equal(sent, console.Text);
    }

    [Theory, SoftwareData, KvmData]
    public void IntervalTimerTicksThroughTheControllersAndPort61ReadsIts(string engine)
    {
        FakeConsole console = new();
        MachineExit exit = Run(engine, console, code =>
        {
            Label loop = code.CreateLabel();
            SetUpInterrupts(code, irq: 0, () => code.inc(__word_ptr[Counter]));
            // Counter 0, low and high byte, rate generator: 1193182 / 11932 = 100 Hz.
            Out(code, 0x43, 0x34);
            Out(code, 0x40, 0x9C);
            Out(code, 0x40, 0x2E);
            code.Label(ref loop);
            code.sti();
            code.hlt();
            code.cmp(__word_ptr[Counter], 10);
            code.jb(loop);
            // The gate of counter 2 is what it was set to.
            Out(code, 0x61, 0x01);
            code.@in(al, 0x61);
            code.and(al, 3);
            code.add(al, (sbyte)'0');
            code.mov(dx, 0x3F8);
            code.@out(dx, al);
            PowerOff(code);
        });
        Assert.Equal(MachineExitKind.PoweredOff, exit.Kind);
        Assert.Equal("1", console.Text);
    }

    [Theory, SoftwareData, KvmData]
    public void ResetBootsTheGuestAgainWithFreshControllersAndMemory(string engine)
    {
        FakeConsole console = new();
        ushort boots = 0;
        using VirtualMachine machine = Make(engine, console, code =>
        {
            Label last = code.CreateLabel();
            // What was left in memory, and the interrupt mask, which the guest changes; no PC leaves a mask of 5A.
            code.mov(al, __byte_ptr[Counter]);
            code.add(al, (sbyte)'0');
            code.mov(dx, 0x3F8);
            code.@out(dx, al);
            code.@in(al, 0x21);
            code.cmp(al, 0x5A);
            Label fresh = code.CreateLabel();
            code.jne(fresh);
            Print(code, '!');
            code.Label(ref fresh);
            Out(code, 0x21, 0x5A);
            code.mov(__byte_ptr[Counter], 7);
            code.cmp(__word_ptr[Parameter], 3);
            code.je(last);
            Reset(code);
            code.Label(ref last);
            PowerOff(code);
        }, memory => Assert.True(memory.TryWrite(Parameter, ++boots)));
        Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
        Assert.Equal((3, "000"), (boots, console.Text));
    }

    [Theory, SoftwareData, KvmData]
    public async Task PausedGuestStandsStillAndGoesOnWhereItWas(string engine)
    {
        GuestMemory? memory = null;
        using VirtualMachine machine = Make(engine, null, Count, m => memory = m);
        Task<MachineExit> run = Start(machine);
        for (int i = 0; i < 10; i++)
        {
            uint before = ReadCounter(memory);
            Assert.True(SpinWait.SpinUntil(() => ReadCounter(memory) > before, Limit));
            machine.Pause();
            uint paused = ReadCounter(memory);
            Thread.Sleep(20);
            Assert.Equal(paused, ReadCounter(memory));
            machine.Resume();
            Assert.True(SpinWait.SpinUntil(() => ReadCounter(memory) > paused, Limit));
        }

        machine.Stop();
        MachineExit exit = await run.WaitAsync(Limit);
        Assert.Equal(MachineExitKind.Stopped, exit.Kind);
    }

    [Theory, SoftwareData, KvmData(movesTsc: true)]
    public async Task TimeStampCounterOfAPausedGuestStandsStill(string engine)
    {
        GuestMemory? memory = null;
        using VirtualMachine machine = Make(engine, null, code =>
        {
            // The counter, as EDX:EAX after its own count of rounds, so that the test knows which round it reads.
            Label loop = code.CreateLabel();
            code.Label(ref loop);
            code.rdtsc();
            code.mov(__dword_ptr[Counter + 4], eax);
            code.mov(__dword_ptr[Counter + 8], edx);
            code.inc(__dword_ptr[Counter]);
            code.jmp(loop);
        }, m => memory = m);
        Task<MachineExit> run = Start(machine);
        Assert.True(SpinWait.SpinUntil(() => ReadCounter(memory) > 0, Limit));
        machine.Pause();
        ulong first = ReadTsc(memory!);
        Stopwatch running = Stopwatch.StartNew();
        machine.Resume();
        Thread.Sleep(300);
        machine.Pause();
        running.Stop();
        ulong paused = ReadTsc(memory!);
        uint rounds = ReadCounter(memory);
        Thread.Sleep(3000);
        machine.Resume();
        Assert.True(SpinWait.SpinUntil(() => ReadCounter(memory) > rounds + 1, Limit));
        machine.Pause();
        ulong after = ReadTsc(memory!);
        machine.Stop();
        _ = await run.WaitAsync(Limit);
        double ticksPerSecond = (paused - first) / running.Elapsed.TotalSeconds;
        Assert.True(after > paused, "The counter went back.");
        Assert.InRange((after - paused) / ticksPerSecond, 0, 2);
    }

    [Theory, SoftwareData, KvmData]
    public async Task MachinePausedBeforePowerOnRunsNothingUntilResumed(string engine)
    {
        GuestMemory? memory = null;
        using VirtualMachine machine = Make(engine, null, Count, m => memory = m);
        machine.Pause();
        Task<MachineExit> run = Start(machine);
        Assert.True(SpinWait.SpinUntil(() => memory != null, Limit));
        Thread.Sleep(100);
        Assert.Equal(0u, ReadCounter(memory));
        machine.Resume();
        Assert.True(SpinWait.SpinUntil(() => ReadCounter(memory) > 0, Limit));
        machine.Stop();
        MachineExit exit = await run.WaitAsync(Limit);
    }

    [Theory, SoftwareData, KvmData]
    public async Task StopUnderLoadEndsAtOnceWithTwoProcessorsOneOfWhichWaitsForStartup(string engine)
    {
        GuestMemory? memory = null;
        using VirtualMachine machine = Make(engine, null, code =>
        {
            // Exits and interrupts as fast as they go: a port of the board in a loop, and the timer at 10 kHz.
            Label loop = code.CreateLabel();
            SetUpInterrupts(code, irq: 0, () => code.nop());
            Out(code, 0x43, 0x34);
            Out(code, 0x40, 119);
            Out(code, 0x40, 0);
            code.sti();
            code.mov(dx, 0x3FF);
            code.Label(ref loop);
            code.@out(dx, al);
            code.@in(al, dx);
            code.inc(__dword_ptr[Counter]);
            code.jmp(loop);
        }, m => memory = m, processors: 2);
        Task<MachineExit> run = Start(machine);
        Assert.True(SpinWait.SpinUntil(() => ReadCounter(memory) > 1000, Limit));
        Stopwatch watch = Stopwatch.StartNew();
        machine.Stop();
        MachineExit exit = await run.WaitAsync(Limit);
        Assert.Equal(MachineExitKind.Stopped, exit.Kind);
        Assert.InRange(watch.ElapsedMilliseconds, 0, 5000);
    }

    [Theory, SoftwareData, KvmData]
    public async Task ProcessorsThatTheGuestStartedRunPauseAndStopTogether(string engine)
    {
        GuestMemory? memory = null;
        using VirtualMachine machine = Make(engine, null, code =>
        {
            StartSecondProcessor(code);
            Count(code);
        }, m => memory = m, processors: 2);
        Task<MachineExit> run = Start(machine);
        for (int i = 0; i < 10; i++)
        {
            (uint first, uint second) = (ReadCounter(memory), ReadCounter(memory, SecondCounter));
            Assert.True(SpinWait.SpinUntil(
                () => ReadCounter(memory) > first && ReadCounter(memory, SecondCounter) > second, Limit));
            machine.Pause();
            (first, second) = (ReadCounter(memory), ReadCounter(memory, SecondCounter));
            Thread.Sleep(20);
            Assert.Equal((first, second), (ReadCounter(memory), ReadCounter(memory, SecondCounter)));
            machine.Resume();
        }

        machine.Stop();
        MachineExit exit = await run.WaitAsync(Limit);
        Assert.Equal(MachineExitKind.Stopped, exit.Kind);
    }

    [Theory, SoftwareData, KvmData]
    public async Task HaltedProcessorLeavesWhenItIsKicked(string engine)
    {
        GuestMemory? memory = null;
        using VirtualMachine machine = Make(engine, null, code =>
        {
            code.inc(__dword_ptr[Counter]);
            Halt(code);
        }, m => memory = m);
        Task<MachineExit> run = Start(machine);
        Assert.True(SpinWait.SpinUntil(() => ReadCounter(memory) == 1, Limit));
        Thread.Sleep(50);
        Stopwatch watch = Stopwatch.StartNew();
        for (int i = 0; i < 20; i++)
        {
            machine.Pause();
            machine.Resume();
        }

        machine.Stop();
        MachineExit exit = await run.WaitAsync(Limit);
        Assert.Equal((MachineExitKind.Stopped, 1u), (exit.Kind, ReadCounter(memory)));
        Assert.InRange(watch.ElapsedMilliseconds, 0, 10_000);
    }

    [Theory, SoftwareData, KvmData]
    public void TripleFaultShowsWhereTheGuestWas(string engine)
    {
        MachineExit exit = Run(engine, null, code =>
        {
            // No vector fits into this table, so that the third fault comes at once. In protected mode, because KVM's emulation
            // of real mode looks at no limit.
            code.mov(__word_ptr[0x600], 0);
            code.lidt(__[0x600]);
            code.mov(eax, cr0);
            code.or(al, 1);
            code.mov(cr0, eax);
            code.ud2();
        });
        Assert.True(exit.Kind == MachineExitKind.TripleFault, exit.ToString());
        Assert.Contains("vCPU 0: 16-bit protected mode", exit.Registers);
        Assert.Contains("code at RIP: 0f 0b", exit.Registers);
    }

    [Fact]
    public void MoreProcessorsThanKvmHasAreRefusedWithTheLimitOrTheHostsReason()
    {
        MachineOptions options = Options(MachineEngines.Kvm.Name, null, Count, _ => { }) with { ProcessorCount = 100_000 };
        Exception error = Assert.ThrowsAny<Exception>(() => new VirtualMachine(options));
        Assert.True(error is ArgumentException or PlatformNotSupportedException, error.ToString());
        Assert.DoesNotContain('\n', error.Message);
    }

    private static void Count(Assembler code)
    {
        Label loop = code.CreateLabel();
        code.Label(ref loop);
        code.inc(__dword_ptr[Counter]);
        code.jmp(loop);
    }

    private static uint ReadCounter(GuestMemory? memory, ushort address = Counter) =>
        memory != null && memory.TryRead(address, out uint value) ? value : 0;

    private static ulong ReadTsc(GuestMemory memory)
    {
        Assert.True(memory.TryRead(Counter + 4, out ulong value));
        return value;
    }

    private static Task<MachineExit> Start(VirtualMachine machine) =>
        Task.Factory.StartNew(() => machine.Run(Limit), TaskCreationOptions.LongRunning);

    private static MachineExit Run(string engine, FakeConsole? console, Action<Assembler> write)
    {
        using VirtualMachine machine = Make(engine, console, write, _ => { });
        return machine.Run(Limit);
    }

    private static VirtualMachine Make(
        string engine, FakeConsole? console, Action<Assembler> write, Action<GuestMemory> onBoot, int processors = 1) =>
        new(Options(engine, console, write, onBoot) with { ProcessorCount = processors });

    private static MachineOptions Options(string engine, FakeConsole? console, Action<Assembler> write, Action<GuestMemory> onBoot) => new()
    {
        MemorySize = 2 << 20,
        Engine = MachineEngines.All.Single(e => e.Name == engine),
        Console = console,
        Boot = memory =>
        {
            onBoot(memory);
            return AssembledGuest.Boot(memory, write);
        },
    };
}
