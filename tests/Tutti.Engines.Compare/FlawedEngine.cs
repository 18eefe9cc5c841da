using Tutti.Cpu;
using Tutti.Cpu.Interpreter;
using Tutti.Memory;

namespace Tutti.Engines.Compare;

/// <summary>The software engine with a flaw put in, to show that a comparison finds it.</summary>
internal sealed class FlawedEngine(string flaw) : IEngine
{
    private static readonly IEngine Sound = new SoftwareEngine();

    /// <summary>Flaws by name: what happens to registers and memory after a run.</summary>
    public static IReadOnlyDictionary<string, Action<ProcessorRegisters, GuestMemory>> Flaws { get; } =
        new Dictionary<string, Action<ProcessorRegisters, GuestMemory>>
        {
            ["a bit of RBX"] = (r, _) => r.Gpr[3] ^= 1UL << 31,
            ["the sign flag"] = (r, _) => r.Rflags ^= X86.Rflags.Sign,
            ["the byte at the stack pointer"] = (r, memory) => Spoil(memory, r.Segments[2].Base + r.Gpr[4]),
            ["a bit of CR2"] = (r, _) => r.Cr2 ^= 0x1000,
            ["an element of XMM9"] = (r, _) => r.FxState[160 + (9 * 16) + 5] ^= 1,
            ["the top of the x87 stack"] = (r, _) => r.FxState[32] ^= 1,
            ["MXCSR's exceptions"] = (r, _) => r.FxState[24] ^= 0x20,
            ["GS's base"] = (r, _) => r.Segments[5] = r.Segments[5] with { Base = r.Segments[5].Base + 16 },
            ["CS's privilege"] = (r, _) => r.Segments[1] = r.Segments[1] with { Attributes = (ushort)(r.Segments[1].Attributes ^ 0x60) },
            ["SYSENTER_EIP"] = (r, _) => r.Msrs[X86.Msr.SysenterEip] ^= 4,
        };

    public string Name => "flawed";

    public bool BringsInterruptControllers => Sound.BringsInterruptControllers;

    public int MaxProcessors => Sound.MaxProcessors;

    public IPartition CreatePartition(PartitionOptions options) => new Partition(Sound.CreatePartition(options), options.Memory, Flaws[flaw]);

    private static void Spoil(GuestMemory memory, ulong address)
    {
        // Where the stack is in paged memory, physical addresses are others; the frame's page is mapped one to one.
        if (memory.TryRead(address, out byte value))
        {
            memory.TryWrite(address, (byte)(value ^ 1));
        }
    }

    private sealed class Partition(IPartition sound, GuestMemory memory, Action<ProcessorRegisters, GuestMemory> spoil) : IPartition
    {
        public IReadOnlyList<IVirtualProcessor> Processors { get; } = [new Processor(sound.Processors[0], memory, spoil)];

        public void Dispose() => sound.Dispose();
    }

    private sealed class Processor(IVirtualProcessor sound, GuestMemory memory, Action<ProcessorRegisters, GuestMemory> spoil) : IVirtualProcessor
    {
        public int Index => sound.Index;

        public ulong InstructionCount => sound.InstructionCount;

        public void GetRegisters(ProcessorRegisters registers)
        {
            sound.GetRegisters(registers);
            spoil(registers, memory);
        }

        public void SetRegisters(ProcessorRegisters registers) => sound.SetRegisters(registers);

        public ProcessorExit Run() => sound.Run();

        public void RequestExit() => sound.RequestExit();
    }
}
